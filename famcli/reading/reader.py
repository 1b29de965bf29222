"""Documents through a network: bytes to text to tokens to blocks, one event for each block.

Nothing a `Reader` holds grows with what it reads. Where it stands is one frozen value, replaced in one assignment, so
that it can be saved between any two events, and after an interruption too.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.documents.document import Document, hash_prefix, open_document
from famcli.documents.piece import Piece
from famcli.errors import UsageError
from famcli.nn.state import MemoryMode, State
from famcli.reading.block_reader import BlockReader, Place, SourceInReading
from famcli.reading.bookmark import Bookmark, SourceRecord
from famcli.reading.events import Event, ReadingWarning, SourceEnd, SourceStart
from famcli.reading.lane import Lane
from famcli.reading.window import TextWindow
from famcli.tokens.stream import StreamEncoder

ReadingMode = Literal["on", "frozen", "none", "compare"]
READING_MODES: tuple[ReadingMode, ...] = get_args(ReadingMode)


class Reader:
    """Reads documents with a model and reports block by block.

    memory_mode: the model's default if None; "compare" reads with the memory on and frozen side by side. score:
    measure each token's negative log-likelihood. attention: report how much the memory attended to each token.
    keep_text: put each block's text into its event. eager: read what is there instead of waiting for whole blocks
    (slower; for pipes that are watched). blocks_per_call: whole blocks a call of the network may hold; more than one
    is faster for small blocks, but `state` then moves on by that many. resume: go on from a bookmark (a memory file).

    Raises UsageError for a mode that does not exist, or differs from the bookmark's.
    """

    def __init__(
        self,
        model: Model,
        *,
        memory_mode: ReadingMode | None = None,
        score: bool = False,
        attention: bool = False,
        keep_text: bool = False,
        eager: bool = False,
        blocks_per_call: int = 1,
        resume: Bookmark | None = None,
    ) -> None:
        self.model, self.eager = model, eager
        self.memory_mode = _checked_mode(model, memory_mode, resume)
        if blocks_per_call < 1:
            raise UsageError(f"blocks_per_call is {blocks_per_call}, it must be at least 1")
        self._blocks = BlockReader(model.network, score, attention, keep_text, blocks_per_call)
        self._document: Document | None = None  # of the source that is being read, or was read last
        self._bookmark, self._sources, self._warned = resume, (), set[str]()
        if resume is None:
            self._place = Place(tuple(Lane(state) for state in _starts(model, self.memory_mode)))
        else:
            self._place, self._sources = _resumed(resume), resume.sources
        self._ended: Place | None = None  # after what is certain only because the source ended

    # ------------------------------------------------------------------------------------------------ where it stands

    @property
    def state(self) -> State:
        """After the last token that was reported. In memory mode "compare": the one with the memory on."""
        return self._view.lanes[0].state

    @property
    def last_hidden(self) -> Tensor | None:
        """[1, 1, d] of the last token read: what predicts the next one. None if nothing was read."""
        return self._view.lanes[0].last_hidden

    @property
    def num_tokens(self) -> int:
        """Tokens of sources read so far."""
        return self._view.num_tokens

    @property
    def num_blocks(self) -> int:
        """Blocks closed so far."""
        return self._view.num_blocks

    @property
    def num_bytes(self) -> int:
        """Source bytes read so far."""
        return sum(source.num_bytes for source in self._records())

    @property
    def sources(self) -> tuple[SourceRecord, ...]:
        """All sources, as far as they were read."""
        return self._records()

    @property
    def _view(self) -> Place:
        return self._ended or self._place

    # ------------------------------------------------------------------------------------------------ reading

    def read(
        self, documents: Iterable[Document], *, names: bool | None = None, continues: bool = False
    ) -> Iterator[Event]:
        """Read one document after the other as one stream; yields SourceStart, BlockEvents and SourceEnd for each.

        names: the network reads each document's name before it (None: where there is more than one document, or
        something was read before). continues: the first document is the rest of the last source, from the byte that
        `bookmark().next_byte` names (see `append.open_append`).
        """
        waiting = iter(documents)
        first = list(islice(waiting, 2))
        if names is None:
            names = len(first) > 1 or bool(self._sources)
        for number, document in enumerate(chain(first, waiting)):
            if continues and number == 0:
                source = self._continue(document)
            else:
                source = self._begin(document, names)
            yield SourceStart(source.name, source.index, document.size, self._place.fed)
            yield from self._read_source(document, source)

    def finish(self) -> State:
        """Read what is known to follow but was not read yet, as if the source ended here; the state after it.

        What can still change when the source grows is read on a fork: reading goes on as if this had not happened.
        """
        if self._ended is None and self._sources:
            bookmark = self.bookmark()
            last = bookmark.sources[-1]
            for _ in self._read_end(self._restored(bookmark, last.name, len(self._sources) - 1), bookmark): ...
        return self.state
