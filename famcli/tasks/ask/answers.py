"""How questions are to be answered, and what comes of it, as values and as a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from famcli.checkpoint.chat_template import has_chat_template
from famcli.checkpoint.model import Model
from famcli.documents.source import Location
from famcli.errors import UsageError
from famcli.nn import MemoryMode
from famcli.tasks.ask.asked_text import AskedText
from famcli.tasks.ask.expecting import is_count
from famcli.tasks.ask.ranking import THRESHOLD
from famcli.tasks.ask.rereading import pieces_until
from famcli.tasks.report.page import Cited, Item, Report
from famcli.tasks.report.record import Recorder, ShownText
from famcli.tasks.task import ReadCounts

AnswerStyle = Literal["extract", "sentence", "span", "write"]
AnswerKind = Literal["extracted", "counted", "written", "nearest", "none"]

NOTHING_FOUND = "Not found in the document."
NOTHING_FOUND_IN_SEVERAL = "Not found in the documents."
NOT_SURE = "Not sure; the nearest passage:"
NOT_COUNTED = "Quotes do not count, and no passage states that number; the nearest passage:"
NOT_FOUND_SO_FAR = "Not found in the part that was read."
NOTHING_READ = "Nothing was read, so there is nothing to find."
NOTHING_WRITTEN = "The model wrote nothing."
SOURCE_GONE = "The text that was read cannot be read again, so there is nothing to quote."


@dataclass(frozen=True)
class AskConfig:
    """How to answer.

    style: "sentence" quotes the best sentence, "span" what the network copies from the best passage, "extract" a span
    where the checkpoint was trained to answer, else a sentence; "write" lets the model write from the evidence. None is
    as the checkpoint's sidecar says (`"tasks": {"ask": "write"}`, or "span"), else "extract".
    top: passages cited for a question at most. threshold: the confidence from which on the best one is an answer.
    max_answer_tokens: of a span or a written answer. sampling: how words of a written one are drawn, as settings of
    `GenerationConfig` by name; without any, the likeliest is taken. memory_mode: None is the checkpoint's default.
    question_first: the network reads the questions before the text too; such a reading serves no others and is not
    kept. encoding: of documents given as paths, None to detect it. Raises UsageError.
    """

    style: AnswerStyle | None = None
    top: int = 3
    threshold: float = THRESHOLD
    max_answer_tokens: int = 64
    memory_mode: MemoryMode | None = None
    question_first: bool = False
    encoding: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("top", "max_answer_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold is {self.threshold}, it must be a confidence from 0 to 1")


def answer_style(model: Model, wanted: AnswerStyle | None) -> AnswerStyle:
    """ "sentence", "span" or "write": the style in which a model answers where `wanted` was asked for."""
    named = model.sidecar.tasks.get("ask")
    style: AnswerStyle = wanted or ("write" if named == "write" else "extract")
    if style != "extract":
        return style
    # A checkpoint with a chat template was not trained to copy.
    copies = named == "span" or (named == "write" and not has_chat_template(model.path))
    return "span" if copies else "sentence"


def answers_from_memory(model: Model, wanted: AnswerStyle | None) -> bool:
    """True if answers depend on what the network kept of the whole text, not on the passages alone."""
    style = answer_style(model, wanted)
    return style == "span" or (style == "write" and not has_chat_template(model.path))


@dataclass(frozen=True)
class Citation:
    """A passage that supports an answer, verbatim.

    line, page: from 1; page is None where the source has no page breaks. span: source bytes. confidence: 0 to 1, see
    `ranking.RankedPassage`. verified: the source, opened again, has exactly `text` at `span`; what differs is not
    cited. It is False for a pipe, which cannot be opened again: `text` is then what was read. checked_against: "source"
    or "text read" accordingly. features: what it was chosen by, see `ranking.FEATURES`. location: where it is in the
    original of a converted document (a PDF, a mail); `span` is then of its text, and `line` that of the original, where
    it has lines. location_end: where its last sentence is, if that is elsewhere. alike: passages of other sources that
    say the same, almost word by word, and are not cited.
    """

    source: str
    line: int
    page: int | None
    span: tuple[int, int]
    text: str
    confidence: float
    verified: bool
    checked_against: Literal["source", "text read"]
    features: Mapping[str, float]
    location: Location | None = None
    location_end: Location | None = None
    alike: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one question. text: the answer, or why there is none (found is then False).

    kind: "extracted" is verbatim: a sentence of the first citation (or a few that belong together), a span of it,
    or values of a table's row with the names of their columns, the one that names the row first (`span` is of the
    next); "counted" says how many there are, and cites where they begin; "written" was generated; "nearest" is no
    answer (found is False), but the one citation may hold it. span, line, page: where an extracted answer is in the
    source of the first citation. confidence: how likely the document answers this in the first citation, 0 to 1,
    whether that was enough or not. cited: `text` itself is in a citation, word by word. The citations of a written
    one hold its words. unsupported: names, numbers and quotations that the model wrote and no passage that it read
    has, or has of something else; where it writes within a turn, a quote stands in for such an answer, which is
    kept as `draft`. missing: names and numbers of the question that are nowhere in what was read, in this form;
    they may be there inflected, in languages other than English. unread: those that stand in a program's code, of
    which comments and documentation strings alone are read. because: why a passage that comes near enough is no
    answer all the same.
    """

    question: str
    found: bool
    text: str
    kind: AnswerKind
    cited: bool = False
    span: tuple[int, int] | None = None
    line: int | None = None
    page: int | None = None
    location: Location | None = None
    confidence: float
    missing: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    because: str | None = None
    unsupported: tuple[str, ...] = ()
    draft: str | None = None
    citations: tuple[Citation, ...] = ()

    @property
    def doubt(self) -> str | None:
        """What speaks against an answer: what is asked about does not occur, as it is written in the question, or
        what the model wrote is not in the passages that it read, or is told of something else there."""
        doubts = []
        if self.missing:
            doubts.append(f"Nowhere in what was read, in this form: {', '.join(self.missing)}.")
        if self.unread:
            doubts.append(
                f"In code that is not read (of programs only comments and documentation strings are): "
                f"{', '.join(self.unread)}."
            )
        if self.unsupported:
            instead = "; a quote is shown instead" if self.draft and self.found else ""
            doubts.append(f"The passages do not say what the model wrote: {', '.join(self.unsupported)}{instead}.")
        return " ".join(doubts) or None

    def place(self, number: int) -> str:
        """Where the citation of this number (from 1) stands: `page 3, line 120`, or as the original's format has it.

        For the first one, the place of the answer itself, then that of the whole citation: `line 19 of lines 11 to 21`.
        """
        cited = self.citations[number - 1]
        location = self.location if number == 1 and self.location is not None else cited.location
        if location is not None:
            first, end = cited.location, cited.location_end
            if first is None or end is None or first.kind != "row":
                return location.label
            rows = f"rows {first.value} to {end.value}"
            return f"{location.label} of {rows}" if location is self.location else rows
        page, line, around = cited.page, cited.line, ""
        if number == 1 and self.line is not None:
            page, line = self.page, self.line
            last = cited.line + cited.text.count("\n")
            around = f" of lines {cited.line:,} to {last:,}" if last > cited.line else ""
        return ("" if page is None else f"page {page:,}, ") + f"line {line:,}{around}"

    def described_place(self, number: int) -> str:
        """The citation's source, place and confidence: `book.txt, page 3, line 120, confidence 0.83`; with how many
        other sources say the same."""
        cited = self.citations[number - 1]
        alike = f", and {cited.alike:,} like it" if cited.alike else ""
        # Where a rule decided, its reason is said instead.
        confidence = "" if self.because is not None else f", confidence {cited.confidence:.2f}"
        return f"{cited.source}, {self.place(number)}{confidence}{alike}"


