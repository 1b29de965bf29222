"""What a sentence is worth in a summary: provisionally while the text is read, and finally among all candidates.

The score is how often the document uses the sentence's words, and in the end also what it shares with the other
candidates; less for standing late, for few topical words and for depending on its context; more for opening a
paragraph and for words of the focus. Nothing of it comes from the network (docs/decisions.md, 2026-11-28).
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from famcli.tasks.summarize.candidates import Candidate
from famcli.text.context import context_dependence, is_spoken
from famcli.text.markup import without_marks
from famcli.text.sentences import Sentence
from famcli.text.words import content_terms, term_weights, terms

TABLE_SIZE = 1 << 16
"""Counters that all words share by their hash: a novel has some ten thousand words, so few share one."""

# Chosen by hand on 338 training texts of five sets, never on the parts held out (docs/decisions.md, 2026-11-20).
FREQUENCY_WEIGHT, LIKENESS_WEIGHT, POSITION_WEIGHT, OPENING_WEIGHT = 0.6, 0.6, 0.5, 0.65
FOCUS_WEIGHT = 3.0  # enough that any sentence about the focus outranks the others
SHORTNESS_WEIGHT, FULL_LENGTH = 2.0, 10  # without topical words, and how many of them cost nothing
_POSITION_UNIT = 200  # bytes
_MIN_COVERAGE = 0.2  # share of the focus that a sentence about it must have
# Means of few words vary more, so the best of many sentences would always be a short one: a mean over n words counts
# n / (n + _SHRINKAGE) of its difference from the average.
_SHRINKAGE = 4.0
_TINY = 1e-6  # a standard deviation below it is rounding
# Frequent in speech and dialogue, and central to nothing.
_FILLERS = frozenset(
    terms(
        """yeah yes okay ok um uh mm hmm oh well like know think mean just really right got get go going gonna want
        thing things lot kind sort actually maybe sure say said let see look"""
    )
)


class Scorer:
    """Counts the words of a text in a table of fixed size, and scores its sentences.

    focus: a topic that sentences should be about, None for any.
    """

    def __init__(self, focus: str | None = None) -> None:
        # A dictionary of words would grow with the text.
        self._counts = np.zeros(TABLE_SIZE, np.int64)
        self._focus = [] if focus is None else list(dict.fromkeys(content_terms(focus)))
        self._focus_counts, self._num_sentences = Counter[str](), 0
        # Count, sum and sum of squares, of mean log counts and of what they are above their mean.
        self._log_counts, self._frequencies = np.zeros(3), np.zeros(3)

    def read(self, text: str) -> None:
        """Count the words of a sentence, whether it can be quoted or not."""
        np.add.at(self._counts, _table_places(topical_terms(text)), 1)
        if self._focus:
            self._num_sentences += 1
            self._focus_counts.update(set(self._focus).intersection(content_terms(text)))

    def candidate(self, sentence: Sentence, source: str, place: int) -> Candidate:
        """A sentence that may be quoted, scored by what was read so far."""
        text = sentence.text
        words = topical_terms(text)
        log_count, count = self._mean_log_count(words), len(set(words))
        self._log_counts += (1, log_count, log_count**2)
        frequency = (log_count - _moments(self._log_counts)[0]) * count / (count + _SHRINKAGE)
        self._frequencies += (1, frequency, frequency**2)
        mean, deviation = _moments(self._frequencies)
        opens = (sentence.gap is None or sentence.gap.count("\n") > 1) and not is_spoken(text)
        score = FREQUENCY_WEIGHT * (frequency - mean) / deviation if deviation > _TINY else 0.0
        return Candidate(sentence, source, place, score + self._own_score(text, place, opens), opens)

    def final_scores(self, candidates: Collection[Candidate]) -> dict[Candidate, float]:
        """The scores of candidates by the whole text and by each other.

        What stands in the text more than twice is marked down: twice may be emphasis, ten times is boilerplate.
        """
        if not candidates:
            return {}
        texts = [one.sentence.text for one in candidates]
        words = [topical_terms(text) for text in texts]
        log_counts = np.array([self._mean_log_count(one) for one in words])
        counts = np.array([len(set(one)) for one in words])
        frequency = (log_counts - log_counts.mean()) * counts / (counts + _SHRINKAGE)
        scores = FREQUENCY_WEIGHT * standardized(frequency)
        scores += LIKENESS_WEIGHT * standardized(likeness([content_terms(text) for text in texts]))
        times = Counter(one.normalized for one in candidates)
        scores -= [max(0.0, math.log2(times[one.normalized] / 2)) for one in candidates]
        scores += [self._own_score(one.sentence.text, one.place, one.opens) for one in candidates]
        return dict(zip(candidates, scores.tolist(), strict=True))

    def is_about_focus(self, text: str) -> bool:
        """True if a sentence has enough of the focus's words; False without a focus."""
        return self._coverage(text) >= _MIN_COVERAGE

    def _own_score(self, text: str, place: int, opens: bool) -> float:
        shortness = max(0.0, 1 - len(set(topical_terms(text))) / FULL_LENGTH)
        score = OPENING_WEIGHT * opens - context_dependence(text) - SHORTNESS_WEIGHT * shortness
        return score - POSITION_WEIGHT * math.log(1 + place / _POSITION_UNIT) + FOCUS_WEIGHT * self._coverage(text)

    def _coverage(self, text: str) -> float:
        """The share, 0 to 1, of the focus's words that a sentence has; words that are rare in the text weigh more."""
        weights = term_weights(np.array([self._focus_counts[term] for term in self._focus]), self._num_sentences)
        present = set(content_terms(text))
        total = float(weights.sum())
        return float(weights @ [term in present for term in self._focus]) / total if total else 0.0

    def _mean_log_count(self, words: Sequence[str]) -> float:
        """The mean of log(count) over the distinct words; 0 without any."""
        counts = self._counts[_table_places(sorted(set(words)))]
        return float(np.log(np.maximum(counts, 1)).mean()) if len(counts) else 0.0


