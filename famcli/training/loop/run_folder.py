"""What a run leaves in its folder: the events of its log, and checkpoints to resume from.

Events are frozen values, handed to a callback in order; `to_json` gives the line of the log. A training checkpoint is a
folder `checkpoint-STEP` with `tensors.safetensors` and `state.json`. It is written under a temporary name, flushed and
renamed; then older ones are removed. A process that is killed at any moment leaves a complete one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from famcli.documents.locking import sole_writer
from famcli.documents.writing import atomic_folder
from famcli.errors import BusyError, RecipeError
from famcli.training.data.corpus import PackEvent
from famcli.training.loop.step import ObjectiveLosses


@dataclass(frozen=True)
class RunStarted:
    """Everything is loaded.

    step: not 0 when a run goes on. corpus_tokens: the tokens to train on. tokens_per_step: the most of a step.
    flops_per_token: operations of training, see `estimate`. peak_flops: what all processes can do in a second, measured
    at the start. training_distance: the longest distance in tokens from a key to its question. num_trained: parameters
    that training changes.
    """

    name: str
    num_parameters: int
    corpus_tokens: dict[str, int]
    tokens_per_step: int
    step: int
    seconds: float
    num_processes: int = 1
    flops_per_token: float = 0.0
    peak_flops: float = 0.0
    training_distance: int = 0
    num_trained: int = 0


@dataclass(frozen=True)
class StepDone:
    """One optimiser step.

    loss: nats per token, by loss weight. tokens: predicted so far in the run. tokens_per_second: in this step. lr: the
    rate of the matrices. grad_norm: before clipping. memory_rms: root mean square of the carried memory, by layer.
    seconds: of the run so far. progress: share of the run's budget that is used, 0 to 1. num_blocks: the most that a
    lane read in this step. peak_share: tokens_per_second over what the machine's matrix products allow.
    """

    step: int
    loss: float
    bits_per_byte: float
    tokens: int
    tokens_per_second: float
    lr: float
    grad_norm: float
    memory_rms: tuple[float, ...]
    seconds: float
    progress: float
    num_skipped: int = 0
    num_blocks: int = 0
    peak_share: float = 0.0
    by_objective: ObjectiveLosses = field(default_factory=dict)


@dataclass(frozen=True)
class FitDone:
    """One step of a fit: what a memory keeps tokens by.

    unexplained: of this step's documents, before they were added, the share of the squares that the fit leaves. The
    rest is as in `StepDone`.
    """

    step: int
    unexplained: float
    tokens: int
    tokens_per_second: float
    seconds: float
    progress: float


@dataclass(frozen=True)
class StepSkipped:
    """A step whose loss or gradient was not finite: its documents were abandoned and the weights left unchanged."""

    step: int
    num_skipped: int


@dataclass(frozen=True)
class CheckDone:
    """Bits per byte on validation documents, by memory mode: overall, by corpus, and by position.

    by_position[mode] has one number for each of `positions`, the first tokens of the buckets.
    """

    step: int
    bits_per_byte: dict[str, float]
    by_corpus: dict[str, dict[str, float]]
    positions: tuple[int, ...]
    by_position: dict[str, list[float]]
    seconds: float


@dataclass(frozen=True)
class PasskeyDone:
    """Pass keys recalled from validation text; right[mode] has one count for each distance.

    distances: tokens from the start of the reading to the question, with the key at a random depth. total: streams at
    each distance.
    """

    step: int
    distances: tuple[int, ...]
    total: int
    right: dict[str, list[int]]
    seconds: float


@dataclass(frozen=True)
class TurnsChecked:
    """Questions of `checks.turns` answered greedily. f1: of those that have an answer, 0 where it was refused.
    refusal_recall, refusal_precision: of "The text does not say." """

    step: int
    questions: int
    f1: float
    refusal_recall: float
    refusal_precision: float
    seconds: float


@dataclass(frozen=True)
class ScoreProgress:
    """Progress of scoring the held-out documents after the run, in tokens, in one memory mode."""

    memory_mode: str
    done: int
    total: int


@dataclass(frozen=True)
class RunSaved:
    step: int
    path: Path


@dataclass(frozen=True)
class RunEnded:
    """The run used its budget (`finished`) or was stopped. exported: the checkpoint folder of a finished run."""

    step: int
    tokens: int
    seconds: float
    finished: bool
    exported: Path | None


Measured = CheckDone | PasskeyDone | TurnsChecked | ScoreProgress
TrainEvent = PackEvent | RunStarted | StepDone | FitDone | StepSkipped | Measured | RunSaved | RunEnded


def to_json(event: TrainEvent) -> dict[str, Any]:
    values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(event).items()}
    return {"event": type(event).__name__, **values}


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
    with ExitStack() as stack:
        try:
            stack.enter_context(sole_writer(run_folder))
        except BusyError as error:
            raise RecipeError(
                f"another process trains in {run_folder}, {error.holder}: wait for it, or choose another folder"
            ) from error
        yield


def save_run(
    run_folder: Path, step: int, sections: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]
) -> Path:
    """Write a training checkpoint and remove older ones; returns its folder. Raises RecipeError when writing fails.

    With `values` goes the length of the log, which is cut to that when the run goes on.
    """
    log = run_folder / LOG_NAME
    values = {**values, "log_bytes": log.stat().st_size if log.exists() else 0}
    final = run_folder / f"{_PREFIX}{step:08d}"
    # A process that was killed while it wrote left a large folder of no use.
    for remains in run_folder.glob(f".{_PREFIX}*"):
        shutil.rmtree(remains) if remains.is_dir() else remains.unlink()
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


def add_to_log(run_folder: Path, values: Mapping[str, Any]) -> None:
    # Opened for each line: a run that is killed loses none that was written.
    with (run_folder / LOG_NAME).open("a", encoding="utf-8") as log:
        log.write(json.dumps(values) + "\n")


def cut_log(run_folder: Path, num_bytes: int) -> None:
    """Cut the log to its length when the checkpoint was written: the rest will be written again."""
    log = run_folder / LOG_NAME
    if not num_bytes:
        log.unlink(missing_ok=True)
    elif log.exists() and log.stat().st_size > num_bytes:
        os.truncate(log, num_bytes)


def merge_lanes(parts: Sequence[SavedLanes]) -> SavedLanes:
    """All lanes from what each process saved: each lane from the process that reads it.

    The others know its place, but have neither its state nor its memory.
    """
    tensors = {name: tensor for own, _ in parts for name, tensor in own.items()}
    entries = zip(*(values["lanes"] for _, values in parts), strict=True)
    lanes = [next((entry for entry in lane if entry.keys() & {"state", "memory"}), lane[0]) for lane in entries]
    return tensors, parts[0][1] | {"lanes": lanes}


def _checkpoints(run_folder: Path) -> list[Path]:
    return sorted(path for path in run_folder.glob(f"{_PREFIX}*") if path.is_dir())
