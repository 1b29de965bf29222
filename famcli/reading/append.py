"""Continuing a reading: the source has grown, or more text comes through a pipe."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from famcli.documents.opening import open_source, shown_path, text_digest
from famcli.documents.original import Counted
from famcli.documents.source import PLAIN_TEXT, Source
from famcli.errors import DocumentError, MemoryFileError
from famcli.reading.cursor import Cursor, SourceRecord

_AGAIN = "read it again from its start"
_FORCE = {"force": ""}


def open_append(
    cursor: Cursor, file: str | os.PathLike[str], *, encoding: str | None = None, stdin: BinaryIO | None = None
) -> tuple[Source, bool]:
    """The document that `file` adds to what was read up to `cursor`, and whether it continues the last source.

    The last source given again, as a whole and grown, is read on where reading stopped, once its old part is seen to
    be what was read. "-" is new text that follows directly; `stdin` stands in for standard input. Any other file is a
    new source. Use: `document, continues = open_append(...)`, then `reader.read([document], continues=continues)`.

    Raises MemoryFileError if the old part changed or cannot be checked, or an earlier source is given again;
    DocumentError as `open_source` does.
    """
    last = cursor.sources[-1]
    if os.fspath(file) == "-":
        if last.format != PLAIN_TEXT:
            raise MemoryFileError(
                f"{last.name} was read as {last.format}, which text from a pipe cannot continue: give the grown file "
                "as a whole, or put the new text into a file of its own"
            )
        stream = Counted(stdin or sys.stdin.buffer, cursor.tail[cursor.next_byte - cursor.tail_start :])
        more, encoding = cast(BinaryIO, stream), last.encoding
        return open_source("-", encoding=encoding, start=cursor.next_byte, stdin=more, format=PLAIN_TEXT), True
    path = str(Path(file).resolve())
    if path != last.path:
        if any(path == source.path for source in cursor.sources):
            raise MemoryFileError(
                f"{file} was read already and {last.name} after it, so it cannot be continued: only the last source "
                "can grow; read all of them again"
            )
        if last.path is None and last.name == shown_path(file):
            raise MemoryFileError(
                f"{file} was read already and went on through a pipe: pipe what is new, or {_AGAIN}", remedy=_FORCE
            )
        _refuse_moved(cursor, file)
        return open_source(file, encoding=encoding), False
    _check_old_part(cursor, file)
    if last.format != PLAIN_TEXT:
        return open_source(file, start=cursor.next_byte, format=last.format), True
    chosen, is_guessed = _encoding(last, file, encoding)
    source = open_source(file, encoding=chosen, start=cursor.next_byte, format=PLAIN_TEXT)
    source.is_guessed = is_guessed
    return source, True


def _encoding(last: SourceRecord, file: str | os.PathLike[str], named: str | None) -> tuple[str, bool]:
    """The encoding to go on in, and whether it is a guess that the grown file speaks against.

    What was read so far may have been ASCII, which tells none from UTF-8: then the whole file is asked again, so that
    reading it in two runs is reading it in one. Raises MemoryFileError where a guess from few bytes was wrong.
    """
    if last.is_named:
        return last.encoding, False
    with open_source(file, encoding=named, format=PLAIN_TEXT) as whole:
        found, is_guessed = whole.encoding, whole.is_guessed
    if found == last.encoding or last.encoding.startswith("utf-16"):
        return last.encoding, False
    if last.encoding == "utf-8":
        return (found, is_guessed) if _is_ascii(file, last.num_bytes) else ("utf-8", False)
    if named is None and found == "utf-8" and not _is_ascii(file, os.path.getsize(file)):
        raise MemoryFileError(
            f"{file} was read as {last.encoding}, but what it has become is UTF-8: {_AGAIN}, or name {last.encoding} "
            "to go on",
            remedy=_FORCE | {"encoding": last.encoding},
        )
    return last.encoding, is_guessed


def _is_ascii(file: str | os.PathLike[str], num_bytes: int) -> bool:
    with Path(file).open("rb") as opened:
        while num_bytes and (data := opened.read(min(num_bytes, 1 << 16))):
            if not data.isascii():
                return False
            num_bytes -= len(data)
    return True


def _refuse_moved(cursor: Cursor, file: str | os.PathLike[str]) -> None:
    """Raise MemoryFileError if `file` is an earlier source under another path."""
    # Hashing reads the file, and a pipe can be read only once.
    if not Path(file).is_file():
        return
    for source in cursor.sources:
        if source.path is None or source.sha256 is None or not source.num_bytes or Path(source.path).exists():
            continue
        with suppress(DocumentError):  # it is shorter
            if text_digest(file, source.num_bytes, source.format) == source.sha256:
                raise MemoryFileError(
                    f"{file} begins with what was read as {source.path}, which is not there any more: move it back "
                    f"there, or {_AGAIN}",
                    remedy=_FORCE,
                )


def _check_old_part(cursor: Cursor, file: str | os.PathLike[str]) -> None:
    last = cursor.sources[-1]
    if last.sha256 is None:
        problem = f"{file} cannot be continued: what was read of it came through a pipe"
        raise MemoryFileError(f"{problem}; {_AGAIN}", remedy=_FORCE)
    try:
        found = text_digest(file, last.num_bytes, last.format)
    except DocumentError as error:
        raise MemoryFileError(f"{error}; it cannot be continued; {_AGAIN}", remedy=_FORCE) from error
    if found != last.sha256:
        raise MemoryFileError(
            f"the first {last.num_bytes:,} bytes of {file} (sha256 {found[:12]}) are not those that were read "
            f"(sha256 {last.sha256[:12]}): it was changed, not continued; {_AGAIN}",
            remedy=_FORCE,
        )
