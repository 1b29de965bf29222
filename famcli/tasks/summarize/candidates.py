"""A bounded choice of sentences, spread over a document whose length is not known beforehand."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from famcli.text.quality import num_words, said, similarity, word_set
from famcli.text.sentences import Sentence

MAX_BINS = 64
PER_BIN = 8
_FIRST_LENGTH = 1024  # bytes of a bin until the document outgrows MAX_BINS of them
_REDUNDANCY = 1.0  # how many standard deviations of the score full redundancy costs
_MAX_SIMILARITY = 0.6


@dataclass(frozen=True, eq=False)
class Candidate:
    """A sentence of a source. place: bytes of text before it over all sources, in UTF-8. score: the higher, the better,
    by what was known when it was read. salience: of its tokens alone. opens: it begins a paragraph, and not a speech.
    """

    sentence: Sentence
    source: str
    place: int
    score: float
    salience: float = 0.0
    opens: bool = False

    @cached_property
    def words(self) -> frozenset[str]:
        """What likeness is judged by."""
        return word_set(self.sentence.text)

    @cached_property
    def said(self) -> str:
        """The same for sentences with the same words."""
        return said(self.sentence.text)

    def likeness(self, other: Candidate) -> float:
        """How much it says the same as another one, 0 to 1."""
        return 1.0 if self.said == other.said else similarity(self.words, other.words)

    def repeats(self, other: Candidate) -> bool:
        """Whether it says nearly the same as another one."""
        return self.likeness(other) > _MAX_SIMILARITY


class Heap:
    """The best few candidates that were pushed, and of those that repeat one another only the best."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: list[tuple[float, int, Candidate]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, candidate: Candidate) -> None:
        """Keep it, if it is good enough."""
        entry = (candidate.score, -candidate.place, candidate)
        for index, kept in enumerate(self._entries):
            if candidate.repeats(kept[2]):
                if entry > kept:
                    self._entries[index] = entry
                    heapq.heapify(self._entries)
                return
        if len(self._entries) < self._size:
            heapq.heappush(self._entries, entry)
        else:
            heapq.heappushpop(self._entries, entry)

    def merge(self, other: Heap) -> None:
        """Push all of another one's."""
        for candidate in other.all():
            self.push(candidate)

    def forget(self, place: int) -> None:
        """Forget those from `place` on."""
        self._entries = [entry for entry in self._entries if entry[2].place < place]
        heapq.heapify(self._entries)

    def all(self) -> list[Candidate]:
        """Those that are kept, in the order of the document."""
        return sorted((entry[2] for entry in self._entries), key=_place)


class Candidates:
    """The best `PER_BIN` sentences of each of at most `MAX_BINS` equal stretches of the document.

    When the document outgrows the bins, each two become one: what is held never grows.
    """

    def __init__(self) -> None:
        self._length = _FIRST_LENGTH
        self._bins: dict[int, Heap] = {}

    def __len__(self) -> int:
        return sum(map(len, self._bins.values()))

    def add(self, candidate: Candidate) -> None:
        """Keep it, if it is good enough for its bin."""
        while candidate.place // self._length >= MAX_BINS:
            self._double()
        self._bins.setdefault(candidate.place // self._length, Heap(PER_BIN)).push(candidate)

    def best_of_last(self) -> Candidate | None:
        """The best one of the last stretch that has any."""
        last = max((index for index, kept in self._bins.items() if len(kept)), default=None)
        return None if last is None else max(self._bins[last].all(), key=lambda candidate: candidate.score)

    def forget(self, place: int) -> None:
        """Forget those from `place` on."""
        for kept in self._bins.values():
            kept.forget(place)

    def all(self) -> list[Candidate]:
        """Those that are kept, in the order of the document."""
        return sorted((candidate for kept in self._bins.values() for candidate in kept.all()), key=_place)

    def _double(self) -> None:
        self._length *= 2
        merged: dict[int, Heap] = {}
        for index, kept in self._bins.items():
            merged.setdefault(index // 2, Heap(PER_BIN)).merge(kept)
        self._bins = merged


@dataclass(frozen=True)
class Budget:
    """How much may be chosen: a number of sentences, or of words (the sentence that comes closest to it ends it)."""

    count: int
    unit: Literal["sentences", "words"] = "sentences"

    def cost(self, candidate: Candidate) -> int:
        """What a sentence takes of it."""
        return 1 if self.unit == "sentences" else max(1, num_words(candidate.sentence.text))

    def parts(self, candidates: Sequence[Candidate]) -> int:
        """About how many sentences it is enough for."""
        mean = sum(map(self.cost, candidates)) / max(1, len(candidates))
        return max(1, round(self.count / max(1.0, mean)))


def choose(
    candidates: Iterable[Candidate], budget: Budget, value: Callable[[Candidate], float] | None = None
) -> list[Candidate]:
    """What fits the budget, in the order of the document: one from each of as many equal parts as there will be
    sentences, the best parts first, the rest from anywhere; each time the one with the best value (None: its score)
    less its likeness to those chosen (maximal marginal relevance, Carbonell and Goldstein 1998). Near repetitions are
    left out.
    """
    waiting = list(candidates)
    if not waiting or budget.count < 1:
        return []
    return _Choice(waiting, budget, value or (lambda candidate: candidate.score)).made()


class _Choice:
    """One run of `choose`."""

    def __init__(self, waiting: list[Candidate], budget: Budget, value: Callable[[Candidate], float]) -> None:
        self._waiting, self._budget = waiting, budget
        self._values = {id(candidate): value(candidate) for candidate in waiting}
        self._likeness = dict.fromkeys(self._values, 0.0)  # to the one among those chosen that is most alike
        self._cost = _REDUNDANCY * (_deviation(list(self._values.values())) or 1.0)
        self._chosen: list[Candidate] = []
        self._used = 0

    def made(self) -> list[Candidate]:
        """The candidates that are chosen."""
        first, last = min(map(_place, self._waiting)), max(map(_place, self._waiting))
        count = self._budget.parts(self._waiting)
        parts: dict[int, list[Candidate]] = {}
        for candidate in self._waiting:
            parts.setdefault((candidate.place - first) * count // (last - first + 1), []).append(candidate)
        by_best = sorted(parts.values(), key=lambda part: -max(self._values[id(one)] for one in part))
        for part in by_best:
            self._take(part)
        while self._take(self._waiting):
            pass
        return sorted(self._chosen, key=_place)

    def _take(self, pool: list[Candidate]) -> bool:
        """Choose the best of `pool` that is no repetition; False where there is none, or the budget is used up."""
        pool = [candidate for candidate in pool if self._likeness[id(candidate)] <= _MAX_SIMILARITY]
        if not pool or self._used >= self._budget.count:
            return False
        best = max(pool, key=lambda one: self._values[id(one)] - self._cost * self._likeness[id(one)])
        cost, left = self._budget.cost(best), self._budget.count - self._used
        if self._chosen and cost - left > left:  # further from the budget with it than without
            self._used = self._budget.count
            return False
        self._chosen.append(best)
        self._waiting.remove(best)
        self._used += cost
        for candidate in self._waiting:
            self._likeness[id(candidate)] = max(self._likeness[id(candidate)], best.likeness(candidate))
        return True


def _place(candidate: Candidate) -> int:
    return candidate.place


def _deviation(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return float((sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5)
