"""The bytes that a converted document is made from, as its format needs them: lines of text, or a file to seek in.

What is packed is unpacked on the way, so that a page of HTML and the same page in gzip are read by one reader.
"""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from famcli.documents.source import Location, Offsets, Piece
from famcli.documents.text_source import TextSource
from famcli.errors import DocumentError

MAX_LINE = 1 << 20
"""Characters of a line that are held at once; a longer one comes in parts."""


@dataclass(frozen=True)
class Line:
    """A line without its end, or a part of a very long one. start, end: its bytes. number: from 1."""

    text: str
    start: int
    end: int
    number: int

    @property
    def location(self) -> Location:
        return Location("line", str(self.number), line=self.number, span=(self.start, self.end))


class Counted(io.RawIOBase):
    """A binary stream that counts what is read of it, and begins with bytes that were read before.

    A read returns what is there, without waiting for more.
    """

    def __init__(self, stream: BinaryIO, first: bytes = b"", at_end: bool = False) -> None:
        self._stream, self._first, self._at_end = stream, first, at_end
        self.num_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any writable buffer
        wanted = len(buffer)
        if self._first:
            data, self._first = self._first[:wanted], self._first[wanted:]
        elif self._at_end:
            # A terminal says only once that it is at its end: reading again would wait for a second Ctrl-D.
            data = b""
        else:
            data = getattr(self._stream, "read1", self._stream.read)(wanted)
            self._at_end = not data
        buffer[: len(data)] = data
        self.num_read += len(data)
        return len(data)

    def read1(self, size: int = -1) -> bytes:
        """What is there, at most `size` bytes: what readers of pipes look for."""
        return self.read(size if size >= 0 else 1 << 16) or b""


class Original:
    """What a format reads: the bytes of a file or a pipe.

    name: of the source. notes: what the format leaves out is told here. num_read: bytes taken in so far, for progress.
    encoding: that the user named, or None. size: None where nobody knows.
    """

    def __init__(
        self,
        name: str,
        stream: BinaryIO,
        encoding: str | None = None,
        size: int | None = None,
        path: Path | None = None,
    ) -> None:
        self.name, self.encoding, self.size, self.path = name, encoding, size, path
        self.notes: list[str] = []
        self._stream, self._counted = stream, stream if isinstance(stream, Counted) else None
        self._copy: BinaryIO | None = None
        self._opened: list[BinaryIO] = []
        self._done = 0.0  # of a file that is read here and there, the share that was read

    @property
    def num_read(self) -> int:
        """Bytes of the original taken in so far."""
        if self._counted is not None and self._copy is None:
            return self._counted.num_read
        return int(self._done * (self.size or 0))

    def through(self, stream: BinaryIO) -> Original:
        """The same original, read through `stream`, which unpacks it."""
        inner = Original(self.name, stream, self.encoding, self.size, self.path)
        inner.notes, inner._counted, inner._opened = self.notes, self._counted, self._opened
        return inner

    def note(self, text: str) -> None:
        """Tell what is left out, once."""
        if text not in self.notes:
            self.notes.append(text)

    def reached(self, share: float) -> None:
        """So much of a file that is read here and there was read, 0 to 1."""
        self._done = share

    def pieces(self, encoding: str | None = None) -> Iterator[Piece]:
        """The bytes as text, with the offset of each character. encoding: what the document says of itself."""
        source = TextSource(self._stream, self.name, None, None, encoding=self.encoding or encoding)
        yield from source.pieces()
        if source.is_guessed:
            self.note(
                f"{self.name} is not UTF-8; it is read as {source.encoding}, which is a guess: name the encoding if it "
                "is wrong"
            )
        if source.num_replaced:
            self.note(f"{self.name}: {source.num_replaced:,} byte sequences not valid in {source.encoding}")

    def lines(self) -> Iterator[Line]:
        """The lines of the text. A form feed and other separators of Unicode end none."""
        rest, number = Piece("", 0, 0), 1
        for piece in self.pieces():
            text, offsets = piece.text, piece.char_offsets()
            place = 0
            while (end := text.find("\n", place)) >= 0:
                line, start = rest.text + text[place:end], rest.start if rest.text else int(offsets[place])
                yield Line(line.removesuffix("\r"), start, int(offsets[end]), number)
                rest, number, place = Piece("", 0, 0), number + 1, end + 1
            if place < len(text):
                start = rest.start if rest.text else int(offsets[place])
                rest = Piece(rest.text + text[place:], start, piece.end)
            if len(rest.text) > MAX_LINE:
                yield Line(rest.text, rest.start, rest.end, number)
                rest = Piece("", 0, 0)
        if rest.text:
            yield Line(rest.text, rest.start, rest.end, number)

    def raw(self) -> BinaryIO:
        return self._stream

    def file(self) -> BinaryIO:
        """The bytes as a file to seek in; what comes through a pipe is copied to the disk first."""
        if self._copy is None:
            if self.path is not None and self._counted is self._stream:
                self._copy = self.path.open("rb")
            else:
                copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
                try:
                    shutil.copyfileobj(self._stream, copy)
                except OSError as error:
                    copy.close()
                    raise DocumentError(
                        f"cannot copy {self.name}: {error.strerror or error}; free some space"
                    ) from error
                self._copy = cast(BinaryIO, copy)
            self._opened.append(self._copy)
        self._copy.seek(0)
        return self._copy

    def close(self) -> None:
        for file in self._opened:
            file.close()


class Positions:
    """The line and the byte of each character of a text that comes in pieces, for as long as they are asked for."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, Offsets, list[int], int]] = []  # first character, offsets, line starts, line
        self._num_characters, self._line = 0, 1

    def add(self, piece: Piece) -> None:
        first, text = self._num_characters, piece.text
        starts = [first + found.end() for found in re.finditer("\n", text)]
        self._pieces.append((first, piece.char_offsets(), starts, self._line))
        self._num_characters, self._line = first + len(text), self._line + len(starts)

    def forget(self, before: int) -> None:
        """Nothing before this character will be asked for."""
        while len(self._pieces) > 1 and self._pieces[1][0] <= before:
            del self._pieces[0]

    def byte(self, character: int) -> int:
        first, offsets, _, _ = self._piece(character)
        return int(offsets[min(max(0, character - first), len(offsets) - 1)])

    def line(self, character: int) -> int:
        _, _, starts, line = self._piece(character)
        return line + bisect_right(starts, character)

    def _piece(self, character: int) -> tuple[int, Offsets, list[int], int]:
        return next((one for one in reversed(self._pieces) if one[0] <= character), self._pieces[0])
