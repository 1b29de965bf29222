"""Minutes of a meeting: what tells them, who was there, and what was decided or is to be done."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath

from famcli.tasks.summarize.candidates import Candidate, Candidates
from famcli.tasks.summarize.document_kind import (
    decision_weight,
    is_minutes_part,
    is_minutes_title,
    is_outcome,
    is_outcome_title,
)
from famcli.tasks.summarize.quotable import GOES_ON, MAX_WORDS
from famcli.tasks.summarize.releases import DATE
from famcli.tasks.summarize.speakers import turn_in
from famcli.text.headings import Heading
from famcli.text.markup import without_marks
from famcli.text.name_lists import NameLines, names_in_rows, names_of
from famcli.text.sentences import Sentence
from famcli.text.words import num_words

_BEGINNING = 3000  # bytes in which minutes are told
_MIN_DECISION, _DECIDES = 2, 2.0  # words of a decision, and its least weight
MOST_NAMES, _LONGEST_LINE = 200, 600
_MOST_BELOW = 8  # sentences below a heading like "Conclusion"
_ENOUGH_DATES, _ENOUGH_PARTS = 3, 2
_PRESENT = re.compile(
    r"\W*(?:(?!not\b|absent)[\w'\u2019]+[ /&-]+){0,6}?(?:present|attendees|attendance|in attendance|attending|"
    r"participants|anwesend\w*|teilnehmer\w*|pr\u00e9sents|asistentes)\b[^:\n]{0,30}:\W*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_PRESENT_ALONE = re.compile(
    r"\W*(?:(?:members|directors|others|also|council|board|committee|voting|guests|staff|of|the)\W+){0,5}(?:present|"
    r"attendees|attendance|in attendance|attending|participants|anwesend\w*|teilnehmer\w*|pr\u00e9sents|asistentes)\b"
    r"[^:\n]{0,30}$",
    re.IGNORECASE,
)
_WERE_PRESENT = re.compile(r"\b(?:present|in attendance)\b.{0,12}\bwere\b|\bwere (?:present|in attendance)\b", re.I)


class Minutes:
    """Reads the first document. wanted: what was decided is kept also of a text that is not told to be minutes."""

    def __init__(self, wanted: bool = False) -> None:
        self.decisions = Candidates()
        self.present: list[str] = []
        self.were_present: Candidate | None = None
        """The sentence that says who was there, where that is no list."""
        self.list_begins: Sentence | None = None
        """The name of the list of those present; has_several_lists: there is another one where minutes have begun."""
        self.has_several_lists = False
        self._wanted = wanted
        self._has_title = self._has_part = False
        # Headings with a date, and parts that only minutes have, of all that stands in one text.
        self._num_dated = self._num_parts = 0
        self._num_below = 0  # sentences that may still be below a heading like "Conclusion"
        self._list: NameLines | None = None
        self._num_rows = 0  # of its table

    def note_name(self, name: str) -> None:
        """Take in the name of the file."""
        self._has_title |= is_minutes_title(PurePath(name).stem.replace("_", " ").replace("-", " "))

    def note_title(self, title: str) -> None:
        self._has_title |= is_minutes_title(title)

    def read(self, sentence: Sentence, found: Heading | None, place: int, candidate: Candidate, is_first: bool) -> None:
        """Take a sentence in. candidate: it, whether or not it can be quoted elsewhere."""
        text = sentence.text
        if place < _BEGINNING:
            self._has_title |= (found is not None or is_first) and is_minutes_title(text)
            self._has_part |= is_minutes_part(text) or _WERE_PRESENT.search(text) is not None
        self._num_dated += found is not None and DATE.search(found.title) is not None
        self._num_parts += (found is not None or sentence.is_item) and is_minutes_part(text)
        if found is not None:
            self._num_below = _MOST_BELOW if is_outcome_title(found.title) else 0
            self._num_parts += self._num_below > 0
        if (
            self.were_present is None
            and found is None
            and num_words(text) <= 3 * MAX_WORDS
            and _WERE_PRESENT.search(text)
        ):
            self.were_present = candidate
        # Decisions are often list items or contain addresses, so the test for prose (`is_quotable`) does not apply.
        is_known = self._has_title or self._num_dated > 0 or self._wanted
        # "[RESOLVED: X]" stands alone as a heading does.
        is_text = found is None or (not found.is_marked and is_outcome(text))
        is_whole = GOES_ON.isdisjoint(text.lower().split()[-1:])
        may_decide = is_known and is_text and is_whole and not sentence.is_code
        if self._num_below and found is None and turn_in(sentence) is not None:
            self._num_below = 0  # what is said there is no conclusion
        weight = decision_weight(text, self._num_below > 0) if may_decide else 0.0
        self._num_below -= int(self._num_below > 0 and found is None)
        if weight >= _DECIDES and _MIN_DECISION <= num_words(text) <= MAX_WORDS:
            self.decisions.add(replace(candidate, score=candidate.score / 4 + weight))

    @property
    def is_told(self) -> bool:
        """True if the text has the title of minutes and a part that only they have."""
        if self._has_title and (self._has_part or self._num_parts >= _ENOUGH_PARTS):
            return True
        # Those of many meetings, the newest first.
        return self._num_dated >= _ENOUGH_DATES and self._num_parts >= _ENOUGH_PARTS

    def reads_present(self, sentence: Sentence, found: Heading | None, place: int) -> bool:
        """Take a sentence in as one of the list of those present; True if it names somebody there."""
        text = without_marks(sentence.text if found is None else found.title)
        rest = self._begins_present(text, found)
        self.has_several_lists |= rest is not None and place >= _BEGINNING and bool(self.present)
        if rest is not None and (place < _BEGINNING or not self.present):
            self.list_begins = sentence if not self.present else self.list_begins
            self._list, self._num_rows = NameLines(), 0
            self._add(names_of(rest))
            return False
        if self._list is not None and self._list.takes(sentence):
            self._add(names_of(text, is_entry=True))
            return True
        if self._list is not None and self._is_row(sentence):
            self._add(names_in_rows(sentence.text) if self._num_rows > 1 and sentence.whole else [])
            return True
        self._list = None
        return False

    def _is_row(self, sentence: Sentence) -> bool:
        """True for the next row of a table. Its first one names the columns."""
        self._num_rows += 1
        is_next = sentence.gap is not None and (sentence.gap.count("\n") == 1 or self._num_rows == 1)
        return is_next and sentence.text.startswith("|")

    @staticmethod
    def _begins_present(text: str, found: Heading | None) -> str | None:
        """What follows on a line that says that names of those present come; None for other lines."""
        begins = _PRESENT.fullmatch(text) if found is not None or len(text) < _LONGEST_LINE else None
        if begins is not None:
            return begins["rest"]
        return "" if found is not None and _PRESENT_ALONE.fullmatch(text) else None

    def _add(self, names: list[str]) -> None:
        self.present = list(dict.fromkeys((*self.present, *names)))[:MOST_NAMES]
