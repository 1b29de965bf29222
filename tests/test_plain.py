"""The codec of results: names, nesting, and what a field's metadata changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from famcli.plain import to_json


@dataclass(frozen=True)
class Inner:
    num_bytes: int
    path: Path


@dataclass(frozen=True)
class Outer:
    parts: tuple[Inner, ...]
    counts: Inner = field(metadata={"json": "read"})
    hidden: object = field(metadata={"json": None})
    share: float | None = None


def test_dataclasses_become_plain_values() -> None:
    inner = Inner(3, Path("a.txt"))
    wanted = {"bytes": 3, "path": "a.txt"}
    assert to_json(Outer((inner, inner), inner, object())) == {"parts": [wanted, wanted], "read": wanted, "share": None}
    assert to_json({"x": inner, 2: None}) == {"x": wanted, "2": None}
