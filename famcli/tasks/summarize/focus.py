"""A topic that a summary shall be about: which of its words a sentence has, by how rare they are in the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from famcli.text.words import content_terms, term_weights


class Focus:
    """Only the topic's own words are counted, so memory does not grow with the document."""

    def __init__(self, topic: str) -> None:
        self._terms = tuple(dict.fromkeys(content_terms(topic)))
        self._frequency: Counter[str] = Counter()
        self._num_sentences = 0

    def add(self, terms: Sequence[str]) -> None:
        """A sentence with these terms was read."""
        self._num_sentences += 1
        self._frequency.update(set(self._terms).intersection(terms))

    def coverage(self, text: str) -> float:
        """The share, 0 to 1, of the topic's weight that lies on words that `text` has."""
        if not self._terms:
            return 0.0
        frequencies = np.array([self._frequency[term] for term in self._terms])
        weights = term_weights(frequencies, self._num_sentences)
        present = set(content_terms(text))
        has = np.array([term in present for term in self._terms])
        return float(weights[has].sum() / weights.sum()) if weights.sum() else 0.0
