"""The parts of a document that its headings begin: found while it is read, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from famcli.tasks.summarize.candidates import Candidate, Heap
from famcli.text.headings import PLAIN, Heading
from famcli.text.sentences import Sentence

MAX_PARTS = 64
"""Parts that are kept; of a document with more, the finest headings are taken out, then neighbours joined."""

PER_PART = 8
_TO = " \u2026 "


@dataclass
class Part:
    """A part of the document. title: None before the first heading. place: as of `Candidate`.

    num_sentences: that can be quoted. candidates: the best of them.
    """

    title: str | None
    level: int
    place: int
    source: str
    line: int
    num_sentences: int = 0
    candidates: Heap = field(default_factory=lambda: Heap(PER_PART))

    def take_in(self, other: Part) -> None:
        """Make one part of this one and the one that follows it."""
        self.num_sentences += other.num_sentences
        self.candidates.merge(other.candidates)


class Parts:
    """The parts of one or several documents, in their order: at most `MAX_PARTS`."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._source = ""  # the open document
        self._deepest = PLAIN

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def has_headings(self) -> bool:
        """Whether any heading was found."""
        return any(part.title is not None for part in self._parts)

    def begin_source(self, name: str, place: int) -> None:
        """A document begins, and with it a part."""
        self._source = name
        self._parts.append(Part(None, 0, place, name, 1))

    def begin(self, found: Heading, sentence: Sentence, place: int) -> None:
        """A heading was read."""
        last = self._parts[-1]
        if found.level < PLAIN <= self._deepest:
            self._deepest = PLAIN - 1
            self._drop(PLAIN)
            last = self._parts[-1]
        if found.level > self._deepest:
            return
        if not last.num_sentences and last.title is not None and last.level < found.level:
            last.title = f"{last.title} \u00b7 {found.title}"  # a chapter's number and its name, a part and its chapter
            last.level = max(last.level, min(found.level, 2))
            return
        if not last.num_sentences:
            self._parts.pop()  # an entry in a table of contents, or nothing before the first heading
        self._parts.append(Part(found.title, found.level, place, last.source, sentence.line))
        if len(self._parts) > MAX_PARTS:
            self._make_room()

    def add(self, candidate: Candidate) -> None:
        """A sentence that can be quoted was read."""
        self._parts[-1].num_sentences += 1
        self._parts[-1].candidates.push(candidate)

    def begin_again(self, place: int, line: int) -> None:
        """Forget what was read of the open document: its own text begins only now, on this line.

        place: where the document begins.
        """
        source = self._source
        self._parts = [part for part in self._parts if part.place < place]
        for part in self._parts:
            part.candidates.forget(place)
        self._parts.append(Part(None, 0, place, source, line))

    def all(self) -> list[Part]:
        """Those with sentences. The first heading of a source is its title: it stands no deeper than any below it."""
        found, titled = [part for part in self._parts if part.num_sentences], set[str]()
        for place, part in enumerate(found):
            if part.title is not None and part.source not in titled:
                titled.add(part.source)
                highest = min(one.level for one in found if one.source == part.source and one.title is not None)
                found[place] = replace(part, level=highest)
        return found

    def _drop(self, level: int) -> None:
        """Headings of this level and finer ones begin no part any more."""
        kept: list[Part] = []
        for part in self._parts:
            if part.level >= level and kept:
                kept[-1].take_in(part)
            else:
                kept.append(part)
        self._parts = kept

    def _make_room(self) -> None:
        levels = {part.level for part in self._parts[1:]}
        if len(levels) > 1:
            self._deepest = max(levels) - 1
            self._drop(max(levels))
            return
        joined: list[Part] = []
        for first, second in zip(self._parts[::2], [*self._parts[1::2], None], strict=False):
            if second is not None:
                first.title = _joined(first.title, second.title)
                first.take_in(second)
            joined.append(first)
        self._parts = joined


def _joined(first: str | None, second: str | None) -> str | None:
    """`A to D` of `A to B` and `C to D`."""
    if first is None or second is None:
        return first or second
    return first.split(_TO)[0] + _TO + second.split(_TO)[-1]
