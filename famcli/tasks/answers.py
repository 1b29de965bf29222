"""What a question gets for an answer, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

AnswerKind = Literal["extracted", "written", "none"]


@dataclass(frozen=True)
class Citation:
    """A passage that supports an answer, verbatim; shown only once it was found again where it says it is.

    line: from 1. span: source bytes. verified: exactly `text` stands at `span`. checked_against: "source" (cut from the
    file once more) or "text read" (a pipe cannot be read twice: the text that was kept of it). score, coverage, gain,
    substance: see `weighing.Weighed`.
    """

    source: str
    line: int
    span: tuple[int, int]
    text: str
    score: float
    coverage: float
    gain: float
    substance: float
    verified: bool
    checked_against: Literal["source", "text read"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source": self.source,
            "line": self.line,
            "span": list(self.span),
            "text": self.text,
            "score": self.score,
            "coverage": self.coverage,
            "gain": self.gain,
            "substance": self.substance,
            "verified": self.verified,
            "checked_against": self.checked_against,
        }


@dataclass(frozen=True)
class Answer:
    """text: the answer, or why there is none (found is then False).

    kind: "extracted" is a sentence of the evidence (or a few, where a quotation goes on), verbatim; "written" was
    generated. cited: whether `text` itself stands in the citations, which only an extracted one does; the citations of
    a written one are where the model looked, and nothing checks that they support it.
    """

    question: str
    found: bool
    text: str
    kind: AnswerKind
    cited: bool
    citations: tuple[Citation, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "question": self.question,
            "found": self.found,
            "text": self.text,
            "kind": self.kind,
            "cited": self.cited,
            "citations": [citation.to_json() for citation in self.citations],
        }
