"""What a summary is asked for and what comes of it, as values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from famcli.documents.source import Location
from famcli.errors import UsageError
from famcli.nn import MemoryMode
from famcli.tasks.summarize.candidates import Budget
from famcli.tasks.task import ReadCounts

SummaryMode = Literal["extract", "write"]
DocumentKind = Literal["prose", "outline", "story", "talk", "changes", "minutes", "log", "table"]
"""How a document is summarized: sentences from all over it, one for each of its parts, how a story begins and ends and
who appears, what speakers say, what the newest releases changed, what was decided, its kinds of lines, or what its
columns hold."""
SeverityName = Literal["error", "warning", "info", "debug"]
LengthName = Literal["short", "medium", "long"]
Length = LengthName | Budget
"""How long a summary is to be. medium: 5 to 12 sentences by the document's length, no more than a third of them; short
is half of that, long is double."""

# One sentence more each time the text doubles: 9 for a novel, 12 from 2.5 million bytes on.
MIN_SENTENCES, MAX_SENTENCES = 5, 12
MAX_OUTLINE = 10
# In two sentences the best of the whole text say more than the opening and one part (docs/decisions.md, 2026-11-29).
_SHORTEST_OUTLINE = {"sentences": 4, "words": 100}
_BYTES_FOR_MIN = 28_000
_SCALES: dict[LengthName, float] = {"short": 0.5, "medium": 1.0, "long": 2.0}
_SENTENCES_A_SECTION: dict[LengthName, int] = {"short": 1, "medium": 2, "long": 4}
_WORDS_A_SENTENCE = 25
_BYTES_A_WORD = 6
_MANY_SENTENCES = 20  # from which on words may have been meant
_WORDS_A_LOG_LINE = 12
_LENGTH = re.compile(r"(\d{1,6})\s*(w|words?|s|sentences?)?", re.IGNORECASE)


def parse_length(text: str) -> Length:
    """`short`, `medium`, `long`, `7` or `7 sentences`, `150w` or `150 words`. Raises UsageError."""
    word = text.strip().lower()
    if word in get_args(LengthName):
        return word  # type: ignore[return-value]
    match = _LENGTH.fullmatch(word)
    if match is None or not int(match[1]):
        raise UsageError(
            f"'{text}' is no length for a summary: use short, medium, long, a number of sentences (7) or words (150w), "
            "1 to 999999"
        )
    return Budget(int(match[1]), "words" if (match[2] or "").startswith("w") else "sentences")


def sentence_budget(length: Length, num_bytes: int, num_sentences: int, num_documents: int = 1) -> Budget:
    """The budget for documents of so many bytes of UTF-8 and sentences."""
    if isinstance(length, Budget):
        return length
    by_length = MIN_SENTENCES + round(math.log2(max(1.0, num_bytes / _BYTES_FOR_MIN)))
    wanted = math.ceil(_SCALES[length] * min(max(by_length, num_documents), MAX_SENTENCES))
    return Budget(max(1, min(wanted, -(-num_sentences // 3))))


def outline_budget(length: Length, num_parts: int) -> Budget:
    """The budget for the outline of a document of so many parts."""
    if isinstance(length, Budget):
        return length
    return Budget(math.ceil(_SCALES[length] * min(max(MIN_SENTENCES, num_parts + 1), MAX_OUTLINE)))


def is_too_short(length: Length) -> bool:
    """True if a length leaves no room for an outline."""
    return isinstance(length, Budget) and length.count < _SHORTEST_OUTLINE[length.unit]


def num_log_kinds(length: Length) -> int:
    if isinstance(length, Budget):
        return length.count if length.unit == "sentences" else max(1, length.count // _WORDS_A_LOG_LINE)
    return math.ceil(_SCALES[length] * MAX_SENTENCES)


def num_written_words(length: Length, num_bytes: int) -> int:
    """About how many words a written summary of a document of so many bytes of UTF-8 should have."""
    # A written summary is not limited to a third of the text's sentences, but to half of the text.
    budget = sentence_budget(length, num_bytes, 3 * 2 * MAX_SENTENCES)
    if budget.unit == "words":
        return budget.count
    return min(budget.count * _WORDS_A_SENTENCE, max(_WORDS_A_SENTENCE, num_bytes // (2 * _BYTES_A_WORD)))


def written_length(length: Length, num_words: int) -> str:
    """What was asked for of a written summary: `60 sentences, about 500 words (60w asks for words),`."""
    if not isinstance(length, Budget) or length.unit == "words":
        return f"about {num_words:,} words"
    hint = f" ({length.count}w asks for words)" if length.count >= _MANY_SENTENCES else ""
    what = "sentences" if length.count > 1 else "sentence"
    return f"{length.count:,} {what}, here about {num_words:,} words{hint},"


def section_budget(length: Length, share: float) -> Budget:
    """The budget for a section that has this share of the document's sentences."""
    if isinstance(length, Budget):
        return Budget(max(1, round(length.count * share)), length.unit)
    return Budget(_SENTENCES_A_SECTION[length])


