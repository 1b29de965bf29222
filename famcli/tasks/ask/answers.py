"""What a question gets for an answer, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from famcli.tasks.ask.ranking import FEATURES

AnswerKind = Literal["extracted", "written", "none"]

NOTHING_FOUND = "Not found in the document."
NOT_FOUND_SO_FAR = "Not found in the part that was read."
NOTHING_READ = "Nothing was read, so there is nothing to find."
NOTHING_WRITTEN = "The model wrote nothing."
SOURCE_GONE = "The text that was read cannot be read again, so there is nothing to quote."


@dataclass(frozen=True)
class Citation:
    """A passage that supports an answer, verbatim; shown only once it was found again where it says it is.

    line, page: from 1; page is None where the source has no page breaks. span: source bytes. confidence: 0 to 1, see
    `weighing.Weighed`. verified: exactly `text` stands at `span`. checked_against: "source" (cut from the file once
    more) or "text read" (a pipe cannot be read twice: the text that was kept of it). features: what it was chosen by,
    in the order of `weighing.FEATURES`.
    """

    source: str
    line: int
    page: int | None
    span: tuple[int, int]
    text: str
    confidence: float
    verified: bool
    checked_against: Literal["source", "text read"]
    features: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source": self.source,
            "line": self.line,
            "page": self.page,
            "span": list(self.span),
            "text": self.text,
            "confidence": self.confidence,
            "verified": self.verified,
            "checked_against": self.checked_against,
            "features": dict(zip(FEATURES, self.features, strict=True)),
        }


@dataclass(frozen=True)
class Answer:
    """text: the answer, or why there is none (found is then False).

    kind: "extracted" is verbatim: a sentence of the first citation (or a few, where a quotation goes on), or a span of
    it; "written" was generated. span, line, page: where an extracted answer stands in the source of the first citation.
    confidence: how likely the document answers this in the first citation, 0 to 1, whether that was enough or not.
    cited: whether `text` itself stands in the citations, which only an extracted one does; the citations of a written
    one are where the model looked, and nothing checks that they support it. missing: names and numbers of the question
    that stand nowhere in what was read; inflected otherwise, as languages other than English have it, they may.
    """

    question: str
    found: bool
    text: str
    kind: AnswerKind
    cited: bool
    confidence: float
    citations: tuple[Citation, ...]
    span: tuple[int, int] | None = None
    line: int | None = None
    page: int | None = None
    missing: tuple[str, ...] = ()

    @property
    def doubt(self) -> str | None:
        """What speaks against an answer: what is asked about does not occur, as it is written in the question."""
        return f"Nowhere in what was read, in this form: {', '.join(self.missing)}." if self.missing else None

    def place(self, number: int) -> str:
        """Where the citation of this number (from 1) stands: `page 3, line 120`. Of the first one: where the answer
        itself does, and then where all that is cited does, `line 19 of lines 11 to 21`."""
        cited = self.citations[number - 1]
        page, line, around = cited.page, cited.line, ""
        if number == 1 and self.line is not None:
            page, line = self.page, self.line
            last = cited.line + cited.text.count("\n")
            around = f" of lines {cited.line:,} to {last:,}" if last > cited.line else ""
        return ("" if page is None else f"page {page:,}, ") + f"line {line:,}{around}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "question": self.question,
            "found": self.found,
            "text": self.text,
            "kind": self.kind,
            "cited": self.cited,
            "span": None if self.span is None else list(self.span),
            "line": self.line,
            "page": self.page,
            "confidence": self.confidence,
            "missing": list(self.missing),
            "citations": [citation.to_json() for citation in self.citations],
        }
