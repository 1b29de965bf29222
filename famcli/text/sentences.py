"""Sentences of a stream of text, each with its place in the source, whatever pieces the text arrives in.

Rules without a model (see `boundaries`): end marks before a capital, abbreviations and initials, closing quotes, blank
lines, headings and list items, East Asian full stops. A sentence without an end is cut at `MAX_CHARACTERS`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from famcli.documents.source import Location
from famcli.text.boundaries import CANDIDATE, END, FENCE, TABLE_RULE, end_mark_ends, is_code, line_break_ends

MAX_CHARACTERS = 1000
"""A longer sentence is cut at the last white space before this limit; its parts have `whole` False."""

MAX_GAP = 64
"""White space between two sentences that is kept. Longer white space separates passages."""

MAX_FENCED = 400
"""Lines after which a code fence counts as closed: one that was never closed must not hide the rest of a document."""

# The line of a record's values (`documents.formats.records`), which end with no stop: "Adj. Close: 3; Seat: St. Paul".
_VALUES = re.compile(r"[^:;\n]{1,80}: ")
_LONGEST_NAME = 82
# Joined files have byte-order marks in the middle.
_SPACE = re.compile(r"[\s\ufeff]*")
# Empty lines of a quotation, below the first line of a text.
_EMPTY_QUOTED = re.compile(r"(?:>[ \t]?)++[ \t\r]*\n[\s\ufeff]*")
_ITEM_MARK = re.compile(r"(?:> ?)*(?:[*+\u2022\u2043\u2013-]|\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})[.)])[ \t]+\S")


@dataclass(frozen=True)
class Sentence:
    """text: verbatim, with its line breaks. start, end: its span in the source. line, page: of its start, from 1; pages
    end with form feeds.

    gap: the white space before it; None if that is longer than `MAX_GAP`, or the source begins here. whole: False for
    a part of a sentence that is too long. is_code: it is a line of code. place: offset in UTF-8 bytes of the text.
    location: where its start is in the original of a converted document, whose `line` is then that of the original.
    """

    text: str
    start: int
    end: int
    line: int
    gap: str | None
    whole: bool
    page: int = 1
    is_code: bool = False
    # Unlike `start` it does not depend on the source's encoding, so that neither does what is chosen by it.
    place: int = 0
    location: Location | None = None

    @property
    def is_item(self) -> bool:
        """True if it is an item of a list, by the sign or number before it."""
        begins_line = self.gap is not None and "\n" in self.gap
        return begins_line and not self.is_code and _ITEM_MARK.match(self.text) is not None

    @property
    def is_finished(self) -> bool:
        """True if it is whole and ends with an end mark, which headings and table cells do not."""
        return self.whole and bool(END.search(self.text))


class SentenceSplitter:
    """Takes text as it comes; the sentences do not depend on where it was cut. Holds about one sentence."""

    def __init__(self) -> None:
        # `_at`: the first character that is not in a sentence yet; line, page and place are of that character.
        self._text, self._at = "", 0
        self._offsets: NDArray[np.int64] = np.zeros(1, np.int64)
        self._line, self.page, self.place = 1, 1, 0
        self._gap: str | None = None
        self._broken = False
        self._is_spaced = False  # True if white space followed the last end mark
        self._fenced = 0  # lines of fenced code that may still come
        self._fence, self._is_fence_quoted = "", False  # what opened it
        self._in_table = False  # the last sentence was the rule below the names of a table's columns, or a row
        self._locations = deque[tuple[int, Location]]()  # from the offset of the open sentence on

    def feed(
        self, text: str, offsets: NDArray[np.int64], locations: Iterable[tuple[int, Location]] = ()
    ) -> list[Sentence]:
        """The sentences that are certain now. offsets [len(text) + 1]: where each character is in the source.
        locations: see `Piece`."""
        self._locations.extend(locations)
        kept = self._text[self._at :]
        self._offsets = np.concatenate((self._offsets[self._at : self._at + len(kept)], offsets))
        self._text, self._at = kept + text, 0
        return list(self._cut(final=False))

    def flush(self) -> list[Sentence]:
        """The sentences that are left when the source has ended."""
        return list(self._cut(final=True))

    def _cut(self, final: bool) -> Iterator[Sentence]:
        self._skip_space()
        scan = self._at
        while (match := CANDIDATE.search(self._text, scan)) is not None:
            yield from self._too_long(match.end())
            if match.start() < self._at:
                scan = self._at
                continue
            ends = self._ends(match, final)
            if ends is None:
                return
            scan = match.end()
            if ends:
                yield self._take(match.end())
                scan = max(scan, self._at)
        yield from self._too_long(len(self._text))
        if final and self._at < len(self._text):
            yield self._take(len(self._text))

    def _too_long(self, end: int) -> Iterator[Sentence]:
        """Cut parts off the text before `end` until the rest is within the limit."""
        while end - self._at > MAX_CHARACTERS:
            limit = self._at + MAX_CHARACTERS
            # Without a space in it, as in Chinese or base64, it is cut at the limit itself.
            space = max(self._text.rfind(mark, self._at + 1, limit) for mark in " \n\t")
            self._broken = True
            yield self._take(space if space > 0 else limit, ends=False)

    def _take(self, end: int, ends: bool = True) -> Sentence:
        text = self._text[self._at : end].rstrip()
        stop = self._at + len(text)
        start = int(self._offsets[self._at])
        end_byte, code = int(self._offsets[stop]), self._is_fenced() or is_code((self._indent or "") + text)
        whole, is_row = not self._broken, self._in_table and self._is_row(final=True) is True
        location = self._location(start)
        line = self._line if location is None or location.line is None else location.line
        sentence = Sentence(text, start, end_byte, line, self._gap, whole, self.page, code, self.place, location)
        self._broken = self._broken and not ends
        self._mind_fences(text)
        self._in_table = is_row or TABLE_RULE.fullmatch(text) is not None
        self._advance(stop)
        self._gap = ""
        self._skip_space()
        if END.search(text, max(0, len(text) - 24)):
            self._is_spaced = self._gap != ""
        return sentence

    def _location(self, start: int) -> Location | None:
        while len(self._locations) > 1 and self._locations[1][0] <= start:
            self._locations.popleft()
        return self._locations[0][1] if self._locations and self._locations[0][0] <= start else None

    def _begins_record(self) -> bool:
        """True if the open sentence is the first of a record."""
        start = int(self._offsets[self._at])
        location = self._location(start)
        return location is not None and location.is_of_record and self._locations[0][0] == start

    def _mind_fences(self, text: str) -> None:
        found = FENCE.match(text) if self._indent is not None else None
        if found is not None and not self._fenced:
            self._fenced, self._fence, self._is_fence_quoted = MAX_FENCED, found["fence"], text.startswith(">")
        elif found is not None and found["fence"].startswith(self._fence) and not found["info"].strip():
            self._fenced = 0
        elif self._fenced:
            self._fenced -= 1

    def _is_row(self, final: bool) -> bool | None:
        """True if the open sentence is a row of a table, or the names of its columns; None if the text so far does not
        tell."""
        if self._in_table and self._broken:
            return True  # the rest of a long one
        if self._indent is None or not self._text.startswith("|", self._at):
            return False
        if self._in_table and self._gap is not None and self._gap.count("\n") == 1:
            return True
        end = self._text.find("\n", self._at, self._at + MAX_CHARACTERS)
        if end < 0:
            return None if len(self._text) < self._at + MAX_CHARACTERS and not final else False
        below = self._text[end + 1 : end + 1 + MAX_CHARACTERS]
        if len(below) < MAX_CHARACTERS and "\n" not in below and not final:
            return None
        return (
            TABLE_RULE.fullmatch(below.partition("\n")[0]) is not None
            or TABLE_RULE.match(self._text, self._at) is not None
        )

    def _is_fenced(self) -> bool:
        """True if the open sentence is fenced code. With a quotation ends what it has of code."""
        if self._is_fence_quoted and self._indent is not None and not self._text.startswith(">", self._at):
            self._fenced = 0
        return self._fenced > 0

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        while found is not None:
            if self._gap is not None:
                gap = self._gap + self._text[self._at : found.end()]
                self._gap = gap if len(gap) <= MAX_GAP else None
            self._advance(found.end())
            found = _EMPTY_QUOTED.match(self._text, self._at) if self._indent is not None else None

    def _advance(self, place: int) -> None:
        passed = self._text[self._at : place]
        self._line += passed.count("\n")
        self.page += passed.count("\f")
        self.place += len(passed.encode("utf-8", "surrogatepass"))
        self._at = place

    def _ends(self, match: re.Match[str], final: bool) -> bool | None:
        """True if a sentence ends at this candidate; None if the text so far does not tell."""
        is_line_break = match[0] == "\n"
        if self._is_fenced():
            return is_line_break
        # A row of a table of Markdown is one sentence, whatever it has in its cells.
        if (is_row := self._is_row(final)) is None or is_row:
            return None if is_row is None else is_line_break
        if is_line_break:
            return line_break_ends(self._text, self._at, match.start(), self._indent, final)
        if self._begins_record():
            known = self._text[self._at : self._at + _LONGEST_NAME]
            if len(known) < _LONGEST_NAME and "\n" not in known and not final:
                return None
            if _VALUES.match(known):
                return False
        return end_mark_ends(self._text, self._at, match, self._indent, final, self._is_spaced)

    @property
    def _indent(self) -> str | None:
        """The white space before the open sentence on its line; None if it does not begin a line."""
        if self._gap is None:
            return ""
        return self._gap.rpartition("\n")[2].lstrip("\ufeff") if "\n" in self._gap else None


def joined_list(lead: Sentence, items: list[Sentence]) -> Sentence | None:
    """The sentence that announces a list and the items, as one sentence; None where too much is between them."""
    if any(item.gap is None for item in items):
        return None
    text = lead.text + "".join(f"{item.gap}{item.text}" for item in items)
    return replace(lead, text=text, end=items[-1].end)
