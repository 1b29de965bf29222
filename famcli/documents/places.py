"""Quotes: what stood at a place of a file, cut from the source itself."""

from __future__ import annotations

import os
from pathlib import Path

from famcli.documents.decoding import is_stateful
from famcli.documents.document import open_document
from famcli.errors import DocumentError


def quote(path: str | os.PathLike[str], span: tuple[int, int], encoding: str) -> str:
    """The text of the source bytes [start, end), which must be ends of characters.

    Raises DocumentError when the file is gone or has become shorter.
    """
    start, end = span
    if is_stateful(encoding):
        return _quote_stateful(path, start, end, encoding)
    try:
        with Path(path).open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
    except OSError as error:
        raise DocumentError(f"cannot quote from {path}: {error.strerror}; has it moved?") from error
    if len(data) < end - start:
        raise DocumentError(f"cannot quote bytes {start} to {end} of {path}: it ends before; has it changed?")
    return data.decode(encoding, errors="replace")


def _quote_stateful(path: str | os.PathLike[str], start: int, end: int, encoding: str) -> str:
    parts = []
    with open_document(path, encoding=encoding, start=start) as document:
        for piece in document.pieces():
            offsets = piece.char_offsets()[:-1]
            parts.append("".join(piece.text[i] for i in range(len(piece.text)) if offsets[i] < end))
            if piece.end >= end:
                break
    return "".join(parts)