def nearest_passage(
    question: str, confidence: float, citations: tuple[Citation, ...], because: str | None = None
) -> Answer:
    """No answer, but the first citation may hold it; its confidence is at most that of the whole. because: see
    `Answer`."""
    where = citations[0].location
    counts = is_count(question, of_rows=where is not None and where.kind == "row")
    return Answer(
        question=question,
        found=False,
        text=NOT_COUNTED if counts else NOT_SURE,
        kind="nearest",
        confidence=confidence,
        because=because,
        citations=tuple(replace(one, confidence=min(one.confidence, confidence)) for one in citations[:1]),
    )


def no_answer(question: str, reason: str, confidence: float) -> Answer:
    """Why there is none."""
    return Answer(question=question, found=False, text=reason, kind="none", confidence=confidence)


@dataclass(frozen=True)
class AskResult:
    """What `ask` gives. answers: one for each question, in order. counts: what was read, now or by the run that did.

    memory_file: which file was asked; None where texts were. cached: the texts were read by an earlier run, whose
    reading the cache had.
    """

    model: str
    memory_mode: MemoryMode
    memory_file: str | None
    cached: bool
    answers: tuple[Answer, ...]
    counts: ReadCounts = field(metadata={"json": "read"})
    warnings: tuple[str, ...]
    partial: bool


# ------------------------------------------------------------------------------------------------------- as a report


def report_of(result: AskResult, facts: Sequence[str], has_heat: bool) -> Report:
    """The answers in order, each with the passages it rests on."""
    places, items = list[Cited](), list[Item]()
    for answer in result.answers:
        first = len(places) + 1
        places += [
            Cited(one.source, one.span, answer.described_place(number), one.text)
            for number, one in enumerate(answer.citations, 1)
        ]
        text = f"{answer.text} (written by the model)" if answer.kind == "written" else answer.text
        told = f"{text} {answer.doubt}" if answer.doubt else text
        items.append(Item(told, tuple(range(first, len(places) + 1)), heading=answer.question, quotes=True))
    names = ", ".join(source.name for source in result.counts.sources)
    heat = "the memory's attention to each word" if has_heat else None
    return Report(f"Questions about {names}", tuple(facts), tuple(items), tuple(places), heat)


def texts_of(text: AskedText, recorder: Recorder) -> list[ShownText]:
    """The documents: as they were recorded in this run, or from the files that an earlier run has read.

    What can no longer be read is left out.
    """
    if recorder.texts:
        return recorder.texts
    return [
        ShownText(one.name, one.num_bytes, partial(pieces_until, one))
        for one in text.sources
        if one.path is not None and text.readable
    ]
