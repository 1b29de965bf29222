"""The citation check, and what else reads a source again once the network has read it.

`is_quoted_right` is the check behind `Citation.verified`: a citation of a file is shown only if the file, opened
again, still has exactly the quoted text at the cited bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from famcli.documents.opening import open_source, text_digest
from famcli.documents.source import Piece
from famcli.errors import DocumentError, Remedy
from famcli.reading.cursor import SourceRecord
from famcli.text.passages import Passage

_PROGRAM = "program"  # the format, with an encoding behind it where one was named


def is_quoted_right(record: SourceRecord, passage: Passage) -> bool:
    """True if the source, opened again, still has exactly the passage's text at its span.

    A pipe cannot be read again, so nothing can be checked for it.
    """
    if record.path is None:
        return False
    try:
        with open_source(record.path, encoding=record.encoding, format=record.format) as source:
            return source.text(passage.span) == passage.text
    except DocumentError:
        return False


def has_in_code(record: SourceRecord, name: str) -> bool:
    """True if a program has a name in its code, which is not read."""
    if record.path is None or not record.format.startswith(_PROGRAM):
        return False
    try:
        with open_source(record.path, as_is=True) as source:
            before = ""
            for piece in source.pieces():
                text = before + piece.text
                if name in text:
                    return True
                before = text[-len(name) :]
    except DocumentError:
        pass
    return False


def where_it_is(record: SourceRecord, folders: Sequence[Path]) -> SourceRecord:
    """The source of a memory file where it is now: one that is gone may have been moved into one of these folders."""
    if record.path is None or os.path.lexists(record.path):
        return record
    there = (Path(folder).absolute() / Path(record.path).name for folder in folders)
    return next((replace(record, path=str(path)) for path in there if path.is_file()), record)


def why_not_readable(record: SourceRecord, folders: Sequence[Path]) -> tuple[str, Remedy] | None:
    """The reason why a source of a memory file cannot be read again, and what helps; None if it still begins with what
    was read.

    folders: what may be read. A memory file that was received may name any path of this machine.
    """
    if record.path is None:
        return f"{record.name} was read from a pipe, which cannot be read again", {}
    real = os.path.realpath(record.path)
    if not any(Path(real).is_relative_to(os.path.realpath(folder)) for folder in folders):
        return (
            f"{record.path} is neither below the memory file's folder nor below the current one, so it is not opened "
            "unless its folder is named as one of sources",
            {"sources": "DIR"},
        )
    if record.sha256 is None:
        return f"{record.name} has no checksum in the memory file", {}
    # A pipe may never end, and a device may be set to work by opening it.
    if os.path.exists(real) and not os.path.isfile(real):
        return f"{record.name} is no regular file", {}
    try:
        found = text_digest(record.path, record.num_bytes, record.format)
    except DocumentError:
        # A file that exists is shorter than what was read, or unreadable.
        if not Path(record.path).is_file():
            gone = f"{record.path} is not there any more; if it was moved, name its folder as one of sources"
            return gone, {"sources": "DIR"}
        found = None
    return None if found == record.sha256 else (f"{record.name} was changed since it was read", {})


def pieces_until(record: SourceRecord) -> Iterator[Piece]:
    """The text of a file as far as it was read, even if it has grown since."""
    assert record.path is not None, "a pipe cannot be read again"
    with open_source(record.path, encoding=record.encoding, format=record.format) as source:
        for piece in source.pieces():
            yield piece.up_to(record.num_bytes)
            if piece.end >= record.num_bytes:
                return
