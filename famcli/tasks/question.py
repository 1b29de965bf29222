"""A question as the words that count."""

from __future__ import annotations

from dataclasses import dataclass

from famcli.tasks.lexical import content_terms, has_content, names_in


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

    @property
    def names(self) -> list[str]:
        """Its names and numbers, as `lexical.names_in` finds them."""
        return names_in(self.text)

    @property
    def has_content(self) -> bool:
        """Whether any of its words is more than a function word; else a passage that has them all says little."""
        return has_content(self.text)
