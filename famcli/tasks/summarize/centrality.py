"""How central a sentence is: by how often the document has its words, counted in one pass in a table of fixed size, and
by what it shares with the other candidates."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from famcli.text.words import content_terms, terms

TABLE_SIZE = 1 << 16
"""Counters that all words share by their hash: a novel has some ten thousand words, so few share one."""

_SHRINKAGE = 4.0  # words
# Frequent in speech and dialogue, and central to nothing.
_FILLERS = frozenset(
    terms(
        """yeah yes okay ok um uh mm hmm oh well like know think mean just really right got get go going gonna want
        thing things lot kind sort actually maybe sure say said let see look"""
    )
)


class TermCounts:
    """How often each word was read."""

    def __init__(self) -> None:
        self._counts = np.zeros(TABLE_SIZE, np.int64)

    def add(self, terms: Sequence[str]) -> None:
        """These were read."""
        np.add.at(self._counts, _places(terms), 1)

    def mean_log(self, terms: Sequence[str]) -> float:
        """The mean of log(count) over the distinct ones of `terms`; 0 without any."""
        if not terms:
            return 0.0
        return float(np.log(np.maximum(self._counts[_places(sorted(set(terms)))], 1)).mean())


def topical_terms(text: str) -> list[str]:
    """The words of a sentence that may say what a text is about."""
    return [term for term in content_terms(text) if term not in _FILLERS]


class Likeness:
    """How much sentences share with a bounded number of others: the sum of the cosines of their words' tf-idf weights
    (degree centrality, Erkan and Radev 2004, without a threshold)."""

    def __init__(self, sentences: Sequence[Sequence[str]]) -> None:
        self._vocabulary = {term: index for index, term in enumerate(dict.fromkeys(chain(*sentences)))}
        frequency = np.zeros(max(1, len(self._vocabulary)))
        for terms_of_one in sentences:
            frequency[[self._vocabulary[term] for term in set(terms_of_one)]] += 1
        self._weights = np.log1p(max(1, len(sentences)) / np.maximum(frequency, 1))
        self._sum = np.zeros_like(self._weights)
        for terms_of_one in sentences:
            places, values = self._vector(terms_of_one)
            self._sum[places] += values

    def of(self, sentence: Sequence[str]) -> float:
        """Of one of them to the others: its cosine to itself is 1."""
        places, values = self._vector(sentence)
        return float(values @ self._sum[places]) - 1.0

    def _vector(self, sentence: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        counts = Counter(self._vocabulary[term] for term in sentence if term in self._vocabulary)
        places = np.fromiter(counts, np.int64, len(counts))
        values = np.fromiter(counts.values(), np.float64, len(counts)) * self._weights[places]
        return places, values / max(float(np.sqrt(values @ values)), 1e-12)


def shrunk(value: float, mean: float, num_terms: int) -> float:
    """How far a mean over so many terms stands above another one, less the less there are: the best of many sentences
    would else always be a short one."""
    return (value - mean) * num_terms / (num_terms + _SHRINKAGE)


class Moments:
    """Mean and deviation of all values so far."""

    def __init__(self) -> None:
        self._count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        """One more value (Welford's update)."""
        self._count += 1
        before = value - self.mean
        self.mean += before / self._count
        self._squares += before * (value - self.mean)

    def standard(self, value: float) -> float:
        """How many deviations `value` stands above the mean; 0 while all values were the same."""
        deviation = math.sqrt(self._squares / self._count) if self._count else 0.0
        return (value - self.mean) / deviation if deviation > 1e-12 else 0.0


def _places(terms: Sequence[str]) -> list[int]:
    return [zlib.crc32(term.encode("utf-8", "surrogatepass")) % TABLE_SIZE for term in terms]
