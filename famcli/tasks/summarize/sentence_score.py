"""What a sentence is worth in a summary, by what is known so far or at the end.

The score is how central the sentence is (how often the document has its words, and at the end also what it shares with
the other candidates), less for standing late, more for opening a paragraph, less for having few words or leaning on its
neighbours, and how salient its tokens were to the network. The weights were chosen on training texts
(docs/decisions.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from famcli.tasks.summarize.candidates import Candidate
from famcli.tasks.summarize.centrality import Likeness, Moments, TermCounts, shrunk, topical_terms
from famcli.tasks.summarize.focus import Focus
from famcli.text.quality import is_spoken, leaning
from famcli.text.sentences import Sentence
from famcli.text.words import content_terms

FREQUENCY_WEIGHT, LIKENESS_WEIGHT = 0.6, 0.6
POSITION_WEIGHT, OPENING_WEIGHT, SALIENCE_WEIGHT, FOCUS_WEIGHT = 0.5, 0.65, 0.1, 3.0
SHORTNESS_WEIGHT, FULL_LENGTH = 2.0, 10  # of a sentence without topical words; with so many there is none
_PLACE_UNIT = 200  # bytes
_MIN_COVERAGE = 0.2  # of a focus, by a sentence that is about it


class Scorer:
    """Scores sentences; what is measured is taken in standard deviations over those that were kept so far."""

    def __init__(self, terms: TermCounts | None = None, focus: Focus | None = None) -> None:
        self.focus = focus
        self._terms = terms or TermCounts()
        self._means, self._centrality, self._salience = Moments(), Moments(), Moments()
        self._likeness: Likeness | None = None
        self._likenesses = Moments()

    def final(self, candidates: Sequence[Candidate]) -> Scorer:
        """One that measures by these candidates, and by all that was counted."""
        scorer = Scorer(self._terms, self.focus)
        for candidate in candidates:
            scorer._means.add(self._terms.mean_log(topical_terms(candidate.sentence.text)))
        scorer._likeness = Likeness([content_terms(candidate.sentence.text) for candidate in candidates])
        for candidate in candidates:
            scorer._centrality.add(scorer._raw(candidate.sentence.text))
            scorer._likenesses.add(scorer._likeness.of(content_terms(candidate.sentence.text)))
            scorer._salience.add(candidate.salience)
        return scorer

    def read(self, text: str) -> None:
        """A sentence was read: count its words."""
        self._terms.add(topical_terms(text))
        if self.focus is not None:
            self.focus.add(content_terms(text))

    def keep(self, sentence: Sentence, source: str, place: int, salience: float) -> Candidate:
        """A sentence that can be quoted, as a candidate."""
        self._means.add(self._terms.mean_log(topical_terms(sentence.text)))
        self._centrality.add(self._raw(sentence.text))
        self._salience.add(salience)
        opens = (sentence.gap is None or sentence.gap.count("\n") > 1) and not is_spoken(sentence.text)
        score = self._score(sentence.text, place, opens, salience)
        return Candidate(sentence, source, place, score, salience, opens)

    def score(self, candidate: Candidate) -> float:
        """What a candidate is worth by what is known now."""
        return self._score(candidate.sentence.text, candidate.place, candidate.opens, candidate.salience)

    def is_about_focus(self, candidate: Candidate) -> bool:
        """Whether it has enough of the focus's words; False without a focus."""
        return self.focus is not None and self.focus.coverage(candidate.sentence.text) >= _MIN_COVERAGE

    def _score(self, text: str, place: int, opens: bool, salience: float) -> float:
        score = FREQUENCY_WEIGHT * self._centrality.standard(self._raw(text)) + OPENING_WEIGHT * opens
        score -= leaning(text) + SHORTNESS_WEIGHT * max(0.0, 1 - len(set(topical_terms(text))) / FULL_LENGTH)
        if self._likeness is not None:
            score += LIKENESS_WEIGHT * self._likenesses.standard(self._likeness.of(content_terms(text)))
        score += SALIENCE_WEIGHT * self._salience.standard(salience)
        score -= POSITION_WEIGHT * math.log(1 + place / _PLACE_UNIT)
        return score + (0.0 if self.focus is None else FOCUS_WEIGHT * self.focus.coverage(text))

    def _raw(self, text: str) -> float:
        words = topical_terms(text)
        return shrunk(self._terms.mean_log(words), self._means.mean, len(set(words)))
