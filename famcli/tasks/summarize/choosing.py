"""What is quoted of a text, by its kind, once it was read: the final choice among what was gathered."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from famcli.tasks.summarize.candidates import Allowance, Budget, Candidate, choose
from famcli.tasks.summarize.cast import Person
from famcli.tasks.summarize.document_kind import is_outcome_title, names_a_document
from famcli.tasks.summarize.document_parts import BETWEEN_TITLES, DocumentPart
from famcli.tasks.summarize.extract import Extraction
from famcli.tasks.summarize.outline import choose_outline
from famcli.tasks.summarize.summary_result import Length, Quote, Section, section_budget
from famcli.text.context import context_dependence, is_spoken
from famcli.text.words import compounds, content_terms

Chosen = tuple[tuple[Quote, ...], tuple[Section, ...]]
"""Quotes, and the sections that they make up; no sections where there are none."""

MAX_EQUAL_PARTS, _EQUAL_PART = 10, 500  # and the least bytes of one
_ROOM_FOR_OPENING = 4  # sentences of a summary in which one is the opening
_FEW_DECISIONS, _WITH_FEW = 3, 5  # decisions that say what a meeting was, and quotes where there are fewer
_WORDS_A_CHANGE = 15
_SHARE_OF_PEOPLE = 3  # one of so many sentences about a story introduces somebody
_MAIN_PEOPLE, _WORTH_OF_PERSON = 8, 0.5
_MAY_DEPEND = 0.6
_END = 0.96  # of a story, from where on sentences tell how it ends


def prose(text: Extraction, budget: Budget) -> tuple[Quote, ...]:
    """The best sentences of the whole text; only ones about the focus, where there are any.

    Of several documents each gives one, as far as the budget goes: the sentence that says what the document is,
    else the one with the best score.
    """
    scores = text.scores()
    if text.num_sources > 1:
        chosen = choose(text.quotable.all(), scores, budget, _by_source(text, scores))
        return tuple(text.quote(one, scores[one], None) for one in chosen)
    chosen = choose(text.quotable.all(), scores, budget)
    opening = next((one for says, one in text.openings if says and one in scores), None)
    if opening is None and not text.speakers.is_told:  # a talk begins with greetings
        opening = _first(text)
    if (
        opening in scores
        and opening is not None
        and len(chosen) >= _ROOM_FOR_OPENING
        and not any(map(opening.repeats, chosen))
    ):
        # What says what the text is, or begins it, counts always; it takes the place of the first of its stretch.
        chosen = [opening, *chosen[1:]]
    return tuple(text.quote(one, scores[one], None) for one in chosen)


def _by_source(text: Extraction, scores: Mapping[Candidate, float]) -> list[list[Candidate]]:
    """What each document may give: first those that say what they are, then the one with the best sentence."""
    found: dict[int, list[Candidate]] = {}
    for part in text.parts.all():
        found.setdefault(part.source_index + 1, []).extend(one for one in part.candidates if one in scores)
    told = {number: one for number, one in text.says_what.items() if one in scores}
    others = [pool for number, pool in found.items() if pool and number not in told]
    best_first = sorted(others, key=lambda pool: -max(scores[one] for one in pool))
    return [*([one] for one in sorted(told.values(), key=lambda one: -scores[one])), *best_first]


def outline(text: Extraction, budget: Budget) -> Chosen:
    """The sentence that says what the document is, and the best of the parts that matter."""
    if not (parts := text.parts.all()):
        return (), ()
    title, found = set(content_terms(text.title or "")), list[Candidate]()
    # What says what the document is, else the first that is about what the title names, else the first.
    found += (one for says, one in text.openings if says)
    told = [one for _, one in text.openings if not one.sentence.text.endswith(("!", "?"))]
    found += (one for one in told if title.intersection(content_terms(one.sentence.text)))
    found += told
    opening = next(iter(found), None)
    return _by_part(text, choose_outline(parts, scores := text.scores(), budget, opening), scores)


def story(text: Extraction, budget: Budget) -> Chosen:
    """How it begins, who appears, what happens and how it ends."""
    scores, people = text.scores(), text.cast.people(_MAIN_PEOPLE)
    waiting = [one for one in text.quotable.all() if one in scores]
    told = [one for one in waiting if not is_spoken(one.sentence.text)] or waiting
    first = _first(text)
    opening = [] if first is None else [first]
    last = max((one.place for one in waiting), default=0)
    ending = sorted((one for one in told if one.place > _END * last), key=lambda one: -scores[one])[:1]
    most = max(1, len(choose(waiting, scores, budget)) // _SHARE_OF_PEOPLE)
    introductions = list[Candidate]()
    for person in people:
        one = person.introduction
        new = one is not None and not any(map(one.repeats, (*opening, *introductions, *ending)))
        if one is not None and new and len(introductions) < most:
            introductions.append(one)
    framed = [*opening, *sorted(introductions, key=lambda one: one.place), *ending]
    rest = Budget(budget.count - sum(budget.cost(one.sentence.text) for one in framed), budget.unit)
    worth = {one: scores[one] + _WORTH_OF_PERSON * _num_people(one, people) for one in waiting}
    others = [one for one in waiting if not any(map(one.repeats, framed))]
    happens = choose(others, worth, rest) if rest.count > 0 else []
    titled = {
        "How it begins": opening,
        "Who appears": framed[len(opening) : len(opening) + len(introductions)],
        "What happens": happens,
        "How it ends": ending,
    }
    return _titled(text, [(title, one) for title, some in titled.items() for one in some], worth)


def _first(text: Extraction) -> Candidate | None:
    """The first sentence that needs none before it, else the first, of those that nobody in the text says."""
    told = [one for _, one in text.openings if not is_spoken(one.sentence.text)]
    return min(told, key=lambda one: context_dependence(one.sentence.text) > _MAY_DEPEND, default=None)


def _num_people(candidate: Candidate, people: Sequence[Person]) -> int:
    """How many of the people a sentence names, at most two."""
    words = set(compounds(candidate.sentence.text))
    named = (any(words.issuperset(compounds(form)) for form in person.forms) for person in people)
    return min(2, sum(named))


def changes(text: Extraction, budget: Budget) -> Chosen:
    """What the newest release changed, and the most of some older ones."""
    count = budget.count if budget.unit == "sentences" else max(1, budget.count // _WORDS_A_CHANGE)
    return _titled(text, [(release.name, one) for release, one in text.releases.choose(count)], {})


def decisions(text: Extraction, budget: Budget) -> Chosen:
    """What was decided or is to be done, by minutes, under the headings of its parts."""
    scores = {one: one.score for one in text.minutes.decisions.all()}
    parts = [*map(_topic, text.parts.all())]
    places = [part.place for part in parts]
    chosen, allowance = list[Candidate](), Allowance(budget)
    for one in sorted(scores, key=lambda one: -scores[one]):
        if any(map(one.repeats, chosen)):
            continue
        if not allowance.take(one.sentence.text):
            break
        chosen.append(one)
    # Where nothing but decisions can be quoted there are no parts.
    parts = parts or [DocumentPart(None, 1, 0, one.source, 0, 1) for one in chosen[:1]]
    found = [(parts[max(0, bisect_right(places, one.place) - 1)], one) for one in chosen]
    is_known = bool(chosen) or text.minutes.is_told
    if (left := allowance.left) > 0 and parts and is_known and len(chosen) < _FEW_DECISIONS:
        # Little was decided, or said as such: what was spoken of, besides.
        others = {one: score for one, score in text.scores().items() if not any(map(one.repeats, chosen))}
        most = min(left, _WITH_FEW - len(chosen)) if budget.unit == "sentences" else left
        found += choose_outline(parts, others, Budget(most, budget.unit), None)
        scores = others | scores
    return _by_part(text, sorted(found, key=lambda pair: pair[1].place), scores)


def _topic(part: DocumentPart) -> DocumentPart:
    """A part, or what stands above it where its own heading only says that something was decided."""
    own = (part.title or "").rpartition(BETWEEN_TITLES)[2]
    above = part.path[-2] if len(part.path) > 1 else None
    return replace(part, title=above.title, level=above.level) if above is not None and is_outcome_title(own) else part


def sections(text: Extraction, length: Length) -> Chosen:
    """The best sentences of each part of the text, in order, and the sections that they make up.

    A single document without headings is cut into equal parts.
    """
    parts, has_titles = text.parts.all(), text.parts.has_headings
    if not has_titles and len(parts) < 2:
        parts = _equal_parts(text, max(1, min(MAX_EQUAL_PARTS, text.num_bytes // _EQUAL_PART)))
    scores, num_sentences = text.scores(), max(1, sum(part.num_sentences for part in parts))
    chosen = list[tuple[DocumentPart, Candidate]]()
    for number, part in enumerate(parts, start=1):
        # Sections are chosen one by one, so what repeats an earlier section must be left out here.
        new = [one for one in part.candidates if not any(one.repeats(other) for _, other in chosen)]
        nameless = f"Part {number} of {len(parts)}" if len(parts) > 1 else "The whole text"
        titled = replace(part, title=part.title or (part.source if has_titles else nameless))
        budget = section_budget(length, part.num_sentences / num_sentences)
        chosen += [(titled, one) for one in choose(new, scores, budget)]
    return _by_part(text, chosen, scores)


def _by_part(
    text: Extraction, chosen: Iterable[tuple[DocumentPart, Candidate]], scores: Mapping[Candidate, float]
) -> Chosen:
    # What stands above a table of contents is not of it.
    is_whole = text.num_sources == 1 and text.title is not None and names_a_document(text.title)
    whole = text.title if is_whole else None
    return _in_sections(text, [(part, part.title or whole or part.source, one) for part, one in chosen], scores)


def _titled(text: Extraction, chosen: Sequence[tuple[str, Candidate]], scores: Mapping[Candidate, float]) -> Chosen:
    """Each title a part of its own, which begins with its first quote."""
    begun = dict[str, DocumentPart]()
    for title, one in chosen:
        begun.setdefault(title, DocumentPart(title, 1, one.place, one.source, 0, one.sentence.line))
    return _in_sections(text, [(begun[title], title, one) for title, one in chosen], scores)


def _in_sections(
    text: Extraction, chosen: Iterable[tuple[DocumentPart, str, Candidate]], scores: Mapping[Candidate, float]
) -> Chosen:
    quotes, found = list[Quote](), list[Section]()
    for _, some in groupby(chosen, key=lambda entry: id(entry[0])):
        part, title, _ = (group := list(some))[0]
        numbers = tuple(range(len(quotes), len(quotes) + len(group)))
        found.append(Section(title, max(1, part.level), part.source, part.line, numbers))
        quotes += [text.quote(one, scores.get(one, one.score), title) for _, _, one in group]
    return tuple(quotes), tuple(found)


def _equal_parts(text: Extraction, count: int) -> list[DocumentPart]:
    candidates = text.quotable.all()
    size = max((one.place for one in candidates), default=0) + 1
    found: dict[int, DocumentPart] = {}
    for one in candidates:
        part = DocumentPart(None, 1, one.place, one.source, 0, one.sentence.line)
        found.setdefault(one.place * count // size, part).add(one)
    return list(found.values())
