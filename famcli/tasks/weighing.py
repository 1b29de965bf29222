"""Which of the passages found for a question are evidence: by the words they share with it, and by likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from famcli.tasks.evidence import Passage, QuestionEvidence, substance
from famcli.tasks.lexical import TermIndex
from famcli.tasks.quality import quotes_are_balanced
from famcli.tasks.sentences import Sentence

NUM_WEIGHED = 24
"""Passages a question that the network reads once more."""

GAIN_WEIGHT, SUBSTANCE_WEIGHT = 0.25, 0.15
THRESHOLD = 0.65
"""Evidence has at least this score. A first version's constants, meant to be measured and replaced."""

_QUESTION_COST = 0.15  # a sentence that asks is rarely the answer
_UNBALANCED_COST = 0.3  # a piece of dialogue that its passage does not complete

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


def best_sentence(weighed: list[Weighed], index: TermIndex, gain: Gain) -> tuple[Passage, Weighed]:
    """The sentence of the evidence that answers best, and its passage: its score and the passage's, less if it asks.

    Where it opens a quotation and another sentence of the passage closes it, all up to there is the answer.
    """

    def value(pair: tuple[Sentence, Weighed]) -> float:
        sentence, one = pair
        own = _weighed(Passage(one.passage.source, (sentence,)), index, gain).score
        asks, is_torn = "?" in sentence.text[-3:], _completed(sentence, one.passage) is None
        return own + one.score - _QUESTION_COST * asks - _UNBALANCED_COST * is_torn

    sentence, best = max(((sentence, one) for one in weighed for sentence in one.passage.sentences), key=value)
    return _completed(sentence, best.passage) or Passage(best.passage.source, (sentence,)), best


def _completed(sentence: Sentence, passage: Passage) -> Passage | None:
    """The shortest run of the passage's sentences around this one that closes the quotations it opens, if any."""
    sentences, place = passage.sentences, passage.sentences.index(sentence)
    runs = [
        Passage(passage.source, sentences[first:end])
        for first in range(place + 1)
        for end in range(place + 1, len(sentences) + 1)
    ]
    return min((run for run in runs if quotes_are_balanced(run.text)), key=lambda run: len(run.text), default=None)


def _weighed(passage: Passage, index: TermIndex, gain: Gain) -> Weighed:
    return Weighed(passage, index.coverage(passage.text), gain(passage.text), substance(passage))
