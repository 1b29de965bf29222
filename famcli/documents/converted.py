"""Documents whose text is made out of something else: pages of HTML, mails, PDFs, and what is compressed.

The canonical text is what the format's reader yields, one part after the other; offsets count its bytes in UTF-8. The
same file always gives the same text, so a span stays valid as long as the file does. To quote from a file that was read
in this process its text is kept in a temporary file, until the original changes.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from famcli.documents.original import Original
from famcli.documents.source import Location, Piece, Source
from famcli.errors import DocumentError

Part = tuple[str, Location | None]
"""Text and where it is in the original; None for what has no place of its own (blank lines, separators)."""

FormatReader = Callable[[Original], Iterator[Part]]
"""Reads a document in constant memory. Raises DocumentError for a damaged one."""

_PIECE_BYTES = 1 << 14
_IN_MEMORY = 1 << 20  # bytes of a kept text that need no disk
_MAX_KEPT = 8  # texts: each may hold a file open


class ConvertedSource(Source):
    """A document as the text that `read` makes of it. start: the offset to begin at, everything before being skipped.

    reopen: opens the same document from its start, to quote from it. owned: what is closed with this, if not
    `stream` itself, as that of a file is.
    """

    def __init__(
        self,
        original: Original,
        read: FormatReader,
        format_name: str,
        stream: BinaryIO,
        *,
        start: int = 0,
        reopen: Callable[[], Source] | None = None,
        owned: BinaryIO | None = None,
    ) -> None:
        self.name, self.path, self.size = original.name, original.path, original.size
        self.start, self.format = start, format_name
        self.encoding, self.is_guessed, self.num_replaced = "utf-8", False, 0
        self.wait_for_more = bool
        self.notes = original.notes
        self._original, self._stream, self._reopen = original, stream, reopen
        self._owned = stream if owned is None and self.path is not None else owned
        self._parts = read(original)
        self._hash = hashlib.sha256()
        self._end = start
        self._key = _identity(self.path, format_name) if self.size is not None else None

    @property
    def bytes_read(self) -> int:  # type: ignore[override]  # it is counted where the bytes are read
        return self._original.num_read

    @property
    def end(self) -> int:
        return self._end

    def pieces(self) -> Iterator[Piece]:
        """See `Source`. A piece of a file holds at least 16 KiB; a pipe gives what it has."""
        kept = _keep(self._key) if self._key is not None and not self.start else None
        for piece in self._all_pieces():
            if kept is not None and not kept.add(piece):
                kept = None
            if piece.end <= self.start:
                continue
            if piece.start < self.start:
                piece = _from(piece, self.start)
            self._hash.update(piece.raw)
            self._end = piece.end
            yield piece

    def text(self, span: tuple[int, int]) -> str:
        """See `Source`. The span must begin and end with a character."""
        start, end = span
        kept = _kept.get(self._key) if self._key is not None else None
        if kept is not None and kept.size >= end:
            return kept.read(start, end).decode("utf-8", "replace")
        parts, reached = list[bytes](), 0
        with self._again() as again:
            for piece in again.pieces():
                if piece.end > start:
                    parts.append(piece.raw[max(0, start - piece.start) : end - piece.start])
                reached = piece.end
                if reached >= end:
                    break
        if reached < end:
            raise DocumentError(f"cannot quote from {self.path}: its text ends before; has it changed?")
        return b"".join(parts).decode("utf-8", "replace")

    def digest(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if isinstance(self._parts, Generator):
            self._parts.close()
        self._original.close()
        if self._owned is not None:
            self._owned.close()

    def _again(self) -> Source:
        if self._reopen is None:
            raise DocumentError(f"{self.name} is a pipe, which cannot be read again")
        return self._reopen()

    def _all_pieces(self) -> Iterator[Piece]:
        texts, locations, start, end = list[bytes](), list[tuple[int, Location]](), 0, 0
        for text, location in self._parts:
            if not text:
                continue
            data = text.encode("utf-8", "replace")
            if location is not None:
                locations.append((end, location))
            texts.append(data)
            end += len(data)
            if end - start >= _PIECE_BYTES or (self.size is None and text.endswith("\n")):
                yield _piece(texts, locations, start, end)
                texts, locations, start = [], [], end
        if texts:
            yield _piece(texts, locations, start, end)


def _piece(texts: list[bytes], locations: list[tuple[int, Location]], start: int, end: int) -> Piece:
    raw = b"".join(texts)
    return Piece(raw.decode("utf-8"), start, end, raw=raw, locations=tuple(locations))


def _from(piece: Piece, start: int) -> Piece:
    raw = piece.raw[start - piece.start :]
    before = [one for one in piece.locations if one[0] <= start][-1:]
    after = [one for one in piece.locations if one[0] > start]
    locations = (*((start, location) for _, location in before), *after)
    return Piece(raw.decode("utf-8", "replace"), start, piece.end, raw=raw, locations=locations)


# ---------------------------------------------------------------------------------------------------------- kept texts

_Identity = tuple[str, int, int, int, int, str]


@dataclass(eq=False)
class _Kept:
    """The text of a file, as far as it was converted."""

    file: tempfile.SpooledTemporaryFile[bytes]
    size: int = 0

    def add(self, piece: Piece) -> bool:
        """Take the next piece, unless it is there already; False where there is no room for it."""
        if piece.start == self.size:
            try:
                self.file.seek(self.size)
                self.file.write(piece.raw)
            except (OSError, ValueError):  # the disk is full, or other texts took its place
                return False
            self.size = piece.end
        return True

    def read(self, start: int, end: int) -> bytes:
        """The bytes [start, end)."""
        self.file.seek(start)
        return self.file.read(end - start)


_kept: OrderedDict[_Identity, _Kept] = OrderedDict()


@atexit.register
def forget_texts() -> None:
    while _kept:
        _kept.popitem()[1].file.close()


def _keep(key: _Identity) -> _Kept:
    if key not in _kept:
        _kept[key] = _Kept(tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115 (closed when it is dropped)
    _kept.move_to_end(key)
    while len(_kept) > _MAX_KEPT:
        _, dropped = _kept.popitem(last=False)
        dropped.file.close()
    return _kept[key]


def _identity(path: Path | None, format_name: str) -> _Identity | None:
    """What changes when a file does."""
    if path is None:
        return None
    status = os.stat(path)
    return (os.path.realpath(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, format_name)
