"""Candidate sentences of a summary: the best few of each stretch of a document whose length is not known beforehand,
and the final choice among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from typing import Literal

import numpy as np

from famcli.tasks.summarize.quotable import repetition_key
from famcli.text.sentences import Sentence
from famcli.text.words import num_words, similarity, word_set

# At most 512 sentences are held. Each stretch keeps its own best ones, since what a sentence is worth changes until the
# end: one heap for all would fill with sentences of the beginning, which standing early favours.
MAX_BINS = 64
PER_BIN = 8
_FIRST_LENGTH = 1024  # bytes of a bin until the document outgrows MAX_BINS of them
_MAX_SIMILARITY = 0.6
_USUAL_WORDS = 15  # of a sentence
# In standard deviations of the score, at full similarity. 0.5 and 1.5 have the same ROUGE (docs/decisions.md).
_REDUNDANCY = 1.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """A sentence that a summary may quote.

    source: name of its document. place: UTF-8 bytes of text before it, over all documents. score: by what was known
    when it was read; higher is better. opens: it begins a paragraph and is not direct speech.
    """

    sentence: Sentence
    source: str
    place: int
    score: float
    opens: bool = False

    @cached_property
    def words(self) -> frozenset[str]:
        return word_set(self.sentence.text)

    @cached_property
    def normalized(self) -> str:
        """The text in a form in which repetitions are equal."""
        return repetition_key(self.sentence.text)

    def similarity(self, other: Candidate) -> float:
        """How much two sentences say the same, 0 to 1."""
        return 1.0 if self.normalized == other.normalized else similarity(self.words, other.words)

    def repeats(self, other: Candidate) -> bool:
        """True if the two sentences say nearly the same."""
        return self.similarity(other) > _MAX_SIMILARITY


def keep_best(kept: list[Candidate], candidate: Candidate) -> None:
    """Add `candidate` to the best `PER_BIN` ones in `kept`; of sentences that repeat each other only the best stays."""
    rival = next((one for one in kept if candidate.repeats(one)), None)
    if rival is None and len(kept) == PER_BIN:
        rival = min(kept, key=_rank)
    if rival is None:
        kept.append(candidate)
    elif _rank(candidate) > _rank(rival):
        kept[kept.index(rival)] = candidate


def _rank(candidate: Candidate) -> tuple[float, int]:
    # Of equal scores the first sentence wins, so that a summary does not depend on the order of comparisons.
    return candidate.score, -candidate.place


class Candidates:
    """The best `PER_BIN` sentences of each of at most `MAX_BINS` equal stretches of the document.

    When the document outgrows the bins, every two of them become one, so memory stays constant.
    """

    def __init__(self) -> None:
        self._length = _FIRST_LENGTH
        self._bins: dict[int, list[Candidate]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._bins.values()))

    def add(self, candidate: Candidate) -> None:
        while candidate.place // self._length >= MAX_BINS:
            self._merge_bins()
        keep_best(self._bins.setdefault(candidate.place // self._length, []), candidate)

    def best_of_last(self) -> Candidate | None:
        """The best candidate of the last bin that has any."""
        last = max((index for index, kept in self._bins.items() if kept), default=None)
        return None if last is None else max(self._bins[last], key=_rank)

    def forget(self, place: int) -> None:
        """Remove the candidates from `place` on."""
        for index, kept in self._bins.items():
            self._bins[index] = [one for one in kept if one.place < place]

    def all(self) -> list[Candidate]:
        return sorted((one for kept in self._bins.values() for one in kept), key=_place)

    def _merge_bins(self) -> None:
        self._length *= 2
        merged: dict[int, list[Candidate]] = {}
        for index, kept in self._bins.items():
            for candidate in kept:
                keep_best(merged.setdefault(index // 2, []), candidate)
        self._bins = merged


@dataclass(frozen=True)
class Budget:
    """How much a summary may hold: so many sentences, or words (it ends with the sentence that comes closest)."""

    count: int
    unit: Literal["sentences", "words"] = "sentences"

    def cost(self, text: str) -> int:
        return 1 if self.unit == "sentences" else max(1, num_words(text))


class Allowance:
    """What is left of a budget while sentences are chosen, one after the other."""

    def __init__(self, budget: Budget) -> None:
        self.left = budget.count
        self._budget, self._is_begun = budget, False

    def take(self, text: str) -> bool:
        """Spend what a sentence costs. False where the choice ends: nothing is left, or the choice is further from the
        budget with the sentence than without it."""
        cost = self._budget.cost(text)
        if self.left <= 0 or (self._is_begun and cost - self.left > self.left):
            return False
        self.left, self._is_begun = self.left - cost, True
        return True


def choose(
    candidates: Iterable[Candidate],
    scores: Mapping[Candidate, float],
    budget: Budget,
    first: Sequence[Sequence[Candidate]] = (),
) -> list[Candidate]:
    """The candidates that make up a summary within the budget, in the order of the document.

    Each of the groups `first` gives one sentence. The document is cut into as many equal parts as the summary will have
    sentences. Each part that has given none gives one, the part with the best sentence first; what is left of the
    budget is filled from anywhere. Each time the candidate with the highest score less its similarity to those already
    chosen is taken (maximal marginal relevance, Carbonell and Goldstein 1998). Near repetitions and candidates without
    a score are left out.
    """
    # Spreading costs 0.1 / 0.4 of ROUGE-1 / 2 on texts below 20,000 words (docs/decisions.md). It stays because longer
    # texts would be summed up by their beginning.
    waiting = list(dict.fromkeys(one for one in chain(candidates, *first) if one in scores))
    if budget.unit == "words" and all(budget.cost(one.sentence.text) > budget.count for one in waiting):
        # No sentence is that short: as many as would have so many words if they were of usual length.
        budget = Budget(max(1, budget.count // _USUAL_WORDS))
    penalty = _REDUNDANCY * (np.std([scores[one] for one in waiting]) or 1.0) if waiting else 0.0
    redundancy = dict.fromkeys(waiting, 0.0)  # similarity to the most similar one of those chosen
    chosen, allowance = list[Candidate](), Allowance(budget)
    for pool in chain(first, _equal_parts(waiting, scores, budget), repeat(waiting)):
        taken = pool is not waiting and not set(pool).isdisjoint(chosen)
        new = [one for one in pool if redundancy[one] <= _MAX_SIMILARITY and not taken]
        if allowance.left <= 0 or (pool is waiting and not new):
            break
        if not new:
            continue
        best = max(new, key=lambda one: scores[one] - penalty * redundancy[one])
        if not allowance.take(best.sentence.text):
            break
        chosen.append(best)
        waiting.remove(best)
        for other in waiting:
            redundancy[other] = max(redundancy[other], best.similarity(other))
    return sorted(chosen, key=_place)


def _equal_parts(
    candidates: Sequence[Candidate], scores: Mapping[Candidate, float], budget: Budget
) -> list[list[Candidate]]:
    """The candidates of each of as many equal stretches as there will be sentences, best stretch first."""
    if not candidates:
        return []
    first, last = min(map(_place, candidates)), max(map(_place, candidates))
    mean_cost = sum(budget.cost(one.sentence.text) for one in candidates) / len(candidates)
    count = max(1, round(budget.count / mean_cost))
    parts: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        parts.setdefault((candidate.place - first) * count // (last - first + 1), []).append(candidate)
    return sorted(parts.values(), key=lambda part: -max(scores[one] for one in part))


def _place(candidate: Candidate) -> int:
    return candidate.place
