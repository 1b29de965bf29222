"""Sentences of one source that wait for the values of their tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from famcli.documents.source import Piece
from famcli.tasks.summarize.salience import Average, TokenValues
from famcli.text.sentences import Sentence, SentenceSplitter


class SourceSentences:
    """One source in reading. index: from 0. place: bytes of the text of those before it, in UTF-8 whatever they are
    encoded in, so that the choice does not depend on that. is_framed: a mark of a book's own text was read. is_over:
    its own text has ended, though not the file (a licence follows). num_quotable: sentences that may be quoted."""

    def __init__(self, name: str, index: int, place: int, average: Average) -> None:
        self.name, self.index, self.place = name, index, place
        self.values = TokenValues(average)
        self.is_framed = self.is_over = False
        self.num_quotable = 0
        self._splitter = SentenceSplitter()
        self._waiting: deque[Sentence] = deque()
        self._ended = False

    @property
    def has_pages(self) -> bool:
        """Whether a page break was read."""
        return self._splitter.page > 1

    @property
    def num_bytes(self) -> int:
        """Of its text so far, in UTF-8."""
        return self._splitter.place

    def feed(self, piece: Piece) -> None:
        """Text that is going to be read."""
        self._waiting += self._splitter.feed(piece.text, piece.char_offsets())

    def end(self) -> None:
        """All text was read: the last sentence is complete too."""
        self._waiting += self._splitter.flush()
        self._ended = True

    def take(self) -> Iterator[Sentence]:
        """Sentences whose tokens all have their values, or will never have any."""
        while self._waiting and (self._ended or self._waiting[0].end <= self.values.end):
            sentence = self._waiting.popleft()
            yield sentence
            self.values.forget(sentence.end)
