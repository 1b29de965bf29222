"""Lexical evidence: which of a question's words a text has, weighed by how rare they are among the blocks read.

Only the question's own terms are counted, so memory does not grow with the document. The ranking of blocks is BM25
(Robertson and Zaragoza 2009, equation 3.15, k1 = 1.2, b = 0.75); that of passages is the share of the question's
weight that they cover.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

_K1, _B = 1.2, 0.75
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
_ENDINGS = ("ings", "ing", "edly", "ed", "ies", "es", "s", "ly", "y", "e")
_FUNCTION_WORDS = """
a about after all an and any are as at be because been before being but by can could did do does doing for from had has
have having he her hers him his how i if in into is it its me my no not of off on or our out over own she so some such
than that the their them then there these they this those to too under until up very was we were what when where which
while who whom whose why will with would you your happens happen happened
"""
_STOPWORDS = frozenset(_FUNCTION_WORDS.split())


def terms(text: str) -> list[str]:
    """The words of `text`, without case and English endings; East Asian words as pairs of characters."""
    found = []
    for match in _WORD.finditer(text.casefold()):
        word = match[0]
        if _EAST_ASIAN.search(word):
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        else:
            found.append(_stem(word))
    return found


def content_terms(text: str) -> list[str]:
    """`terms` without English function words; all of them if nothing else is there."""
    words = [match[0] for match in _WORD.finditer(text.casefold())]
    kept = [word for word in words if word not in _STOPWORDS]
    return [term for word in kept or words for term in terms(word)]


def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("\u2019s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


class TermIndex:
    """How many of the blocks read so far hold each of a question's terms."""

    def __init__(self, question: str) -> None:
        self.terms: tuple[str, ...] = tuple(dict.fromkeys(content_terms(question)))
        self._wanted = frozenset(self.terms)
        self._document_frequency: Counter[str] = Counter()
        self._num_blocks = 0
        self._num_terms = 0

    def count(self, block_terms: Sequence[str]) -> Counter[str]:
        """How often each of the question's terms is among `block_terms`."""
        return Counter(term for term in block_terms if term in self._wanted)

    def add(self, counts: Mapping[str, int], num_terms: int) -> None:
        """One more block, with these counts, was read."""
        self._document_frequency.update(counts.keys())
        self._num_blocks += 1
        self._num_terms += num_terms

    def weight(self, term: str) -> float:
        """log(1 + (N - n + 1/2) / (n + 1/2)) for a term in n of N blocks: never negative."""
        n = self._document_frequency[term]
        return math.log(1 + (self._num_blocks - n + 0.5) / (n + 0.5))

    def bm25(self, counts: Mapping[str, int], num_terms: int) -> float:
        """The score of a block, with what is known of the blocks so far."""
        mean = max(1.0, self._num_terms / max(1, self._num_blocks))
        norm = _K1 * (1 - _B + _B * num_terms / mean)
        return sum(self.weight(term) * n * (_K1 + 1) / (n + norm) for term, n in counts.items())

    def coverage(self, text: str) -> float:
        """The share, 0 to 1, of the question's weight that lies on terms that `text` has."""
        total = sum(self.weight(term) for term in self.terms)
        if not total:
            return 0.0
        present = self._wanted.intersection(terms(text))
        return sum(self.weight(term) for term in present) / total
