"""The point that a reading has reached, as a value: a memory file keeps it and a `Reader` continues from it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from famcli.documents.opening import open_source, text_digest
from famcli.documents.source import PLAIN_TEXT, Piece, Source, code_points
from famcli.tokens.stream import StreamEncoder, TokenRun

# A memory file is inspected, and a wrong one refused, before torch is loaded.
if TYPE_CHECKING:
    from torch import Tensor

    from famcli.nn import FamConfig, State


@dataclass(frozen=True)
class SourceRecord:
    """A source, as far as it was read.

    path: absolute, None for a pipe, be it one with a name. num_bytes: read. sha256: of these bytes in hex, None if
    they are no longer available (a pipe read in several runs). num_replaced: invalid byte sequences so far. format: see
    `Source`; the bytes of a converted document are those of its text. is_named: the encoding is what the user said.
    """

    name: str
    path: str | None
    encoding: str
    num_bytes: int
    sha256: str | None
    num_replaced: int = 0
    format: str = PLAIN_TEXT
    is_named: bool = field(default=False, metadata={"json": None})


def record_of(document: Source, num_bytes: int, hashed: bool = True) -> SourceRecord:
    """A document that was read to its byte `num_bytes`. hashed: with the hash, which may mean reading it again."""
    # What a path leads to may be a pipe, which is gone once it was read.
    path = None if document.path is None or not document.path.is_file() else str(document.path.resolve())
    sha256 = None
    if hashed and document.start == 0 and document.end == num_bytes:
        sha256 = document.digest()
    elif hashed and path is not None:
        sha256 = text_digest(path, num_bytes, document.format)
    return SourceRecord(
        document.name,
        path,
        document.encoding,
        num_bytes,
        sha256,
        document.num_replaced,
        document.format,
        document.is_named,
    )


@dataclass(frozen=True)
class Progress:
    """How much was read, over all sources, as results and `famcli inspect` report it.

    num_bytes: of the tokens that were read. num_tokens: including tokens that became final only when the text ended.
    num_blocks: full blocks, without the open one. bytes_unread: bytes after `num_bytes` whose tokens the network has
    not read yet, because reading was interrupted; it reads them before the state is used, or when reading continues.
    """

    num_bytes: int
    num_tokens: int
    num_blocks: int
    bytes_unread: int = field(default=0, metadata={"json": None})


@dataclass(frozen=True, eq=False)
class Cursor:
    """A point between two tokens of a stream, from which reading continues with the same tokens and numbers.

    state, last_hidden: after the last token read; the hidden row is [1, 1, d]. open_tokens: of the open block, after
    those of the closed blocks that the memory has not taken in (`FamConfig.blocks_not_taken_in`). unread: tokens that
    are certain but not read yet, with spans in the last source. next_byte: the byte of the last source from which on no
    token is certain yet. begun: True if any text of the last source became tokens before `next_byte`. tail: the raw
    bytes of the last source from `tail_start` on. line: of byte `tail_start`, from 1. num_tokens, num_blocks: read so
    far, over all sources. progress: the totals that users see, which also count tokens that are not certain yet.
    """

    state: State
    last_hidden: Tensor | None
    open_tokens: NDArray[np.int32]
    unread: TokenRun
    next_byte: int
    begun: bool
    tail: bytes
    line: int
    sources: tuple[SourceRecord, ...]
    num_tokens: int
    num_blocks: int
    progress: Progress

    @property
    def tail_start(self) -> int:
        """The source byte at which `tail` begins: that of the first unread token, or `next_byte`."""
        return int(self.unread.starts[0]) if len(self.unread) else self.next_byte

    @property
    def end_byte(self) -> int:
        """The source byte at which `tail` ends: the last source was read up to here."""
        return self.tail_start + len(self.tail)

    @property
    def num_bytes(self) -> int:
        return sum(source.num_bytes for source in self.sources)

    def tail_source(self, start: int, end: int | None = None) -> Source:
        """The bytes [start, end) of the tail as a source; its offsets are those of the original."""
        first = self.tail_start
        part = self.tail[start - first : None if end is None else end - first]
        encoding = self.sources[-1].encoding
        return open_source("-", encoding=encoding, start=start, stdin=io.BytesIO(part), format=PLAIN_TEXT)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The point that a `Reader` has reached: after every token that was reported.

    states, last_hidden: two each in memory mode "compare". encoder: holds the text that is not tokens yet. Text is fed
    to copies of it, never to itself, so that a snapshot does not change. fed: the source byte up to which text was fed.
    num_tokens: of sources, without what the network reads between them. For the others see `Cursor`.
    """

    states: tuple[State, ...]
    last_hidden: tuple[Tensor | None, ...]
    open_tokens: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    unread: TokenRun = field(default_factory=TokenRun.empty)
    encoder: StreamEncoder | None = None
    fed: int = 0
    num_tokens: int = 0
    num_blocks: int = 0

    @classmethod
    def of(cls, cursor: Cursor, encoder: StreamEncoder) -> Snapshot:
        """Where `cursor` stands. encoder: has taken in the text before its `next_byte`."""
        return cls(
            states=(cursor.state,),
            last_hidden=(cursor.last_hidden,),
            open_tokens=cursor.open_tokens,
            unread=cursor.unread,
            encoder=encoder,
            fed=cursor.next_byte,
            num_tokens=cursor.num_tokens,
            num_blocks=cursor.num_blocks,
        )

    @property
    def next_byte(self) -> int:
        """The source byte of the first text that is not tokens yet."""
        return self.fed if self.encoder is None else self.encoder.pending_start

    def after(self, ids: NDArray[np.int32], read: list[tuple[Tensor, State]], fam: FamConfig) -> Snapshot:
        """The snapshot after `ids`. read: for each state, the last hidden row and the state after them."""
        opened, size = np.concatenate((self.open_tokens, ids)), fam.block_size
        closed, fill = divmod(len(self.open_tokens) % size + len(ids), size)
        kept = min(len(opened), fam.blocks_not_taken_in * size + fill)
        return replace(
            self,
            states=tuple(state for _, state in read),
            last_hidden=tuple(hidden for hidden, _ in read),
            open_tokens=opened[len(opened) - kept :].copy(),
            num_blocks=self.num_blocks + closed,
        )


