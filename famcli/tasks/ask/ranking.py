"""Which passages are evidence for a question, how surely, and which of their sentences answers best.

The index of a reading gives candidates by BM25; their words are then compared closely with those of the question, and
for the best of them the network says how much more likely they make it. The weights are those of a regression on
training splits (`python -m benchmarks.ask_constants`, docs/decisions.md).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from famcli.errors import UsageError
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.text.passages import Passage
from famcli.text.words import (
    bm25_share,
    content_terms,
    halves,
    has_content,
    names_in,
    quotes_are_balanced,
    term_weights,
    terms,
)

NUM_CANDIDATES = 40
"""Passages per question whose words are compared closely."""

NUM_RERANKED = 24
"""Passages per question that the network reads once more."""

FEATURES = ("words", "coverage", "around", "sentence", "alike", "gain")
"""Of a passage, each 0 to 1 but for gain. words: BM25 as a share. coverage: of the question's terms, by weight. around:
what the passages before and after add to it. sentence: the coverage of its best sentence. alike: weight of absent terms
of which it has one with the same first four letters. gain: nats per token by which the network finds the question more
likely after it than after the other passages that it read for this question, -1 to 1."""

# Nearness of the words, names, the kind of answer and the passage's length were tried as features and changed nothing
# (docs/decisions.md). Fitted again for a later checkpoint, every weight came out within 6 % of these.
WEIGHTS = (4.0, 5.7, 4.5, 3.4, 2.5, 1.7)
CONFIDENCE_WEIGHTS = (1.24, 0.25, 0.18)
"""Of coverage, margin and lead (see `RankedPassage`)."""

CONFIDENCE_BIAS = -2.58
# It withholds 23 % of answerable questions, and 65 % of those whose passage is not in the text.
THRESHOLD = 0.25
"""The confidence from which on a question counts as answered."""

_QUOTATION_REACH = 6  # sentences looked through for the end of a quotation
_NEIGHBOUR_SHARE = 0.15  # of a neighbour's BM25 share that counts for a candidate
_SENTENCE_WEIGHTS = (3.5, 1.5, -1.1, -0.3, 0.7)

TermShares = Mapping[str, float]
"""The terms of a question, each with its share of their weight in one text."""


@dataclass(frozen=True)
class Question:
    """A question on one line. terms: its content words as `words.terms` gives them, each once.

    Without terms nothing is evidence for it.
    """

    text: str
    terms: tuple[str, ...]

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


@dataclass(frozen=True)
class RankedPassage:
    """A passage and what speaks for it. features: see `FEATURES`; gain is 0 where the network did not read it.

    margin: its score minus that of the best other one. lead: its score minus the mean of the first `NUM_RERANKED`;
    where there are fewer, the missing ones count as 0, as they share nothing with the question.
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
    def confidence(self) -> float:
        """How likely, 0 to 1, the question is answered here."""
        # Scores of different questions cannot be compared; coverage, margin and lead can.
        signs = self.features[FEATURES.index("coverage")], self.margin, self.lead
        logit = CONFIDENCE_BIAS + math.fsum(w * x for w, x in zip(CONFIDENCE_WEIGHTS, signs, strict=True))
        return 1 / (1 + math.exp(-logit))


# ------------------------------------------------------------------------------------------------------- query terms


def term_shares(question: Question, index: PassageIndex) -> TermShares:
    """The question's terms with their shares of its weight in a text: rare terms weigh more."""
    return _shares(question, _weights(question, index))


def coverage(shares: TermShares, words: Iterable[str]) -> float:
    """The share of the question's weight that lies on terms among `words`."""
    return math.fsum(shares[term] for term in shares.keys() & set(words))


def likeness(shares: TermShares, words: Iterable[str]) -> float:
    """The share that lies on terms not among `words`, where one with the same first four letters is."""
    present = set(words)
    beginnings = {word[:4] for word in present}
    return math.fsum(
        share for term, share in shares.items() if term not in present and len(term) >= 4 and term[:4] in beginnings
    )


def _weights(question: Question, index: PassageIndex) -> NDArray[np.float64]:
    return term_weights(index.frequencies(question.terms), index.num_passages)


def _shares(question: Question, weights: NDArray[np.float64]) -> TermShares:
    # A question of function words alone has terms, but a passage that has them all says little: they cover nothing.
    whole = weights.sum() if has_content(question.text) else math.inf
    return dict(zip(question.terms, weights / (whole or 1.0), strict=True))


# ------------------------------------------------------------------------------------------------------- passages


def rank_passages(index: PassageIndex, question: Question, count: int = NUM_CANDIDATES) -> list[RankedPassage]:
    """The passages that have words in common with the question, best first, before the network has read them."""
    if not question.terms or not index.num_passages:
        return []
    weights = _weights(question, index)
    shares, candidates = _shares(question, weights), _candidates(index, question, weights, count)
    return _ordered([_compared(index, number, words, shares) for number, words in candidates])


def rerank(passages: Sequence[RankedPassage], gains: Sequence[float]) -> list[RankedPassage]:
    """The first of `passages` with the gains that the network gave them, best first, then the others as they were."""
    # How likely a question is at all differs from one to the next: only its difference between passages says something.
    mean = math.fsum(gains) / max(1, len(gains))
    held = [min(1.0, max(-1.0, gain - mean)) for gain in gains]
    seen = [replace(one, features=(*one.features[:-1], gain)) for one, gain in zip(passages, held, strict=False)]
    return _ordered(seen) + list(passages[len(gains) :])


