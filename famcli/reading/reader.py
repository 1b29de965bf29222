"""Documents through a network: bytes to text to tokens to blocks, one event for each block.

Nothing a `Reader` holds grows with what it reads. Where it stands is one frozen value, replaced in one assignment, so
that it can be saved between any two events, and after an interruption too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.documents.opening import hash_prefix
from famcli.documents.source import Piece, Source
from famcli.errors import UsageError
from famcli.nn import State
from famcli.reading.block_reader import BlockReader, Place, SourceInReading
from famcli.reading.bookmark import Bookmark, Seen, SourceRecord, tail_document
from famcli.reading.engine import start_state
from famcli.reading.events import BlockEvent, Event, ReadingWarning, SourceEnd, SourceStart, TextEvent
from famcli.reading.lane import Lane
from famcli.reading.window import TextWindow
from famcli.tokens.stream import StreamEncoder, TokenRun
from famcli.tokens.tokenizer import unknown_ids

ReadingMode = Literal["on", "frozen", "none", "compare"]
READING_MODES: tuple[ReadingMode, ...] = get_args(ReadingMode)


class Reader:
    """Reads documents with a model and reports block by block.

    memory_mode: the model's default if None; "compare" reads with the memory on and frozen side by side. score:
    measure each token's negative log-likelihood. attention: report how much the memory attended to each token.
    eager: read what is there instead of waiting for whole blocks
    (slower; for pipes that are watched). blocks_per_call: whole blocks a call of the network may hold; more than one
    is faster for small blocks, but `state` then moves on by that many. resume: go on from a bookmark (a memory file).

    Raises UsageError for a mode that does not exist, or is not the bookmark's.
    """

    def __init__(
        self,
        model: Model,
        *,
        memory_mode: ReadingMode | None = None,
        score: bool = False,
        attention: bool = False,
        eager: bool = False,
        blocks_per_call: int = 1,
        resume: Bookmark | None = None,
    ) -> None:
        if blocks_per_call < 1:
            raise UsageError(f"blocks_per_call is {blocks_per_call}, it must be at least 1")
        self.model, self.eager = model, eager
        self.memory_mode = _checked_mode(model, memory_mode, resume)
        self._blocks = BlockReader(model.network, score, attention, blocks_per_call)
        self._resume = resume  # until text that follows it was fed
        self._document: Source | None = None  # the one that is being read, or was read last
        self._window, self._replaced_before = TextWindow(), 0
        self._sources: tuple[SourceRecord, ...] = resume.sources if resume else ()
        self._warned: set[str] = set()
        self._unknown_ids, self._num_unknown = list(unknown_ids(model.tokenizer)), 0  # of the source that is read
        place = Place(_starts(model, self.memory_mode)) if resume is None else _resumed(resume, model)
        # The place, and the one after what is certain only because the source ended: changed together.
        self._at: tuple[Place, Place | None] = (place, None)

    # ------------------------------------------------------------------------------------------------ where it stands

    @property
    def state(self) -> State:
        """After the last token that was reported. In memory mode "compare": the one with the memory on.

        It was made in inference mode: read on from it with `engine`, `scoring` and `generate`.
        """
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
        """Source bytes taken in so far, over all sources."""
        return sum(source.num_bytes for source in self._records())

    @property
    def seen(self) -> Seen:
        """How much was read, and what was taken in besides."""
        return self._bookmark().seen if self._sources else Seen(0, 0, 0)

    @property
    def sources(self) -> tuple[SourceRecord, ...]:
        """All sources as far as they were read, with their hashes."""
        return self._records(hashed=True)

    @property
    def _view(self) -> Place:
        return self._at[1] or self._at[0]

    # ------------------------------------------------------------------------------------------------ reading

    def read(
        self, documents: Iterable[Source], *, names: bool | None = None, continues: bool = False
    ) -> Iterator[Event]:
        """Read one document after the other as one stream; yields SourceStart, TextEvents, BlockEvents and SourceEnd.

        names: the network reads each document's name before it (None: where there is more than one document, or
        something was read before). continues: the first document is the rest of the last source, from the byte that
        `bookmark().next_byte` names (see `append.open_append`). Documents are taken one by one, one ahead, and closed.
        """
        waiting = iter(documents)
        first = list(islice(waiting, 2))
        if names is None:
            names = len(first) > 1 or bool(self._sources)
        try:
            for number, document in enumerate(chain(first, waiting)):
                with document:
                    begin = self._continue if continues and number == 0 else self._begin
                    source = begin(document, names)
                    yield SourceStart(document, source.index, self._at[0].fed)
                    yield from self._read_source(document, source)
        finally:
            for document in first:  # one may not have had its turn
                document.close()

    def finish(self) -> State:
        """Read what is known to follow but was not read yet, as if the source ended here; the state after it.

        What may still change when the source grows is read on a fork: a bookmark stays what it was.
        """
        place, ended = self._at
        if ended is None and self._sources:
            mark = self._bookmark()
            encoder = StreamEncoder(self.model.tokenizer, mark.next_byte, begun=mark.begun)
            pieces = tail_document(mark, mark.next_byte).pieces()
            runs = [place.unread, *(encoder.feed(piece) for piece in pieces), encoder.flush()]
            last = replace(place, unread=TokenRun.join(runs), fed=mark.end_byte)
            self._at = (place, self._blocks.read_silently(last))
        return self.state

    def bookmark(self) -> Bookmark:
        """Where reading can go on from, later or elsewhere; valid between any two events.

        Raises UsageError in memory mode "compare", which has two states, and before anything was read.
        """
        if len(self._at[0].lanes) > 1:
            raise UsageError("what is read with memory mode 'compare' cannot be kept; choose one memory mode")
        if not self._sources:
            raise UsageError("nothing was read yet, so there is nothing to keep")
        return self._bookmark(hashed=True)

    def _bookmark(self, hashed: bool = False) -> Bookmark:
        place, view = self._at[0], self._view
        next_byte = max(place.next_byte, self._window.start)  # behind a byte-order mark that nothing follows yet
        start = int(place.unread.starts[0]) if len(place.unread) else next_byte
        if self._resume is not None:
            next_byte, tail, line = self._resume.next_byte, self._resume.tail, self._resume.line
        else:
            tail, line = self._window.tail(start)[: view.fed - start], self._window.line(start)
        records = self._records(hashed)
        if self._resume is not None and self._at[1] is None:
            seen = self._resume.seen
        else:
            unread = 0 if self._at[1] is not None else len(tail)
            num_bytes = sum(record.num_bytes for record in records) - unread
            seen = Seen(num_bytes, view.num_tokens, view.num_blocks, unread)
        return Bookmark(
            lane=place.lanes[0],
            open_tokens=place.open_tokens,
            unread=place.unread,
            next_byte=next_byte,
            begun=place.encoder is not None and place.encoder.begun,
            tail=tail,
            line=line,
            sources=records,
            num_tokens=place.num_tokens,
            num_blocks=place.num_blocks,
            seen=seen,
        )

    # ------------------------------------------------------------------------------------------------ one source

    def _begin(self, document: Source, named: bool) -> SourceInReading:
        """A new source: what the last one held back is read for good, then what stands before the new one."""
        self.finish()
        place, records = self._view, self._records(hashed=True)
        tokenizer, ids = self.model.tokenizer, list[int]()
        if place.lanes[0].last_hidden is None and tokenizer.bos_id is not None:
            ids.append(tokenizer.bos_id)
        if named:
            ids += tokenizer.encode(_heading(document.name, first=not records))
        place = self._blocks.read_aside(place, np.array(ids, dtype=np.int32))
        self._document, self._window, self._replaced_before, self._resume = document, TextWindow(), 0, None
        self._sources = (*records, SourceRecord(document.name, _path(document), document.encoding, 0, None))
        self._at = (replace(place, encoder=StreamEncoder(tokenizer), fed=0, source_tokens=0, source_blocks=0), None)
        return self._source()

    def _continue(self, document: Source, named: bool) -> SourceInReading:
        """The last source goes on: its text that is not certain yet comes once more, at the head of `document`."""
        if not self._sources:
            raise UsageError("there is no source to go on with: nothing was read yet")
        mark, last = self._bookmark(hashed=True), self._sources[-1]
        self._window = TextWindow(mark.tail_start, mark.line)
        for piece in tail_document(mark, mark.tail_start, mark.next_byte).pieces():
            self._window.add(piece, mark.tail_start)
        held_back = tail_document(mark, mark.next_byte)
        for _ in held_back.pieces():
            pass
        self._replaced_before = mark.sources[-1].num_replaced - held_back.num_replaced
        self._document, self._resume = document, mark
        self._sources = (*self._sources[:-1], replace(last, path=_path(document)))
        encoder = StreamEncoder(self.model.tokenizer, mark.next_byte, begun=mark.begun)
        place = replace(self._at[0], encoder=encoder, fed=mark.next_byte, source_tokens=0, source_blocks=0)
        self._at = (place, None)
        return self._source()

    def _source(self) -> SourceInReading:
        index = len(self._sources) - 1
        before = sum(source.num_bytes for source in self._sources[:-1])
        return SourceInReading(self._sources[-1].name, index, before, self._window)

    def _read_source(self, document: Source, source: SourceInReading) -> Iterator[Event]:
        tentative, self._num_unknown = None, 0
        for piece in document.pieces():
            if piece.tentative:
                tentative = piece
                break
            self._feed(piece)
            yield TextEvent(source.index, piece)
            yield from self._read_blocks(source, everything=self.eager)
        if tentative is not None:
            yield TextEvent(source.index, tentative)
        yield from self._read_blocks(source, everything=True)
        yield from self._read_end(document, source, tentative)
        view, record = self._view, self._records(hashed=True)[-1]
        if record.num_replaced:
            yield from self._warn(
                "invalid-bytes",
                f"{record.name}: {record.num_replaced:,} byte sequence{'' if record.num_replaced == 1 else 's'} not "
                f"valid in {record.encoding} read as U+FFFD; if there are many, name the encoding",
            )
        if self._num_unknown:
            yield from self._warn(
                "unknown-tokens",
                f"{record.name}: {self._num_unknown:,} token{'' if self._num_unknown == 1 else 's'} unknown to the "
                "tokenizer; their text is lost to the network, and bits per byte come out too low",
            )
        yield SourceEnd(
            name=record.name,
            index=source.index,
            num_bytes=record.num_bytes,
            num_tokens=view.source_tokens,
            num_blocks=view.source_blocks,
            num_replaced=record.num_replaced,
            sha256=record.sha256,
            encoding=record.encoding,
        )

    def _feed(self, piece: Piece) -> None:
        place = self._at[0]
        assert place.encoder is not None
        self._window.add(piece, int(place.unread.starts[0]) if len(place.unread) else place.next_byte)
        encoder = place.encoder.copy()
        run = encoder.feed(piece)
        unread = TokenRun.join([place.unread, run]) if len(place.unread) else run
        self._at = (replace(place, encoder=encoder, unread=unread, fed=piece.end), None)
        self._resume = None

    def _read_blocks(self, source: SourceInReading, everything: bool) -> Iterator[Event]:
        for place, event in self._blocks.read_blocks(self._at[0], source, everything):
            self._at = (place, None)
            yield from self._checked(event)

    def _read_end(self, document: Source, source: SourceInReading, tentative: Piece | None) -> Iterator[Event]:
        """What is certain only if nothing follows, on a fork: the place stays where the source can grow from."""
        place = self._at[0]
        if tentative is None and not place.fed:  # nothing at all, or a byte-order mark alone
            place = replace(place, fed=document.bytes_read)
            self._window = TextWindow(document.bytes_read)
        assert place.encoder is not None
        encoder, run, fed = place.encoder.copy(), TokenRun.empty(), place.fed
        if tentative is not None:
            self._window.add(tentative, place.next_byte)
            run, fed = encoder.feed(tentative), tentative.end
        last = replace(place, unread=TokenRun.join([run, encoder.flush()]), fed=fed)
        self._at = (place, replace(last, unread=TokenRun.empty()))
        self._resume = None
        for ended, event in self._blocks.read_blocks(last, source, everything=True):
            self._at = (place, ended)
            yield from self._checked(event)

    # ------------------------------------------------------------------------------------------------ reports

    def _records(self, hashed: bool = False) -> tuple[SourceRecord, ...]:
        """The sources with the last one as it is now; its hash only where it is wanted, for it may mean reading."""
        if self._document is None or self._resume is not None:
            return self._sources if self._resume is None else self._resume.sources
        document, num_bytes = self._document, self._view.fed
        sha256 = None
        if hashed and document.start == 0 and document.bytes_read == num_bytes:
            sha256 = document.digest()
        elif hashed and document.path is not None:
            sha256 = hash_prefix(document.path, num_bytes)
        last = replace(
            self._sources[-1],
            num_bytes=num_bytes,
            sha256=sha256,
            num_replaced=self._replaced_before + document.num_replaced,
            encoding=document.encoding,
        )
        return (*self._sources[:-1], last)

    def _checked(self, event: BlockEvent) -> Iterator[Event]:
        yield event
        if self._unknown_ids:
            self._num_unknown += int(np.isin(event.tokens, self._unknown_ids).sum())
        limit, position = self.model.sidecar.validated_tokens, int(self.state.position[0])
        if limit is not None and position > limit:
            yield from self._warn(
                "past-validated-length",
                f"the text is longer than the {limit:,} tokens that {self.model.name} was validated for; "
                "results past that length are not covered by its evaluation",
            )

    def _warn(self, code: str, message: str) -> Iterator[Event]:
        if code not in self._warned:
            self._warned.add(code)
            yield ReadingWarning(code, message)


def _checked_mode(model: Model, wanted: ReadingMode | None, resume: Bookmark | None) -> ReadingMode:
    if wanted is not None and wanted not in READING_MODES:
        raise UsageError(f"memory mode is '{wanted}', it must be one of {', '.join(READING_MODES)}")
    if resume is None:
        return wanted or model.default_memory_mode
    if wanted not in (None, resume.lane.state.memory_mode):
        raise UsageError(
            f"the text was read with memory mode '{resume.lane.state.memory_mode}' so far, it cannot go on with "
            f"'{wanted}'; leave the memory mode out, or read the text again"
        )
    return resume.lane.state.memory_mode


def _starts(model: Model, mode: ReadingMode) -> tuple[Lane, ...]:
    if mode == "compare":
        return (*_starts(model, "on"), *_starts(model, "frozen"))
    return (Lane(start_state(model.network, mode)),)


def _resumed(mark: Bookmark, model: Model) -> Place:
    return Place(
        lanes=(mark.lane,),
        open_tokens=mark.open_tokens,
        unread=mark.unread,
        encoder=StreamEncoder(model.tokenizer, mark.next_byte, begun=mark.begun),
        fed=mark.next_byte,
        num_tokens=mark.num_tokens,
        num_blocks=mark.num_blocks,
    )


def _heading(name: str, first: bool) -> str:
    """What the network reads between two sources."""
    return f"[{name}]\n\n" if first else f"\n\n[{name}]\n\n"


def _path(document: Source) -> str | None:
    return None if document.path is None else str(document.path.resolve())