class TextWindow:
    """The raw bytes and line starts of text that was fed but whose tokens were not reported yet.

    line: the number of the line that contains the window's first byte.
    """

    def __init__(self, start: int = 0, line: int = 1) -> None:
        self._raw = b""
        self._offsets: NDArray[np.int64] = np.array([start], dtype=np.int64)
        self._line = line
        self._line_starts: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def add(self, piece: Piece, keep_from: int) -> None:
        """Append `piece`; nothing before the offset `keep_from` will be asked for again."""
        first = int(np.searchsorted(self._offsets, keep_from))
        passed = int(np.searchsorted(self._line_starts, keep_from, side="right"))
        self._raw = self.tail(int(self._offsets[first]))
        # Copies: views would keep the arrays of all earlier pieces alive.
        self._offsets = self._offsets[first:].copy()
        self._line, self._line_starts = self._line + passed, self._line_starts[passed:].copy()
        offsets = piece.char_offsets()
        self._raw += piece.raw
        self._offsets = np.concatenate((self._offsets[:-1], offsets))
        # A line begins behind each LF, so that CRLF counts once.
        starts = offsets[1:][code_points(piece.text) == ord("\n")] if "\n" in piece.text else self._line_starts[:0]
        self._line_starts = np.concatenate((self._line_starts, starts))

    @property
    def start(self) -> int:
        """The first source byte that it holds. A byte-order mark is left out once it was read."""
        return int(self._offsets[0])

    def tail(self, start: int) -> bytes:
        return self._raw[start - self.start :]

    def line(self, offset: int) -> int:
        return self._line + int(np.searchsorted(self._line_starts, offset, side="right"))
