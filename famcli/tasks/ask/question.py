"""What is asked, and how its words weigh in a text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from famcli.errors import UsageError
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.prompts import Exchange
from famcli.text.words import content_terms, halves, has_content, names_in, term_weights, terms

TermShares = Mapping[str, float]
"""The terms of a question, each with its share of their weight in one text."""


@dataclass(frozen=True)
class Question:
    """A question on one line. terms: its content words as `words.terms` gives them, each once, and those of what it
    refers back to (before)."""

    text: str
    terms: tuple[str, ...]
    before: Exchange | None = None

    @classmethod
    def parse(cls, text: str) -> Question:
        """From what was asked."""
        line = " ".join(text.split())
        return cls(line, tuple(dict.fromkeys(content_terms(line))))

    @property
    def names(self) -> list[str]:
        """Its names and numbers, as `words.names_in` finds them."""
        return names_in(self.text)


def check_questions(texts: Iterable[str]) -> None:
    """Raise UsageError for a text that asks nothing: it is empty, or has neither a letter nor a digit."""
    for text in texts:
        if not any(character.isalnum() for character in text):
            problem = "has no word in it" if text.strip() else "is empty"
            raise UsageError(f"a question {problem}: ask something")


def term_shares(question: Question, index: PassageIndex) -> TermShares:
    """The question's terms with their shares of its weight in a text: rare terms weigh more."""
    return shares_of(question, weights_of(question, index))


def coverage(shares: TermShares, words: Iterable[str]) -> float:
    """The share of the question's weight that lies on terms among `words`."""
    return math.fsum(shares[term] for term in shares.keys() & set(words))


def all_terms(text: str) -> list[str]:
    """The terms of a text, and those of the halves of words that a line's end divides."""
    return terms(text) + halves(text)


def weights_of(question: Question, index: PassageIndex) -> NDArray[np.float64]:
    """The weight of each of the question's terms in a text."""
    return term_weights(index.frequencies(question.terms), index.num_passages)


def shares_of(question: Question, weights: NDArray[np.float64]) -> TermShares:
    """The question's terms, each with its share of these weights."""
    # A question of function words alone has terms, but a passage that has them all says little: they cover nothing.
    whole = weights.sum() if has_content(question.text) else math.inf
    return dict(zip(question.terms, weights / (whole or 1.0), strict=True))
