"""Frozen dataclasses as plain values: the one codec behind every `--json`, log line and memory file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from os import PathLike
from typing import Any


def to_json(value: Any) -> Any:
    """`value` as what `json` can write: dataclasses become dictionaries, tuples become lists, paths become strings.

    A field `num_x` becomes the key `x`. A field's metadata may name another key (`field(metadata={"json": "read"})`)
    or leave the field out (`{"json": None}`).
    """
    if is_dataclass(value) and not isinstance(value, type):
        named = ((_key(each), getattr(value, each.name)) for each in fields(value))
        return {key: to_json(inner) for key, inner in named if key is not None}
    if isinstance(value, Mapping):
        return {str(key): to_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(inner) for inner in value]
    return str(value) if isinstance(value, PathLike) else value


def _key(each: Field[Any]) -> str | None:
    key: str | None = each.metadata.get("json", each.name.removeprefix("num_"))
    return key
