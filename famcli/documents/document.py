"""A document: a file or a pipe, read once from front to back in constant memory, as pieces of text with their places.

Text is kept as it stands (CRLF, NUL and all); only a byte-order mark is skipped. A pipe gives what has arrived. Its
encoding is settled when its first byte that is not ASCII arrives, by what has arrived then; a file's by its first
256 KiB. What is no text is refused by the same bytes, unless the encoding was named.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from famcli.documents.decoding import Decoded, Decoder, decoder_for, is_stateful
from famcli.documents.encodings import (
    MAGIC_BYTES,
    SAMPLE_BYTES,
    WIDE_BYTES,
    byte_order_mark,
    detect,
    may_be_cut_short,
    may_be_wide,
    named_encoding,
    refuse_known_binaries,
    wide_encoding,
)
from famcli.documents.piece import Piece
from famcli.errors import DocumentError

_READ_BYTES = 1 << 16


class Document:
    """Text with places, read by `pieces()`; made by `open_document`.

    name: what to call it. source: its path, None for standard input. size: bytes of the file, None for a pipe.
    encoding: a Python codec (for a pipe, utf-8 until another one is found). is_guessed: it is one of those that the
    bytes suggest and do not prove. num_replaced: invalid sequences so far, each replaced by U+FFFD. bytes_read: source
    bytes of the pieces so far, marks included, counted from `start`. wait_for_more: asked at the end; True to try once
    more (a file that grows is followed by what waits here).
    """

    def __init__(self, stream: BinaryIO, name: str, source: Path | None, size: int | None, start: int) -> None:
        self.name = name
        self.source = source
        self.size = size
        self.start = start
        self.encoding = "utf-8"
        self.is_guessed = False
        self.num_replaced = 0
        self.bytes_read = 0
        self._stream = stream
        self._decoder: Decoder = _Unsettled(self)
        self._buffer = b""
        self._unread = False  # whether the buffer holds bytes that were read ahead
        self._skip = 0  # bytes of a byte-order mark that are still to come
        self._hash = hashlib.sha256()
        self._at_end = False
        self.wait_for_more: Callable[[], bool] = bool  # `bool()` is False: the end of the file is the end

    def __enter__(self) -> Document:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self.source is not None:
            self._stream.close()

    def digest(self) -> str:
        """Hexadecimal sha256 of the source bytes from `start` to the end of the last piece."""
        return self._hash.hexdigest()

    def pieces(self) -> Iterator[Piece]:
        """The text from where reading stands, in pieces of about 64 KiB of source. Raises DocumentError.

        An unfinished character at the end of the input comes last, as a tentative piece of its own.
        """
        while not self._at_end:
            if not self._unread:
                data = self._read()
                while not data and self.wait_for_more():
                    data = self._read()
                self._at_end = not data
                self._buffer += data
            self._unread = False
            self._skip_mark()
            if (piece := self._decode(final=False)) is not None:
                yield piece
        if (piece := self._decode(final=True)) is not None:
            yield piece

    def _skip_mark(self) -> None:
        skipped = min(self._skip, len(self._buffer))
        self._take(skipped)
        self._skip -= skipped

    def _decode(self, final: bool) -> Piece | None:
        """What the buffer holds in whole characters; if `final`, what is left of one."""
        decoded = self._decoder.decode(self._buffer, final)
        begin = self.start + self.bytes_read
        raw = self._take(decoded.consumed)
        self.num_replaced += decoded.num_replaced
        if not decoded.text:
            return None
        return Piece(decoded.text, begin, begin + decoded.consumed, decoded.widths, tentative=final, raw=raw)

    def _guess(self, sample: bytes, complete: bool, num_before: int = 0) -> Decoder:
        """Decode by what the bytes suggest (see `detect`)."""
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
            data: bytes = getattr(self._stream, "read1", self._stream.read)(_READ_BYTES)
        except OSError as error:
            raise DocumentError(f"cannot read {self.name}: {error.strerror}; check the disk or the pipe") from error
        return data


class _Unsettled:
    """Gives out ASCII text; at the first other byte within the sample it finds the encoding and decodes by it."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._num_seen = 0

    def decode(self, data: bytes, final: bool) -> Decoded:
        if not self._num_seen and may_be_wide(data):
            if len(data) < WIDE_BYTES and not final:
                return Decoded("", None, 0, 0)
            if (wide := wide_encoding(data[:SAMPLE_BYTES])) is not None:
                return self._document._use(wide).decode(data, final)
        if data.isascii():
            self._num_seen += len(data)
            return Decoded(data.decode("ascii"), None, len(data), 0)
        if not final and _only_begins_character(data):
            # Wait for the rest of the character: on its beginning alone nothing can be decided.
            ascii_part = data.rstrip(bytes(range(0x80, 0x100)))
            self._num_seen += len(ascii_part)
            return Decoded(ascii_part.decode("ascii"), None, len(ascii_part), 0)
        sample = data[: max(0, SAMPLE_BYTES - self._num_seen)]
        complete = final and len(sample) == len(data)
        return self._document._guess(sample, complete, self._num_seen).decode(data, final)


