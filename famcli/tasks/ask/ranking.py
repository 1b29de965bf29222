"""Which passages are evidence for a question, how surely, and which of their sentences answers best.

The index of a reading gives candidates by BM25; what they have in common with the question is then looked at closely,
and for the best of them the network says how much more likely they make it. The weights are those of a regression on
training splits (`python -m benchmarks.ask_constants`, docs/decisions.md).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.ask.question import Question
from famcli.text.passages import Passage
from famcli.text.words import bm25_share, quotes_are_balanced, term_weights, terms

NUM_CANDIDATES = 40
"""Passages a question that are looked at closely."""

NUM_WEIGHED = 24
"""Passages a question that the network reads once more."""

FEATURES = ("words", "coverage", "around", "sentence", "alike", "gain")
"""Of a passage, each 0 to 1 but for gain. words: BM25 as a share. coverage: of the question's terms, by weight. around:
what the passages before and after add to it. sentence: the coverage of its best sentence. alike: weight of absent terms
of which it has one with the same first four letters. gain: nats per token by which the network finds the question more
likely after it than after the other passages that it read for this question, -1 to 1."""

WEIGHTS = (4.0, 5.7, 4.5, 3.4, 2.5, 1.7)
CONFIDENCE_WEIGHTS = (1.24, 0.25, 0.18)
"""Of coverage, margin and lead (see `Weighed`)."""

CONFIDENCE_BIAS = -2.58
THRESHOLD = 0.25
"""The confidence from which on a question counts as answered."""

_REACH = 6  # sentences looked through for the end of a quotation
_SIDE = 0.15  # what a neighbour's words count for a candidate
_SENTENCE_WEIGHTS = (3.5, 1.5, -1.1, -0.3, 0.7)


@dataclass(frozen=True)
class Weighed:
    """A passage and what speaks for it. features: see `FEATURES`; gain is 0 where the network did not look at it.

    margin: its score less that of the best other one. lead: its score less the mean of the first `NUM_WEIGHED`, where
    those that are missing count as 0: they have nothing in common with the question.
    """

    passage: Passage
    features: tuple[float, ...]
    margin: float = 0.0
    lead: float = 0.0

    @property
    def score(self) -> float:
        """For ranking within one question."""
        return math.fsum(w * x for w, x in zip(WEIGHTS, self.features, strict=True))

    @property
    def signs(self) -> tuple[float, ...]:
        """What confidence is made of: coverage, margin, lead."""
        return self.features[1], self.margin, self.lead

    @property
    def confidence(self) -> float:
        """How likely, 0 to 1, the question is answered here."""
        logit = CONFIDENCE_BIAS + math.fsum(w * x for w, x in zip(CONFIDENCE_WEIGHTS, self.signs, strict=True))
        return 1 / (1 + math.exp(-logit))


class Terms:
    """A question's terms in one text: their weights there, and how much of them something has."""

    def __init__(self, question: Question, index: PassageIndex) -> None:
        self.question = question
        self.weights = term_weights(index.frequencies(question.terms), index.num_passages)
        whole = self.weights.sum() if question.has_content else math.inf  # function words cover nothing
        self._shares = dict(zip(question.terms, self.weights / (whole or 1.0), strict=True))

    def coverage(self, words: Iterable[str]) -> float:
        """The share of the question's weight that lies on terms among `words`."""
        return math.fsum(self._shares[term] for term in self._shares.keys() & set(words))

    def likeness(self, words: Iterable[str]) -> float:
        """The share that lies on terms not among `words`, of which one with the same first four letters is."""
        present = set(words)
        beginnings = {word[:4] for word in present}
        return math.fsum(
            share
            for term, share in self._shares.items()
            if term not in present and len(term) >= 4 and term[:4] in beginnings
        )


def weigh(index: PassageIndex, question: Question, count: int = NUM_CANDIDATES) -> list[Weighed]:
    """The passages that have words in common with the question, best first; the network has not seen them yet."""
    if not question.terms or not index.num_passages:
        return []
    found = Terms(question, index)
    return ranked([_weighed(index, number, words, found) for number, words in _candidates(index, found, count)])


def ranked_by_network(weighed: Sequence[Weighed], gains: Sequence[float]) -> list[Weighed]:
    """The first of `weighed` with the gains that the network gave them, best first, then the others as they were."""
    mean = math.fsum(gains) / max(1, len(gains))
    held = [min(1.0, max(-1.0, gain - mean)) for gain in gains]
    seen = [replace(one, features=(*one.features[:-1], gain)) for one, gain in zip(weighed, held, strict=False)]
    return ranked(seen) + list(weighed[len(gains) :])


