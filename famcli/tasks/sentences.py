"""Sentences of a stream of text, each with its place in the source, whatever the pieces the text arrives in.

A compact splitter with rules, no model: end marks before a capital, abbreviations and initials, closing quotes, blank
lines, headings and list items, East Asian full stops; a sentence without an end is cut at `MAX_CHARACTERS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_CHARACTERS = 1000
"""A sentence that is longer is cut at the last white space before, and is not whole."""

MAX_GAP = 64
"""White space between two sentences that is kept; what is longer separates passages."""

_LOOKAHEAD = 200  # white space looked through for what follows an end mark
_SHORT_LINE = 40  # a line this short without an end mark is a heading if a capital follows
_EAST_ASIAN = "\u3002\uff01\uff1f\uff61"
_CANDIDATE = re.compile(
    r"""[.!?\u2026]++["'\u201d\u2019\u00bb)\]*_]{0,4}+
      | [\u3002\uff01\uff1f\uff61]++[\u201d\u2019\u300d\u300f\uff09\u300b"]{0,4}+
      | \n""",
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
_INLINE_SPACE = re.compile(rf"[ \t\r\f\v]{{0,{_LOOKAHEAD}}}")
_LAST_WORD = re.compile(r"[\w.&]+$")
_BLANK_LINE = re.compile(r"\n[ \t\r\f\v]*\n")
_ITEM = re.compile(r"(?:[-*+\u2022]|\#{1,6}|\d{1,3}[.)])[ \t]|[=#*_-]{3}")
_END = re.compile(r"""[.!?\u2026\u3002\uff01\uff1f\uff61]["'\u201d\u2019\u00bb)\]*_\u300d\u300f\uff09\u300b]*$""")

# Never the end of a sentence before a capital; what may well be one ("etc.", "p.m.") is not here.
_SHORTENED = """
mr mrs ms messrs mme mlle m dr prof st sr fr rev hon pres gov sen rep gen col maj capt cmdr lt sgt cpl adm vs cf e.g i.e
viz nos vol vols chap p pp fig figs eq sec ed eds op cit ca approx dept est al jan feb apr jun jul aug sept oct nov dec
mt ft bros herr u.s u.k u.n z.b d.h bzw nr
"""
_ABBREVIATIONS = frozenset(_SHORTENED.split())


@dataclass(frozen=True)
class Sentence:
    """text: verbatim, line breaks within it included. start, end: its source bytes. line: of its start, from 1.

    gap: the white space before it in the source, None where that is longer than `MAX_GAP` or the source begins.
    whole: False for a part of something too long.
    """

    text: str
    start: int
    end: int
    line: int
    gap: str | None
    whole: bool

    @property
    def is_finished(self) -> bool:
        """Whole, and it ends with an end mark: headings and table cells do not."""
        return self.whole and bool(_END.search(self.text))


class SentenceSplitter:
    """Feed it text as it comes; the sentences do not depend on where it was cut. Holds about one sentence."""

    def __init__(self, line: int = 1) -> None:
        self._text, self._at = "", 0  # `_at`: the first character that is in no sentence yet
        self._offsets: NDArray[np.int64] = np.zeros(1, np.int64)
        self._line = line  # of the character at `_at`
        self._gap: str | None = None
        self._broken = False

    def feed(self, text: str, offsets: NDArray[np.int64]) -> list[Sentence]:
        """Sentences that are certain now. `offsets` [len(text) + 1]: where each character lies in the source."""
        kept = self._text[self._at :]
        self._offsets = np.concatenate((self._offsets[self._at : self._at + len(kept)], offsets))
        self._text, self._at = kept + text, 0
        return list(self._cut(final=False))

    def flush(self) -> list[Sentence]:
        """What is left, as the source ends."""
        return list(self._cut(final=True))

    def _cut(self, final: bool) -> Iterator[Sentence]:
        self._skip_space()
        scan = self._at
        while (match := _CANDIDATE.search(self._text, scan)) is not None:
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
        """Parts of what runs up to `end`, until the rest is within the limit."""
        while end - self._at > MAX_CHARACTERS:
            limit = self._at + MAX_CHARACTERS
            space = max(self._text.rfind(mark, self._at + 1, limit) for mark in " \n\t")
            self._broken = True
            yield self._take(space if space > 0 else limit, ends=False)

    def _take(self, end: int, ends: bool = True) -> Sentence:
        text = self._text[self._at : end].rstrip()
        stop = self._at + len(text)
        start = int(self._offsets[self._at])
        sentence = Sentence(text, start, int(self._offsets[stop]), self._line, self._gap, not self._broken)
        self._broken = self._broken and not ends
        self._advance(stop)
        self._gap = ""
        self._skip_space()
        return sentence

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None
        if self._gap is not None:
            gap = self._gap + found[0]
            self._gap = gap if len(gap) <= MAX_GAP else None
        self._advance(found.end())

    def _advance(self, place: int) -> None:
        self._line += self._text.count("\n", self._at, place)
        self._at = place

    def _ends(self, match: re.Match[str], final: bool) -> bool | None:
        """Whether a sentence ends at this candidate; None if what was read so far does not tell."""
        if match[0] == "\n":
            return self._line_break_ends(match.start(), final)
        if match.end() == len(self._text):
            return True if final else None
        if match[0][0] in _EAST_ASIAN:
            return True
        return self._end_mark_ends(match, final)

    def _end_mark_ends(self, match: re.Match[str], final: bool) -> bool | None:
        found = _SPACE.match(self._text, match.end(), match.end() + _LOOKAHEAD)
        assert found is not None
        if not found[0]:
            return False
        if _BLANK_LINE.search(found[0]) or len(found[0]) == _LOOKAHEAD:
            return True
        if found.end() == len(self._text):
            return True if final else None
        return not (match[0] == "." and self._is_abbreviation(match.start())) and not self._text[found.end()].islower()

    def _is_abbreviation(self, place: int) -> bool:
        found = _LAST_WORD.search(self._text, max(self._at, place - 16), place)
        if found is None:
            return False
        word = found[0]
        is_initial = len(word.rsplit(".", 1)[-1]) == 1 and word[-1].isupper() and word != "I"
        is_item = word.isdigit() and found.start() == self._at and self._at_line_start
        return is_initial or is_item or word.lower() in _ABBREVIATIONS

    def _line_break_ends(self, place: int, final: bool) -> bool | None:
        found = _INLINE_SPACE.match(self._text, place + 1)
        assert found is not None
        if found.end() == len(self._text):
            return True if final else None
        if self._text[found.end()] == "\n":
            return True
        if found.end() + 7 > len(self._text) and not final:
            return None  # a list item's mark may follow
        before = self._text.rfind("\n", self._at, place) + 1
        starts_here = before > self._at or self._at_line_start
        line = self._text[max(before, self._at) : place].strip()
        is_heading = starts_here and len(line) < _SHORT_LINE and not _END.search(line) and line[-1:] not in ",;:-\u2014"
        if is_heading and self._text[found.end()].isupper():
            return True
        return bool(_ITEM.match(self._text, found.end()))

    @property
    def _at_line_start(self) -> bool:
        """Whether the sentence in the making begins a line."""
        return self._gap is None or "\n" in self._gap
