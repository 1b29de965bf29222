"""A question as the words that count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from famcli.errors import UsageError
from famcli.text.words import content_terms, has_content, names_in


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

    @staticmethod
    def check(texts: Iterable[str]) -> None:
        """Raise UsageError for one that asks nothing: it is empty, or has neither a letter nor a digit."""
        for text in texts:
            if not any(character.isalnum() for character in text):
                problem = "has no word in it" if text.strip() else "is empty"
                raise UsageError(f"a question {problem}: ask something")

    @property
    def names(self) -> list[str]:
        """Its names and numbers, as `lexical.names_in` finds them."""
        return names_in(self.text)

    @property
    def has_content(self) -> bool:
        """Whether any of its words is more than a function word; else a passage that has them all says little."""
        return has_content(self.text)
