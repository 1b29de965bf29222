"""What a reading gathers for a summary, in bounded memory: candidate sentences, the parts of the text, and what only
some kinds of documents have (see `choosing` for what is made of it)."""

from __future__ import annotations

import re
from collections import deque
from itertools import chain

from famcli.documents.source import Piece
from famcli.tasks.summarize.candidates import Candidate, Candidates
from famcli.tasks.summarize.cast import Cast
from famcli.tasks.summarize.document_kind import is_structured, says_what_it_is
from famcli.tasks.summarize.document_parts import DocumentParts
from famcli.tasks.summarize.minutes import Minutes
from famcli.tasks.summarize.quotable import GOES_ON, MAX_WORDS, frame_marker, is_credit, is_line, is_quotable
from famcli.tasks.summarize.releases import Releases
from famcli.tasks.summarize.sentence_score import Scorer
from famcli.tasks.summarize.speakers import Speakers
from famcli.tasks.summarize.summary_result import DocumentKind, Quote
from famcli.text.headings import Heading, heading
from famcli.text.markup import front_matter, without_marks
from famcli.text.sentences import Sentence, SentenceSplitter, joined_list
from famcli.text.words import num_words

_NUM_OPENING = 5  # sentences among which is the one that says what the document is
_MOST_ABOVE = 6  # sentences at the beginning among which the title and the author's line are
_LONGEST_TITLE = 120
_LONGEST_HEADER = 32 << 10
"""Bytes of text before a book's own text; the longest headers of Project Gutenberg hold half as many."""
_AUTHOR = re.compile(
    r"(?i:by):?\s+(?P<name>[A-Z\u00c0-\u00de][^\n,;]{2,60}?(?:, [A-Z]\.(?: ?[A-Z]\.)*(?: \([^()\n]{2,40}\))?)?)"
    r"[.,]?\s*(?:\n|$)",
)

_FIELD = re.compile(
    r"(?:PEP|RFC|EIP|BIP|Authors?|Date|Status|Version|Subject|From|To|Type|Created|Number|Category): \S"
)
_TITLE_FIELD = re.compile(r"^title: ?([^\n]{2,120})$", re.IGNORECASE | re.MULTILINE)
_ITEM_OR_FIELD = re.compile(r"[-*+>|=]|[\w ]{1,30}: \S")


