"""Training checkpoints: everything a run needs to go on exactly where it was.

A checkpoint is a folder `checkpoint-STEP` with `tensors.safetensors` and `state.json`. It is written under a temporary
name, flushed and renamed; then older ones are removed. A process that is killed at any moment leaves a complete one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from famcli.documents.writing import atomic_folder
from famcli.errors import RecipeError

LOG_NAME = "log.jsonl"
_PREFIX = "checkpoint-"

SavedLanes = tuple[dict[str, Tensor], dict[str, Any]]
"""What `Lanes.to_tensors` gives: tensors named `lane.name`, and plain values with one entry per lane under `lanes`."""
SavedRun = tuple[Path, dict[str, dict[str, Tensor]], dict[str, Any]]
"""A training checkpoint read back: its folder, tensors by section and name, and plain values."""


@contextmanager
def running_alone(run_folder: Path) -> Iterator[None]:
    """In the `with`, no other process trains in `run_folder`. A process that was killed leaves no lock.

    Raises RecipeError if one does already.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run_folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise RecipeError(f"another process trains in {run_folder}: wait for it, or choose another folder") from error


def save_run(
    run_folder: Path, step: int, sections: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]
) -> Path:
    """Write a training checkpoint and remove older ones; returns its folder. Raises RecipeError when writing fails."""
    final = run_folder / f"{_PREFIX}{step:08d}"
    # A process that was killed while it wrote left a large folder of no use.
    for remains in run_folder.glob(f".{_PREFIX}*"):
        shutil.rmtree(remains, ignore_errors=True)
    # Cloned, because safetensors refuses tensors that share storage.
    tensors = {
        f"{section}/{name}": tensor.detach().cpu().contiguous().clone()
        for section, named in sections.items()
        for name, tensor in named.items()
    }
    try:
        with atomic_folder(final) as made:
            save_file(tensors, made / "tensors.safetensors")
            (made / "state.json").write_text(json.dumps(values), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise RecipeError(
            f"{run_folder}: a training checkpoint cannot be written ({error}); make room, and give the same command "
            "again: it goes on from the checkpoint before"
        ) from error
    for other in _checkpoints(run_folder):
        if other != final:
            shutil.rmtree(other, ignore_errors=True)
    return final


def load_run(run_folder: Path) -> SavedRun | None:
    """The newest training checkpoint of a run folder, or None. Raises RecipeError if it is damaged."""
    folders = _checkpoints(run_folder)
    if not folders:
        return None
    # Steps are written with eight digits, so the last name is the newest checkpoint.
    folder = folders[-1]
    try:
        values = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        sections: dict[str, dict[str, Tensor]] = {}
        for name, tensor in load_file(folder / "tensors.safetensors").items():
            section, _, rest = name.partition("/")
            sections.setdefault(section, {})[rest] = tensor
        return folder, sections, values
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise RecipeError(f"{folder}: damaged training checkpoint ({error}); remove it to start again") from error


def truncate_log(log: Path, num_bytes: int) -> None:
    """Cut the log to its length when the checkpoint was written: the rest will be written again."""
    if log.exists() and log.stat().st_size > num_bytes:
        os.truncate(log, num_bytes)


def merge_lanes(parts: Sequence[SavedLanes]) -> SavedLanes:
    """All lanes from what each process saved: each lane from the process that reads it.

    The others know its place, but have neither its state nor its memory.
    """
    tensors: dict[str, Tensor] = {}
    values = dict(parts[0][1])
    for own, _ in parts:
        tensors |= own
    entries = zip(*(part["lanes"] for _, part in parts), strict=True)
    values["lanes"] = [
        next((entry for entry in lane if entry.keys() & {"state", "memory"}), lane[0]) for lane in entries
    ]
    return tensors, values


def _checkpoints(run_folder: Path) -> list[Path]:
    return sorted(path for path in run_folder.glob(f"{_PREFIX}*") if path.is_dir())