def ranked(weighed: Sequence[Weighed]) -> list[Weighed]:
    """In the order of their scores, best first, each compared with the others."""
    ordered = sorted(weighed, key=lambda one: (-one.score, one.passage.source, one.passage.span))
    scores = [one.score for one in ordered]
    mean = math.fsum(scores[:NUM_WEIGHED]) / NUM_WEIGHED
    return [
        replace(
            one, margin=score - max((*scores[:place][:1], *scores[place + 1 :][:1]), default=0.0), lead=score - mean
        )
        for place, (one, score) in enumerate(zip(ordered, scores, strict=True))
    ]


def _candidates(index: PassageIndex, found: Terms, count: int) -> list[tuple[int, float]]:
    """(number, BM25 share) of the passages whose words, and a little those beside them, say most."""
    heap: list[tuple[float, int, float]] = []
    before = 0.0  # the share of the last passage of the part before
    waiting: tuple[int, NDArray[np.float64]] | None = None
    for part in index.parts(found.question.terms):
        shares = bm25_share(part.counts, part.lengths, found.weights, index.mean_length)
        if waiting is not None:
            before = _offer(heap, *waiting, before, float(shares[0]), count)
        waiting = part.first, shares
    if waiting is not None:
        _offer(heap, *waiting, before, 0.0, count)
    return [(-number, share) for _, number, share in sorted(heap, reverse=True)]


def _offer(
    heap: list[tuple[float, int, float]],
    first: int,
    shares: NDArray[np.float64],
    before: float,
    after: float,
    count: int,
) -> float:
    """Put the passages of a part into a heap of the `count` best ones; returns the share of its last one."""
    padded = np.concatenate(([before], shares, [after]))
    values = shares + _SIDE * (padded[:-2] + padded[2:])
    values[shares == 0] = 0
    for place in np.argsort(-values, kind="stable")[:count]:
        if values[place] > 0:
            one = float(values[place]), -(first + int(place)), float(shares[place])
            heapq.heappush(heap, one) if len(heap) < count else heapq.heappushpop(heap, one)
    return float(shares[-1])


def _weighed(index: PassageIndex, number: int, words: float, found: Terms) -> Weighed:
    passage = index.passage(number)
    own = terms(passage.text)
    beside = [
        term
        for other in (number - 1, number + 1)
        if 0 <= other < index.num_passages and (near := index.passage(other)).source == passage.source
        for term in terms(near.text)
    ]
    coverage = found.coverage(own)
    features = (
        words,
        coverage,
        found.coverage((*own, *beside)) - coverage,
        max(found.coverage(terms(sentence.text)) for sentence in passage.sentences),
        found.likeness(own),
        0.0,
    )
    return Weighed(passage, features)


# ------------------------------------------------------------------------------------------------------- sentences


def best_sentence(passage: Passage, question: Question, index: PassageIndex) -> Passage:
    """The sentence of a passage that answers best.

    Where it opens a quotation and another sentence closes it, all up to there is the answer.
    """
    rows = sentence_features(passage, Terms(question, index))
    values = [math.fsum(w * x for w, x in zip(_SENTENCE_WEIGHTS, row, strict=True)) for row in rows]
    place = values.index(max(values))
    return _completed(place, passage) or Passage(passage.source, (passage.sentences[place],))


def sentence_features(passage: Passage, found: Terms) -> list[tuple[float, ...]]:
    """Of each sentence: its coverage (likeness counts half), that of those beside it, whether it asks, whether it opens
    a quotation that nothing closes, and whether it is finished."""
    words = [terms(sentence.text) for sentence in passage.sentences]
    rows = list[tuple[float, ...]]()
    for place, sentence in enumerate(passage.sentences):
        coverage = found.coverage(words[place]) + found.likeness(words[place]) / 2
        beside = found.coverage(word for other in words[max(0, place - 1) : place + 2] for word in other)
        asks, is_torn = "?" in sentence.text[-3:], _completed(place, passage) is None
        rows.append((coverage, beside, float(asks), float(is_torn), float(sentence.is_finished)))
    return rows


def _completed(place: int, passage: Passage) -> Passage | None:
    """The shortest run of sentences around this one that closes the quotations it opens, if any within reach does."""
    sentences = passage.sentences
    if quotes_are_balanced(sentences[place].text):
        return Passage(passage.source, (sentences[place],))
    runs = [
        Passage(passage.source, sentences[first:end])
        for first in range(max(0, place - _REACH), place + 1)
        for end in range(place + 1, min(len(sentences), place + _REACH) + 1)
    ]
    return min((run for run in runs if quotes_are_balanced(run.text)), key=lambda run: len(run.text), default=None)
