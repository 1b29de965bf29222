"""The files of a checkpoint folder: which of them may be opened, and its JSON, checked key by key.

Checkpoints come from strangers, so neither a name in an index nor a link may lead out of the folder. The one exception
is the hub's cache, whose snapshots are links into the `blobs` folder beside them. A problem in a JSON file is a
CheckpointError of one line that names the file, the key, what is wrong and what to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from famcli.errors import CheckpointError, UsageError
from famcli.plain import user_path
from famcli.tokens.gguf_file import is_gguf

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
DRAFT_FILE = "draft.json"
_SHOWN_CHARS = 60


def checkpoint_folder(path: str | os.PathLike[str]) -> Path:
    """`path` as the folder of a checkpoint, or its GGUF file. Raises CheckpointError when it is missing or neither."""
    folder = user_path(path)
    if is_gguf(folder):
        return folder
    if not folder.exists():
        raise CheckpointError(f"{folder} does not exist; give the folder of a checkpoint")
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give the folder that holds config.json and the weights")
    return folder


def check_new_folder(target: Path) -> None:
    """Raise UsageError unless a checkpoint can be written to `target` without replacing anything."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already; give a folder that is empty or does not exist yet")


def check_draft(path: str | os.PathLike[str]) -> Path:
    """`path` as the folder of a draft. Raises CheckpointError where it is none."""
    folder = user_path(path)
    if not (folder / DRAFT_FILE).is_file():
        raise CheckpointError(f"{folder} is no draft's folder: it has no {DRAFT_FILE}; famcli train-draft writes one")
    return folder


def beside(folder: Path, name: str) -> Path:
    """The path of a checkpoint's file `name`: in its folder, or beside its GGUF file as `STEM.name`."""
    return folder.with_name(f"{folder.stem}.{name}") if is_gguf(folder) else folder / name


def named_file(folder: Path, name: str) -> Path:
    """The file that an index calls `name`. Raises CheckpointError unless it is a plain name inside the folder."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise CheckpointError(f"{folder}: the index names the file '{shown(name)}', which is not a name in the folder")
    return inside(folder, folder / name)


def inside(folder: Path, path: Path) -> Path:
    """`path`, if it is a regular file inside `folder`. Raises CheckpointError otherwise."""
    if not path.exists():
        raise CheckpointError(f"{path} is missing; fetch the checkpoint again")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file; put the file itself there")
    real, root = path.resolve(), folder.resolve()
    # Resolved on both sides, so that a link anywhere on the way counts.
    if real.is_relative_to(root) or (root.parent.name == "snapshots" and real.parent == root.parents[1] / "blobs"):
        return path
    raise CheckpointError(f"{path} is a link that leads out of the checkpoint's folder; put the file itself there")


def check_links(folder: Path) -> None:
    """Raise CheckpointError when any JSON, tokenizer or weights file of the folder leads out of it."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() and (path.suffix in {".json", ".safetensors"} or path.stem.startswith("tokenizer")):
            inside(folder, path)


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
        value: int = self._typed(key, default, int, "a whole number")
        if not low <= value <= high:
            raise self.wrong(key, f"must be between {low} and {high}, it is {_spelled(value)}")
        return value

    def number(self, key: str, default: float | None = None, *, low: float, high: float) -> float:
        """A number in [low, high], which infinity and NaN never are."""
        value: float = self._typed(key, default, (int, float), "a number")
        if not low <= value <= high:
            raise self.wrong(key, f"must be between {low:g} and {high:g}, it is {_spelled(value)}")
        return float(value)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """true or false."""
        value: bool = self._typed(key, default, bool, "true or false")
        return value

    def string(self, key: str, default: str | None = None) -> str:
        """A string."""
        value: str = self._typed(key, default, str, "a string")
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

    def _typed(self, key: str, default: object, kind: type | tuple[type, ...], name: str) -> Any:
        """The value at `key`, or the default. Raises CheckpointError if it is missing, or not of `kind`."""
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise self.wrong(key, "is missing", f"add it to {self.path.name}")
            return default
        # In Python true is an int too.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, f"must be {name}, it is {_spelled(value)}")
        return value