@dataclass(frozen=True)
class SummarizeConfig:
    """How to summarize. Raises UsageError for settings that are not possible.

    mode: None for the checkpoint's default. length: see `Length`. focus: a topic that sentences should be about.
    sections: one part for each heading, or for each of some equal stretches where there are none. memory_mode: None
    for the checkpoint's default. max_note_tokens: of a note in write mode. sampling: how words are drawn there, as
    settings of `GenerationConfig` by name; without any, the likeliest one is taken. kind: None to tell it by the text;
    a written summary and one with sections follow no kind.
    """

    mode: SummaryMode | None = None
    kind: DocumentKind | None = None
    length: Length = "medium"
    focus: str | None = None
    sections: bool = False
    memory_mode: MemoryMode | None = None
    max_note_tokens: int = 80
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.focus is not None and not self.focus.strip():
            raise UsageError("the focus is empty: name a topic, or leave it out")
        if self.max_note_tokens < 1:
            raise UsageError(f"max_note_tokens is {self.max_note_tokens}, it must be at least 1")


@dataclass(frozen=True)
class Quote:
    """A verbatim sentence of a source, its line breaks included.

    line, page: from 1; page is None where the text has no page breaks (form feeds). span: source bytes. section: the
    title of its part, None outside any. location: where it is in the original of a converted document (a PDF, a mail);
    `span` is then of its text, and `line` that of the original, where it has lines.
    """

    source: str
    line: int
    page: int | None
    span: tuple[int, int]
    text: str
    score: float
    section: str | None = None
    location: Location | None = None


@dataclass(frozen=True)
class Fact:
    """What was counted or found of a whole document, by a label: `Title`, `Who appears`, `Present`."""

    label: str
    text: str


@dataclass(frozen=True)
class Section:
    """A section of a summary.

    title: of its heading, or where it lies. level: of the heading, from 1. line: of its source, where it begins.
    sentences: indices of the result's sentences, from 0.
    """

    title: str
    level: int
    source: str
    line: int
    sentences: tuple[int, ...]


@dataclass(frozen=True)
class Struck:
    """A written sentence that was left out. missing: names, numbers and quotations in it that what it was written from
    does not have."""

    text: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class WrittenSummary:
    """A summary that the checkpoint wrote, as far as the text bears it out.

    text: each sentence with the number ([1]) of the quote that supports it, if one does. quotes: by their numbers.
    num_notes: how many notes were written on the way. struck: what was left out, of notes and summary.
    """

    text: str
    quotes: tuple[Quote, ...] = field(metadata={"json": None})
    num_notes: int
    struck: tuple[Struck, ...]


@dataclass(frozen=True)
class LogKind:
    """Lines of a log that share a template and a severity; of the template `*` stands for what differs.

    severity: of its lines, by their level or else their words. last_line: of its source, from 1.
    first_time, last_time: as they are written. is_common: shown for how often it comes, not for being rare or grave.
    sentence: the number, from 0, of the result's quote that is its first line.
    """

    template: str
    num_lines: int
    severity: SeverityName
    last_line: int
    first_time: str | None
    last_time: str | None
    is_common: bool = field(metadata={"json": "common"})
    sentence: int


@dataclass(frozen=True)
class LogSummary:
    """What logs hold. num_lines: those that are not blank. num_kinds: of lines, by their templates.

    num_focus_lines, num_focus_kinds: about the focus; without one, or where none is, None and all kinds. kinds: those
    that are shown.
    """

    num_lines: int
    first_time: str | None
    last_time: str | None
    num_kinds: int = field(metadata={"json": "kinds_seen"})
    num_errors: int
    num_warnings: int
    num_focus_lines: int | None
    num_focus_kinds: int = field(metadata={"json": "kinds_in_focus"})
    kinds: tuple[LogKind, ...]


@dataclass(frozen=True)
class TableColumn:
    """A column of short values. num_different: None where there are too many to count.

    lowest, highest, mean: where all values are numbers. values: the most frequent ones with their `counts`, or if these
    are not known, the first.
    """

    name: str
    num_filled: int
    num_different: int | None
    lowest: float | None
    highest: float | None
    mean: float | None
    values: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class TableSummary:
    num_rows: int
    columns: tuple[TableColumn, ...]


@dataclass(frozen=True)
class SummaryResult:
    """A summary.

    facts: what the document is, as far as that was found. written: None in mode "extract". log: of what was read as a
    log. table: of a single table. sentences: quotes in the order of the document, then those of `log`; of a written
    summary, the quotes that it cites, by their numbers. num_sentences_seen: in the whole text; of a log, lines.
    num_quotable: sentences that can stand alone (`is_quotable`). memory_mode: None where no network read, because
    quotes need none.
    """

    model: str
    mode: SummaryMode
    kind: DocumentKind
    memory_mode: MemoryMode | None
    focus: str | None
    facts: tuple[Fact, ...]
    written: WrittenSummary | None
    log: LogSummary | None
    table: TableSummary | None
    sentences: tuple[Quote, ...]
    sections: tuple[Section, ...]
    num_sentences_seen: int
    num_quotable: int = field(metadata={"json": "sentences_quotable"})
    counts: ReadCounts = field(metadata={"json": "read"})
    warnings: tuple[str, ...]
    partial: bool
