"""What a summary is asked for and what comes of it, as values."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from famcli.errors import UsageError
from famcli.nn import MemoryMode
from famcli.plain import to_json
from famcli.tasks.summarize.candidates import Budget
from famcli.tasks.task import ReadCounts

Signal = Literal["attention", "surprise"]
SummaryMode = Literal["extract", "write"]
LengthName = Literal["short", "medium", "long"]

MIN_SENTENCES, MAX_SENTENCES = 5, 12
_TOKENS_FOR_MIN = 8000
_SCALES: dict[LengthName, float] = {"short": 0.5, "medium": 1.0, "long": 2.0}
_WORDS_A_SENTENCE = 25
_LENGTH = re.compile(r"(\d{1,6})\s*(w|words?|s|sentences?)?", re.IGNORECASE)


@dataclass(frozen=True)
class Length:
    """How long a summary shall be: by name (medium: 5 to 12 sentences by the document's length, no more than a third of
    them; short is half, long is double), or as a budget."""

    name: LengthName = "medium"
    budget: Budget | None = None

    def sentences(self, num_tokens: int, num_sentences: int) -> Budget:
        """The budget for a document of so many tokens and sentences."""
        if self.budget is not None:
            return self.budget
        by_length = MIN_SENTENCES + round(math.log2(max(1.0, num_tokens / _TOKENS_FOR_MIN)))
        wanted = math.ceil(_SCALES[self.name] * min(by_length, MAX_SENTENCES))
        return Budget(max(1, min(wanted, -(-num_sentences // 3))))

    def words(self, num_tokens: int) -> int:
        """About how many words a written summary of a document of so many tokens shall have."""
        budget = self.sentences(num_tokens, 3 * MAX_SENTENCES * 2)
        return budget.count * (1 if budget.unit == "words" else _WORDS_A_SENTENCE)

    def of_part(self, share: float, num_parts: int) -> Budget:
        """The budget for one of several parts that has this share of the document: at least one sentence."""
        if self.budget is None:
            return Budget({"short": 1, "medium": 2, "long": 4}[self.name])
        if self.budget.unit == "words":
            return Budget(max(1, round(self.budget.count * share)), "words")
        return Budget(max(1, round(self.budget.count * share) if num_parts > 1 else self.budget.count))


def parse_length(text: str) -> Length:
    """`short`, `medium`, `long`, `7` or `7 sentences`, `150w` or `150 words`. Raises UsageError."""
    word = text.strip().lower()
    if word in get_args(LengthName):
        return Length(word)  # type: ignore[arg-type]
    match = _LENGTH.fullmatch(word)
    if match is None or not int(match[1]):
        raise UsageError(
            f"'{text}' is no length for a summary: use short, medium, long, a number of sentences (7) or words (150w), "
            "1 to 999999"
        )
    unit: Literal["sentences", "words"] = "words" if (match[2] or "").startswith("w") else "sentences"
    return Length(budget=Budget(int(match[1]), unit))


@dataclass(frozen=True)
class SummarizeConfig:
    """How to summarize. Raises UsageError for what cannot be.

    mode: None is as the checkpoint says. length: see `Length`. focus: a topic that sentences shall be about; sections:
    one part for each heading, or for each of some equal stretches where there are none. memory_mode: None is the
    checkpoint's default. max_note_tokens: of a note in write mode.
    """

    mode: SummaryMode | None = None
    length: Length = Length()
    focus: str | None = None
    sections: bool = False
    memory_mode: MemoryMode | None = None
    max_note_tokens: int = 96

    def __post_init__(self) -> None:
        if self.focus is not None and not self.focus.strip():
            raise UsageError("the focus is empty: name a topic, or leave it out")
        if self.max_note_tokens < 1:
            raise UsageError(f"max_note_tokens is {self.max_note_tokens}, it must be at least 1")


@dataclass(frozen=True)
class Quote:
    """A verbatim sentence of a source, its line breaks included. line, page: from 1; page is None where the text has no
    page breaks (form feeds). span: source bytes. section: the title of its part, None outside any."""

    source: str
    line: int
    page: int | None
    span: tuple[int, int]
    text: str
    score: float
    section: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source": self.source,
            "line": self.line,
            "page": self.page,
            "span": list(self.span),
            "text": self.text,
            "score": self.score,
            "section": self.section,
        }


@dataclass(frozen=True)
class Section:
    """One part of a summary by sections. title: its heading's, or where it lies. level: of the heading, from 1.

    line: of its source, where it begins. sentences: numbers of the result's sentences, from 0.
    """

    title: str
    level: int
    source: str
    line: int
    sentences: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "title": self.title,
            "level": self.level,
            "source": self.source,
            "line": self.line,
            "sentences": list(self.sentences),
        }


@dataclass(frozen=True)
class SummaryResult:
    """sentences: in the order of the document; of a written summary, the quotes that it may cite, in the order of their
    numbers. text: what was written, None in mode extract. cited: the numbers (from 1) of the sentences that it cites.
    unverified: quotations in it that stand nowhere in the sentences it was given. notes: how many were written.

    signal: what scored the sentences; scored_by says it in words. num_sentences_seen: in the whole text. num_quotable:
    those that passed the rules of `quality.is_quotable`.
    """

    model: str
    mode: SummaryMode
    memory_mode: MemoryMode
    signal: Signal
    scored_by: str
    focus: str | None
    sentences: tuple[Quote, ...]
    sections: tuple[Section, ...]
    num_sentences_seen: int
    num_quotable: int
    counts: ReadCounts
    warnings: tuple[str, ...]
    partial: bool
    text: str | None = None
    cited: tuple[int, ...] = ()
    unverified: tuple[str, ...] = ()
    num_notes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        written = None
        if self.text is not None:
            written = {
                "text": self.text,
                "cited": list(self.cited),
                "unverified": list(self.unverified),
                "notes": self.num_notes,
            }
        return {
            "model": self.model,
            "mode": self.mode,
            "memory_mode": self.memory_mode,
            "signal": self.signal,
            "scored_by": self.scored_by,
            "focus": self.focus,
            "written": written,
            "sentences": [quote.to_json() for quote in self.sentences],
            "sections": [section.to_json() for section in self.sections],
            "sentences_seen": self.num_sentences_seen,
            "sentences_quotable": self.num_quotable,
            "read": to_json(self.counts),
            "warnings": list(self.warnings),
            "partial": self.partial,
        }