def _only_begins_character(data: bytes) -> bool:
    """Whether all that is not ASCII in `data` is an unfinished UTF-8 character at its end."""
    tail = data[-3:].lstrip(bytes(range(0x80)))
    if not tail or not data[: len(data) - len(tail)].isascii():
        return False
    try:
        return tail.decode("utf-8") == ""
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"


def open_document(
    path: str | os.PathLike[str], *, encoding: str | None = None, start: int = 0, stdin: BinaryIO | None = None
) -> Document:
    """Open a file, or standard input for "-" (`stdin` stands in for it).

    `encoding` overrides detection, also of what is no text. `start`: byte offset of a character to begin at, the text
    before it having been read earlier; standard input is taken to begin there. Raises UsageError: unknown encoding;
    DocumentError: missing, a directory, unreadable, no text by its first bytes, `start` behind its end.
    """
    if os.fspath(path) == "-":
        stream = stdin if stdin is not None else _standard_input()
        return _prepare(Document(stream, "standard input", None, None, start), encoding, start)
    source = Path(path)
    if _is_directory(source):
        raise DocumentError(f"{source} is a directory: name the files in it")
    try:
        opened = source.open("rb")
        status = os.fstat(opened.fileno())
    except FileNotFoundError as error:
        raise DocumentError(f"{source} does not exist: check the path") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DocumentError(f"cannot open {source}: {reason}; check its permissions") from error
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    try:
        if start and (size is None or start > size):
            raise DocumentError(f"{source} cannot be read from byte {start}: it ends before, or is a pipe")
        return _prepare(Document(opened, shown_path(source), source, size, 0), encoding, start)
    except BaseException:
        opened.close()
        raise


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as a document is named by it: `b.txt` for `./a/../b.txt`, unless that is another file (`a` is a link)."""
    plain = os.path.normpath(path)
    try:
        return plain if os.path.samefile(path, plain) else str(path)
    except OSError:
        return str(path)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # what is wrong with it is said when it is opened
        return False


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise DocumentError("standard input is closed: name a file, or pipe text in")
    return sys.stdin.buffer


def _prepare(document: Document, encoding: str | None, start: int = 0) -> Document:
    """Read the first bytes: refuse what is no text, skip a mark, settle the encoding, and go to `start`."""
    first = b""
    wanted = MAGIC_BYTES if document.size is None else SAMPLE_BYTES
    while len(first) < wanted and (document.size is not None or not first or may_be_cut_short(first)):
        data = document._read()
        if not data:
            break
        first += data
    if document.start:  # the rest of a stream: its first bytes begin nothing
        document._use(named_encoding(encoding or "utf-8", b"")[0])
        document._buffer, document._unread = first, bool(first)
        return document
    if encoding is None:
        refuse_known_binaries(first, document.name)
    mark = named_encoding(encoding, first) if encoding is not None else byte_order_mark(first)
    if mark is not None:
        document._skip = mark[1]
        document._use(mark[0])
    elif document.size is not None:
        sample = first[:SAMPLE_BYTES]
        document._guess(sample, len(sample) == len(first) < SAMPLE_BYTES)
    if document.size is None:
        document._buffer, document._unread = first, bool(first)
    else:
        _go_to(document, start)
    return document


def _go_to(document: Document, start: int) -> None:
    """Place a file at `start`, with its decoder in the state that reading up to there leaves."""
    stream = document._stream
    stream.seek(0)
    if start <= document._skip:
        return
    document.start, document._skip = start, 0
    if not is_stateful(document.encoding):
        stream.seek(start)
        return
    place, waiting = 0, b""
    while place < start and (data := stream.read(min(start - place, _READ_BYTES))):
        place += len(data)
        waiting += data
        waiting = waiting[document._decoder.decode(waiting, False).consumed :]


def hash_prefix(path: str | os.PathLike[str], num_bytes: int) -> str:
    """Hexadecimal sha256 of the first `num_bytes` bytes. Raises DocumentError when the file is gone or shorter."""
    digest = hashlib.sha256()
    remaining = num_bytes
    try:
        with Path(path).open("rb") as file:
            while remaining and (data := file.read(min(remaining, _READ_BYTES))):
                digest.update(data)
                remaining -= len(data)
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror}; has it moved?") from error
    if remaining:
        raise DocumentError(f"{path} is shorter than the {num_bytes:,} bytes that were read of it: it has changed")
    return digest.hexdigest()