def _ordered(passages: Sequence[RankedPassage]) -> list[RankedPassage]:
    """In the order of their scores, best first, each compared with the others."""
    ordered = sorted(passages, key=lambda one: (-one.score, one.passage.source, one.passage.span))
    scores = [one.score for one in ordered]
    mean = math.fsum(scores[:NUM_RERANKED]) / NUM_RERANKED
    best, second = (*scores, 0.0, 0.0)[:2]
    return [
        replace(one, margin=score - (best if place else second), lead=score - mean)
        for place, (one, score) in enumerate(zip(ordered, scores, strict=True))
    ]


def _candidates(
    index: PassageIndex, question: Question, weights: NDArray[np.float64], count: int
) -> list[tuple[int, float]]:
    """(number, BM25 share) of the passages whose words, and a little those of their neighbours, say most.

    The parts of an index are gone through one after the other, so that what is held does not grow with the text. A
    part waits for the next one, whose first passage is the neighbour of its last.
    """
    heap: list[tuple[float, int, float]] = []
    before, waiting = 0.0, np.empty(0)
    first = 0
    for start, lengths, counts in index.parts(question.terms):
        shares = bm25_share(counts, lengths, weights, index.mean_length)
        if len(waiting):
            _offer(heap, count, first, waiting, before, float(shares[0]))
            before = float(waiting[-1])
        first, waiting = start, shares
    if len(waiting):
        _offer(heap, count, first, waiting, before, 0.0)
    return [(-number, share) for _, number, share in sorted(heap, reverse=True)]


def _offer(
    heap: list[tuple[float, int, float]],
    count: int,
    first: int,
    shares: NDArray[np.float64],
    before: float,
    after: float,
) -> None:
    """Put the passages of a part into a heap of the `count` best ones. before, after: shares of its neighbours."""
    padded = np.concatenate(([before], shares, [after]))
    values = shares + _NEIGHBOUR_SHARE * (padded[:-2] + padded[2:])
    values[shares == 0] = 0
    for place in np.argsort(-values, kind="stable")[:count]:
        if values[place] > 0:
            one = float(values[place]), -(first + int(place)), float(shares[place])
            heapq.heappush(heap, one) if len(heap) < count else heapq.heappushpop(heap, one)


def _compared(index: PassageIndex, number: int, words: float, shares: TermShares) -> RankedPassage:
    passage = index.passage(number)
    own = _all_terms(passage.text)
    beside = [
        term
        for other in (number - 1, number + 1)
        if 0 <= other < index.num_passages and (near := index.passage(other)).source == passage.source
        for term in _all_terms(near.text)
    ]
    covered = coverage(shares, own)
    features = (
        words,
        covered,
        coverage(shares, (*own, *beside)) - covered,
        max(coverage(shares, _all_terms(sentence.text)) for sentence in passage.sentences),
        likeness(shares, own),
        0.0,
    )
    return RankedPassage(passage, features)


def _all_terms(text: str) -> list[str]:
    return terms(text) + halves(text)


# ------------------------------------------------------------------------------------------------------- sentences


def best_sentence(passage: Passage, question: Question, index: PassageIndex) -> Passage:
    """The sentence of a passage that answers best.

    Where it opens a quotation and another sentence closes it, all up to there is the answer.
    """
    rows = sentence_features(passage, term_shares(question, index))
    values = [math.fsum(w * x for w, x in zip(_SENTENCE_WEIGHTS, row, strict=True)) for row in rows]
    # Half a quotation is no answer: its other half may say the opposite, or who speaks.
    place = values.index(max(values))
    return _completed(place, passage) or Passage(passage.source, (passage.sentences[place],))


def sentence_features(passage: Passage, shares: TermShares) -> list[tuple[float, ...]]:
    """Of each sentence: its coverage (likeness counts half), that of those beside it, whether it asks, whether it opens
    a quotation that nothing closes, and whether it is finished."""
    words = [_all_terms(sentence.text) for sentence in passage.sentences]
    rows = list[tuple[float, ...]]()
    for place, sentence in enumerate(passage.sentences):
        covered = coverage(shares, words[place]) + likeness(shares, words[place]) / 2
        beside = coverage(shares, (word for other in words[max(0, place - 1) : place + 2] for word in other))
        asks, is_torn = "?" in sentence.text[-3:], _completed(place, passage) is None
        rows.append((covered, beside, float(asks), float(is_torn), float(sentence.is_finished)))
    return rows


def _completed(place: int, passage: Passage) -> Passage | None:
    """The shortest run of sentences around this one that closes the quotations it opens, if any within reach does."""
    sentences = passage.sentences
    if quotes_are_balanced(sentences[place].text):
        return Passage(passage.source, (sentences[place],))
    runs = [
        Passage(passage.source, sentences[first:end])
        for first in range(max(0, place - _QUOTATION_REACH), place + 1)
        for end in range(place + 1, min(len(sentences), place + _QUOTATION_REACH) + 1)
    ]
    return min((run for run in runs if quotes_are_balanced(run.text)), key=lambda run: len(run.text), default=None)
