"""Extractive summaries in one pass: verbatim sentences with their places, spread over the document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from famcli.checkpoint.model import Model
from famcli.nn import MemoryMode
from famcli.tasks.common import Advance, Documents, Notice, ReadCounts, Stage

Signal = Literal["attention", "surprise"]


@dataclass(frozen=True)
class SummarizeConfig:
    """num_sentences: None is by the document's length (5 to 12). memory_mode: None is the checkpoint's default."""

    num_sentences: int | None = None
    memory_mode: MemoryMode | None = None


@dataclass(frozen=True)
class Quote:
    """A verbatim piece of a source. text: as in the source, `line` is 1-based, `span` are source bytes."""

    source: str
    line: int
    span: tuple[int, int]
    text: str
    score: float

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class SummaryResult:
    """sentences: in the order of the document. signal: what sentences were scored by, said in words in `scored_by`."""

    model: str
    mode: Literal["extract"]
    memory_mode: MemoryMode
    signal: Signal
    scored_by: str
    sentences: tuple[Quote, ...]
    num_sentences_seen: int
    counts: ReadCounts
    warnings: tuple[str, ...]
    partial: bool

    def to_json(self) -> dict[str, Any]: ...


SummaryEvent = Stage | Advance | Notice


class Summarizer:
    """Reads documents one after the other and keeps a bounded number of candidate sentences."""

    def __init__(self, model: Model, config: SummarizeConfig = SummarizeConfig()) -> None: ...

    def events(self, documents: Documents) -> Iterator[SummaryEvent]: ...

    def result(self) -> SummaryResult: ...


def summarize(model: Model, documents: Documents, config: SummarizeConfig = SummarizeConfig()) -> SummaryResult:
    """Summarize `documents` (paths, "-", or opened ones), read one after the other."""
