"""A bounded choice of sentences, spread over a document whose length is not known beforehand."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from famcli.tasks.quality import similarity, word_set
from famcli.tasks.sentences import Sentence

MAX_SECTIONS = 64
PER_SECTION = 8
_FIRST_LENGTH = 4096  # source bytes of a section until the document outgrows MAX_SECTIONS of them
_REDUNDANCY = 1.0  # how many standard deviations of the score full redundancy costs
_MAX_SIMILARITY = 0.6


@dataclass(frozen=True)
class Candidate:
    """A sentence of a source. place: source bytes read before it over all sources. score: the higher, the better."""

    sentence: Sentence
    source: str
    place: int
    score: float


class Candidates:
    """The best `PER_SECTION` sentences of each of at most `MAX_SECTIONS` equal sections.

    When the document outgrows the sections, each two become one: what is held never grows.
    """

    def __init__(self) -> None:
        self._length = _FIRST_LENGTH
        self._sections: dict[int, list[tuple[float, int, Candidate]]] = {}
        self._num_added = 0

    def __len__(self) -> int:
        return sum(len(section) for section in self._sections.values())

    def add(self, candidate: Candidate) -> None:
        """Keep it, if it is good enough for its section."""
        while candidate.place // self._length >= MAX_SECTIONS:
            self._double()
        section = self._sections.setdefault(candidate.place // self._length, [])
        self._num_added += 1
        _push(section, (candidate.score, -self._num_added, candidate))

    def forget(self, place: int) -> None:
        """Forget those from `place` on."""
        for index, section in self._sections.items():
            kept = [entry for entry in section if entry[2].place < place]
            heapq.heapify(kept)
            self._sections[index] = kept

    def all(self) -> list[Candidate]:
        """Those that are kept, in the order of the document."""
        found = [entry[2] for section in self._sections.values() for entry in section]
        return sorted(found, key=lambda candidate: candidate.place)

    def _double(self) -> None:
        self._length *= 2
        merged: dict[int, list[tuple[float, int, Candidate]]] = {}
        for index, section in self._sections.items():
            for entry in section:
                _push(merged.setdefault(index // 2, []), entry)
        self._sections = merged


def _push(section: list[tuple[float, int, Candidate]], entry: tuple[float, int, Candidate]) -> None:
    if len(section) < PER_SECTION:
        heapq.heappush(section, entry)
    else:
        heapq.heappushpop(section, entry)


def choose(candidates: Iterable[Candidate], count: int) -> list[Candidate]:
    """At most `count` of them, in the order of the document: one from each of `count` equal parts, as far as parts have
    one, the rest from anywhere; each time the one with the best score less its likeness to those chosen (maximal
    marginal relevance, Carbonell and Goldstein 1998). Near repetitions are left out.
    """
    waiting = list(candidates)
    if not waiting or count < 1:
        return []
    words = {id(candidate): word_set(candidate.sentence.text) for candidate in waiting}
    first, last = min(c.place for c in waiting), max(c.place for c in waiting)
    spread = _deviation([c.score for c in waiting]) or 1.0
    chosen: list[Candidate] = []

    def value(candidate: Candidate) -> float:
        return candidate.score - _REDUNDANCY * spread * likeness(candidate)

    def likeness(candidate: Candidate) -> float:
        mine = words[id(candidate)]
        return max((similarity(mine, words[id(other)]) for other in chosen), default=0.0)

    def take(pool: list[Candidate]) -> None:
        pool = [candidate for candidate in pool if likeness(candidate) <= _MAX_SIMILARITY]
        if pool:
            best = max(pool, key=value)
            chosen.append(best)
            waiting.remove(best)

    for part in range(count):
        take([c for c in waiting if (c.place - first) * count // (last - first + 1) == part])
    for _ in range(count - len(chosen)):
        take(waiting)
    return sorted(chosen, key=lambda candidate: candidate.place)


def _deviation(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return float((sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5)
