"""The events of a training run: frozen values, handed to a callback in order.

`to_json` gives the line that goes into the run's log.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from famcli.training.data.corpus import EncodingGuessed, PackProgress
from famcli.training.loop.loss import ObjectiveLosses


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
class ScoreProgress:
    """Progress of scoring the held-out documents after the run, in tokens, in one memory mode."""

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
    """The run used its budget (`finished`) or was stopped. exported: the checkpoint folder of a finished run."""

    step: int
    tokens: int
    seconds: float
    finished: bool
    exported: Path | None


TrainEvent = (
    PackProgress
    | EncodingGuessed
    | RunStarted
    | StepDone
    | StepSkipped
    | CheckDone
    | PasskeyDone
    | ScoreProgress
    | RunSaved
    | RunEnded
)


def to_json(event: TrainEvent) -> dict[str, Any]:
    """The event as plain values, its kind under `event`."""
    values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(event).items()}
    return {"event": type(event).__name__, **values}