def topical_terms(text: str) -> list[str]:
    """The words of a sentence that may say what a text is about."""
    return [term for term in content_terms(without_marks(text)) if term not in _FILLERS]


def likeness(sentences: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """How much each sentence shares with all others [n]: the sum of the cosines of their tf-idf vectors.

    This is degree centrality (Erkan and Radev 2004) without their threshold.
    """
    vocabulary = {term: index for index, term in enumerate(dict.fromkeys(chain(*sentences)))}
    frequency = Counter(chain(*map(set, sentences)))
    weights = np.array([math.log1p(len(sentences) / frequency[term]) for term in vocabulary])
    total, vectors = np.zeros(len(vocabulary)), []
    for sentence in sentences:
        counts = Counter(sentence)
        indices = np.array([vocabulary[term] for term in counts], np.int64)
        values = np.array(list(counts.values()), np.float64) * weights[indices]
        vectors.append((indices, values / max(float(np.linalg.norm(values)), 1e-12)))
        total[indices] += vectors[-1][1]
    # The sum of cosines is one product with the sum of all vectors, so a text needs no table of all pairs.
    return np.array([values @ total[indices] - 1.0 for indices, values in vectors])


def standardized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values [n] in standard deviations above their mean; 0 where all are the same."""
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > _TINY else np.zeros(len(values))


def _moments(sums: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation from the count, sum and sum of squares of some values."""
    mean = float(sums[1] / sums[0])
    return mean, math.sqrt(max(0.0, float(sums[2] / sums[0]) - mean**2))


def _table_places(words: Sequence[str]) -> list[int]:
    # Python's own hash of a string differs from run to run.
    return [zlib.crc32(word.encode("utf-8", "surrogatepass")) % TABLE_SIZE for word in words]
