"""Evidence for questions, gathered while a text is read: the blocks that seem to matter, in bounded memory.

Two signals, each with its own short list of blocks: the question's words (BM25), and how much more likely the question
became with a block. Passages are windows of a few sentences inside those blocks.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from famcli.documents.piece import Piece
from famcli.tasks.lexical import TermIndex, terms
from famcli.tasks.quality import num_words
from famcli.tasks.sentences import Sentence, SentenceSplitter

MAX_BLOCKS = 16
"""Blocks that each of the two lists of a question holds."""

WINDOW_SENTENCES = 3
WINDOW_CHARACTERS = 700
_CARRIED = WINDOW_SENTENCES - 1  # sentences of the block before, so that windows reach across the edge


@dataclass(frozen=True)
class TextBlock:
    """The sentences that ended in one block, and the last two before them. source: its index; span: source bytes."""

    source: int
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        """All of it, a line break where white space was not kept."""
        return "".join(("\n" if s.gap is None else s.gap) + s.text for s in self.sentences)


@dataclass(frozen=True)
class Passage:
    """Consecutive sentences of a source, verbatim with the white space between them."""

    source: int
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        """As it stands in the source."""
        first, *rest = self.sentences
        return first.text + "".join((s.gap or "") + s.text for s in rest)

    @property
    def span(self) -> tuple[int, int]:
        """Source bytes."""
        return self.sentences[0].start, self.sentences[-1].end

    @property
    def line(self) -> int:
        """Of its start, from 1."""
        return self.sentences[0].line

    def overlaps(self, other: Passage) -> bool:
        """Whether they share bytes of a source."""
        (start, end), (other_start, other_end) = self.span, other.span
        return self.source == other.source and start < other_end and other_start < end


class BlockBuilder:
    """Collects one source's text into `TextBlock`s, each when its tokens were read."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._splitter = SentenceSplitter()
        self._waiting: deque[Sentence] = deque()
        self._carried: list[Sentence] = []

    def feed(self, piece: Piece) -> None:
        """Text that is going to be read."""
        self._waiting += self._splitter.feed(piece.text, piece.char_offsets())

    def take(self, end: int | None) -> TextBlock | None:
        """The sentences up to source byte `end` that were not taken yet; of the whole source, now over, with None."""
        if end is None:
            self._waiting += self._splitter.flush()
        new: list[Sentence] = []
        while self._waiting and (end is None or self._waiting[0].end <= end):
            new.append(self._waiting.popleft())
        if not new:
            return None
        block = TextBlock(self._source, (*self._carried, *new))
        self._carried = list(block.sentences[-_CARRIED:])
        return block


@dataclass(frozen=True, eq=False)
class _Kept:
    block: TextBlock
    counts: Counter[str]
    num_terms: int
    gain: float | None


class QuestionEvidence:
    """What one question has found so far."""

    def __init__(self, question: str) -> None:
        self.index = TermIndex(question)
        self._by_words: list[_Kept] = []
        self._by_gain: list[_Kept] = []

    def add(self, block: TextBlock, block_terms: list[str], gain: float | None) -> None:
        """One more block, with its terms, and by how many nats per token it made the question more likely."""
        kept = _Kept(block, self.index.count(block_terms), len(block_terms), gain)
        self.index.add(kept.counts, kept.num_terms)
        if kept.counts:
            self._by_words.append(kept)
            if len(self._by_words) > MAX_BLOCKS:  # weights change as blocks come: compare by those of now
                self._by_words.remove(min(self._by_words, key=self._word_score))
        if gain is not None and gain > 0:
            self._by_gain.append(kept)
            if len(self._by_gain) > MAX_BLOCKS:
                self._by_gain.remove(min(self._by_gain, key=_gain))

    def passages(self, count: int) -> list[Passage]:
        """At most `count` to look at closely: by the words they have, one in four from the blocks of the most gain."""
        by_words = sorted(self._by_words, key=self._word_score, reverse=True)
        by_gain = sorted(self._by_gain, key=_gain, reverse=True)
        quota = count // 4
        found: list[Passage] = []
        for kept in by_gain[:quota]:
            _add_new(found, self._best(list(windows(kept.block)))[:2], quota)
        candidates = [window for kept in by_words for window in windows(kept.block)]
        _add_new(found, self._best(candidates), count)
        return found

    def _best(self, candidates: list[Passage]) -> list[Passage]:
        """By coverage, then by substance; of those that are alike in both, the shortest first."""

        def key(passage: Passage) -> tuple[float, float, int, int, tuple[int, int]]:
            text = passage.text
            return -self.index.coverage(text), -substance(passage), len(text), passage.source, passage.span

        return sorted(candidates, key=key)

    def _word_score(self, kept: _Kept) -> float:
        return self.index.bm25(kept.counts, kept.num_terms)


def block_terms(block: TextBlock) -> list[str]:
    """The words of a block, counted once for all questions."""
    return terms(block.text)


def substance(passage: Passage) -> float:
    """0 to 1: words in finished sentences, of twelve. Headings have the words of many questions, and no answer."""
    return min(1.0, sum(num_words(s.text) for s in passage.sentences if s.is_finished) / 12)


def windows(block: TextBlock) -> Iterator[Passage]:
    """Every run of up to three sentences of a block, as far as they stand close together and are short enough."""
    sentences = block.sentences
    for first in range(len(sentences)):
        length = 0
        for last in range(first, min(first + WINDOW_SENTENCES, len(sentences))):
            length += len(sentences[last].text)
            if last > first and (sentences[last].gap is None or length > WINDOW_CHARACTERS):
                break
            yield Passage(block.source, sentences[first : last + 1])


def _add_new(found: list[Passage], more: list[Passage], limit: int) -> None:
    for passage in more:
        if len(found) >= limit:
            return
        if all((passage.source, passage.span) != (other.source, other.span) for other in found):
            found.append(passage)


def _gain(kept: _Kept) -> float:
    return kept.gain or 0.0
