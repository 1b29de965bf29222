"""Which of the passages found for a question are evidence: by the words they share with it, and by likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from famcli.tasks.evidence import Passage, QuestionEvidence, substance
from famcli.tasks.lexical import TermIndex
from famcli.tasks.sentences import Sentence

NUM_WEIGHED = 24
"""Passages a question that the network reads once more."""

GAIN_WEIGHT, SUBSTANCE_WEIGHT = 0.25, 0.15
THRESHOLD = 0.65
"""Evidence has at least this score. A first version's constants, meant to be measured and replaced."""

_QUESTION_COST = 0.15  # a sentence that asks is rarely the answer

Gain = Callable[[str], float]


@dataclass(frozen=True)
class Weighed:
    """A passage and what speaks for it: score = coverage + 0.25 x gain, held to 0..1, + 0.15 x substance.

    coverage: the share of the question's words that it has, by weight. gain: nats per token by which the passage, read
    from a fresh start, makes the question more likely. substance: see `evidence.substance`.
    """

    passage: Passage
    coverage: float
    gain: float
    substance: float

    @property
    def score(self) -> float:
        """At least `THRESHOLD` for evidence."""
        return self.coverage + GAIN_WEIGHT * min(1.0, max(0.0, self.gain)) + SUBSTANCE_WEIGHT * self.substance


def weigh(evidence: QuestionEvidence, gain: Gain, count: int) -> list[Weighed]:
    """At most `count` passages above the threshold that do not overlap, best first."""
    weighed = [_weighed(passage, evidence.index, gain) for passage in evidence.passages(NUM_WEIGHED)]
    chosen: list[Weighed] = []
    for one in sorted(weighed, key=lambda one: (-one.score, len(one.passage.text))):
        if len(chosen) == count or one.score < THRESHOLD:
            break
        if not any(one.passage.overlaps(other.passage) for other in chosen):
            chosen.append(one)
    return chosen


def best_sentence(weighed: list[Weighed], index: TermIndex, gain: Gain) -> tuple[Sentence, Weighed]:
    """The sentence of the evidence that answers best, and its passage: its score and the passage's, less if it asks."""

    def value(pair: tuple[Sentence, Weighed]) -> float:
        sentence, one = pair
        own = _weighed(Passage(one.passage.source, (sentence,)), index, gain).score
        return own + one.score - _QUESTION_COST * ("?" in sentence.text[-3:])

    return max(((sentence, one) for one in weighed for sentence in one.passage.sentences), key=value)


def _weighed(passage: Passage, index: TermIndex, gain: Gain) -> Weighed:
    return Weighed(passage, index.coverage(passage.text), gain(passage.text), substance(passage))
