"""Documents through a network: bytes to text to tokens to blocks, one event for each block.

Nothing a `Reader` holds grows with what it reads. Where it stands is one frozen value, replaced in one assignment, so
that it can be saved between any two events, and after an interruption too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.documents.source import Piece, Source
from famcli.errors import UsageError
from famcli.nn import State
from famcli.reading.cursor import Cursor, Progress, Snapshot, SourceRecord, TextWindow, record_of
from famcli.reading.engine import as_batch, call_lengths, check_finite, read_any, start_state
from famcli.reading.events import (
    BlockEvent,
    Event,
    ReadingWarning,
    SourceEnd,
    SourceStart,
    TextEvent,
    invalid_bytes,
    past_validated_length,
    unknown_tokens,
)
from famcli.reading.scoring import score_call
from famcli.tokens.stream import StreamEncoder, TokenRun
from famcli.tokens.tokenizer import begin_ids, unknown_ids

ReadingMode = Literal["on", "frozen", "none", "compare"]
READING_MODES: tuple[ReadingMode, ...] = get_args(ReadingMode)


class Reader:
    """Reads documents with a model and reports block by block.

    memory_mode: the model's default if None; "compare" reads with the memory on and frozen side by side. score:
    measure each token's negative log-likelihood. attention: report how much the memory attended to each token. eager:
    read what is there instead of waiting for whole blocks (slower; for pipes that are watched). cut_lines: no token
    reaches across a newline. whole_calls: an event may be of several blocks, as many as are read fastest (of one with
    attention). resume: continue from a cursor (a memory file). opening: ids that the network reads before all text, and
    again after `restart`; by default the BOS, if there is one.

    Raises UsageError for a mode that does not exist, or is not the cursor's.
    """

    def __init__(
        self,
        model: Model,
        *,
        memory_mode: ReadingMode | None = None,
        score: bool = False,
        attention: bool = False,
        eager: bool = False,
        cut_lines: bool = False,
        whole_calls: bool = False,
        resume: Cursor | None = None,
        opening: Sequence[int] | None = None,
    ) -> None:
        self.model, self.memory_mode = model, _checked_mode(model, memory_mode, resume)
        self._score, self._attention, self._eager = score, attention, eager
        self._cut_after = "\n" if cut_lines else None
        self._block_size = model.network.fam.block_size
        self._blocks_per_call = model.network.fam.blocks_per_call if whole_calls and not attention else 1
        self._opening = np.array(begin_ids(model.tokenizer) if opening is None else opening, dtype=np.int32)
        self._resume = resume  # until text that follows it was fed
        self._document: Source | None = None  # the one that is being read, or was read last
        self._window, self._replaced_before = TextWindow(), 0
        self._sources: tuple[SourceRecord, ...] = resume.sources if resume else ()
        self._warned: set[str] = set()
        self._unknown_ids, self._num_unknown = list(unknown_ids(model.tokenizer)), 0  # of the source that is read
        if resume is not None:
            at = Snapshot.of(resume, self._encoder(resume.next_byte, resume.begun))
        elif self.memory_mode == "compare":
            at = Snapshot((start_state(model.network, "on"), start_state(model.network, "frozen")), (None, None))
        else:
            at = Snapshot((start_state(model.network, self.memory_mode),), (None,))
        # (certain, provisional). The second is as if the source ended here: its last tokens change if the text goes on,
        # and then it is dropped. Both are set at once, so that an interruption never leaves one without the other.
        self._at: tuple[Snapshot, Snapshot | None] = (at, None)
        self._before_source = at

    # ------------------------------------------------------------------------------------------------ where it stands

    @property
    def state(self) -> State:
        """After the last token that was reported, made in inference mode. In "compare": the one with the memory on."""
        return self._view.states[0]

    @property
    def last_hidden(self) -> Tensor | None:
        """[1, 1, d] of the last token read: it predicts the next one. None if nothing was read."""
        return self._view.last_hidden[0]

    @property
    def num_bytes(self) -> int:
        """Source bytes taken in so far, over all sources."""
        return sum(source.num_bytes for source in self.sources(hashed=False))

    @property
    def progress(self) -> Progress:
        """How much was read, and what was taken in besides."""
        return self._cursor().progress if self._sources else Progress(0, 0, 0)

    @property
    def _view(self) -> Snapshot:
        return self._at[1] or self._at[0]

    # ------------------------------------------------------------------------------------------------ reading

    def read(
        self, documents: Iterable[Source], *, names: bool | None = None, continues: bool = False
    ) -> Iterator[Event]:
        """Read one document after the other as one stream; yields SourceStart, TextEvents, BlockEvents and SourceEnd.

        names: the network reads each document's name before it (None: where there is more than one document, or
        something was read before). continues: the first document is the rest of the last source, from the byte that
        `cursor().next_byte` names (see `append.open_append`). Documents are taken one by one, one ahead, and closed.
        """
        waiting = iter(documents)
        first = list(islice(waiting, 2))
        if names is None:
            names = len(first) > 1 or bool(self._sources)
        try:  # one loop in one frame: what lies between a command and the network's products is kept short
            for number, document in enumerate(chain(first, waiting)):
                with document:
                    if continues and number == 0:
                        self._continue(document)
                    else:
                        self._begin(document, names)
                    index, tentative, self._num_unknown = len(self._sources) - 1, None, 0
                    self._before_source = self._at[0]
                    yield SourceStart(document, index, self._at[0].fed)
                    for piece in document.pieces():
                        if piece.tentative:  # always the last one
                            tentative = piece
                        else:
                            self._feed(piece)
                        yield TextEvent(index, piece)
                        while events := self._read_call(everything=self._eager):
                            yield from events
                    while events := self._read_call(everything=True):
                        yield from events
                    self._feed_end(document, tentative)
                    while events := self._read_call(everything=True, at_end=True):
                        yield from events
                    yield from self._end_events()
        finally:
            for document in first:  # one may not have had its turn
                document.close()

    def restart(self) -> None:
        """Let the network begin anew, with its opening, before the next token; what is reported goes on as it was."""
        certain, ended = self._at
        at = certain if ended is None else ended
        states = tuple(start_state(self.model.network, state.memory_mode) for state in at.states)
        empty = replace(at, states=states, last_hidden=(None,) * len(states), open_tokens=at.open_tokens[:0])
        fresh = replace(self._read_unreported(empty, self._opening), num_blocks=at.num_blocks)
        self._at = (fresh, None) if ended is None else (certain, fresh)

    def finish(self) -> State:
        """Read what is known to follow but was not read yet, as if the source ended here; the state after it.

        What may still change when the source grows is read on a fork: a cursor stays what it was.
        """
        certain, ended = self._at
        if ended is None and self._sources:
            cursor = self._cursor()
            encoder = self._encoder(cursor.next_byte, cursor.begun)
            pieces = cursor.tail_source(cursor.next_byte).pieces()
            run = TokenRun.join(
                [certain.unread, *(encoder.feed(each.text, each.char_offsets()) for each in pieces), encoder.flush()]
            )
            after = self._read_unreported(certain, run.ids)
            num_tokens = certain.num_tokens + len(run)
            self._at = (certain, replace(after, unread=run[:0], fed=cursor.end_byte, num_tokens=num_tokens))
        return self.state

    def cursor(self) -> Cursor:
        """Where reading can continue, later or elsewhere; valid between any two events.

        Raises UsageError in memory mode "compare", which has two states, and before anything was read.
        """
        if len(self._at[0].states) > 1:
            raise UsageError("what is read with memory mode 'compare' cannot be kept; choose one memory mode")
        if not self._sources:
            raise UsageError("nothing was read yet, so there is nothing to keep")
        return self._cursor(hashed=True)

    def _cursor(self, hashed: bool = False) -> Cursor:
        at, view, resume = self._at[0], self._view, self._resume
        next_byte = max(at.next_byte, self._window.start)  # behind a byte-order mark that nothing follows yet
        start = int(at.unread.starts[0]) if len(at.unread) else next_byte
        if resume is not None:
            next_byte, tail, line = resume.next_byte, resume.tail, resume.line
        else:
            tail, line = self._window.tail(start)[: view.fed - start], self._window.line(start)
        records, unread = self.sources(hashed), 0 if self._at[1] is not None else len(tail)
        num_bytes = sum(record.num_bytes for record in records) - unread
        progress = Progress(num_bytes, view.num_tokens, view.num_blocks, unread)
        if resume is not None and self._at[1] is None:
            progress = resume.progress
        return Cursor(
            state=at.states[0],
            last_hidden=at.last_hidden[0],
            open_tokens=at.open_tokens,
            unread=at.unread,
            next_byte=next_byte,
            begun=at.encoder is not None and at.encoder.begun,
            tail=tail,
            line=line,
            sources=records,
            num_tokens=at.num_tokens,
            num_blocks=at.num_blocks,
            progress=progress,
        )

    # ------------------------------------------------------------------------------------------------ one source

    def _begin(self, document: Source, named: bool) -> None:
        """Finish the source before, whose last tokens are final now, and read what comes before the new one's text."""
        self.finish()
        at, records = self._view, self.sources()
        tokenizer, ids = self.model.tokenizer, list[int]()
        if at.last_hidden[0] is None:
            ids += self._opening.tolist()
        if named:
            # What the network reads between two sources.
            ids += tokenizer.encode(("\n\n" if records else "") + f"[{document.name}]\n\n")
        record = record_of(document, 0, hashed=False)
        after = self._read_unreported(replace(at, encoder=self._encoder(), fed=0), np.array(ids, dtype=np.int32))
        new = (document, None, TextWindow(), 0, (*records, record), (after, None))
        # Here and below in one assignment: an interruption leaves all that belongs together, or nothing of it.
        self._document, self._resume, self._window, self._replaced_before, self._sources, self._at = new

    def _continue(self, document: Source) -> None:
        """The last source continues: its text that is not certain yet comes once more, at the head of `document`."""
        if not self._sources:
            raise UsageError("there is no source to go on with: nothing was read yet")
        cursor, last = self._cursor(hashed=True), self._sources[-1]
        window = TextWindow(cursor.tail_start, cursor.line)
        for piece in cursor.tail_source(cursor.tail_start, cursor.next_byte).pieces():
            window.add(piece, cursor.tail_start)
        held_back = cursor.tail_source(cursor.next_byte)
        for _ in held_back.pieces():  # invalid bytes that are going to come again must not be counted twice
            pass
        replaced = cursor.sources[-1].num_replaced - held_back.num_replaced
        sources = (*self._sources[:-1], replace(last, path=record_of(document, 0, hashed=False).path))
        at = replace(self._at[0], encoder=self._encoder(cursor.next_byte, cursor.begun), fed=cursor.next_byte)
        new = (document, cursor, window, replaced, sources, (at, None))
        self._document, self._resume, self._window, self._replaced_before, self._sources, self._at = new

    def _feed(self, piece: Piece) -> None:
        at = self._at[0]
        assert at.encoder is not None
        self._window.add(piece, int(at.unread.starts[0]) if len(at.unread) else at.next_byte)
        encoder = at.encoder.copy()
        run = encoder.feed(piece.text, piece.char_offsets())
        unread = TokenRun.join([at.unread, run]) if len(at.unread) else run
        self._at, self._resume = (replace(at, encoder=encoder, unread=unread, fed=piece.end), None), None

    def _feed_end(self, document: Source, tentative: Piece | None) -> None:
        """What is certain only if nothing follows, on a fork: the snapshot stays where the source can grow from."""
        at = self._at[0]
        if tentative is None and not at.fed:  # nothing at all, or a byte-order mark alone
            at = replace(at, fed=document.end)
            self._window = TextWindow(document.end)
        assert at.encoder is not None
        encoder, run, fed = at.encoder.copy(), TokenRun.empty(), at.fed
        if tentative is not None:
            self._window.add(tentative, at.next_byte)
            run, fed = encoder.feed(tentative.text, tentative.char_offsets()), tentative.end
        self._at, self._resume = (at, replace(at, unread=TokenRun.join([run, encoder.flush()]), fed=fed)), None

    def _read_call(self, everything: bool, at_end: bool = False) -> list[Event]:
        """Read a whole call, or with `everything` what there is of it: its event, and warnings. Empty if there is none.

        at_end: of the fork that `_feed_end` made.
        """
        certain, ended = self._at
        before = ended if at_end else certain
        assert before is not None
        fill, network = before.states[0].fill, self.model.network
        n = next(call_lengths(len(before.unread), fill, self._block_size, self._blocks_per_call), 0)
        num_closed, still_open = divmod(fill + n, self._block_size)
        # Calls begin at the same blocks however the text comes in: it is read to the same bits.
        if not n or not (everything or (not still_open and (fill > 0 or num_closed == self._blocks_per_call))):
            return []
        run = before.unread[:n]
        ids, scores, read = as_batch(run.ids, network), list[Tensor](), list[tuple[Tensor, State]]()
        received = list[Tensor]() if self._attention else None
        with torch.inference_mode():
            for state, last_hidden in zip(before.states, before.last_hidden, strict=True):
                hidden, after_call = network.read(ids, state, received)
                check_finite(hidden)
                if self._score:
                    scores += (row[0] for row in score_call(network, last_hidden, hidden, ids))
                read.append((hidden[:, -1:].clone(), after_call))  # a view would keep the whole call alive
        after = before.after(run.ids, read, network.fam)
        after = replace(after, unread=before.unread[n:], num_tokens=before.num_tokens + n)
        self._at = (certain, after) if at_end else (after, None)
        span = (int(run.starts[0]), int(run.ends[-1]))
        event = BlockEvent(
            index=before.num_blocks,
            source=self._sources[-1].name,
            source_index=len(self._sources) - 1,
            span=span,
            line=self._window.line(span[0]),
            num_closed=num_closed,
            tokens=run.ids,
            token_starts=run.starts,
            token_ends=run.ends,
            attention=received[0][0, -n:].float().cpu() if received else None,
            **dict(zip(("nll", "correct", "nll_frozen", "correct_frozen"), scores, strict=False)),
        )
        return [event, *self._judged(event)]

    def _read_unreported(self, at: Snapshot, ids: NDArray[np.int32]) -> Snapshot:
        """Read tokens for which there is no event. `at.unread` stays: it is the caller's affair."""
        if not len(ids):
            return at
        network, read = self.model.network, list[tuple[Tensor, State]]()
        for state in at.states:
            hidden, after = read_any(network, ids, state)
            assert hidden is not None
            read.append((hidden, after))
        return at.after(ids, read, network.fam)

    # ------------------------------------------------------------------------------------------------ reports

    def sources(self, hashed: bool = True) -> tuple[SourceRecord, ...]:
        """All sources as far as they were read. hashed: with the hash of the last one, which may mean reading it."""
        if self._document is None or self._resume is not None:
            return self._sources if self._resume is None else self._resume.sources
        now = record_of(self._document, self._view.fed, hashed)
        last = replace(
            self._sources[-1],
            num_bytes=now.num_bytes,
            sha256=now.sha256,
            num_replaced=self._replaced_before + now.num_replaced,
            encoding=now.encoding,
        )
        return (*self._sources[:-1], last)

    def _end_events(self) -> Iterator[Event]:
        """What is said once a source was read to its end."""
        view, record = self._view, self.sources()[-1]
        if record.num_replaced:
            yield from self._warn(invalid_bytes(record.name, record.num_replaced, record.encoding))
        if self._num_unknown:
            yield from self._warn(unknown_tokens(record.name, self._num_unknown))
        yield SourceEnd(
            name=record.name,
            index=len(self._sources) - 1,
            num_bytes=record.num_bytes,
            num_tokens=view.num_tokens - self._before_source.num_tokens,
            num_blocks=view.num_blocks - self._before_source.num_blocks,
            num_replaced=record.num_replaced,
            sha256=record.sha256,
            encoding=record.encoding,
        )

    def _judged(self, event: BlockEvent) -> Iterator[ReadingWarning]:
        if self._unknown_ids:
            self._num_unknown += int(np.isin(event.tokens, self._unknown_ids).sum())
        limit, position = self.model.sidecar.validated_tokens, int(self.state.position[0])
        if limit is not None and position > limit:
            yield from self._warn(past_validated_length(self.model.name, limit))

    def _warn(self, warning: ReadingWarning) -> Iterator[ReadingWarning]:
        if warning.code not in self._warned:
            self._warned.add(warning.code)
            yield warning

    def _encoder(self, start: int = 0, begun: bool | None = None) -> StreamEncoder:
        return StreamEncoder(self.model.tokenizer, start, begun=begun, cut_after=self._cut_after)


def _checked_mode(model: Model, wanted: ReadingMode | None, resume: Cursor | None) -> ReadingMode:
    if wanted is not None and wanted not in READING_MODES:
        raise UsageError(f"memory mode is '{wanted}', it must be one of {', '.join(READING_MODES)}")
    model.check_memory_mode(wanted)
    if resume is None:
        return wanted or model.default_memory_mode
    if wanted not in (None, resume.state.memory_mode):
        raise UsageError(
            f"the text was read with memory mode '{resume.state.memory_mode}' so far, it cannot go on with "
            f"'{wanted}'; leave the memory mode out, or read the text again"
        )
    return resume.state.memory_mode
