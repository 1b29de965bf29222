"""The parts of a document that its headings begin: found while it is read, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from famcli.tasks.summarize.candidates import Candidate, keep_best
from famcli.text.headings import PLAIN, Heading

MAX_PARTS = 256
"""Parts that are kept. Of a text with more, neighbours are joined; parts of different documents only when nothing else
makes room."""

# Where there are more parts, the finest headings are left out as long as there are coarser ones.
_MAX_OF_LEVELS = 64
_ENOUGH_MARKED = 2
_TO, BETWEEN_TITLES = " \u2026 ", " \u00b7 "


@dataclass
class DocumentPart:
    """A part of a document.

    title: None before the first heading. source, source_index: the document it begins in. place: as of `Candidate`.
    line: of its beginning, from 1. num_sentences: that can be quoted. candidates: the best of them. deepest: level of
    the last of the headings that `title` is made of. num_headings: parts that were joined to this one. path: its
    heading and those above it, with their levels.
    """

    title: str | None
    level: int
    place: int
    source: str
    source_index: int
    line: int
    num_sentences: int = 0
    candidates: list[Candidate] = field(default_factory=list)
    deepest: int = 0
    num_headings: int = 1
    path: tuple[Heading, ...] = ()

    def add(self, candidate: Candidate) -> None:
        self.num_sentences += 1
        keep_best(self.candidates, candidate)

    def take_in(self, other: DocumentPart) -> None:
        self.num_sentences += other.num_sentences
        self.num_headings += other.num_headings
        for candidate in other.candidates:
            keep_best(self.candidates, candidate)


class DocumentParts:
    """The parts of one or several documents in their order: at most `MAX_PARTS`."""

    def __init__(self) -> None:
        self._parts: list[DocumentPart] = []
        self._source, self._source_index, self._source_place = "", -1, 0  # of the open document
        self._deepest = PLAIN  # level of heading that still begins a part
        self._has_marked = False  # whether the open document has headings that are more than a short line
        self._num_marked = 0  # its headings with marks of their own
        self._stride = 1  # its headings that make up a part
        self._path: tuple[Heading, ...] = ()

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def has_headings(self) -> bool:
        """True if any heading was found."""
        return any(part.title is not None for part in self._parts)

    @property
    def title(self) -> str | None:
        """Of the part that is being read; None before the first heading."""
        return self._parts[-1].title if self._parts else None

    def begin_source(self, name: str, place: int) -> None:
        self._source, self._source_index, self._source_place = name, self._source_index + 1, place
        self._has_marked, self._num_marked, self._stride, self._path = False, 0, 1, ()
        if self._parts and not self._parts[-1].num_sentences:
            self._parts.pop()
        self._append(None, 0, place, 1)

    def begin(self, heading: Heading, line: int, place: int) -> None:
        # A short line by itself may be a heading or anything else: it counts only where a document has no better ones.
        if heading.level < PLAIN and not self._has_marked:
            self._has_marked = True
            self._drop(PLAIN, self._source_index)
        self._num_marked += heading.is_marked
        if heading.level > self._deepest or (self._has_marked and heading.level == PLAIN):
            return
        # Where headings have marks, a numbered line is an item of a list.
        if self._num_marked >= _ENOUGH_MARKED and not heading.is_marked:
            return
        self._path = (*(one for one in self._path if one.level < heading.level), heading)
        last = self._parts[-1]
        is_empty = not last.num_sentences and last.source_index == self._source_index
        if is_empty and last.title is not None and last.level < heading.level:
            # A chapter's number above its name, or the heading of a book above that of its first chapter. Of headings
            # on one level that have nothing to quote, the last one counts.
            above = last.title if heading.level > last.deepest else last.title.rpartition(BETWEEN_TITLES)[0]
            last.title = f"{above}{BETWEEN_TITLES}{heading.title}" if above else heading.title
            last.level, last.deepest = max(last.level, min(heading.level, 2)), heading.level
            last.path = self._path
            return
        if is_empty:
            self._parts.pop()  # an entry in a table of contents, or nothing before the first heading
        elif last.title is not None and last.num_headings < self._stride:
            last.title, last.num_headings = _joined_title(last.title, heading.title), last.num_headings + 1
            return
        self._append(heading.title, heading.level, place, line)

    def add(self, candidate: Candidate) -> None:
        """Add a sentence that can be quoted to the open part."""
        self._parts[-1].add(candidate)

    def begin_again(self, line: int) -> None:
        """Forget what was read of the open document: its own text begins only now, on this line."""
        self._parts = [part for part in self._parts if part.source_index < self._source_index]
        for part in self._parts:
            part.candidates = [one for one in part.candidates if one.place < self._source_place]
        self._append(None, 0, self._source_place, line)

    def all(self) -> list[DocumentPart]:
        """The parts with sentences. The first heading of a document, its title, gets the highest level of its parts."""
        found, titled = [part for part in self._parts if part.num_sentences], set[int]()
        for index, part in enumerate(found):
            if part.title is not None and part.source_index not in titled:
                titled.add(part.source_index)
                same = [one for one in found if one.source_index == part.source_index and one.title is not None]
                found[index] = replace(part, level=min(one.level for one in same))
        return found

    def _append(self, title: str | None, level: int, place: int, line: int) -> None:
        part = DocumentPart(title, level, place, self._source, self._source_index, line, deepest=level, path=self._path)
        self._parts.append(part)
        while len(self._parts) > _MAX_OF_LEVELS and len(levels := self._levels()) > 1:
            self._deepest = max(levels) - 1
            self._drop(max(levels))
        while len(self._parts) > MAX_PARTS:
            self._join_neighbours(across_sources=not self._levels())

    def _levels(self) -> set[int]:
        """Of the parts that can be joined with one before: the first part of a document has none."""
        return {part.level for before, part in pairwise(self._parts) if part.source_index == before.source_index}

    def _drop(self, level: int, source_index: int | None = None) -> None:
        """Let headings of this level and finer begin no part any more, in one document or all."""
        kept: list[DocumentPart] = []
        for part in self._parts:
            is_meant = source_index in (None, part.source_index) and part.level >= level
            if is_meant and kept and kept[-1].source_index == part.source_index:
                kept[-1].take_in(part)
            else:
                kept.append(part)
        self._parts = kept

    def _join_neighbours(self, across_sources: bool) -> None:
        """Join every two parts that follow each other, and of those to come as many."""
        self._stride *= 2
        joined, is_single = list[DocumentPart](), False
        for part in self._parts:
            is_joined = is_single and (across_sources or joined[-1].source_index == part.source_index)
            if is_joined:
                joined[-1].title = _joined_title(joined[-1].title, part.title)
                joined[-1].take_in(part)
            else:
                joined.append(part)
            is_single = not is_joined
        self._parts = joined


def _joined_title(first: str | None, second: str | None) -> str | None:
    """`A to D` of `A to B` and `C to D`."""
    if first is None or second is None:
        return first or second
    return first.split(_TO)[0] + _TO + second.split(_TO)[-1]