class Extraction:
    """Gathers sentences while documents are read one after the other, and chooses among them in the end.

    as_minutes: what was decided is wanted, also of a text that is not told to be minutes.

    Text is fed as it is decoded; its sentences count from when the network has read them (`advance`), so that an
    interrupted summary quotes only what was read.
    """

    def __init__(self, focus: str | None = None, as_minutes: bool = False) -> None:
        self.parts = DocumentParts()
        self.num_seen = self.num_quotable = 0
        self.recent: list[Quote] | None = None
        """If a list: each sentence is appended as it is read, and the caller empties it."""
        self.num_sources = 0
        # Of the open document: its first sentences (True: says what the document is), its title and author.
        self.openings: list[tuple[bool, Candidate]] = []
        self.title: str | None = None
        self.title_above: str | None = None
        """The title, if it stands above the text."""
        self.author: str | None = None
        self.says_what: dict[int, Candidate] = {}  # by the number of the document
        # Of the first document.
        self.minutes, self.releases, self.speakers, self.cast = Minutes(as_minutes), Releases(), Speakers(), Cast()
        self._scorer = Scorer(focus)
        self._candidates = Candidates()
        self._lines = Candidates()  # quoted where nothing is a sentence
        self._with_pages: set[str] = set()
        self._list: list[Sentence] = []  # the sentence that announces a list, and items of that
        self._begin_source("", 0)

    @property
    def has_only_lines(self) -> bool:
        """True if no sentence can be quoted, but lines can."""
        return not self.num_quotable and len(self._lines) > 0

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the text so far."""
        return self._source_place + self._splitter.place

    # ------------------------------------------------------------------------------------------------ reading

    def begin_source(self, name: str) -> None:
        self.num_sources += 1
        self.openings, self.title, self.title_above, self.author = [], None, None, None
        self._begin_source(name, self.num_bytes)
        self.parts.begin_source(name, self._source_place)
        if self.num_sources == 1:
            self.releases.note_name(name)
            self.minutes.note_name(name)

    def feed(self, piece: Piece) -> None:
        if self._begins:
            self._take_front_matter(piece.text)
        self._waiting += self._splitter.feed(piece.text, piece.char_offsets(), piece.locations)
        self._note_pages()

    def advance(self, num_bytes: int) -> None:
        """Take in the sentences within the first `num_bytes` source bytes: they were read."""
        while self._waiting and self._waiting[0].end <= num_bytes:
            self.take(self._waiting.popleft())

    def end_source(self) -> None:
        """Take in what is left: the document was read to its end, so its last sentence is complete too."""
        self._waiting += self._splitter.flush()
        self._note_pages()
        while self._waiting:
            self.take(self._waiting.popleft())
        self._take_list()

    def _begin_source(self, name: str, place: int) -> None:
        # Places are counted in UTF-8, so that a summary does not depend on how its documents are encoded.
        self._source, self._source_place = name, place
        self._splitter, self._waiting = SentenceSplitter(), deque[Sentence]()
        self._num_quotable_before = self.num_quotable
        self._has_frame = self._has_ended = False  # a mark of a book's own text was read; the book has ended
        self._list.clear()
        self._in_comment = False
        self._num_of_text = 0  # sentences that are not of a frame
        self._said_title: str | None = None  # in a field above the text
        self._title_level, self.is_title_low = 0, False  # there are headings above the first one's level
        self._begins, self._front_matter = True, 0  # nothing was fed yet; bytes at its beginning

    def _note_pages(self) -> None:
        if self._splitter.page > 1:
            self._with_pages.add(self._source)

    def take(self, sentence: Sentence) -> None:
        """Take in a sentence of the open document."""
        self.num_seen += 1
        if self._is_frame(sentence) or self._is_comment(sentence) or sentence.place < self._front_matter:
            return
        self._num_of_text += 1
        place = self._source_place + sentence.place
        found = heading(sentence)
        if self.num_sources < 2 and self.minutes.reads_present(sentence, found, place):
            found = None  # somebody's name, alone on its line
        if found is not None:
            self.parts.begin(found, sentence.line, place)
        if self.recent is not None:
            self.recent.append(self._quoted(self._source, sentence, 0.0, self.parts.title))
        self._note_title(sentence, found)
        # Headings and lines are not quoted, but their words say what the text is about.
        self._scorer.read(sentence.text)
        self._note_list(sentence, found)
        candidate = None
        if found is None and is_quotable(sentence):
            candidate = self._add(sentence)
        # A log or a list has no sentences at all; where there is one, lines are forgotten.
        elif not self.num_quotable and is_line(sentence):
            self._lines.add(self._scorer.candidate(sentence, self._source, place))
        if self.num_sources < 2:  # several documents are summarized as prose
            line = candidate or Candidate(sentence, self._source, place, 0.0)
            self.minutes.read(sentence, found, place, line, is_first=self._num_of_text == 1)
            self.releases.read(sentence, found, line)
            if found is None:
                self.speakers.read(sentence)
                self.cast.read(sentence.text, candidate)

    def _add(self, sentence: Sentence) -> Candidate:
        """Take a sentence that can be quoted as a candidate."""
        self.num_quotable += 1
        candidate = self._scorer.candidate(sentence, self._source, self._source_place + sentence.place)
        self._candidates.add(candidate)
        self.parts.add(candidate)
        if len(self.openings) < _NUM_OPENING:
            says_what = says_what_it_is(sentence.text, self.title)
            self.openings.append((says_what, candidate))
            if says_what:
                self.says_what.setdefault(self.num_sources, candidate)
        return candidate

    def _note_list(self, sentence: Sentence, found: Heading | None) -> None:
        """Keep a sentence that announces a list, and the items; the whole list is quoted with it, if it is short."""
        # What looks like a numbered heading is an item here.
        if self._list and sentence.is_item and (found is None or not found.is_marked):
            # An item more than can be quoted makes sure that the list is not.
            self._list += [sentence] * (len(self._list) <= MAX_WORDS)
            return
        self._take_list()
        if (
            found is None
            and not sentence.is_code
            and sentence.whole
            and sentence.text.endswith(":")
            and num_words(sentence.text) > 2
        ):
            self._list = [sentence]

    def _take_list(self) -> None:
        if len(self._list) > 2:
            whole = joined_list(self._list[0], self._list[1:])
            if whole is not None and is_quotable(whole, is_list=True):
                self._add(whole)
        self._list = []

    def _take_front_matter(self, text: str) -> None:
        """Leave out what a page of Markdown says about itself for programs, but for its title."""
        self._begins, (num_characters, title) = False, front_matter(text)
        self._front_matter = len(text[:num_characters].encode("utf-8", "surrogatepass"))
        if title is not None:
            self.title = self.title_above = title
            self.minutes.note_title(title)
            self.parts.begin(Heading(title, 1, is_marked=True), 1, self._source_place)

    def _note_title(self, sentence: Sentence, found: Heading | None) -> None:
        """Note the title, a heading or what stands alone above the text, and the line of its author below it."""
        text = " ".join(without_marks(sentence.text if found is None else found.title).split())
        if sentence.text.startswith("![") or not text:  # an image, or tags
            return
        if self._num_of_text <= _MOST_ABOVE and (said := _TITLE_FIELD.search(sentence.text)) is not None:
            self.title = self.title_above = self._said_title = " ".join(said[1].split())
        if _FIELD.match(text) and (found is None or not found.is_marked):
            return
        if found is not None:
            if self.title is None:
                self._title_level = found.level if found.is_marked else 0
            # The document's own title stands in an image.
            self.is_title_low |= found.level < self._title_level
            self.title = self.title or text
        if self._num_of_text > _MOST_ABOVE:
            return
        if self._num_of_text == 1 and found is None and _is_title(text, sentence):
            self.title = self.title or text
        if self.title_above is not None and self.title_above.split()[-1].lower() in GOES_ON:
            # The title of a book may take several lines.
            self.title_above = f"{self.title_above} {text}"[:_LONGEST_TITLE]
        self.title_above = self.title_above or self.title
        author = _AUTHOR.match(without_marks(sentence.text).strip())
        if author is not None:
            self.author = self.author or " ".join(author["name"].split())

    def _is_comment(self, sentence: Sentence) -> bool:
        """True for what a comment of HTML, which may have several sentences, leaves nothing of."""
        was_open, text = self._in_comment, sentence.text
        if sentence.is_code:
            return False
        opened, closed = text.rfind("<!--"), text.rfind("-->")
        if opened >= 0 or (was_open and closed >= 0):
            self._in_comment = opened > closed
        return was_open or opened == 0

    def _is_frame(self, sentence: Sentence) -> bool:
        """True if a sentence is not a book's own text, which lies between two marks of Project Gutenberg.

        What came before the first mark is forgotten. Several books may come in one stream, and a mark may be missing,
        so only what came before the very first mark is forgotten, and only as much as a header can hold.
        """
        marker = frame_marker(sentence)
        if marker is None:
            return self._has_ended or (self._has_frame and self._num_of_text < _MOST_ABOVE and is_credit(sentence))
        if marker == "start" and not self._has_frame and sentence.place <= _LONGEST_HEADER:
            self._candidates.forget(self._source_place)
            self._lines.forget(self._source_place)
            self.parts.begin_again(sentence.line)
            self.num_quotable = self._num_quotable_before
            self.openings.clear()
            self.title = self.title_above = self._said_title
            self.author, self._num_of_text = None, 0
            self.says_what.pop(self.num_sources, None)
        self._has_frame, self._has_ended = True, marker == "end"
        return True

    # ------------------------------------------------------------------------------------------------ what was gathered

    def best_of_last(self) -> Candidate | None:
        """The best of what was read last, by what is known so far; the final choice may be another."""
        return self.quotable.best_of_last()

    def misses_focus(self) -> bool:
        """True if sentences can be quoted, but none is about the focus."""
        return self.num_quotable > 0 and not any(map(self._is_about_focus, self._candidates.all()))

    @property
    def kind(self) -> DocumentKind:
        """What the text is, as far as it was read."""
        if self.num_sources != 1:
            return "prose"
        if self.minutes.is_told and (len(self.minutes.decisions) > 1 or self.minutes.present):
            return "minutes"
        if self.releases.is_told:
            return "changes"
        if self.speakers.is_told:
            return "talk"
        if self.cast.is_told:
            return "story"
        return "outline" if is_structured(self.parts.all()) else "prose"

    @property
    def quotable(self) -> Candidates:
        """Sentences that can be quoted; lines where there are none."""
        return self._candidates if self.num_quotable else self._lines

    def scores(self) -> dict[Candidate, float]:
        """What may be quoted, with its final score; only what is about the focus, where anything is."""
        of_parts = chain.from_iterable(part.candidates for part in self.parts.all())
        scores = self._scorer.final_scores(list(dict.fromkeys((*self.quotable.all(), *of_parts))))
        return {one: score for one, score in scores.items() if self._is_about_focus(one)} or scores

    def quote(self, candidate: Candidate, score: float, title: str | None) -> Quote:
        return self._quoted(candidate.source, candidate.sentence, score, title)

    def _is_about_focus(self, candidate: Candidate) -> bool:
        return self._scorer.is_about_focus(candidate.sentence.text)

    def _quoted(self, source: str, sentence: Sentence, score: float, title: str | None) -> Quote:
        page = sentence.page if source in self._with_pages else None
        return Quote(
            source, sentence.line, page, (sentence.start, sentence.end), sentence.text, score, title, sentence.location
        )


def _is_title(text: str, sentence: Sentence) -> bool:
    """True if the first line of a text, which is no heading, may be its title."""
    is_plain = not sentence.is_finished and not sentence.is_code and sentence.whole
    return is_plain and len(text) <= _LONGEST_TITLE and _ITEM_OR_FIELD.match(text) is None
