"""A question as the words that count."""

from __future__ import annotations

from dataclasses import dataclass

from famcli.tasks.lexical import content_terms


@dataclass(frozen=True)
class Question:
    """text: as asked, on one line. terms: its content words as `lexical.terms` gives them, each once; none where it has
    no word, and then nothing is evidence for it."""

    text: str
    terms: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Question:
        """From what was asked."""
        line = " ".join(text.split())
        return cls(line, tuple(dict.fromkeys(content_terms(line))))
