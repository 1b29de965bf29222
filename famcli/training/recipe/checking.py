"""TOML tables checked against dataclasses: a dataclass defines the keys of a section, each with its documentation.

Unknown keys, wrong types and values out of range are RecipeErrors that name the file, the key and the remedy.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import MISSING, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from famcli.errors import RecipeError


def _shown(value: object) -> str:
    """A value as Python writes it, shortened: a damaged recipe may hold anything."""
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def key(doc: str, default: Any = MISSING, *, low: float | None = None, high: float | None = None, **more: Any) -> Any:
    """A documented key. `low` and `high` bound numbers (inclusive); `choices` lists the allowed strings.

    free: a resumed run may change it. by_name: a resumed run may change the folder of this path.
    """
    metadata = {"doc": doc, "low": low, "high": high, **more}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def share(doc: str, default: float) -> Any:
    """A documented key that is a number from 0 to 1."""
    return key(doc, default, low=0.0, high=1.0)


def is_required(item: dataclasses.Field[Any]) -> bool:
    """True if a recipe must have the key: it has no default, or one that is not meant for recipes."""
    return item.default is MISSING or bool(item.metadata.get("required"))


def type_name(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (UnionType, Union):
        return type_name(get_args(hint)[0])
    if origin is tuple:
        return f"list of {type_name(get_args(hint)[0])}"
    names = {int: "integer", float: "number", bool: "true or false", str: "string", Path: "path"}
    return (names | {dict: "table of strings", Literal: "string"})[origin or hint]


def apply_override(table: dict[str, Any], override: str) -> None:
    """Change `table` by a `key=value` string: dotted keys, TOML values, list entries by their `name` or `kind`.

    Raises RecipeError for a string that is not of this form or a key that is not there.
    """
    dotted, equals, text = override.partition("=")
    parts = dotted.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(
            f"override '{_shortened(override)}' is not of the form key=value; write e.g. schedule.lanes=4"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        # A bare word is a string, as in hardware.device=cuda.
        value = text.strip()
    # Corpora and objectives are lists: their entries are found by name.
    node: Any = table
    for part in parts[:-1]:
        if isinstance(node, list):
            node = next((item for item in node if item.get("name", item.get("kind")) == part), None)
        else:
            node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict | list):
            raise RecipeError(f"override '{_shortened(override)}': the recipe has no {part!r} there; check the key")
    if isinstance(node, list):
        raise RecipeError(f"override '{_shortened(override)}': name the entry, as in corpora.NAME.weight=2")
    node[parts[-1]] = value


def differing_keys(one: Any, other: Any, prefix: str = "") -> list[str]:
    """Dotted names of the keys in which two tables of plain values differ; list entries by name or number."""
    if isinstance(one, list) and isinstance(other, list) and all(isinstance(item, dict) for item in (*one, *other)):
        # Matched by name, so that an entry that was inserted does not shift the others.
        one, other = ({item.get("name", str(i)): item for i, item in enumerate(items)} for items in (one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted(one.keys() | other.keys())
        return [key for name in names for key in differing_keys(one.get(name), other.get(name), f"{prefix}{name}.")]
    return [] if one == other else [prefix.rstrip(".")]


def parse_table(kind: type[Any], table: Any, file: str, prefix: str = "") -> Any:
    """An instance of the dataclass `kind` from a table. `file` and `prefix` (dotted, ends with a dot) are for errors.

    Raises RecipeError for a missing or unknown key, or a value that does not fit.
    """
    if not isinstance(table, dict):
        raise RecipeError(f"{file}: {prefix.rstrip('.')} must be a table; write it as a [section]")
    fields = {item.name: item for item in dataclasses.fields(kind) if not item.metadata.get("internal")}
    for name in table:
        if name not in fields:
            raise RecipeError(f"{file}: unknown key {prefix}{_shortened(name)}; one of: {', '.join(fields)}")
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for name, item in fields.items():
        if name in table:
            values[name] = _parse_value(hints[name], table[name], item, file, prefix + name)
        elif is_required(item):
            doc = item.metadata["doc"]
            remedy = f"add the section [{prefix}{name}]" if doc == "section" else f"it is the {doc}"
            raise RecipeError(f"{file}: {prefix}{name} is missing; {remedy}")
    # FamConfig checks itself, whoever makes it.
    try:
        return kind(**values)
    except ValueError as error:
        raise RecipeError(f"{file}: {prefix.rstrip('.')}: {error}") from error


def _parse_value(hint: Any, value: Any, item: dataclasses.Field[Any], file: str, name: str) -> Any:
    if get_origin(hint) in (UnionType, Union):
        hint = get_args(hint)[0]
    if dataclasses.is_dataclass(hint):
        return parse_table(hint, value, file, name + ".")  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if not isinstance(value, list):
            raise RecipeError(f"{file}: {name} must be a list; it is {_shown(value)}")
        return tuple(_parse_value(inner, entry, item, file, f"{name}[{i}]") for i, entry in enumerate(value))
    if get_origin(hint) is dict:
        if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
            raise RecipeError(f"{file}: {name} must be a table of strings; it is {_shown(value)}")
        return value
    # The strings of a Literal are the choices, which are checked below.
    hint = str if get_origin(hint) is Literal else hint
    # TOML writes 1.0 as 1; true is an int in Python, but not in a recipe.
    accepted: Any = {int: int, float: (int, float), bool: bool, str: str, Path: str}[hint]
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise RecipeError(f"{file}: {name} must be of type {type_name(hint)}; it is {_shown(value)}")
    low, high, choices = (item.metadata.get(bound) for bound in ("low", "high", "choices"))
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise RecipeError(f"{file}: {name} must be {bounds}; it is {_shown(value)}")
    if choices and value not in choices:
        raise RecipeError(f"{file}: {name} must be one of {', '.join(choices)}; it is {_shown(value)}")
    return hint(value)
