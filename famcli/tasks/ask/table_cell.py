"""The values of a table's row or of a record that a question asks for, with the value that names the row.

A row is read as `Name: Kenya; Capital: Nairobi; ...` (`documents.formats.records`). "What is the capital of Kenya?" is
answered by the column that its other words name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from famcli.tasks.ask.expecting import asked_about, expected, holds
from famcli.tasks.ask.labels import FIELD
from famcli.tasks.ask.question import Question
from famcli.text.meaning import meanings
from famcli.text.sentences import Sentence
from famcli.text.words import content_terms, terms

_SHAPES = tuple(
    (re.compile(rf"\b(?:{asks})\b", re.I), re.compile(shape))
    for asks, shape in (
        (r"e-?mails?|mail address(?:es)?", r"\S+@\S+\.\w+"),
        ("url|web ?sites?|home ?pages?|web ?pages?|link", r"(?:https?://|www\.)\S+"),
        ("codes?|abbreviations?|symbols?|ids?|identifiers?", r"[A-Z\d][A-Z\d_-]{0,11}"),
        ("how (?:many|much)|numbers?|figures?|values?|prices?", r"[-+$]?\d[\d.,]*%?"),
        (
            "when|date|what year|which year|how long ago",
            r"(?:1\d|20)\d\d(?:[-/.]\d\d?[-/.]\d\d?)?(?:[T ]\d.*)?|\d\d?[-/.]\d\d?[-/.]\d{4}",
        ),
    )
)
_UNNAMED = re.compile(r"column \d+")
_PARTS_OF_NAMES = re.compile(r"[^\W\d_]+|\d+")
# How the columns may be called that a question is for without naming them: "Where is Kenya Airways based?"
_CALLED: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = tuple(
    (re.compile(rf"\b(?:{asks})\b", re.I), frozenset(terms(names)))
    for asks, names in (
        (
            r"where|come from|based in|which (?:country|city|town|place)",
            "origin location place country city town address headquarters seat region state birthplace venue site",
        ),
        ("who|whose|by whom", "author owner person contact manager director president artist creator holder winner"),
        ("when|how long ago|since", "date time year day month founded created opened born established released start"),
        (r"how much (?:does|do|did|is|are|was|were)|does .* cost", "price cost fee amount salary total value fare"),
        ("how many", "number count quantity total"),
        ("how old", "age"),
        ("how (?:tall|high)", "height elevation altitude"),
        ("how (?:long|far)", "length duration distance"),
        ("how heavy", "weight mass"),
        ("how (?:big|large)", "size area population"),
        ("how fast", "speed velocity"),
    )
)
# A column's name may say more than the question.
_NAMELESS = frozenset(["name", "title", "label", "value"])
_MEANING, _WORDY, _EXPECTED, _MORE = 0.6, 0.1, 0.3, 0.1
_USUALLY_CALLED = 0.5
_ENOUGH, _ABOUT, _MOST = 0.45, 0.05, 3
_LONGEST_NAME = 5  # words
_SHORTEST = 3  # letters by which two words are not yet one


@dataclass(frozen=True)
class Cell:
    """A value with the name of its column, as it stands in a sentence. start, end: characters of the sentence."""

    name: str
    value: str
    sentence: Sentence
    start: int
    end: int

    @property
    def row(self) -> tuple[str, str] | None:
        """The row or the record that it is of; the parts of a record begin on lines of their own."""
        location = self.sentence.location
        return None if location is None else (location.kind, location.value)

    @property
    def text(self) -> str:
        """As it stands there: `Capital: Nairobi`."""
        return self.sentence.text[self.start : self.end]


def asked_cells(sentences: Iterable[Sentence], question: Question) -> tuple[Cell, ...]:
    """The value that names the row and those that are asked for, the likeliest first. The first one alone where the
    row has nothing of what is asked; () where that cannot be told.

    sentences: of the likeliest row first.
    """
    cells = [
        Cell(match["name"], match["value"], sentence, match.start(), match.end())
        for sentence in sentences
        for match in FIELD.finditer(sentence.text)
    ]
    asked, names = set(question.terms), set(terms(" ".join(question.names)))
    named = list[tuple[bool, int, Cell]]()
    for cell in cells:
        words = set(content_terms(cell.value))
        # "Apple" is enough for "Apple Inc.".
        is_short = bool(names) and names <= words and len(words) <= _LONGEST_NAME
        if words and (words <= asked or is_short) and any(map(str.isalpha, cell.value)):
            named.append((words <= asked, len(words & asked), cell))
    if not named:
        return ()
    row = max(named, key=lambda one: one[:2])[2]
    rest = asked - set(content_terms(row.value))
    others = [one for one in cells if one.value != row.value and one.row == row.row]
    if others and not rest and asked_about(question.text) is not None:
        return (row, *others[:_MOST])
    if others and all(map(_UNNAMED.fullmatch, (cell.name for cell in others))):
        # Without names of columns only what has a shape of its own can be told; else the row is all that can be said.
        shape = next((shape for asks, shape in _SHAPES if asks.search(question.text)), None)
        if shape is None or shape.fullmatch(row.value):
            return ()
        return (row, *(one for one in others if shape.fullmatch(one.value)))
    if not rest or not others:
        return (row,)
    scores = _scores(others, rest, row, question)
    order = sorted(range(len(others)), key=lambda place: -scores[place])
    # "Region" may be meant by several columns.
    fitting = [place for place in order[:_MOST] if scores[place] >= max(_ENOUGH, scores[order[0]] - _ABOUT)]
    # What names the row may be what is asked about: "Which company is based in Cupertino?"
    is_inverse = _has(_words(row.name), *rest) or rest & set(terms(" ".join(one.text for one in others)))
    if not fitting and is_inverse:
        return ()
    return (row, *(others[place] for place in fitting))


def _scores(cells: Sequence[Cell], rest: set[str], row: Cell, question: Question) -> list[float]:
    """How well the column of each cell is named by the words that do not name the row."""
    plain = question.text.replace(row.value, "it")
    near, kind, scores = meanings([plain, *(cell.name for cell in cells)]), expected(question.text), list[float]()
    words = [_words(cell.name) for cell in cells]
    held = {one: [_has(parts, one) for parts in words] for one in rest}
    called = frozenset[str]().union(*(names for asks, names in _CALLED if asks.search(plain)))
    # "Code" says less than "dialling" where half of the columns are codes.
    weights = {one: 1 / max(1, sum(places)) for one, places in held.items()}
    for place, cell in enumerate(cells):
        more = [part for part in words[place] if part not in _NAMELESS and not _has([part], *held)]
        score = sum(weights[one] for one, places in held.items() if places[place]) / sum(weights.values())
        score -= _MORE * len(more) / max(1, len(words[place]))
        if near is not None:
            score += _MEANING * float(near[0] @ near[place + 1])
        score += _USUALLY_CALLED * bool(called & set(words[place]))
        if kind is not None and kind != "meaning":
            score += _EXPECTED * holds(kind, f"x {cell.value}", question.text)
        scores.append(score + _WORDY * any(map(str.isalpha, cell.value)))
    return scores


def _words(name: str) -> list[str]:
    """The words of a column's name, also where they are written as one: `ISO-alpha3 Code`, `firstName`."""
    return [term for part in _PARTS_OF_NAMES.findall(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)) for term in terms(part)]


def _has(parts: Sequence[str], *wanted: str) -> bool:
    """True if one of the words is among these, or begins as one of them does, or is several of them in one."""
    begin = [(one, part) for one in wanted for part in parts if min(len(one), len(part)) > _SHORTEST]
    whole = "".join(parts)
    return (
        any(one in parts for one in wanted)
        or any(one.startswith(part) or part.startswith(one) for one, part in begin)
        or any(len(one) > _SHORTEST and one in whole for one in wanted)
    )
