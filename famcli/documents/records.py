"""Files of records: one JSON object a line with `id` and `text`, plain or compressed with zstd."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from famcli.errors import DocumentError

_ENDINGS = (".jsonl", ".jsonl.zst")


@dataclass(frozen=True)
class Record:
    """One text. fields: the other strings of its object (`split`, `title`, ...)."""

    id: str
    text: str
    fields: dict[str, str]


def holds_records(path: Path) -> bool:
    """True if the file's name says that it holds records."""
    return path.name.endswith(_ENDINGS)


def read_records(path: Path) -> Iterator[Record]:
    """The records of a .jsonl or .jsonl.zst file in order, one at a time. Raises DocumentError for a file that is
    another thing, or cannot be read."""
    for number, fields in read_objects(path):
        try:
            record_id, text = fields.pop("id"), fields.pop("text")
        except KeyError as error:
            raise DocumentError(f"{path}: line {number} is not an object with `id` and `text`; correct it") from error
        strings = {key: value for key, value in fields.items() if isinstance(value, str)}
        yield Record(str(record_id), str(text), strings)


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a .jsonl or .jsonl.zst file with the numbers of their lines. Raises DocumentError as above."""
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or error
            raise DocumentError(f"{path}: line {number} is not JSON ({reason}); correct it") from error
        if not isinstance(value, dict):
            raise DocumentError(f"{path}: line {number} is not a JSON object; correct it")
        yield number, value


def _lines(path: Path) -> Iterator[str]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    with file:
        if path.suffix != ".zst":
            yield from _decoded(file)
            return
        try:
            import zstandard
        except ImportError as error:
            raise DocumentError(f"{path}: needs the package zstandard; pip install 'famcli[train]'") from error
        try:
            # Long-range windows (`zstd --long=31`), as data sets are often packed with, are over the usual limit.
            with zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file) as reader:
                yield from _decoded(reader)
        except zstandard.ZstdError as error:
            raise DocumentError(f"{path}: damaged zstd file ({error}); fetch it again") from error


def _decoded(file: BinaryIO) -> Iterator[str]:
    with io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="\n") as lines:
        yield from lines
