"""Minutes of a meeting: what tells them, who was there, and what was decided or is to be done."""

from __future__ import annotations

import re
from dataclasses import replace

from famcli.tasks.summarize.candidates import Candidate, Candidates
from famcli.tasks.summarize.document_kind import decision_weight, is_minutes_part, is_minutes_title
from famcli.tasks.summarize.quotable import MAX_WORDS
from famcli.text.headings import Heading
from famcli.text.markup import without_marks
from famcli.text.sentences import Sentence
from famcli.text.words import num_words

_BEGINNING = 3000  # bytes in which minutes are told
_MIN_DECISION, _DECIDES = 2, 2.0  # words of a decision, and its least weight
_MOST_NAMES, _LONGEST_NAME = 200, 80
_PRESENT = re.compile(
    r"\W*(?:(?:members|directors|others|also|council|board|committee|voting)\W+){0,3}(?:present|attendees|attendance|"
    r"in attendance|attending|participants|anwesend\w*|teilnehmer\w*|pr\u00e9sents|asistentes)\b[^:\n]{0,30}"
    r"(?::|$)\W*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_WERE_PRESENT = re.compile(r"\b(?:present|in attendance)\b.{0,12}\bwere\b|\bwere (?:present|in attendance)\b", re.I)
_BETWEEN_NAMES = re.compile(r"[,;\n]|\band\b")


class Minutes:
    """Reads the first document. wanted: what was decided is kept also of a text that is not told to be minutes."""

    def __init__(self, wanted: bool = False) -> None:
        self.decisions = Candidates()
        self.present: list[str] = []
        self.were_present: Candidate | None = None
        """The sentence that says who was there, where that is no list."""
        self._wanted = wanted
        self._has_title = self._has_part = self._in_present = False

    def note_title(self, title: str) -> None:
        self._has_title |= is_minutes_title(title)

    def read(self, sentence: Sentence, found: Heading | None, place: int, candidate: Candidate, is_first: bool) -> None:
        """Take a sentence in. candidate: it, whether or not it can be quoted elsewhere."""
        text = sentence.text
        if place < _BEGINNING:
            self._has_title |= (found is not None or is_first) and is_minutes_title(text)
            self._has_part |= is_minutes_part(text) or _WERE_PRESENT.search(text) is not None
        self._read_present(sentence, found, candidate)
        # Decisions are often list items or contain addresses, so the test for prose (`is_quotable`) does not apply.
        may_decide = (self.is_told or self._wanted) and found is None and not sentence.is_code
        if may_decide and _MIN_DECISION <= num_words(text) <= MAX_WORDS and decision_weight(text) >= _DECIDES:
            self.decisions.add(replace(candidate, score=candidate.score / 4 + decision_weight(text)))

    @property
    def is_told(self) -> bool:
        """True if the text has the title of minutes and a part that only they have."""
        return self._has_title and self._has_part

    def _read_present(self, sentence: Sentence, found: Heading | None, candidate: Candidate) -> None:
        text = without_marks(sentence.text if found is None else found.title)
        list_begins = _PRESENT.fullmatch(text) if found is not None or len(text) < 600 else None
        if list_begins is not None and not self.present:
            self._in_present = True
            self._add_names(list_begins["rest"])
        elif found is not None or (self._in_present and self.present and not sentence.is_item):
            self._in_present = False
        elif self._in_present:
            self._add_names(text)
        elif self.were_present is None and num_words(text) <= 3 * MAX_WORDS and _WERE_PRESENT.search(text):
            self.were_present = candidate

    def _add_names(self, text: str) -> None:
        names = [" ".join(name.split()).strip(" -*+\u2022.") for name in _BETWEEN_NAMES.split(text)]
        self.present += [name for name in names if 1 < len(name) <= _LONGEST_NAME][: _MOST_NAMES - len(self.present)]
