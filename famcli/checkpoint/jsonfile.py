"""Read a checkpoint's JSON files, which may be hostile: a small object, every key checked for type and range.

Every problem is a CheckpointError of one line that names the file, the key, what is wrong and what to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from famcli.errors import CheckpointError

_SHOWN_CHARS = 60


def read_json_object(path: Path, *, max_bytes: int = 1 << 20) -> dict[str, Any]:
    """The JSON object in `path`. Raises CheckpointError when it is missing, too large, or not one object."""
    if not path.exists():
        raise CheckpointError(f"{path} is missing: a checkpoint folder needs {path.name}")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; put the checkpoint's {path.name} there")
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise CheckpointError(f"{path} has {size} bytes, more than any {path.name} needs ({max_bytes})")
        # Some editors put a byte-order mark in front.
        values = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({shown(error)}); fetch or write it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold one JSON object, it holds {_spelled(values)}")
    return values


def shown(value: object) -> str:
    """A name, a number or an error's text for a message: one line, shortened."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def _spelled(value: object) -> str:
    """A JSON value for a message, as the file spells it; objects and lists are only named."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return shown(json.dumps(value, ensure_ascii=False))


class Fields:
    """The keys of one JSON object, read with type and range; absent and null keys take the default if there is one."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path = path
        self.values = values

    def wrong(self, key: str, problem: str, remedy: str = "") -> CheckpointError:
        """The error for `key`, to be raised."""
        return CheckpointError(f"{self.path}: '{key}' {problem}" + (f"; {remedy}" if remedy else ""))

    def integer(self, key: str, default: int | None = None, *, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        value = self._value(key, default)
        # In Python true is an int too.
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, f"must be a whole number, it is {_spelled(value)}")
        if not low <= value <= high:
            raise self.wrong(key, f"must be between {low} and {high}, it is {_spelled(value)}")
        return value

    def number(self, key: str, default: float | None = None, *, low: float, high: float) -> float:
        """A number in [low, high], which infinity and NaN never are."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, f"must be a number, it is {_spelled(value)}")
        if not low <= value <= high:
            raise self.wrong(key, f"must be between {low:g} and {high:g}, it is {_spelled(value)}")
        return float(value)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """true or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, f"must be true or false, it is {_spelled(value)}")
        return value

    def string(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, f"must be a string, it is {_spelled(value)}")
        return value

    def strings(self, key: str) -> dict[str, str]:
        """An object whose values are strings; empty when absent."""
        value = self.mapping(key) or {}
        for name, text in value.items():
            if not isinstance(text, str):
                raise self.wrong(key, f"must map names to strings, '{shown(name)}' is {_spelled(text)}")
        return dict(value)

    def mapping(self, key: str) -> dict[str, Any] | None:
        """An object, or None when absent or null."""
        value: Any = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, f"must be an object, it is {_spelled(value)}")
        return value

    def _value(self, key: str, default: object) -> Any:
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise self.wrong(key, "is missing", f"add it to {self.path.name}")
            return default
        return value
