"""Summaries of texts of any length in one pass: verbatim sentences with their places, or written from notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from famcli.checkpoint.model import Model
from famcli.reading.events import BlockEvent, Event, SourceEnd, SourceStart, TextEvent, read_text
from famcli.reading.generating import GeneratedText
from famcli.reading.reader import Reader
from famcli.tasks.report.record import Recorder
from famcli.tasks.summarize import choosing
from famcli.tasks.summarize.candidates import Budget
from famcli.tasks.summarize.gathering import Gathering
from famcli.tasks.summarize.quotable import MAX_WORDS
from famcli.tasks.summarize.summary_result import (
    DocumentKind,
    Fact,
    LogSummary,
    Quote,
    Section,
    SummarizeConfig,
    SummaryMode,
    SummaryResult,
    WrittenSummary,
    num_log_kinds,
    num_written_words,
    written_length,
)
from famcli.tasks.summarize.write import Note, Writer
from famcli.tasks.task import (
    Advance,
    Documents,
    Notice,
    ReadingTracker,
    Stage,
    chosen_memory_mode,
    open_documents,
    run,
)
from famcli.text.words import num_words


@dataclass(frozen=True)
class SoFar:
    """An event: the best sentence of what was read last, by what is known so far. The summary may have another."""

    line: int
    text: str


# Words of quotes from which a written summary may fill up what the checkpoint left open, for each that is asked for.
_CHOICE = 3
SummaryEvent = Stage | Advance | Notice | SoFar | Note | GeneratedText


class Summarizer:
    """Reads documents one after the other as one text, and keeps a bounded number of candidate sentences and notes.

    recorder: keeps the text and the heat of its words for a report, on disk.
    """

    def __init__(self, model: Model, config: SummarizeConfig | None = None, recorder: Recorder | None = None) -> None:
        """Raises UsageError for a memory mode that does not exist, CheckpointError for a chat template that cannot be
        used."""
        self.model, self.config = model, config or SummarizeConfig()
        self.memory_mode = chosen_memory_mode(model, self.config.memory_mode)
        self._needs_network = self.mode == "write" or recorder is not None
        self._tracker = ReadingTracker(model.tokenizer.vocab_size, without_network=not self._needs_network)
        self._gathering = Gathering(self.config, tells=self.mode == "extract")
        self._extraction = self._gathering.text
        self._writer = Writer(model, self.config) if self.mode == "write" else None
        self._extraction.recent = None if self._writer is None else []
        self._recorder = recorder
        self._quotes: tuple[Quote, ...] = ()
        self._log: LogSummary | None = None
        self._sections: tuple[Section, ...] = ()
        self._written: WrittenSummary | None = None
        self._so_far: SoFar | None = None
        self._finished = False

    @property
    def mode(self) -> SummaryMode:
        """The mode that was asked for, or the checkpoint's default."""
        if self.config.mode is not None:
            return self.config.mode
        return "write" if self.model.sidecar.tasks.get("summarize") == "write" else "extract"

    @property
    def kind(self) -> DocumentKind:
        """How what was read so far is summarized."""
        return "outline" if self.config.sections else self._gathering.kind

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What a single text is, as far as it was read."""
        return self._gathering.facts()

    @property
    def shows_attention(self) -> bool:
        """True if a report shows the memory's attention to words; without rows that attend it shows their surprise."""
        sidecar = self.model.sidecar
        rows = sidecar.fam.fam_length > 0 and not sidecar.fam.keeps_tokens
        return self.memory_mode == "on" and sidecar.memory_trained and rows

    def events(self, documents: Documents) -> Iterator[SummaryEvent]:
        """Read the documents, with notes on the way in mode "write", where the summary is then written."""
        if self._needs_network:
            yield from self._tracker.warn_untrained(self.model, self.config.memory_mode)
        elif self.config.memory_mode is not None:
            yield from self._tracker.warn("sentences are quoted for their words, so the memory mode changes nothing")
        if self._writer is None and self.config.sampling:
            names = ", ".join(self.config.sampling)
            yield from self._tracker.warn(
                f"sentences are quoted, so settings for drawing words have no effect: {names}"
            )
        if self._writer is not None and (reason := self._writer.doubt) is not None:
            yield from self._tracker.warn(reason)
        # No sentence is scored by the network's values: a report alone shows them.
        score = self._recorder is not None and not self.shows_attention
        opening = None if self._writer is None else self._writer.opening
        opened, reader = open_documents(documents), None
        if self._needs_network:
            reader = Reader(
                self.model, memory_mode=self.memory_mode, score=score, attention=self.shows_attention, opening=opening
            )
        for event in read_text(opened) if reader is None else reader.read(opened):
            self._gather(event)
            if reader is not None and self._recorder is not None:
                self._recorder.record(event, self.model.network.fam.block_size)
            yield from self._tracker.record(event)
            if self._writer is None or not self._writer.num_notes:
                yield from self._best_so_far()
            if reader is not None and self._writer is not None and isinstance(event, BlockEvent) and event.closed:
                self._writer.of_talk = self._extraction.speakers.is_told
                yield from self._writer.after_block(reader, self._recent(), len(self._extraction.parts))
        if self._extraction.has_only_lines and self.kind != "table":
            yield from self._tracker.warn("no sentence of the text can stand alone: what is quoted are lines of it")
        yield from self._warn_of_focus()
        if reader is not None and self._writer is not None:
            yield from self._write(self._writer, reader)
        else:
            self._log, self._quotes, self._sections = self._extract()
            yield from self._warn_of_length()
            if self.kind == "minutes" and not self._quotes:
                yield from self._tracker.warn("nothing in the text says that something was decided or is to be done")
        self._finished = True

    def result(self) -> SummaryResult:
        """The summary of what was read so far; partial until `events` is exhausted."""
        extraction, log, quotes, sections = self._extraction, self._log, self._quotes, self._sections
        if not self._finished and self._written is None:
            log, quotes, sections = self._extract()
        return SummaryResult(
            model=self.model.name,
            mode="extract" if self._written is None else "write",
            kind=self.kind,
            memory_mode=self.memory_mode if self._needs_network else None,
            focus=self.config.focus,
            facts=self.facts,
            written=self._written,
            log=log,
            table=self._gathering.table() if self.kind == "table" else None,
            sentences=quotes,
            sections=sections,
            num_sentences_seen=extraction.num_seen + self._gathering.log.num_lines,
            num_quotable=extraction.num_quotable,
            counts=self._tracker.counts(),
            warnings=tuple(self._tracker.warnings),
            partial=not self._finished,
        )

    # ------------------------------------------------------------------------------------------------ reading

    def _gather(self, event: Event) -> None:
        if isinstance(event, SourceStart):
            self._gathering.begin_source(event.source.name, event.source.format == "table")
        elif isinstance(event, TextEvent):
            self._gathering.feed(event.piece)
            if not self._needs_network:
                self._gathering.advance(event.piece.end)
        elif isinstance(event, BlockEvent):
            self._gathering.advance(event.span[1])
        elif isinstance(event, SourceEnd):
            self._gathering.end_source()

    def _best_so_far(self) -> Iterator[SoFar]:
        best = self._extraction.best_of_last()
        so_far = None if best is None else SoFar(best.sentence.line, best.sentence.text)
        if so_far is not None and so_far != self._so_far:
            self._so_far = so_far
            yield so_far

    # ------------------------------------------------------------------------------------------------ results

    def _extract(self) -> tuple[LogSummary | None, tuple[Quote, ...], tuple[Section, ...]]:
        """The summary of logs, all quotes, those of logs last, and the sections of what was text."""
        self._gathering.settle()
        extraction, length = self._extraction, self.config.length
        if self.config.sections and extraction.num_quotable:
            quotes, sections = choosing.sections(extraction, length)
        else:
            quotes, sections = self._gathering.choose()
        if not self._gathering.has_log:
            return None, quotes, sections
        log, of_log = self._gathering.log.summary(num_log_kinds(length), len(quotes))
        return log, (*quotes, *of_log), sections

    def _recent(self) -> list[Quote]:
        assert self._extraction.recent is not None
        return self._extraction.recent

    def _write(self, writer: Writer, reader: Reader) -> Iterator[SummaryEvent]:
        num_bytes, length = self._extraction.num_bytes, self.config.length
        wanted = num_written_words(length, num_bytes)
        quotes = choosing.prose(self._extraction, Budget(_CHOICE * wanted, "words"))
        for piece in writer.write(reader, self._recent(), quotes, wanted):
            if not isinstance(piece, WrittenSummary):
                yield piece
            elif piece.text:
                self._written, self._quotes = piece, piece.quotes
        if self._written is None:
            self._log, self._quotes, self._sections = self._extract()
            yield from self._tracker.warn(
                f"nothing that {self.model.name} wrote is borne out by the text, so sentences of it are quoted instead"
            )
        elif isinstance(length, Budget) and abs(num_words(self._written.text) - wanted) > wanted / 4:
            found = num_words(self._written.text)
            said = written_length(length, wanted)
            yield from self._tracker.warn(f"{said} were asked for; what the text bears out has {found:,} words")

    def _warn_of_focus(self) -> Iterator[Notice]:
        """Say so where nothing is about the focus."""
        focus, has_log = self.config.focus, self._gathering.has_log
        if focus is None or not (self._gathering.log.misses_focus if has_log else self._extraction.misses_focus()):
            return
        missed = "line has" if has_log else "sentence has enough of"
        yield from self._tracker.warn(f"no {missed} the words of '{focus}', so this is the summary without a focus")

    def _warn_of_length(self) -> Iterator[Notice]:
        """Say so where the summary has fewer sentences than were asked for, or far from as many words."""
        budget, found = self.config.length, len(self._quotes)
        if (
            not isinstance(budget, Budget)
            or self.config.sections
            or self._gathering.has_log
            or self._extraction.has_only_lines
            or not found
        ):
            return
        about = " and are about the focus" if self.config.focus else ""
        words = sum(num_words(quote.text) for quote in self._quotes)
        reason = None
        if budget.unit == "sentences" and found < budget.count:
            reason = f"the text has {found} that stand alone and differ{about}"
        elif budget.unit == "words" and budget.count - words > MAX_WORDS // 2:  # one more would have come closer
            reason = f"the text has {words} in sentences that stand alone and differ{about}"
        elif budget.unit == "words" and 2 * words > 3 * budget.count:
            reason = f"sentences are quoted whole, {words} words in all"
        if reason is not None:
            plural = f"{budget.count} {budget.unit} were"
            wanted = plural if budget.count > 1 else f"1 {budget.unit.removesuffix('s')} was"
            yield from self._tracker.warn(f"{wanted} asked for; {reason}")


def summarize(model: Model, documents: Documents, config: SummarizeConfig | None = None) -> SummaryResult:
    """Summarize `documents` (paths, "-" for stdin, or opened ones), read one after the other as one text."""
    return run(Summarizer(model, config), documents)
