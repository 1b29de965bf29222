"""Where a reading stands, as a value: what a memory file keeps and a `Reader` goes on from."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from famcli.documents.opening import open_source
from famcli.documents.source import Source
from famcli.tokens.stream import TokenRun

if TYPE_CHECKING:
    from famcli.reading.lane import Lane


@dataclass(frozen=True)
class SourceRecord:
    """A source, as far as it was read.

    path: absolute, None for a pipe. num_bytes: read. sha256: of these bytes in hex, None where they can no longer be
    had (a pipe read in several goes). num_replaced: invalid byte sequences so far.
    """

    name: str
    path: str | None
    encoding: str
    num_bytes: int
    sha256: str | None
    num_replaced: int = 0


@dataclass(frozen=True)
class Seen:
    """How much was read, over all sources: what every result and every look at a memory file says.

    num_bytes: of the tokens that were read. num_tokens: those that only the end made certain included. num_blocks:
    full blocks; the one that is being filled is not counted. bytes_unread: taken in after `num_bytes`, their tokens
    not read yet (reading was interrupted; they are read before the state is used, or when reading goes on).
    """

    num_bytes: int
    num_tokens: int
    num_blocks: int
    bytes_unread: int = 0


@dataclass(frozen=True, eq=False)
class Bookmark:
    """A place between two tokens of a stream, from which reading goes on with the same tokens and numbers.

    lane: the state after the last token read, and that token's hidden row. open_tokens: ids of the open block, as many
    as the state's fill. unread: tokens that are certain and were not read yet, with spans in the last source.
    next_byte: of the last source, where text follows whose tokens are not certain yet. begun: whether any of the last
    source's text became tokens before `next_byte`. tail: the raw bytes of the last source from `tail_start` (that of
    the first unread token, or `next_byte`) to its end so far. line: of byte `tail_start`, from 1. num_tokens,
    num_blocks: read so far, over all sources. seen: the same for people, who do not care what is certain.
    """

    lane: Lane
    open_tokens: NDArray[np.int32]
    unread: TokenRun
    next_byte: int
    begun: bool
    tail: bytes
    line: int
    sources: tuple[SourceRecord, ...]
    num_tokens: int
    num_blocks: int
    seen: Seen

    @property
    def tail_start(self) -> int:
        """The source byte that `tail` begins at."""
        return int(self.unread.starts[0]) if len(self.unread) else self.next_byte

    @property
    def end_byte(self) -> int:
        """How far the last source was read."""
        return self.tail_start + len(self.tail)

    @property
    def num_bytes(self) -> int:
        """Bytes read, over all sources."""
        return sum(source.num_bytes for source in self.sources)


def tail_document(mark: Bookmark, start: int, end: int | None = None) -> Source:
    """The part [start, end) of a bookmark's tail as a document, at its place in the source."""
    first = mark.tail_start
    part = mark.tail[start - first : None if end is None else end - first]
    return open_source("-", encoding=mark.sources[-1].encoding, start=start, stdin=io.BytesIO(part))
