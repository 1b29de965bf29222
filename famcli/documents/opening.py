"""Opening a source: by its path or as standard input, judged by its first bytes and not by its name."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from famcli.documents.source import Source
from famcli.documents.text_source import READ_BYTES, TextSource
from famcli.errors import DocumentError


def open_source(
    path: str | os.PathLike[str], *, encoding: str | None = None, start: int = 0, stdin: BinaryIO | None = None
) -> Source:
    """Open a file, or standard input for "-" (`stdin` stands in for it).

    encoding: overrides detection; what is not text is read too then. start: offset of the character to begin at, the
    text before it having been read earlier; standard input is taken to begin there. Raises UsageError for an unknown
    encoding; DocumentError for what is missing, a directory, unreadable, not text by its first bytes, or shorter than
    `start`.
    """
    if os.fspath(path) == "-":
        stream = stdin if stdin is not None else _standard_input()
        return TextSource(stream, "standard input", None, None, encoding=encoding, start=start)
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
        raise DocumentError(f"cannot open {file}: {reason}; check its permissions") from error
    # A FIFO or a device has no size, and cannot be read twice.
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    try:
        if start and (size is None or start > size):
            raise DocumentError(f"{file} cannot be read from byte {start}: it ends before, or is a pipe")
        return TextSource(opened, shown_path(file), file, size, encoding=encoding, start=start)
    except BaseException:
        opened.close()
        raise


def shown_path(path: str | os.PathLike[str]) -> str:
    """The name of a source: `b.txt` for `./a/../b.txt`, unless that is another file (`a` is a link)."""
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
        with Path(path).open("rb") as file:
            while remaining and (data := file.read(min(remaining, READ_BYTES))):
                digest.update(data)
                remaining -= len(data)
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror}; has it moved?") from error
    if remaining:
        raise DocumentError(f"{path} is shorter than the {num_bytes:,} bytes that were read of it: it has changed")
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
