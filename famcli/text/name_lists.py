"""Lists of people: one a line, with or without signs, or between commas."""

from __future__ import annotations

import re
from collections.abc import Sequence

from famcli.text.markup import without_marks
from famcli.text.sentences import Sentence

_LONGEST = 80  # characters of a line
_MOST_WORDS = 6
# Words of headings that may stand where the list has ended.
_NO_NAME = re.compile(
    r"\b(?:agenda|minutes|business|reports?|approv\w+|discussions?|call(?:ed)? to order|actions?|items?|decisions?|"
    r"welcome|introductions?|opening|closing|adjourn\w*|meeting|topics?|notes?|updates?|budget|finances?|planning|announcements?|"
    r"reviews?|elections?|absen\w+|apologies|regrets|excused|quorum|summary|overview|purpose|background|date|time|"
    r"location|motions?|resolutions?|proposals?|status|questions?|matters|correspondence|policy|policies)\b",
    re.IGNORECASE,
)
_BESIDE = re.compile(r"\s*(?:[,;(\[:]|\s[-\u2013\u2014]\s).*", re.DOTALL)  # a role, or where somebody comes from
_NO_CAPITAL = re.compile(
    r"(?:d[aeiou]|del|der|den|van|von|la|le|el|al|bin|ibn|ter|und|and|y|e)\b|@\w|[\"'\u201c\u2018]\w+[\"'\u201d\u2019]$"
)
_RULE = re.compile(r"\s*\|[\s:|-]+")
_NOBODY = re.compile(r"\W*(?:none|nobody|n/a)\W*", re.IGNORECASE)
# Not within brackets, which say where somebody comes from.
_BETWEEN = re.compile(r"(?:[,;\n]|\band\b)(?![^()\n]*\))")
_BETWEEN_ROLES = re.compile(r"[;\n](?![^()\n]*\))")  # "Ann Bell, Chair; Bo Carr, Secretary"


def ends_list(title: str) -> bool:
    """True for a heading below which no people are listed."""
    return _NO_NAME.search(title) is not None


def may_be_name(line: str) -> bool:
    """True for a line that may name somebody, with a role or not: "Cllr Ann Bell (Chair)", "ann42"."""
    text = " ".join(without_marks(line).split()).strip(" -*+\u2022.:")
    named = _BESIDE.sub("", text)
    words = named.split()
    is_label = without_marks(line).rstrip().endswith(":")
    if is_label or not 1 <= len(words) <= _MOST_WORDS or len(text) > _LONGEST or _NO_NAME.search(named):
        return False
    # "Micha\u0142 "phoe" Herda", "Ann Bell @ann42".
    capital = [_NO_CAPITAL.match(word) is not None or word[0].isupper() for word in words]
    return any(map(str.isalpha, named)) and (all(capital) or len(words) == 1)


class NameLines:
    """Follows the lines below a name like "Present", and says of each whether the list goes on."""

    def __init__(self) -> None:
        self._num_lines, self._is_apart, self._has_signs = 0, False, False

    def takes(self, sentence: Sentence) -> bool:
        """True if a sentence is the next line of the list: of items, of lines below each other, or of paragraphs."""
        if sentence.gap is None or "\n" not in sentence.gap:
            return False
        is_item, is_apart = sentence.is_item, sentence.gap.count("\n") > 1
        if self._num_lines and is_item != self._has_signs:
            return False
        if self._num_lines > 1 and not is_item and is_apart and not self._is_apart:
            return False
        # Long lines may be one sentence.
        if not is_item and not all(map(may_be_name, sentence.text.splitlines())):
            return False
        # Between the list's name and its first line there may be an empty one.
        self._is_apart = is_apart if self._num_lines == 1 else self._is_apart and self._num_lines > 0
        self._num_lines, self._has_signs = self._num_lines + 1, is_item
        return True


def is_people(sentences: Sequence[Sentence]) -> bool:
    """True if the sentences are lines of one list of people."""
    lines = NameLines()
    return all(lines.takes(one) for one in sentences)


def names_in_rows(text: str) -> list[str]:
    """What the first column of a table of Markdown holds, without its own name; nothing of other texts."""
    rows = text.splitlines()
    if not all(row.lstrip().startswith("|") for row in rows):
        return []
    rule = next((place for place, row in enumerate(rows) if _RULE.fullmatch(row)), -1)
    # Of a row that is cut off the first cell may be too.
    whole = (row.strip() for row in rows[rule + 1 :] if row.count("|") > 1)
    cells = [without_marks(row.strip("|").partition("|")[0]).strip() for row in whole]
    return [cell for cell in cells if may_be_name(cell)]


def names_of(line: str, is_entry: bool = False) -> list[str]:
    """The names in a line. is_entry: it is one of a list with a line for each, in which a role may follow a comma."""
    if is_entry and len(lines := line.splitlines()) > 1 and all(map(may_be_name, lines)):
        return [name for one in lines for name in names_of(one, is_entry=True)]
    between = _BETWEEN_ROLES if ";" in line and "," in line else _BETWEEN
    parts = [" ".join(name.split()).strip(" -*+\u2022.") for name in between.split(line)]
    if is_entry and len(parts) == 2 and any(" " in part for part in parts):
        parts = [" ".join(line.split()).strip(" -*+\u2022.")]
    return [name for name in parts if 1 < len(name) <= _LONGEST and not _NOBODY.fullmatch(name)]
