"""The summary of a structured document: the sentence that says what it is, then one of each part that matters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from famcli.tasks.summarize.candidates import Allowance, Budget, Candidate
from famcli.tasks.summarize.document_kind import normative_weight, weight_of
from famcli.tasks.summarize.document_parts import DocumentPart

_LEAD = 1.0  # for the first sentence of a part, which mostly says what the part is about
# What a part matters: for its size and depth, and less for each sentence that it has given.
_SIZE, _DEPTH, _AGAIN = 0.35, 0.4, 0.9


def choose_outline(
    parts: Sequence[DocumentPart], scores: Mapping[Candidate, float], budget: Budget, opening: Candidate | None
) -> list[tuple[DocumentPart, Candidate]]:
    """The sentences of an outline with their parts, in the order of the document.

    opening: what says what the document is; it comes first whatever it costs. Then each time the part that matters most
    gives its best sentence, and matters less from then on.
    """
    chosen, allowance = list[tuple[DocumentPart, Candidate]](), Allowance(budget)
    top = min(part.level for part in parts)
    waiting = [(_value(part, top), part, _ranked(part, scores)) for part in parts]
    if opening is not None:
        part = next((part for part in parts if opening in part.candidates), parts[0])
        chosen.append((part, opening))
        allowance.take(opening.sentence.text)
    while waiting:
        taken = Counter(id(part) for part, _ in chosen)
        entry = max(waiting, key=lambda entry: entry[0] - _AGAIN * taken[id(entry[1])])
        _, part, ranked = entry
        best = next((one for one in ranked if not any(one.repeats(other) for _, other in chosen)), None)
        if best is None:
            waiting.remove(entry)
            continue
        if not allowance.take(best.sentence.text):
            break
        chosen.append((part, best))
    return sorted(chosen, key=lambda pair: pair[1].place)


def _ranked(part: DocumentPart, scores: Mapping[Candidate, float]) -> list[Candidate]:
    first = min((one.place for one in part.candidates), default=0)

    def value(one: Candidate) -> float:
        return scores[one] + normative_weight(one.sentence.text) + _LEAD * (one.place == first)

    return sorted((one for one in part.candidates if one in scores), key=value, reverse=True)


def _value(part: DocumentPart, top: int) -> float:
    """How much a part matters: by its title, its size and its level."""
    return weight_of(part) + _SIZE * math.log1p(part.num_sentences) - _DEPTH * (part.level - top)
