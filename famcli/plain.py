"""Values as plain ones: dataclasses for every `--json`, log line and memory file; text that a terminal cannot obey."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from os import PathLike
from pathlib import Path
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


def plural(number: int, noun: str) -> str:
    """`1 block`, `1,234 blocks`, `2 warnings or failures`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun.replace(' or ', 's or ')}s"


def user_path(path: str | PathLike[str]) -> Path:
    """A path with `~` as the user's folder, or as it is where there is none: a process may run without a home."""
    # Path.expanduser raises then.
    return Path(os.path.expanduser(path))


def user_folder(name: str) -> Path | None:
    """A folder of the user's cache, None where the user has no folder, as in a container without a HOME."""
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("famcli") / name
    except (RuntimeError, KeyError, OSError):
        return None
    # Without a home folder "~" stays as it is.
    return folder if folder.is_absolute() else None


def shipped_folders(name: str) -> list[Path]:
    """The folders of this name that come with famcli: inside the package (a wheel), and beside it in a checkout."""
    package = Path(__file__).resolve().parent
    roots = [package, *([package.parent] if (package.parent / "pyproject.toml").is_file() else [])]
    return [root / name for root in roots if (root / name).is_dir()]


# What a terminal obeys, or what changes how other text looks, without being seen: C0 and C1 controls but newline and
# tab; marks, embeddings, overrides and isolates of direction; separators, invisible operators, zero-width spaces,
# interlinear annotations and tags. The two joiners are letters' business in many scripts, but not beside Latin ones.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]|(?<![^\x00-\u024f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\u024f])"
)


def harmless(text: str) -> str:
    """Text with control characters (but newline and tab) shown instead of obeyed."""
    return _HARMFUL.sub(lambda match: f"\\x{ord(match[0]):02x}" if ord(match[0]) < 256 else "\ufffd", text)


def harmless_json(text: str) -> str:
    """JSON that means the same, with control characters written as escapes."""

    def escape(match: re.Match[str]) -> str:
        units = match[0].encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))

    # A newline can only be the one that ends the object: inside strings JSON escapes it.
    return _HARMFUL.sub(escape, text)
