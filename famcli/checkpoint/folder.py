"""The files of a checkpoint folder that may be opened: regular files that lie inside it.

Checkpoints come from strangers, so neither a name in an index nor a link may lead out of the folder. The one exception
is the hub's cache, whose snapshots are links into the `blobs` folder beside them.
"""

from __future__ import annotations

import os
from pathlib import Path

from famcli.checkpoint.jsonfile import shown
from famcli.errors import CheckpointError, UsageError
from famcli.tokens.gguf_file import is_gguf


def checkpoint_folder(path: str | os.PathLike[str]) -> Path:
    """`path` as the folder of a checkpoint, or its GGUF file. Raises CheckpointError when it is missing or neither."""
    folder = Path(path).expanduser()
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
