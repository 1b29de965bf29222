"""Summaries of texts of any length in one pass: verbatim sentences with their places, or written from notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from famcli.checkpoint.model import Model
from famcli.reading.events import BlockEvent, Event, SourceEnd, SourceStart, TextEvent
from famcli.reading.reader import Reader
from famcli.tasks.report.record import Recorder
from famcli.tasks.summarize.extract import Extraction
from famcli.tasks.summarize.summary_result import (
    Length,
    Quote,
    Section,
    Signal,
    SummarizeConfig,
    SummaryMode,
    SummaryResult,
    parse_length,
)
from famcli.tasks.summarize.write import Note, Writer, WrittenText
from famcli.tasks.task import Advance, Documents, Notice, ReadingTracker, Stage, chosen_memory_mode, open_documents, run
from famcli.text.quality import MAX_WORDS, num_words

__all__ = [
    "Length",
    "Note",
    "Quote",
    "Section",
    "SoFar",
    "SummarizeConfig",
    "Summarizer",
    "SummaryEvent",
    "SummaryResult",
    "SummaryText",
    "parse_length",
    "summarize",
]

MAX_EQUAL_PARTS = 10


@dataclass(frozen=True)
class SummaryText:
    """An event: some more of a written summary, as it is generated."""

    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"text": self.text}


@dataclass(frozen=True)
class SoFar:
    """An event: the best sentence of what was read last, by what is known so far. The summary may have another."""

    line: int
    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"line": self.line, "text": self.text}


SummaryEvent = Stage | Advance | Notice | SoFar | Note | SummaryText


class Summarizer:
    """Reads documents one after the other as one text, and keeps a bounded number of candidate sentences and notes.

    recorder: keeps the text and the heat of its words for a report; what it keeps is on disk.
    """

    def __init__(self, model: Model, config: SummarizeConfig | None = None, recorder: Recorder | None = None) -> None:
        """Raises UsageError for mode "write" with a checkpoint that cannot be told what to do."""
        self.model, self.config = model, config or SummarizeConfig()
        self.memory_mode = chosen_memory_mode(model, self.config.memory_mode)
        self._recorder = recorder
        self._tracker = ReadingTracker(model.tokenizer.vocab_size)
        on_values = None if recorder is None else recorder.heat
        self._extraction = Extraction(model, self.memory_mode, self.config.focus, on_values)
        self._writer: Writer | None = None
        if self.mode == "write":
            self._writer = Writer(model, self.config)
        self._quotes: tuple[Quote, ...] = ()
        self._sections: tuple[Section, ...] = ()
        self._written: WrittenText | None = None
        self._so_far: SoFar | None = None
        self._finished = False

    @property
    def mode(self) -> SummaryMode:
        """What was asked for, or what the checkpoint says."""
        if self.config.mode is not None:
            return self.config.mode
        return "write" if self.model.sidecar.tasks.get("summarize") == "write" else "extract"

    @property
    def signal(self) -> Signal:
        """What the network says of sentences."""
        return self._extraction.signal

    def events(self, documents: Documents) -> Iterator[SummaryEvent]:
        """Read the documents, with notes on the way in mode "write", where the summary is then written."""
        yield from self._tracker.warn_untrained(self.model, self.config.memory_mode)
        if self._writer is not None and (reason := self._writer.doubt) is not None:
            yield from self._tracker.warn(reason)
        by_attention = self.signal == "attention"
        reader = Reader(self.model, memory_mode=self.memory_mode, score=not by_attention, attention=by_attention)
        for event in reader.read(open_documents(documents)):
            self._mind(event)
            yield from self._tracker.record(event)
            yield from self._news()
            if self._writer is not None and isinstance(event, BlockEvent) and event.closed:
                yield from self._writer.after_block(reader.state, reader.last_hidden, len(self._extraction.parts))
        self._extraction.settle()
        if self._extraction.has_only_lines:
            yield from self._tracker.warn("no sentence of the text can stand alone: what is quoted are lines of it")
        if self._focus_is_missing():
            yield from self._tracker.warn(f"no sentence has enough of the words of '{self.config.focus}'")
        if self._writer is not None:
            yield from self._write(reader)
        else:
            self._quotes, self._sections = self._extract(self._tracker.counts().num_tokens)
            yield from self._warn_of_length()
        self._finished = True

    def result(self) -> SummaryResult:
        """The summary of what was read so far; partial until `events` is exhausted."""
        if not self._finished:
            self._extraction.settle()
        counts, extraction, written = self._tracker.counts(), self._extraction, self._written
        quotes, sections = self._quotes, self._sections
        if not self._finished and written is None:
            quotes, sections = self._extract(counts.num_tokens)
        return SummaryResult(
            model=self.model.name,
            mode="extract" if written is None else "write",
            memory_mode=self.memory_mode,
            signal=extraction.signal,
            scored_by=extraction.scored_by,
            focus=self.config.focus,
            sentences=quotes,
            sections=sections,
            num_sentences_seen=extraction.num_seen,
            num_quotable=extraction.num_quotable,
            counts=counts,
            warnings=tuple(self._tracker.warnings),
            partial=not self._finished,
            text=None if written is None else written.text,
            cited=() if written is None else written.cited,
            unverified=() if written is None else written.unverified,
            num_notes=0 if self._writer is None else self._writer.num_notes,
        )

    # ------------------------------------------------------------------------------------------------ reading

    def _mind(self, event: Event) -> None:
        """Tell those who gather of an event."""
        if isinstance(event, SourceStart):
            self._extraction.begin_source(event.name)
            if self._recorder is not None:
                self._recorder.begin(event.name)
        elif isinstance(event, TextEvent):
            self._extraction.see(event.piece)
            if self._recorder is not None:
                self._recorder.see(event.piece)
        elif isinstance(event, BlockEvent):
            self._extraction.add(event)
        elif isinstance(event, SourceEnd):
            self._extraction.end_source()

    def _news(self) -> Iterator[SoFar]:
        """The best sentence so far, where that is another one than it was."""
        best = self._extraction.best_of_last()
        so_far = None if best is None else SoFar(best.sentence.line, best.sentence.text)
        if so_far is not None and so_far != self._so_far:
            self._so_far = so_far
            yield so_far

    def _focus_is_missing(self) -> bool:
        return (
            self.config.focus is not None
            and self._extraction.num_quotable > 0
            and not self._extraction.chooser().finds_focus
        )

    def _write(self, reader: Reader) -> Iterator[SummaryEvent]:
        assert self._writer is not None
        counts = self._tracker.counts()
        length = self.config.length
        budget = length.sentences(counts.num_tokens, self._extraction.num_seen)
        self._quotes = tuple(self._extraction.chooser().of_all(budget))
        yield Stage("writing")
        for part in self._writer.write(reader.state, reader.last_hidden, self._quotes, length.words(counts.num_tokens)):
            if isinstance(part, str):
                yield SummaryText(part)
            elif isinstance(part, Note):
                yield part
            else:
                self._written = part
        for text in () if self._written is None else self._written.unverified:
            yield from self._tracker.warn(f"the summary quotes what is not among the quotes it was given: {text}")

    # ------------------------------------------------------------------------------------------------ extracting

    def _warn_of_length(self) -> Iterator[Notice]:
        """Say so where there are fewer sentences than were asked for, or far from as many words: none is cut."""
        asked, found = self.config.length.budget, len(self._quotes)
        if self.config.sections or self._extraction.has_only_lines or asked is None or not found:
            return
        about = " and are about the focus" if self.config.focus else ""
        words = sum(num_words(quote.text) for quote in self._quotes)
        has = None
        if asked.unit == "sentences" and found < asked.count:
            has = f"the text has {found} that stand alone and differ{about}"
        elif asked.unit == "words" and asked.count - words > MAX_WORDS // 2:  # one more would have come closer
            has = f"the text has {words} in sentences that stand alone and differ{about}"
        elif asked.unit == "words" and 2 * words > 3 * asked.count:
            has = f"sentences are quoted whole, {words} words in all"
        if has is not None:
            wanted = f"{asked.count} {asked.unit} were" if asked.count > 1 else f"1 {asked.unit.removesuffix('s')} was"
            yield from self._tracker.warn(f"{wanted} asked for; {has}")

    def _extract(self, num_tokens: int) -> tuple[tuple[Quote, ...], tuple[Section, ...]]:
        extraction, length, chooser = self._extraction, self.config.length, self._extraction.chooser()
        if not self.config.sections or not extraction.num_quotable:
            return tuple(chooser.of_all(length.sentences(num_tokens, extraction.num_seen))), ()
        parts, has_titles = extraction.parts.all(), extraction.parts.has_headings
        if not has_titles and len(extraction.parts) < 2:
            blocks = self._tracker.counts().num_blocks
            parts = chooser.equal_parts(max(1, min(MAX_EQUAL_PARTS, blocks)))
        whole = max(1, sum(part.num_sentences for part in parts))
        quotes, sections = list[Quote](), list[Section]()
        for number, part in enumerate(parts, start=1):
            nameless = f"Part {number} of {len(parts)}" if len(parts) > 1 else "The whole text"
            title = part.title or (part.source if has_titles else nameless)  # before its first heading
            budget = length.of_part(part.num_sentences / whole, len(parts))
            found = chooser.of_part(part, budget, title)
            if found:
                numbers = tuple(range(len(quotes), len(quotes) + len(found)))
                sections.append(Section(title, max(1, part.level), part.source, part.line, numbers))
                quotes += found
        return tuple(quotes), tuple(sections)


def summarize(model: Model, documents: Documents, config: SummarizeConfig | None = None) -> SummaryResult:
    """Summarize `documents` (paths, "-" for stdin, or opened ones), read one after the other as one text."""
    return run(Summarizer(model, config), documents)
