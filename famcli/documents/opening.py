"""Opening a source: by its path or as standard input, judged by its first bytes and not by its name."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from famcli.documents.converted import ConvertedSource
from famcli.documents.encodings import may_be_cut_short, named_encoding
from famcli.documents.fetching import address_of
from famcli.documents.formats.telling import SAMPLE, Format, may_begin_format, tell_format
from famcli.documents.original import Counted, Original
from famcli.documents.regular import open_regular
from famcli.documents.source import PLAIN_TEXT, Source
from famcli.documents.text_source import READ_BYTES, TextSource
from famcli.errors import DocumentError

AS_IS = "as-is"
"""Stands for an encoding that is detected, of documents that are to be read as plain text."""


def open_source(
    path: str | os.PathLike[str],
    *,
    encoding: str | None = None,
    start: int = 0,
    stdin: BinaryIO | None = None,
    format: str | None = None,
    as_is: bool = False,
) -> Source:
    """Open a file, or standard input for "-" (`stdin` stands in for it), as what its first bytes say that it is.

    encoding: overrides detection; what is not text is read as text then. `AS_IS` names none, and is `as_is`. start:
    offset of the character to begin at, the text before it having been read earlier; standard input is taken to begin
    there. format: how it was read before (`Source.format`), to read it the same way again. as_is: formats that are
    text themselves (HTML, mail, records) are read as plain text. Raises UsageError for an unknown encoding;
    DocumentError for what is missing, a directory, unreadable, not a document by its first bytes, or shorter than
    `start`.
    """
    if encoding == AS_IS:
        encoding, as_is = None, True
    is_plain, named = format == PLAIN_TEXT, encoding
    if format is not None and not is_plain:
        named = format.partition(" ")[2] or None  # the encoding that was named when it was read first
    if named is not None and not is_plain:
        named, _ = named_encoding(named, b"")
    if os.fspath(path) == "-":
        stream = stdin if stdin is not None else _standard_input()
        if is_plain or start:
            return TextSource(stream, "standard input", None, None, encoding=encoding, start=start)
        return _told_pipe(Original("standard input", stream, named), as_is)
    file = Path(path)
    if _is_directory(file):
        raise DocumentError(f"{file} is a directory: name the files in it")
    try:
        opened = file.open("rb")
        status = os.fstat(opened.fileno())
    except FileNotFoundError as error:
        raise DocumentError(f"{file} does not exist: check the path") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        what = "its permissions" if isinstance(error, PermissionError) else "the path"
        raise DocumentError(f"cannot open {file}: {reason}; check {what}") from error
    # A FIFO or a device has no size, and cannot be read twice.
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    try:
        if size is None and not is_plain and not start:
            return _told_pipe(Original(shown_path(file), opened, named, None, file), as_is)
        told = None if is_plain or size is None else _told_file(opened, file, size, as_is, named)
        if told is not None:
            original = Original(shown_path(file), cast(BinaryIO, Counted(opened)), named, size, file)
            name = told.name if named is None else f"{told.name} {named}"
            again = partial(open_source, path, format=name)
            return ConvertedSource(original, told.read, name, opened, start=start, reopen=again)
        if start and (size is None or start > size):
            raise DocumentError(f"{file} cannot be read from byte {start}: it ends before, or is a pipe")
        return TextSource(opened, shown_path(file), file, size, encoding=encoding, start=start)
    except BaseException:
        opened.close()
        raise


def _told_file(opened: BinaryIO, file: Path, size: int, as_is: bool, named: str | None) -> Format | None:
    try:
        sample = opened.read(SAMPLE)
        opened.seek(0)
    except OSError as error:
        raise DocumentError(f"cannot read {file}: {error.strerror}; check the disk") from error
    return tell_format(sample, len(sample) == size, as_is=as_is, named=named)


def _told_pipe(original: Original, as_is: bool) -> Source:
    """A pipe by what has arrived of it; more is waited for only where that may begin a format."""
    stream, name, path = original.raw(), original.name, original.path
    read = getattr(stream, "read1", stream.read)
    first, at_end = b"", False
    try:
        while not at_end and (not first or (may_begin_format(first) and not as_is) or may_be_cut_short(first)):
            data = read(READ_BYTES)
            first, at_end = first + data, not data
    except OSError as error:
        raise DocumentError(f"cannot read {name}: {error.strerror}; check the disk or the pipe") from error
    told = tell_format(first, at_end, as_is=as_is, named=original.encoding)
    owned = None if path is None else stream  # standard input stays open
    begun = cast(BinaryIO, Counted(stream, first, at_end))
    if told is None:
        return TextSource(begun, name, path, None, encoding=original.encoding, owned=owned)
    return ConvertedSource(Original(name, begun, original.encoding), told.read, told.name, stream, owned=owned)


def shown_path(path: str | os.PathLike[str]) -> str:
    """The name of a source: `b.txt` for `./a/../b.txt`, unless that is another file (`a` is a link); for a
    fetched page its URL."""
    if (address := address_of(Path(path))) is not None:
        return address
    plain = os.path.normpath(path)
    try:
        return plain if os.path.samefile(path, plain) else str(path)
    except OSError:
        return str(path)


def hash_prefix(path: str | os.PathLike[str], num_bytes: int) -> str:
    """Hexadecimal sha256 of a file's first `num_bytes` bytes. Raises DocumentError if it is gone or shorter."""
    digest = hashlib.sha256()
    remaining = num_bytes
    try:
        with open_regular(path) as file:
            while remaining and (data := file.read(min(remaining, READ_BYTES))):
                digest.update(data)
                remaining -= len(data)
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror}; has it moved?") from error
    if remaining:
        raise DocumentError(f"{path} is shorter than the {num_bytes:,} bytes that were read of it: it has changed")
    return digest.hexdigest()


def text_digest(path: str | os.PathLike[str], num_bytes: int, format: str = PLAIN_TEXT) -> str:
    """Hexadecimal sha256 of the first `num_bytes` of a document's text, read again in that format.

    Raises DocumentError if it is gone or shorter, or is no such document any more.
    """
    if format == PLAIN_TEXT:
        return hash_prefix(path, num_bytes)
    digest, remaining = hashlib.sha256(), num_bytes
    with open_source(path, format=format) as source:
        if source.format != format:
            raise DocumentError(f"{path} was read as {format}, which it is not any more: it has changed")
        for piece in source.pieces():
            digest.update(piece.raw[:remaining])
            remaining -= len(piece.raw[:remaining])
            if not remaining:
                break
    if remaining:
        raise DocumentError(f"{path} has less text than the {num_bytes:,} bytes that were read of it: it has changed")
    return digest.hexdigest()


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # opening it says what is wrong
        return False


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise DocumentError("standard input is closed: name a file, or pipe text in")
    return sys.stdin.buffer
