"""What a reading gathers for a summary, in bounded memory: candidate sentences, and the parts of the text."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, groupby

from famcli.documents.source import Piece
from famcli.tasks.summarize.candidates import Budget, Candidate, Candidates, choose
from famcli.tasks.summarize.document_kind import (
    decision_weight,
    is_minutes_part,
    is_minutes_title,
    is_structured,
    says_what_it_is,
)
from famcli.tasks.summarize.document_parts import DocumentPart, DocumentParts
from famcli.tasks.summarize.outline import choose_outline
from famcli.tasks.summarize.quotable import MAX_WORDS, frame_marker, is_line, is_quotable
from famcli.tasks.summarize.sentence_score import Scorer
from famcli.tasks.summarize.summary_result import DocumentKind, Length, Quote, Section, section_budget
from famcli.text.headings import Heading, heading
from famcli.text.markup import front_matter
from famcli.text.sentences import Sentence, SentenceSplitter, joined_list
from famcli.text.words import content_terms, num_words

MAX_EQUAL_PARTS, _EQUAL_PART = 10, 500  # and the least bytes of one
_BEGINNING = 2000  # bytes in which minutes are told
_ROOM_FOR_OPENING = 4  # sentences of a summary in which one is the opening
_NUM_OPENING = 5  # sentences among which is the one that says what the document is
_FEW_DECISIONS, _WITH_FEW = 3, 5  # decisions that say what a meeting was, and quotes where there are fewer
_MIN_DECISION, _DECIDES = 4, 2.0  # words of a decision, and its least weight
_LONGEST_HEADER = 32 << 10
"""Bytes of text before a book's own text; the longest headers of Project Gutenberg hold half as many."""


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
        self._scorer = Scorer(focus)
        self._candidates = Candidates()
        self._lines = Candidates()  # quoted where nothing is a sentence
        self._decisions = Candidates()  # sentences and lines that say what was decided
        self._as_minutes = as_minutes
        self._minutes = [False, False]  # the first document has the title of minutes, and a part that only they have
        # Of the open document: its first sentences (True: says what the document is), and its title.
        self._openings: list[tuple[bool, Candidate]] = []
        self._title: str | None = None
        self._says_what: dict[int, Candidate] = {}  # by the number of the document
        self._num_sources = 0
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
        self._num_sources += 1
        self._openings, self._title = [], None
        self._begin_source(name, self.num_bytes)
        self.parts.begin_source(name, self._source_place)

    def feed(self, piece: Piece) -> None:
        if self._begins:
            self._take_front_matter(piece.text)
        self._waiting += self._splitter.feed(piece.text, piece.char_offsets(), piece.locations)
        self._note_pages()

    def advance(self, num_bytes: int) -> None:
        """Take in the sentences within the first `num_bytes` source bytes: they were read."""
        while self._waiting and self._waiting[0].end <= num_bytes:
            self._take(self._waiting.popleft())

    def end_source(self) -> None:
        """Take in what is left: the document was read to its end, so its last sentence is complete too."""
        self._waiting += self._splitter.flush()
        self._note_pages()
        while self._waiting:
            self._take(self._waiting.popleft())
        self._take_list()

    def _begin_source(self, name: str, place: int) -> None:
        # Places are counted in UTF-8, so that a summary does not depend on how its documents are encoded.
        self._source, self._source_place = name, place
        self._splitter, self._waiting = SentenceSplitter(), deque[Sentence]()
        self._num_quotable_before = self.num_quotable
        self._has_frame = self._has_ended = False  # a mark of a book's own text was read; the book has ended
        self._list.clear()
        self._in_comment = False
        self._begins, self._front_matter = True, 0  # nothing was fed yet; bytes at its beginning

    def _note_pages(self) -> None:
        if self._splitter.page > 1:
            self._with_pages.add(self._source)

    def _take(self, sentence: Sentence) -> None:
        self.num_seen += 1
        if self._is_frame(sentence) or self._is_comment(sentence) or sentence.place < self._front_matter:
            return
        place = self._source_place + sentence.place
        found = heading(sentence)
        if found is not None:
            self.parts.begin(found, sentence.line, place)
        if self.recent is not None:
            self.recent.append(self._quoted(self._source, sentence, 0.0, self.parts.title))
        if found is not None:
            self._title = self._title or found.title
        if self._num_sources < 2:  # several documents are summarized as prose
            self._note_kind(sentence, found, place)
        # Headings and lines are not quoted, but their words say what the text is about.
        self._scorer.read(sentence.text)
        self._note_list(sentence, found)
        if found is None and is_quotable(sentence):
            self._add(sentence)
        # A log or a list has no sentences at all; where there is one, lines are forgotten.
        elif not self.num_quotable and is_line(sentence):
            self._lines.add(self._scorer.candidate(sentence, self._source, place))

    def _add(self, sentence: Sentence) -> None:
        """Take a sentence that can be quoted as a candidate."""
        self.num_quotable += 1
        candidate = self._scorer.candidate(sentence, self._source, self._source_place + sentence.place)
        self._candidates.add(candidate)
        self.parts.add(candidate)
        if len(self._openings) < _NUM_OPENING:
            says_what = says_what_it_is(sentence.text, self._title)
            self._openings.append((says_what, candidate))
            if says_what:
                self._says_what.setdefault(self._num_sources, candidate)

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
            self._title = title
            self.parts.begin(Heading(title, 1, is_marked=True), 1, self._source_place)

    def _note_kind(self, sentence: Sentence, found: Heading | None, place: int) -> None:
        """Note what tells minutes, and what is said in them."""
        text = sentence.text
        if place < _BEGINNING:
            self._minutes[0] |= (found is not None or self.num_seen == 1) and is_minutes_title(text)
            self._minutes[1] |= is_minutes_part(text)
        # Decisions are often list items or contain addresses, so the test for prose (`is_quotable`) does not apply.
        may_decide = (all(self._minutes) or self._as_minutes) and found is None and not sentence.is_code
        if may_decide and _MIN_DECISION <= num_words(text) <= MAX_WORDS and decision_weight(text) >= _DECIDES:
            candidate = self._scorer.candidate(sentence, self._source, place)
            self._decisions.add(replace(candidate, score=candidate.score / 4 + decision_weight(text)))

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
            return self._has_ended
        if marker == "start" and not self._has_frame and sentence.place <= _LONGEST_HEADER:
            self._candidates.forget(self._source_place)
            self._lines.forget(self._source_place)
            self.parts.begin_again(sentence.line)
            self.num_quotable = self._num_quotable_before
            self._openings.clear()
            self._says_what.pop(self._num_sources, None)
        self._has_frame, self._has_ended = True, marker == "end"
        return True

    # ------------------------------------------------------------------------------------------------ choosing

    def best_of_last(self) -> Candidate | None:
        """The best of what was read last, by what is known so far; the final choice may be another."""
        return self._quotable.best_of_last()

    def misses_focus(self) -> bool:
        """True if sentences can be quoted, but none is about the focus."""
        return self.num_quotable > 0 and not any(map(self._is_about_focus, self._candidates.all()))

    @property
    def kind(self) -> DocumentKind:
        """What the text is, as far as it was read."""
        if self._num_sources != 1:
            return "prose"
        if len(self._decisions) > 1:
            return "minutes"
        return "outline" if is_structured(self.parts.all()) else "prose"

    def summary(self, budget: Budget) -> tuple[Quote, ...]:
        """The best sentences of the whole text; only ones about the focus, where there are any.

        Of several documents each gives one, as far as the budget goes: the sentence that says what the document is,
        else the one with the best score.
        """
        scores = self._final_scores()
        if self._num_sources > 1:
            chosen = choose(self._quotable.all(), scores, budget, self._by_source(scores))
            return tuple(self._quote(one, scores[one], None) for one in chosen)
        chosen = choose(self._quotable.all(), scores, budget)
        opening = next((one for says, one in self._openings if says and one in scores), None)
        if opening is not None and len(chosen) >= _ROOM_FOR_OPENING and not any(map(opening.repeats, chosen)):
            # What says what the text is counts always; it takes the place of the first sentence of its stretch.
            chosen = [opening, *chosen[1:]]
        return tuple(self._quote(one, scores[one], None) for one in chosen)

    def _by_source(self, scores: Mapping[Candidate, float]) -> list[list[Candidate]]:
        """What each document may give: first those that say what they are, then the one with the best sentence."""
        found: dict[int, list[Candidate]] = {}
        for part in self.parts.all():
            found.setdefault(part.source_index + 1, []).extend(one for one in part.candidates if one in scores)
        told = {number: one for number, one in self._says_what.items() if one in scores}
        others = [pool for number, pool in found.items() if pool and number not in told]
        best_first = sorted(others, key=lambda pool: -max(scores[one] for one in pool))
        return [*([one] for one in sorted(told.values(), key=lambda one: -scores[one])), *best_first]

    def outline(self, budget: Budget) -> tuple[tuple[Quote, ...], tuple[Section, ...]]:
        """The sentence that says what the document is, and the best of the parts that matter."""
        if not (parts := self.parts.all()):
            return (), ()
        title, found = set(content_terms(self._title or "")), list[Candidate]()
        # What says what the document is, else the first that is about what the title names, else the first.
        found += (one for says, one in self._openings if says)
        told = [one for _, one in self._openings if not one.sentence.text.endswith(("!", "?"))]
        found += (one for one in told if title.intersection(content_terms(one.sentence.text)))
        found += told
        opening = next(iter(found), None)
        return self._by_part(choose_outline(parts, scores := self._final_scores(), budget, opening), scores)

    def decisions(self, budget: Budget) -> tuple[tuple[Quote, ...], tuple[Section, ...]]:
        """What was decided or is to be done, by minutes, under the headings of its parts."""
        scores = {one: one.score for one in self._decisions.all()}
        parts = self.parts.all()
        places = [part.place for part in parts]
        chosen, left = list[Candidate](), budget.count
        for one in sorted(scores, key=lambda one: -scores[one]):
            cost = budget.cost(one.sentence.text)
            if left <= 0 or (chosen and cost - left > left):
                break
            if not any(map(one.repeats, chosen)):
                chosen.append(one)
                left -= cost
        found = [(parts[max(0, bisect_right(places, one.place) - 1)], one) for one in chosen]
        if left > 0 and 0 < len(chosen) < _FEW_DECISIONS:
            # Little was decided, or said as such: what was spoken of, besides.
            others = {one: score for one, score in self._final_scores().items() if not any(map(one.repeats, chosen))}
            most = min(left, _WITH_FEW - len(chosen)) if budget.unit == "sentences" else left
            found += choose_outline(parts, others, Budget(most, budget.unit), None)
            scores = others | scores
        return self._by_part(sorted(found, key=lambda pair: pair[1].place), scores)

    def _by_part(
        self, chosen: list[tuple[DocumentPart, Candidate]], scores: dict[Candidate, float]
    ) -> tuple[tuple[Quote, ...], tuple[Section, ...]]:
        quotes, sections = list[Quote](), list[Section]()
        for _, pairs in groupby(chosen, key=lambda pair: id(pair[0])):
            part, found = (group := list(pairs))[0][0], [one for _, one in group]
            title = part.title or part.source
            numbers = tuple(range(len(quotes), len(quotes) + len(found)))
            sections.append(Section(title, max(1, part.level), part.source, part.line, numbers))
            quotes += [self._quote(one, scores.get(one, one.score), title) for one in found]
        return tuple(quotes), tuple(sections)

    def sections(self, length: Length) -> tuple[tuple[Quote, ...], tuple[Section, ...]]:
        """The best sentences of each part of the text, in order, and the sections that they make up.

        A single document without headings is cut into equal parts.
        """
        parts, has_titles = self.parts.all(), self.parts.has_headings
        if not has_titles and len(parts) < 2:
            parts = self._equal_parts(max(1, min(MAX_EQUAL_PARTS, self.num_bytes // _EQUAL_PART)))
        scores, num_sentences = self._final_scores(), max(1, sum(part.num_sentences for part in parts))
        chosen = list[tuple[DocumentPart, Candidate]]()
        for number, part in enumerate(parts, start=1):
            # Sections are chosen one by one, so what repeats an earlier section must be left out here.
            new = [one for one in part.candidates if not any(one.repeats(other) for _, other in chosen)]
            nameless = f"Part {number} of {len(parts)}" if len(parts) > 1 else "The whole text"
            titled = replace(part, title=part.title or (part.source if has_titles else nameless))
            budget = section_budget(length, part.num_sentences / num_sentences)
            chosen += [(titled, one) for one in choose(new, scores, budget)]
        return self._by_part(chosen, scores)

    @property
    def _quotable(self) -> Candidates:
        return self._candidates if self.num_quotable else self._lines

    def _is_about_focus(self, candidate: Candidate) -> bool:
        return self._scorer.is_about_focus(candidate.sentence.text)

    def _final_scores(self) -> dict[Candidate, float]:
        of_parts = chain.from_iterable(part.candidates for part in self.parts.all())
        scores = self._scorer.final_scores(list(dict.fromkeys((*self._quotable.all(), *of_parts))))
        return {one: score for one, score in scores.items() if self._is_about_focus(one)} or scores

    def _equal_parts(self, count: int) -> list[DocumentPart]:
        candidates = self._candidates.all()
        size = max((one.place for one in candidates), default=0) + 1
        found: dict[int, DocumentPart] = {}
        for one in candidates:
            part = DocumentPart(None, 1, one.place, one.source, 0, one.sentence.line)
            found.setdefault(one.place * count // size, part).add(one)
        return list(found.values())

    def _quote(self, candidate: Candidate, score: float, title: str | None) -> Quote:
        return self._quoted(candidate.source, candidate.sentence, score, title)

    def _quoted(self, source: str, sentence: Sentence, score: float, title: str | None) -> Quote:
        page = sentence.page if source in self._with_pages else None
        return Quote(
            source, sentence.line, page, (sentence.start, sentence.end), sentence.text, score, title, sentence.location
        )
