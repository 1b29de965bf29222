"""The keys of a recipe as a table, from the one place where they are defined.

`python -m tools.recipe_keys docs/training.md` renews the table in that file.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from famcli.training.recipe.checking import is_required, type_name
from famcli.training.recipe.recipe import Recipe

BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"


def describe_keys() -> Iterator[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of every key a recipe may have, in order."""
    for section in dataclasses.fields(Recipe):
        hint = get_type_hints(Recipe)[section.name]
        inner = get_args(hint)[0] if get_origin(hint) in (tuple, UnionType) else hint
        if section.metadata.get("internal"):
            continue
        if not dataclasses.is_dataclass(inner):
            yield section.name, type_name(hint), _default_text(section), section.metadata["doc"]
            continue
        prefix = section.name + ("[]" if get_origin(hint) is tuple else "")
        for item in dataclasses.fields(inner):
            if item.metadata.get("internal"):
                continue
            kind = type_name(get_type_hints(inner)[item.name])
            yield f"{prefix}.{item.name}", kind, _default_text(item), item.metadata["doc"]


def _default_text(item: dataclasses.Field[Any]) -> str:
    if is_required(item):
        return "required"
    return "none" if item.default is None else json.dumps(item.default, default=str)


def keys_table() -> str:
    """All keys as a Markdown table."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    rows += [f"| `{key}` | {kind} | {default} | {meaning} |" for key, kind, default, meaning in describe_keys()]
    return "\n".join(rows)


def with_table(page: str) -> str:
    """`page` with the table between its two marks renewed."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{keys_table()}\n{END}{after}"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(with_table(target.read_text(encoding="utf-8")), encoding="utf-8")
