"""What a reading gathers for a summary: sentences as candidates, and the parts of the document, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from famcli.checkpoint.model import Model
from famcli.documents.source import Piece
from famcli.nn import MemoryMode
from famcli.reading.engine import start_state
from famcli.reading.events import BlockEvent
from famcli.reading.scoring import score_continuation
from famcli.tasks.report.heat import AttentionProfile
from famcli.tasks.summarize.candidates import Candidate, Candidates
from famcli.tasks.summarize.chooser import Chooser
from famcli.tasks.summarize.focus import Focus
from famcli.tasks.summarize.parts import Parts
from famcli.tasks.summarize.salience import Average
from famcli.tasks.summarize.sentence_score import Scorer
from famcli.tasks.summarize.source_sentences import SourceSentences
from famcli.tasks.summarize.summary_result import Signal
from famcli.text.headings import heading
from famcli.text.quality import frame_marker, is_line, is_quotable
from famcli.text.sentences import Sentence

Values = Callable[[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]], None]


class Extraction:
    """What one reading gathers for a summary. Feed it what a `Reader` is given and reports.

    on_values: is told the salience of tokens (index of the source, starts, ends, values), for a heat map.
    """

    def __init__(
        self, model: Model, memory_mode: MemoryMode, focus: str | None = None, on_values: Values | None = None
    ) -> None:
        self.model, self.memory_mode = model, memory_mode
        self.why_surprise = _why_surprise(model, memory_mode)
        self.parts = Parts()
        self.num_seen = self.num_quotable = self._num_sources = self._num_bytes = 0
        self._scorer = Scorer(focus=None if focus is None else Focus(focus))
        self._on_values = on_values
        self._profile, self._average = AttentionProfile(), Average()
        self._candidates = Candidates()
        self._lines = Candidates()  # what may stand for sentences where there are none
        self._sources: list[SourceSentences] = []  # the open one, and those that wait with it for a block to close
        self._with_pages: set[str] = set()
        self._held: list[tuple[SourceSentences, BlockEvent]] | None = [] if self.signal == "attention" else None

    @property
    def signal(self) -> Signal:
        """What the network says of sentences."""
        return "surprise" if self.why_surprise else "attention"

    @property
    def has_only_lines(self) -> bool:
        """Whether no sentence can be quoted, but lines can."""
        return not self.num_quotable and len(self._lines) > 0

    @property
    def scored_by(self) -> str:
        """All that scores a sentence, in words."""
        by = _BY_ATTENTION if not self.why_surprise else f"{_BY_SURPRISE} (because {self.why_surprise})"
        focus = ", and above all how many of the focus's words it has" if self._scorer.focus is not None else ""
        return (
            "how often the text has its words, what it shares with others, where it stands, whether it stands alone, "
            f"and {by}{focus}"
        )

    # ------------------------------------------------------------------------------------------------ reading

    def begin_source(self, name: str) -> None:
        """A source begins."""
        self._sources.append(SourceSentences(name, self._num_sources, self._num_bytes, self._average))
        self._num_sources += 1
        self.parts.begin_source(name, self._num_bytes)

    def see(self, piece: Piece) -> None:
        """Text that is going to be read."""
        self._sources[-1].feed(piece)

    def add(self, event: BlockEvent) -> None:
        """Tokens were read."""
        source = self._sources[-1]
        if self._held is None:
            self._put(source, event, self._values(event))
            self._take(source)
            return
        self._held.append((source, event))
        if event.closed:
            self._release([self._values(held) for _, held in self._held])

    def end_source(self) -> None:
        """The source was read to its end."""
        self._sources[-1].end()
        self._num_bytes += self._sources[-1].num_bytes
        if self._held is None:
            for source in self._sources:
                self._take(source)
            self._sources.clear()

    def settle(self) -> None:
        """Nothing more comes: what ended within the first block has no attention and is scored by surprise."""
        if self._held:
            self.why_surprise = f"the text ended within the first block of {self.model.sidecar.fam.block_size} tokens"
            self._release(_surprise(self.model, self.memory_mode, [event for _, event in self._held]))

    def best_of_last(self) -> Candidate | None:
        """The best of what was read last, by what is known so far; the choice at the end may be another."""
        return self._quoted.best_of_last()

    def chooser(self) -> Chooser:
        """What chooses among all that was gathered so far."""
        return Chooser(self._scorer, self._quoted.all(), self.parts.all(), self._with_pages)

    # ------------------------------------------------------------------------------------------------ sentences

    @property
    def _quoted(self) -> Candidates:
        return self._candidates if self.num_quotable else self._lines

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

    def _put(self, source: SourceSentences, event: BlockEvent, values: NDArray[np.float64]) -> None:
        source.values.add(event.token_starts, event.token_ends, values)
        if self._on_values is not None:
            self._on_values(source.index, event.token_starts, event.token_ends, values)

    def _release(self, values: list[NDArray[np.float64]]) -> None:
        assert self._held is not None
        for (source, event), its_values in zip(self._held, values, strict=True):
            self._put(source, event, its_values)
        self._held = None
        for source in self._sources:
            self._take(source)

    def _take(self, source: SourceSentences) -> None:
        for sentence in source.take():
            self.num_seen += 1
            if self._is_frame(sentence, source):
                continue
            place = source.place + sentence.place
            found = heading(sentence)
            if found is not None:
                self.parts.begin(found, sentence, place)
            self._scorer.read(sentence.text)
            if found is None and is_quotable(sentence):
                self._keep(sentence, source, place)
            elif not self.num_quotable and is_line(sentence):
                salience = source.values.salience(sentence.start, sentence.end)
                self._lines.add(self._scorer.keep(sentence, source.name, place, salience))
        if source.has_pages:
            self._with_pages.add(source.name)

    def _is_frame(self, sentence: Sentence, source: SourceSentences) -> bool:
        """Whether this is not a book's own text, which lies between two marks: what came before the first is forgotten.

        Several books may come in one stream, and a mark may be missing. Only what came before the very first mark is
        forgotten, and only as much as a header can hold.
        """
        marker = frame_marker(sentence)
        if marker is None:
            return source.is_over
        if marker == "start" and not source.is_framed and sentence.place <= _LONGEST_HEADER:
            self._candidates.forget(source.place)
            self._lines.forget(source.place)
            self.parts.begin_again(source.place, sentence.line)
            self.num_quotable -= source.num_quotable
        source.is_framed = True
        source.is_over = marker == "end"
        return True

    def _keep(self, sentence: Sentence, source: SourceSentences, place: int) -> None:
        self.num_quotable += 1
        source.num_quotable += 1
        salience = source.values.salience(sentence.start, sentence.end)
        candidate = self._scorer.keep(sentence, source.name, place, salience)
        self._candidates.add(candidate)
        self.parts.add(candidate)


_LONGEST_HEADER = 32 << 10
"""Bytes of text before a book's own text; the longest headers of Project Gutenberg hold half as many."""

_BY_ATTENTION = "how much the memory attended to it while it compressed its block"
_BY_SURPRISE = "how surprising it was"


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
