"""What a training run tells whoever watches it: frozen values, handed to a callback in order.

`to_json` gives the line that goes into the run's log.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from famcli.training.corpus import PackProgress


@dataclass(frozen=True)
class RunStarted:
    """Everything is loaded. `step` is not 0 when a run goes on; `corpus_tokens` are the tokens to train on."""

    name: str
    num_parameters: int
    corpus_tokens: dict[str, int]
    tokens_per_step: int
    step: int
    seconds: float


@dataclass(frozen=True)
class StepDone:
    """One optimiser step. loss: nats per token; progress: share of the run's budget that is used, 0 to 1.

    tokens: predicted so far in the run; tokens_per_second: in this step; lr: the matrices' rate; grad_norm: before
    clipping; memory_rms: root mean square of the carried memory, by layer; seconds: of the run so far.
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


@dataclass(frozen=True)
class StepSkipped:
    """A step whose loss or gradient was not finite: its documents were left, the weights were not touched."""

    step: int
    num_skipped: int


@dataclass(frozen=True)
class CheckDone:
    """Bits per byte on validation documents, by memory mode: in all, by corpus, and by position.

    by_position[mode] has one number for each of `positions`, the buckets' first tokens.
    """

    step: int
    bits_per_byte: dict[str, float]
    by_corpus: dict[str, dict[str, float]]
    positions: tuple[int, ...]
    by_position: dict[str, list[float]]
    seconds: float


@dataclass(frozen=True)
class ScoreProgress:
    """How far the scoring of the held-out documents is after the run, in tokens, in one memory mode."""

    memory_mode: str
    done: int
    total: int


@dataclass(frozen=True)
class RunSaved:
    """A training checkpoint is on disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class RunEnded:
    """The run used its budget (`finished`) or was stopped; `exported` is the checkpoint folder of a finished run."""

    step: int
    tokens: int
    seconds: float
    finished: bool
    exported: Path | None


TrainEvent = PackProgress | RunStarted | StepDone | StepSkipped | CheckDone | ScoreProgress | RunSaved | RunEnded


def to_json(event: TrainEvent) -> dict[str, Any]:
    """The event as plain values, its kind under `event`."""
    values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(event).items()}
    return {"event": type(event).__name__, **values}
