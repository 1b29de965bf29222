"""Answers beside right ones, as SQuAD compares them: words without case, punctuation and articles."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> list[str]:
    """Words without case, punctuation and articles."""
    return _ARTICLES.sub(" ", text.casefold().translate(_PUNCTUATION)).split()


def exact_match(answers: Sequence[str], given: str) -> float:
    """1 if what was given is one of the right answers, else 0."""
    return float(any(normalized(answer) == normalized(given) for answer in answers))


def token_f1(answer: str, given: str, recall: bool = False) -> float:
    """The harmonic mean of the shares of words that both have; with `recall`, the share of the answer's words given."""
    wanted, found = normalized(answer), normalized(given)
    shared = sum((Counter(wanted) & Counter(found)).values())
    if not wanted or not found:
        return float(wanted == found)
    if recall:
        return shared / len(wanted)
    return 2 * shared / (len(wanted) + len(found))


def best_f1(answers: Sequence[str], given: str) -> float:
    """The best F1 over the right answers."""
    return max((token_f1(answer, given) for answer in answers), default=0.0)
