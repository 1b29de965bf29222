"""Perplexity of documents of any length: totals, running figures, and figures per line, block or token.

The definition that a figure rests on is part of the result (`PerplexityResult.definition`), because perplexities
without one cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import get_args

from famcli.checkpoint.model import Model
from famcli.errors import UsageError
from famcli.nn import MemoryMode
from famcli.reading.reader import READING_MODES, Reader, ReadingMode
from famcli.tasks.perplexity.scores import Difference, Score, Tally
from famcli.tasks.perplexity.units import AlertRule, Per, SourceScorer, UnitScore
from famcli.tasks.task import (
    Advance,
    Documents,
    Notice,
    ReadCounts,
    ReadingTracker,
    SourceCounts,
    Stage,
    open_documents,
    run,
)


@dataclass(frozen=True)
class PerplexityConfig:
    """How to score.

    memory_mode: None is the checkpoint's default; "compare" scores `on` and `frozen` over one pass of the text.
    per: what to report besides totals. alert: the K of the alert rule (see `AlertRule`); needs per="line".
    Raises UsageError.
    """

    memory_mode: ReadingMode | None = None
    per: Per | None = None
    alert: float | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("memory mode", self.memory_mode, READING_MODES), ("per", self.per, get_args(Per))):
            if value is not None and value not in known:
                raise UsageError(f"{name} '{value}' is unknown: use one of {', '.join(known)}")
        if self.alert is not None:
            if self.per != "line":
                raise UsageError("an alert judges lines, so figures are needed per line", remedy={"per": "line"})
            AlertRule(self.alert)


@dataclass(frozen=True)
class FileScore:
    """An event, and a part of the result: one source, scored to its end or (partial) to where it was interrupted.

    scores: one, or in compare mode those of `on` and `frozen`. difference: in compare mode.
    """

    source: SourceCounts
    scores: tuple[Score, ...]
    difference: Difference | None
    partial: bool


@dataclass(frozen=True)
class PerplexityResult:
    """total: over all sources, one score, or in compare mode those of `on` and `frozen`. num_alerts: lines alerted."""

    model: str
    files: tuple[FileScore, ...]
    total: tuple[Score, ...]
    difference: Difference | None
    num_alerts: int | None
    counts: ReadCounts = field(metadata={"json": "read"})
    definition: str
    warnings: tuple[str, ...]
    partial: bool


PerplexityEvent = Stage | Advance | Notice | UnitScore | FileScore


class Perplexity:
    """Scores documents; each starts afresh. Use one object for one run.

    Raises UsageError where a memory is to be compared that is not there.
    """

    def __init__(self, model: Model, config: PerplexityConfig | None = None) -> None:
        self.model, self.config = model, config or PerplexityConfig()
        mode = self.config.memory_mode or model.default_memory_mode
        model.check_memory_mode(mode)
        if mode == "compare" and not model.sidecar.fam.fam_length:
            raise UsageError(f"{model.name} has no memory (fam_length is 0) to compare with: leave the memory mode out")
        self.memory_modes: tuple[MemoryMode, ...] = ("on", "frozen") if mode == "compare" else (mode,)
        self._mode: ReadingMode = mode
        self._tracker = ReadingTracker(model.tokenizer.vocab_size)
        self._files: list[FileScore] = []
        self._total = Tally(self.memory_modes)
        self._current: SourceScorer | None = None
        self._rule = None if self.config.alert is None else AlertRule(self.config.alert)
        self._finished = False

    def events(self, documents: Documents) -> Iterator[PerplexityEvent]:
        """Read and score. With per="line" a line's event comes as soon as its newline has come."""
        yield from self._tracker.warn_untrained(self.model, self.config.memory_mode)
        by_line = self.config.per == "line"
        for document in open_documents(documents, as_is=True):
            # A pipe is scored while it is open: its lines must not wait for a whole block.
            eager = document.size is None and self.config.per in ("line", "token")
            reader = Reader(self.model, memory_mode=self._mode, score=True, eager=eager, cut_lines=by_line)
            scorer = SourceScorer(self.model.tokenizer, document.name, self.memory_modes, self.config.per, self._rule)
            self._current = scorer
            for event in reader.read([document]):
                # Counted before the tracker's events: an interruption there must not lose figures.
                units = list(scorer.add(event))
                yield from self._tracker.record(event)
                yield from units
            yield from scorer.finish()
            self._current = None
            self._files.append(_file_score(scorer, self._tracker.counts().sources[-1], partial=False))
            self._total.merge(scorer.tally)
            yield self._files[-1]
        self._finished = True

    def result(self) -> PerplexityResult:
        """What was scored so far; partial until `events` is exhausted."""
        files, total, counts = list(self._files), self._total, self._tracker.counts()
        # Interrupted: what was read of the open source counts too.
        if self._current is not None and len(counts.sources) > len(files):
            files.append(_file_score(self._current, counts.sources[len(files)], partial=True))
            total = Tally(self.memory_modes)
            total.merge(self._total)
            total.merge(self._current.tally)
        return PerplexityResult(
            model=self.model.name,
            files=tuple(files),
            total=total.scores(),
            difference=total.difference(),
            num_alerts=None if self._rule is None else self._rule.num_alerts,
            counts=counts,
            definition=define(self.model, self._mode, self.config.per),
            warnings=tuple(self._tracker.warnings),
            partial=not self._finished,
        )


def perplexity(model: Model, documents: Documents, config: PerplexityConfig | None = None) -> PerplexityResult:
    """Score `documents` (paths, "-" for stdin, or opened ones) to their end."""
    return run(Perplexity(model, config), documents)


def _file_score(scorer: SourceScorer, source: SourceCounts, partial: bool) -> FileScore:
    return FileScore(source, scorer.tally.scores(), scorer.tally.difference(), partial)


def define(model: Model, mode: ReadingMode, per: Per | None) -> str:
    """The definition of the figures that `model` gives in this mode, in sentences."""
    fam = model.sidecar.fam
    first = "its first token from the begin-of-stream token"
    if model.tokenizer.bos_id is None:
        first = "its first token has nothing before it: it and its bytes are not counted"
    lines = " Tokens are cut after each newline, which belongs to the line that it ends." if per == "line" else ""
    modes = {
        "on": "memory on",
        "frozen": "memory frozen at its initial value",
        "none": "no memory",
        "compare": "memory on, and frozen at its initial value, over the same tokens",
    }
    seen = f"blocks of {fam.block_size:,} tokens that see {fam.memory_segments:,} before them"
    if fam.architecture == "feedback":
        seen = f"a memory of each of the last {fam.visible_tokens:,} tokens, for all layers"
    return (
        f"Each token is predicted from all of its source before it ({modes[mode]}; {seen}), {first}. "
        "nll: the sum of -ln p; perplexity: exp(nll / tokens); bits per byte: nll / ln 2 / source bytes (a byte-order "
        "mark is not counted); accuracy: "
        "the share of tokens that were the most likely one; \u00b1: the standard error of nll / tokens over blocks. "
        f"No end-of-text token is scored.{lines}"
    )
