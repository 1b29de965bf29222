"""The choice at the end of a reading: the best sentences of the whole document, or of its parts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

from famcli.tasks.summarize.candidates import Budget, Candidate, choose
from famcli.tasks.summarize.parts import Part
from famcli.tasks.summarize.sentence_score import Scorer
from famcli.tasks.summarize.summary_result import Quote


class Chooser:
    """Chooses among candidates by all that is known at the end.

    with_pages: names of the sources that have page breaks. finds_focus: whether any candidate is about the focus; if
    so, only those are chosen.
    """

    def __init__(
        self, scorer: Scorer, candidates: Sequence[Candidate], parts: Sequence[Part], with_pages: Collection[str]
    ) -> None:
        of_parts = (candidate for part in parts for candidate in part.candidates.all())
        known = list({id(one): one for one in (*candidates, *of_parts)}.values())
        self._scorer = scorer.final(known)
        self._times = Counter(one.said for one in known)
        self._candidates, self._with_pages = candidates, with_pages
        self._quoted: list[Candidate] = []  # in parts so far
        self.finds_focus = any(self._scorer.is_about_focus(candidate) for candidate in candidates)

    def of_all(self, budget: Budget) -> list[Quote]:
        """The best of the whole document."""
        return self._chosen(self._candidates, budget, None)

    def of_part(self, part: Part, budget: Budget, title: str) -> list[Quote]:
        """The best of one part, none of which repeats what was chosen of those before it."""
        candidates = part.candidates.all()
        return self._chosen([one for one in candidates if not any(map(one.repeats, self._quoted))], budget, title)

    def equal_parts(self, count: int) -> list[Part]:
        """The document in as many equal stretches, for one without headings."""
        size = max((candidate.place for candidate in self._candidates), default=0) + 1
        found: dict[int, Part] = {}
        for candidate in self._candidates:
            index = candidate.place * count // size
            part = found.setdefault(index, Part(None, 1, candidate.place, candidate.source, candidate.sentence.line))
            part.num_sentences += 1
            part.candidates.push(candidate)
        return list(found.values())

    def _chosen(self, candidates: Sequence[Candidate], budget: Budget, title: str | None) -> list[Quote]:
        if self.finds_focus:
            candidates = [candidate for candidate in candidates if self._scorer.is_about_focus(candidate)]
        values = {id(candidate): self._value(candidate) for candidate in candidates}
        found = choose(candidates, budget, lambda candidate: values[id(candidate)])
        self._quoted += found
        return [self._quote(candidate, values[id(candidate)], title) for candidate in found]

    def _value(self, candidate: Candidate) -> float:
        """Its score, less for what stands everywhere: twice may be weight, ten times is boilerplate."""
        times = self._times[candidate.said]
        return self._scorer.score(candidate) - (math.log2(times / 2) if times > 2 else 0.0)

    def _quote(self, candidate: Candidate, score: float, title: str | None) -> Quote:
        sentence = candidate.sentence
        return Quote(
            source=candidate.source,
            line=sentence.line,
            page=sentence.page if candidate.source in self._with_pages else None,
            span=(sentence.start, sentence.end),
            text=sentence.text,
            score=score,
            section=title,
        )
