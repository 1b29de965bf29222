"""From tokens to events: what is unread goes through the network in legal calls, block by block.

A `Place` is where a reading stands, as a value. Everything here returns a new one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from famcli.nn import Network
from famcli.reading.engine import legal_cuts
from famcli.reading.events import BlockEvent
from famcli.reading.lane import Lane, Measured, step
from famcli.reading.window import TextWindow
from famcli.tokens.stream import StreamEncoder, TokenRun


@dataclass(frozen=True, eq=False)
class Place:
    """Where a reading stands: after every token that was reported.

    lanes: the network's states (two in "compare"). open_tokens: ids of the open block. unread: tokens that wait for
    their block to be full. encoder: holds the text that is no token yet; copies of it are fed, never itself. fed:
    source byte up to which text was fed. num_tokens, num_blocks: in the stream, of sources only and closed ones.
    source_tokens, source_blocks: the same of the source, in this reading.
    """

    lanes: tuple[Lane, ...]
    open_tokens: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    unread: TokenRun = field(default_factory=TokenRun.empty)
    encoder: StreamEncoder | None = None
    fed: int = 0
    num_tokens: int = 0
    num_blocks: int = 0
    source_tokens: int = 0
    source_blocks: int = 0

    @property
    def next_byte(self) -> int:
        """The source byte at which text follows that is no token yet."""
        return self.fed if self.encoder is None else self.encoder.pending_start


@dataclass(frozen=True, eq=False)
class SourceInReading:
    """What events say of the source: bytes_before is the sum over the sources before it."""

    name: str
    index: int
    bytes_before: int
    window: TextWindow


@dataclass(frozen=True)
class BlockReader:
    """Reads what is unread at a place. The options are those of `Reader`."""

    network: Network
    score: bool = False
    attention: bool = False
    blocks_per_call: int = 1

    def read_aside(self, place: Place, ids: NDArray[np.int32]) -> Place:
        """Read tokens that belong to no source. Nothing may be unread."""
        assert not len(place.unread), "tokens of a source come first"
        first, block_size = 0, self.network.fam.block_size
        for n in legal_cuts(len(ids), place.lanes[0].state.fill, block_size, self.blocks_per_call):
            place = self._advance(place, ids[first : first + n])[0]
            first += n
        return place

    def read_blocks(
        self, place: Place, source: SourceInReading, everything: bool
    ) -> Iterator[tuple[Place, BlockEvent]]:
        """Read the whole blocks that are unread (with `everything`, what is left too): each event and the place after
        it. With several blocks in a call, the place after each of them is that after the call."""
        while n := self._next_call(place, everything):
            run = place.unread[:n]
            began, before = time.perf_counter(), place
            after, measured = self._advance(replace(place, unread=place.unread[n:]), run.ids)
            seconds = time.perf_counter() - began
            place = replace(after, num_tokens=before.num_tokens + n, source_tokens=before.source_tokens + n)
            yield from ((place, event) for event in self._events(before, run, measured, source, seconds))

    def read_silently(self, place: Place) -> Place:
        """Read all that is unread, without measuring anything: the place after it."""
        plain = replace(self, score=False, attention=False)
        for after, _ in plain.read_blocks(place, SourceInReading("", 0, 0, TextWindow()), everything=True):
            place = after
        return place

    def _next_call(self, place: Place, everything: bool) -> int:
        there, fill, block_size = len(place.unread), place.lanes[0].state.fill, self.network.fam.block_size
        if fill == 0 and there >= block_size:
            return min(there // block_size, self.blocks_per_call) * block_size
        room = block_size - fill
        return room if there >= room else there if everything else 0

    def _advance(self, place: Place, ids: NDArray[np.int32]) -> tuple[Place, list[Measured]]:
        stepped = [step(self.network, lane, ids, score=self.score, attention=self.attention) for lane in place.lanes]
        opened = np.concatenate((place.open_tokens, ids))
        closed, fill = divmod(len(opened), self.network.fam.block_size)
        place = replace(
            place,
            lanes=tuple(lane for lane, _ in stepped),
            open_tokens=opened[len(opened) - fill :].copy(),
            num_blocks=place.num_blocks + closed,
            source_blocks=place.source_blocks + closed,
        )
        return place, [measured for _, measured in stepped]

    def _events(
        self, before: Place, run: TokenRun, measured: list[Measured], source: SourceInReading, seconds: float
    ) -> Iterator[BlockEvent]:
        """One event for each block of a call that began at `before`."""
        block_size, first, fill = self.network.fam.block_size, 0, before.lanes[0].state.fill
        num_blocks = -(-len(run) // block_size)
        for number in range(num_blocks):
            last = min(len(run), first + block_size - (fill if number == 0 else 0))
            part = run[first:last]
            start, end = int(part.starts[0]), int(part.ends[-1])
            on, *frozen = (one.part(first, last) for one in measured)
            yield BlockEvent(
                index=before.num_blocks + number,
                source=source.name,
                source_index=source.index,
                num_tokens=len(part),
                span=(start, end),
                line=source.window.line(start),
                closed=(fill + last) % block_size == 0,
                seconds=seconds / num_blocks,
                tokens=part.ids,
                token_starts=part.starts,
                token_ends=part.ends,
                nll=on.nll,
                correct=on.correct,
                nll_frozen=frozen[0].nll if frozen else None,
                correct_frozen=frozen[0].correct if frozen else None,
                attention=on.attention,
                bytes_read=end,
                total_tokens=before.num_tokens + last,
                total_bytes=source.bytes_before + end,
            )
            first = last
