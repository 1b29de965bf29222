"""Text in any encoding, from a file or a pipe. Its offsets are the bytes of the original.

Text is kept as it is (CRLF, NUL and all), but that a byte-order mark is skipped and a lone CR becomes a newline.
A pipe gives what has arrived. A pipe's
encoding is settled when its first byte that is not ASCII arrives, by what has arrived then; a file's by its first
256 KiB. The same bytes say what is not text, unless the encoding was named.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from famcli.documents.decoding import Decoded, Decoder, decoder_for, is_stateful
from famcli.documents.encodings import (
    BEGINS_ESCAPED,
    MAGIC_BYTES,
    SAMPLE_BYTES,
    WIDE_BYTES,
    byte_order_mark,
    detect,
    escaped_encoding,
    may_be_cut_short,
    may_be_wide,
    named_encoding,
    refuse_known_binaries,
    wide_encoding,
)
from famcli.documents.regular import open_regular
from famcli.documents.source import Piece, Source
from famcli.errors import DocumentError

READ_BYTES = 1 << 16
_CUT_ESCAPE = re.compile(rb"\x1b(?:\$[()]?)?\Z")
_AS_UTF_8 = decoder_for("utf-8")


class TextSource(Source):
    """A file or a pipe of text. encoding: None to detect it; "utf-8" until another one is found.

    start: for a file (with `path` and `size`), the offset to go to; for a pipe, the offset of its first byte. owned:
    what is closed with this, if not `stream` itself, as that of a file is. Raises
    DocumentError and UsageError as `open_source` does.
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        path: Path | None,
        size: int | None,
        *,
        encoding: str | None = None,
        start: int = 0,
        owned: BinaryIO | None = None,
    ) -> None:
        self.name, self.path, self.size = name, path, size
        self.start = start if size is None else 0
        self.encoding, self.is_guessed, self.is_named = "utf-8", False, encoding is not None
        self.num_replaced = self.bytes_read = 0
        self.wait_for_more = bool  # `bool()` is False: the end of the input is the end
        self._stream, self._owned = stream, stream if owned is None and path is not None else owned
        self._decoder: Decoder = self._decode_unsettled
        self._buffer = b""
        self._was_read_ahead = False  # True if the buffer holds what `pieces` has not seen
        self._mark_left = 0  # bytes of a byte-order mark that are still to come
        self._hash = hashlib.sha256()
        self._at_end = False
        self._begin(encoding)
        if size is not None:
            self._go_to(start)

    @property
    def end(self) -> int:
        return self.start + self.bytes_read

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self._owned is not None:
            self._owned.close()

    def digest(self) -> str:
        return self._hash.hexdigest()

    def pieces(self) -> Iterator[Piece]:
        """See `Source`. A piece holds about 64 KiB of the original."""
        while not self._at_end:
            if not self._was_read_ahead:
                data = self._read()
                while not data and self.wait_for_more():
                    data = self._read()
                self._at_end = not data
                self._buffer += data
            self._was_read_ahead = False
            # A mark may be cut by the pipe, so it is skipped as it comes.
            skipped = min(self._mark_left, len(self._buffer))
            self._take(skipped)
            self._mark_left -= skipped
            if (piece := self._decode(final=False)) is not None:
                yield piece
        if (piece := self._decode(final=True)) is not None:
            yield piece

    def text(self, span: tuple[int, int]) -> str:
        """See `Source`. The span must begin and end with a character."""
        start, end = span
        parts, reached = list[str](), start
        with self._open_again(start) as again:
            for piece in again.pieces():
                parts.append(piece.up_to(end).text)
                reached = piece.end
                if reached >= end:
                    break
        if reached < end:
            raise DocumentError(f"cannot quote bytes {start} to {end} of {self.path}: it ends before; has it changed?")
        return "".join(parts)

    # ------------------------------------------------------------------------------------------------ the beginning

    def _begin(self, encoding: str | None) -> None:
        """Read the first bytes: refuse what is not text, skip a mark, and settle the encoding if they tell."""
        first = self._read_first(SAMPLE_BYTES if self.size is not None and encoding is None else MAGIC_BYTES)
        self._buffer, self._was_read_ahead = first, bool(first)
        # A terminal says only once that it is at its end: reading again would wait for a second Ctrl-D.
        self._at_end = self.size is None and not first
        if self.start:  # the rest of a stream: its first bytes are not the document's first
            self._use(named_encoding(encoding or "utf-8", b"")[0])
            return
        if encoding is None:
            refuse_known_binaries(first, self.name)
        mark = named_encoding(encoding, first) if encoding is not None else byte_order_mark(first)
        if mark is not None:
            self._use(mark[0])
            self._mark_left = mark[1]
        elif self.size is not None:
            sample = first[:SAMPLE_BYTES]
            self._guess(sample, len(sample) == len(first) < SAMPLE_BYTES)

    def _read_first(self, num_bytes: int) -> bytes:
        """About so many bytes of a file; of a pipe what is there, and more only if that could be part of a mark."""
        first, is_file = b"", self.size is not None
        while len(first) < num_bytes and (is_file or not first or may_be_cut_short(first)):
            data = self._read()
            if not data:
                break
            first += data
        return first

    def _go_to(self, start: int) -> None:
        """Go to `start` in a file, with the decoder in the state that reading up to there leaves."""
        self._buffer, self._was_read_ahead = b"", False
        self._stream.seek(0)
        if start <= self._mark_left:
            return
        self.start, self._mark_left = start, 0
        if not is_stateful(self.encoding):
            self._stream.seek(start)
            return
        # Escapes before `start` decide what follows: read all of it once more.
        place, waiting = 0, b""
        while place < start and (data := self._stream.read(min(start - place, READ_BYTES))):
            place += len(data)
            waiting += data
            waiting = waiting[self._decoder(waiting, False).consumed :]

    def _open_again(self, start: int) -> TextSource:
        if self.path is None or self.size is None:
            raise DocumentError(f"{self.name} is a pipe, which cannot be read again")
        try:
            opened = open_regular(self.path)
        except OSError as error:
            raise DocumentError(f"cannot quote from {self.path}: {error.strerror}; has it moved?") from error
        return TextSource(opened, self.name, self.path, self.size, encoding=self.encoding, start=start)

    # ------------------------------------------------------------------------------------------------ decoding

    def _decode(self, final: bool) -> Piece | None:
        """The whole characters in the buffer; if `final`, what is left of one."""
        decoded = self._decoder(self._buffer, final)
        begin = self.start + self.bytes_read
        raw = self._take(decoded.consumed)
        self.num_replaced += decoded.num_replaced
        if not decoded.text:
            return None
        return Piece(decoded.text, begin, begin + decoded.consumed, decoded.widths, tentative=final, raw=raw)

    def _decode_unsettled(self, data: bytes, final: bool) -> Decoded:
        """Decode ASCII; at the first other byte, or what may be UTF-16, find the encoding and decode by it."""
        num_before = self.bytes_read
        if not num_before and may_be_wide(data):
            if len(data) < WIDE_BYTES and not final:
                return Decoded("", None, 0, 0)
            if (wide := wide_encoding(data[:SAMPLE_BYTES])) is not None:
                return self._use(wide)(data, final)
        if BEGINS_ESCAPED.search(data) and (escaped := escaped_encoding(data)) is not None:
            self.is_guessed = True
            return self._use(escaped)(data, final)
        if data.isascii():
            # An escape may be cut by the pipe.
            whole = data if final else _CUT_ESCAPE.sub(b"", data)
            return _AS_UTF_8(whole, final)
        if not final and _only_begins_character(data):
            # The beginning of one character alone does not tell encodings apart: wait for the rest of it.
            ascii_part = data.rstrip(bytes(range(0x80, 0x100)))
            return _AS_UTF_8(ascii_part, False)
        sample = data[: max(0, SAMPLE_BYTES - num_before)]
        complete = final and len(sample) == len(data)
        return self._guess(sample, complete, num_before)(data, final)

    def _guess(self, sample: bytes, complete: bool, num_before: int = 0) -> Decoder:
        """Decode by the encoding that the bytes suggest (see `detect`)."""
        encoding = detect(sample, complete, self.name, num_before)
        self.is_guessed = not encoding.startswith("utf")
        return self._use(encoding)

    def _use(self, encoding: str) -> Decoder:
        self.encoding = encoding
        self._decoder = decoder_for(encoding)
        return self._decoder

    def _take(self, num_bytes: int) -> bytes:
        taken, self._buffer = self._buffer[:num_bytes], self._buffer[num_bytes:]
        self._hash.update(taken)
        self.bytes_read += num_bytes
        return taken

    def _read(self) -> bytes:
        try:
            # read1 gives what is there, without waiting for more.
            data: bytes = getattr(self._stream, "read1", self._stream.read)(READ_BYTES)
        except OSError as error:
            raise DocumentError(f"cannot read {self.name}: {error.strerror}; check the disk or the pipe") from error
        return data


def _only_begins_character(data: bytes) -> bool:
    """True if all that is not ASCII in `data` is an unfinished UTF-8 character at its end."""
    tail = data[-3:].lstrip(bytes(range(0x80)))
    if not tail or not data[: len(data) - len(tail)].isascii():
        return False
    try:
        return tail.decode("utf-8") == ""
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
