"""Extractive summaries in one pass: verbatim sentences with their places, spread over the document.

A sentence is scored by how much the memory attended to it while it compressed its block, or by how surprising it was
where there is no trained memory that is carried on; the result says which.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from famcli.checkpoint.model import Model
from famcli.documents.piece import Piece
from famcli.errors import UsageError
from famcli.nn import MemoryMode
from famcli.reading.engine import start_state
from famcli.reading.events import BlockEvent, SourceEnd, SourceStart
from famcli.reading.reader import Reader
from famcli.reading.scoring import score_continuation
from famcli.tasks.candidates import Candidate, Candidates, choose
from famcli.tasks.common import (
    Advance,
    Documents,
    Ledger,
    Notice,
    ReadCounts,
    Stage,
    chosen_memory_mode,
    open_documents,
)
from famcli.tasks.quality import gutenberg_marker, is_quotable
from famcli.tasks.salience import AttentionProfile, Average, TokenValues
from famcli.tasks.sentences import Sentence, SentenceSplitter

Signal = Literal["attention", "surprise"]
MIN_SENTENCES, MAX_SENTENCES = 5, 12
_TOKENS_FOR_MIN = 8000


@dataclass(frozen=True)
class SummarizeConfig:
    """num_sentences: None is by the document's length (5 to 12, no more than a third of its sentences).

    memory_mode: None is the checkpoint's default.
    """

    num_sentences: int | None = None
    memory_mode: MemoryMode | None = None

    def __post_init__(self) -> None:
        if self.num_sentences is not None and self.num_sentences < 1:
            raise UsageError(f"a summary of {self.num_sentences} sentences cannot be: ask for at least 1")


@dataclass(frozen=True)
class Quote:
    """A verbatim sentence of a source, its line breaks included. line: from 1. span: source bytes."""

    source: str
    line: int
    span: tuple[int, int]
    text: str
    score: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source": self.source,
            "line": self.line,
            "span": list(self.span),
            "text": self.text,
            "score": self.score,
        }


@dataclass(frozen=True)
class SummaryResult:
    """sentences: in the order of the document. signal: what scored them; scored_by says it in words.

    num_sentences_seen: in the whole text. num_quotable: those that passed the rules of `quality.is_quotable`.
    """

    model: str
    memory_mode: MemoryMode
    signal: Signal
    scored_by: str
    sentences: tuple[Quote, ...]
    num_sentences_seen: int
    num_quotable: int
    counts: ReadCounts
    warnings: tuple[str, ...]
    partial: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "mode": "extract",
            "memory_mode": self.memory_mode,
            "signal": self.signal,
            "scored_by": self.scored_by,
            "sentences": [quote.to_json() for quote in self.sentences],
            "sentences_seen": self.num_sentences_seen,
            "sentences_quotable": self.num_quotable,
            "read": self.counts.to_json(),
            "warnings": list(self.warnings),
            "partial": self.partial,
        }


SummaryEvent = Stage | Advance | Notice


class Summarizer:
    """Reads documents one after the other as one text, and keeps a bounded number of candidate sentences."""

    def __init__(self, model: Model, config: SummarizeConfig | None = None) -> None:
        self.model, self.config = model, config or SummarizeConfig()
        self.memory_mode = chosen_memory_mode(model, self.config.memory_mode)
        self._why = _why_surprise(model, self.memory_mode)
        self._ledger = Ledger(model.tokenizer.vocab_size)
        self._profile, self._average = AttentionProfile(), Average()
        self._candidates = Candidates()
        self._sources: list[_Source] = []  # the open one, and those that wait with it for the first block to close
        self._held: list[tuple[_Source, BlockEvent]] | None = [] if self.signal == "attention" else None
        self._num_seen = self._num_quotable = 0
        self._finished = False

    @property
    def signal(self) -> Signal:
        """What sentences are scored by."""
        return "surprise" if self._why else "attention"

    def events(self, documents: Documents) -> Iterator[SummaryEvent]:
        """Read the documents; nothing is chosen before `result`."""
        yield from self._ledger.warn_untrained(self.model, self.config.memory_mode)
        by_attention = self.signal == "attention"
        reader = Reader(self.model, memory_mode=self.memory_mode, score=not by_attention, attention=by_attention)
        watched = (self._ledger.watch(document, self._see) for document in open_documents(documents))
        num_bytes = 0
        for event in reader.read(watched):
            if isinstance(event, SourceStart):
                self._sources.append(_Source(event.name, num_bytes, self._average))
            elif isinstance(event, BlockEvent):
                self._add(event)
            elif isinstance(event, SourceEnd):
                num_bytes += event.num_bytes
                self._end_source()
            yield from self._ledger.record(event)
        self._settle()
        self._finished = True

    def result(self) -> SummaryResult:
        """The summary of what was read so far; partial until `events` is exhausted."""
        if not self._finished:
            self._settle()
        counts = self._ledger.counts()
        wanted = self.config.num_sentences or self._default_length(counts.num_tokens)
        chosen = choose(self._candidates.all(), wanted)
        return SummaryResult(
            model=self.model.name,
            memory_mode=self.memory_mode,
            signal=self.signal,
            scored_by=_BY_ATTENTION if not self._why else f"{_BY_SURPRISE}, because {self._why}",
            sentences=tuple(_quote(candidate) for candidate in chosen),
            num_sentences_seen=self._num_seen,
            num_quotable=self._num_quotable,
            counts=counts,
            warnings=tuple(self._ledger.warnings),
            partial=not self._finished,
        )

    # ------------------------------------------------------------------------------------------------ reading

    def _see(self, piece: Piece) -> None:
        self._sources[-1].feed(piece)

    def _add(self, event: BlockEvent) -> None:
        source = self._sources[-1]
        if self._held is None:
            source.values.add(event.token_starts, event.token_ends, self._values(event))
            self._take(source)
            return
        self._held.append((source, event))
        if event.closed:
            self._release([self._values(held) for _, held in self._held])

    def _end_source(self) -> None:
        self._sources[-1].end()
        if self._held is None:
            for source in self._sources:
                self._take(source)
            self._sources.clear()

    def _settle(self) -> None:
        """Nothing more comes: what ended within the first block has no attention and is scored by surprise."""
        if self._held:
            self._why = f"the text ended within the first block of {self.model.sidecar.fam.block_size} tokens"
            self._release(_surprise(self.model, self.memory_mode, [event for _, event in self._held]))

    def _release(self, values: list[NDArray[np.float64]]) -> None:
        assert self._held is not None
        for (source, event), its_values in zip(self._held, values, strict=True):
            source.values.add(event.token_starts, event.token_ends, its_values)
        self._held = None
        for source in self._sources:
            self._take(source)

    def _values(self, event: BlockEvent) -> NDArray[np.float64]:
        """Of an event's tokens [n]: log attention against the usual, or nats of surprise; NaN where not known."""
        if self.signal == "surprise":
            assert event.nll is not None, "the reader must score"
            return np.asarray(event.nll.double().numpy())
        if event.attention is None:
            return np.full(event.num_tokens, np.nan)
        block_size = self.model.sidecar.fam.block_size
        attention = np.asarray(event.attention.double().numpy())
        return self._profile.salience(attention, block_size - event.num_tokens, block_size)

    def _take(self, source: _Source) -> None:
        for sentence in source.take():
            self._num_seen += 1
            marker = gutenberg_marker(sentence)
            if marker == "START":
                self._candidates.forget(source.place)
            source.is_over = source.is_over or marker == "END"
            if source.is_over or not is_quotable(sentence):
                continue
            self._num_quotable += 1
            score = source.values.salience(sentence.start, sentence.end)
            self._candidates.add(Candidate(sentence, source.name, source.place + sentence.start, score))

    def _default_length(self, num_tokens: int) -> int:
        by_length = MIN_SENTENCES + round(math.log2(max(1.0, num_tokens / _TOKENS_FOR_MIN)))
        return max(1, min(by_length, MAX_SENTENCES, -(-self._num_seen // 3)))


def summarize(model: Model, documents: Documents, config: SummarizeConfig | None = None) -> SummaryResult:
    """Summarize `documents` (paths, "-" for stdin, or opened ones), read one after the other as one text."""
    task = Summarizer(model, config)
    for _ in task.events(documents):
        pass
    return task.result()


_BY_ATTENTION = (
    "how much the memory attended to the sentence's tokens while it compressed their block, against what their place "
    "in a block usually gets and the text's average"
)
_BY_SURPRISE = "how surprising the sentence's tokens were, against the text's average"


class _Source:
    """Sentences of one source that wait for the values of their tokens. place: source bytes before it, over all."""

    def __init__(self, name: str, place: int, average: Average) -> None:
        self.name, self.place = name, place
        self.values = TokenValues(average)
        self.is_over = False
        self._splitter = SentenceSplitter()
        self._waiting: deque[Sentence] = deque()
        self._ended = False

    def feed(self, piece: Piece) -> None:
        """Text that is going to be read."""
        self._waiting += self._splitter.feed(piece.text, piece.char_offsets())

    def end(self) -> None:
        """All text was read: the last sentence is complete too."""
        self._waiting += self._splitter.flush()
        self._ended = True

    def take(self) -> Iterator[Sentence]:
        """Sentences whose tokens all have their values, or will never have any."""
        while self._waiting and (self._ended or self._waiting[0].end <= self.values.end):
            sentence = self._waiting.popleft()
            yield sentence
            self.values.forget(sentence.end)


def _why_surprise(model: Model, memory_mode: MemoryMode) -> str:
    """Why attention cannot score sentences; nothing if it can."""
    if not model.sidecar.fam.fam_length:
        return "the checkpoint has no memory"
    if memory_mode != "on":
        return f"the memory mode is '{memory_mode}'"
    return "" if model.sidecar.memory_trained else "the checkpoint's memory is not trained"


def _surprise(model: Model, memory_mode: MemoryMode, events: list[BlockEvent]) -> list[NDArray[np.float64]]:
    """Nats of surprise for the tokens of each event: together at most one block, read once more."""
    bos = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
    ids = np.concatenate([np.array(bos, np.int32), *(event.tokens for event in events)])
    nll = score_continuation(model.network, start_state(model.network, memory_mode), ids)
    values = np.asarray(nll.double().numpy())[len(bos) :]
    return np.split(values, np.cumsum([event.num_tokens for event in events])[:-1])


def _quote(candidate: Candidate) -> Quote:
    sentence = candidate.sentence
    span = (sentence.start, sentence.end)
    return Quote(candidate.source, sentence.line, span, sentence.text, candidate.score)
