"""Passages: the parts of a text that are searched and quoted, a few sentences each, verbatim and with their places."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

from famcli.documents.source import Location, Piece
from famcli.text.headings import Heading, heading
from famcli.text.sentences import Sentence, SentenceSplitter
from famcli.text.words import plain_spelling

MAX_CHARACTERS = 600
"""A passage ends before it would become longer than this in its plain spelling; a single sentence may be longer."""

# Characters from which a blank line ends a passage: before that, short paragraphs (dialogue, lists) stay together.
_ENOUGH = 300
_PARTS = ("message", "section", "path")
_KEY = re.compile(r"\.([^\W\d]\w*)|\[\"((?:[^\"\\]|\\.)+)\"\]")


@dataclass(frozen=True)
class Passage:
    """Consecutive sentences of a source.

    text: with the white space between the sentences. with_headings: what it is about. line, page: of its start, from 1.
    headings: of the parts of the text that it belongs to, the highest first, without those that it begins with; the
    keys that lead to a record.
    num_pages: pages of the source that had begun when the passage was cut, for the index.
    """

    source: int
    sentences: tuple[Sentence, ...]
    headings: tuple[str, ...] = ()
    num_pages: int = field(default=1, compare=False)

    @property
    def text(self) -> str:
        first, *rest = self.sentences
        return first.text + "".join((s.gap or "") + s.text for s in rest)

    @property
    def with_headings(self) -> str:
        return " ".join((*self.headings, self.text))

    @property
    def span(self) -> tuple[int, int]:
        return self.sentences[0].start, self.sentences[-1].end

    @property
    def line(self) -> int:
        return self.sentences[0].line

    @property
    def location(self) -> Location | None:
        """Of its start in the original of a converted document."""
        return self.sentences[0].location

    @property
    def page(self) -> int:
        return self.sentences[0].page


def _part(sentence: Sentence) -> tuple[str, str] | None:
    """The message, chapter or record that a sentence is in: what is quoted from two of them has no place to cite. Rows
    of a table are one part, and the comments above them another."""
    location = sentence.location
    if location is None:
        return None
    return location.kind, location.value if location.kind in _PARTS else ""


def _keys(sentence: Sentence) -> list[str]:
    """The keys that lead to a record: `.votes.ann` says whose votes they are, and the record itself does not."""
    location = sentence.location
    if location is None or location.kind != "path":
        return []
    return [plain or quoted for plain, quoted in _KEY.findall(location.value)]


class PassageBuilder:
    """Cuts one source into passages; every sentence is in exactly one, and a heading begins one. Holds what was fed and
    not taken."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._splitter = SentenceSplitter()
        self._waiting: deque[Sentence] = deque()
        self._open: list[Sentence] = []
        self._length = 0
        self._headings: list[Heading] = []  # above the sentence that comes next
        self._above: tuple[str, ...] = ()  # above the open passage
        self._part: tuple[str, str] | None = None
        self._has_text = False  # the open passage is more than headings

    def feed(self, piece: Piece) -> None:
        self._waiting += self._splitter.feed(piece.text, piece.char_offsets(), piece.locations)

    def take(self, end: int | None, last: bool = False) -> list[Passage]:
        """The passages that are complete at offset `end` (None: the end of the source) and were not taken yet.

        last: nothing follows, so the open passage is complete too.
        """
        if end is None:
            self._waiting += self._splitter.flush()
        done: list[Passage] = []
        while self._waiting and (end is None or self._waiting[0].end <= end):
            sentence = self._waiting.popleft()
            found = heading(sentence)
            if (part := _part(sentence)) != self._part:
                # Headings of one message say nothing of the next.
                self._part, self._headings = part, []
            if self._open and (not self._fits(sentence) or (found is not None and self._has_text)):
                done.append(self._close())
            if found is not None:
                self._headings = [one for one in self._headings if one.level < found.level]
            if not self._open:
                self._above = (*(one.title for one in self._headings), *_keys(sentence))
            if found is not None:
                self._headings.append(found)
            self._has_text |= found is None
            self._length += len(plain_spelling(sentence.text)) + len(sentence.gap or "")
            self._open.append(sentence)
        if self._open and (end is None or last):
            done.append(self._close())
        return done

    def _fits(self, sentence: Sentence) -> bool:
        gap = sentence.gap
        if _part(sentence) != _part(self._open[-1]):
            return False
        if gap is None or self._length + len(gap) + len(plain_spelling(sentence.text)) > MAX_CHARACTERS:
            return False
        return self._length < _ENOUGH or gap.count("\n") < 2

    def _close(self) -> Passage:
        passage = Passage(self._source, tuple(self._open), self._above, self._splitter.page)
        self._open, self._length, self._has_text = [], 0, False
        return passage
