"""Perplexity of documents of any length: totals, running figures, and figures per line, block or token.

The definition that a figure rests on is part of the result (`PerplexityResult.definition`), because perplexities
without one cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from famcli.checkpoint.model import Model
from famcli.nn import MemoryMode
from famcli.tasks.common import Advance, Documents, Notice, ReadCounts, Stage

Per = Literal["line", "block", "token"]
ScoreMode = Literal["on", "frozen", "none", "compare"]


@dataclass(frozen=True)
class PerplexityConfig:
    """memory_mode: None is the checkpoint's default; `compare` scores `on` and `frozen` over one pass of the text.

    per: what else to report than totals. alert: K of the alert rule (needs per = "line"; see `tasks.alert`).
    """

    memory_mode: ScoreMode | None = None
    per: Per | None = None
    alert: float | None = None


@dataclass(frozen=True)
class Score:
    """Figures over some tokens under one memory mode.

    num_tokens, num_bytes: scored tokens and their source bytes. nll: total, in nats. standard_error: of nll per token,
    with blocks of `block_size` scored tokens as independent batches; None below two blocks, and for single units.
    """

    memory_mode: MemoryMode
    num_tokens: int
    num_bytes: int
    nll: float
    num_correct: int
    standard_error: float | None

    @property
    def nll_per_token(self) -> float | None:
        """Mean negative log-likelihood in nats; None when nothing was scored."""
        return self.nll / self.num_tokens if self.num_tokens else None

    @property
    def perplexity(self) -> float | None: ...

    @property
    def bits_per_byte(self) -> float | None: ...

    @property
    def accuracy(self) -> float | None:
        """Share of scored tokens that were the most likely one (the measure for PG-19 in arXiv 2404.09173)."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class UnitScore:
    """An event: one line, block or token was scored.

    index: 0-based within the source. line: 1-based line at which it begins. span: source bytes. text: the line's text,
    its first `MAX_LINE_TEXT` characters (None for blocks; for a token its text). scores: one, or in compare mode `on` and `frozen`. running: the
    same over the source so far. alert: what the alert rule said about a line, None without a rule or an alert.
    """

    kind: Per
    source: str
    index: int
    line: int
    span: tuple[int, int]
    text: str | None
    scores: tuple[Score, ...]
    running: tuple[Score, ...]
    alert: Any


@dataclass(frozen=True)
class FileScore:
    """An event, and part of the result: one source was scored to its end (or to where it was interrupted)."""

    source: str
    scores: tuple[Score, ...]
    counts: ReadCounts
    partial: bool

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class PerplexityResult:
    """total: over all sources, one score (in compare mode `on`, `frozen`). difference: in compare mode, see `Difference`."""

    model: str
    files: tuple[FileScore, ...]
    total: tuple[Score, ...]
    definition: str
    warnings: tuple[str, ...]
    partial: bool

    def to_json(self) -> dict[str, Any]: ...


PerplexityEvent = Stage | Advance | Notice | UnitScore | FileScore


class Perplexity:
    """Scores documents; each starts afresh."""

    def __init__(self, model: Model, config: PerplexityConfig = PerplexityConfig()) -> None: ...

    def events(self, documents: Documents) -> Iterator[PerplexityEvent]:
        """Read and score; a line's event comes as soon as its newline has come."""

    def result(self) -> PerplexityResult:
        """What was scored so far; partial until `events` is exhausted."""


def perplexity(model: Model, documents: Documents, config: PerplexityConfig = PerplexityConfig()) -> PerplexityResult:
    """Score `documents` (paths, "-", or opened ones) to their end."""
