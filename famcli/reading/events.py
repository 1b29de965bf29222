"""What a `Reader` reports while it reads, as frozen values.

A source is a document that the user named. Its text arrives in `TextEvent`s and its tokens in `BlockEvent`s, each text
before its tokens. What else the network reads (the begin-of-stream token, the names between several files) belongs to
no source and is in no event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from famcli.documents.source import Piece, Source
from famcli.plain import plural

Span = tuple[int, int]
"""A half-open range of source bytes: byte-order mark and original encoding included."""


@dataclass(frozen=True, eq=False)
class SourceStart:
    """A source begins, or continues after it has grown.

    index: of the source in this reading, from 0. start: the byte at which reading begins (0 unless it continues).
    """

    source: Source
    index: int
    start: int = 0


@dataclass(frozen=True, eq=False)
class TextEvent:
    """A piece of a source's text; pieces come in order and without gaps.

    Its tokens follow in `BlockEvent`s, perhaps together with those of later pieces. A source that continues gives only
    the text from `SourceStart.start` on; tokens that were waiting for their block are of text before it.
    """

    source_index: int
    piece: Piece


# eq=False, here and below: the equality of a dataclass asks arrays and tensors for one truth value, which they lack.
@dataclass(frozen=True, eq=False)
class BlockEvent:
    """Tokens of one source that were read in one go: one block, or less of it at the edges of a source.

    A block is reported in one event except where a source begins or ends inside it (or with `eager`, where it was read
    in pieces); with `whole_calls` an event may be of several blocks. num_closed: blocks that ended in it, the last one
    with its last token. The tokens at the end of a source that only the end made certain are reported like all others.

    index: of the first block in the stream, from 0. source, source_index: whose tokens. span: source bytes of all n
    tokens, n at least 1. line: of its first byte, from 1.
    tokens [n] int32; token_starts, token_ends [n] int64: each token's source bytes; the byte tokens of one character
    all carry that character's span.
    nll: [n] float32 on the CPU, nats, with `score`; NaN for a first token that nothing predicts (no begin-of-stream
    token). correct: [n] bool, the most likely token was the right one (False where nll is NaN). nll_frozen,
    correct_frozen: the same with the memory frozen, in memory mode "compare"; else None.
    attention: [n] float32 on the CPU, with `attention` and where the block closed: the share of the memory's attention
    each token received while the block was compressed; None while the block is open, or if the memory is not updated.
    """

    index: int
    source: str
    source_index: int
    span: Span
    line: int
    num_closed: int
    tokens: NDArray[np.int32]
    token_starts: NDArray[np.int64]
    token_ends: NDArray[np.int64]
    nll: Tensor | None = None
    correct: Tensor | None = None
    nll_frozen: Tensor | None = None
    correct_frozen: Tensor | None = None
    attention: Tensor | None = None

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    @property
    def closed(self) -> bool:
        """Whether a block ended with its last token."""
        return self.num_closed > 0


@dataclass(frozen=True)
class SourceEnd:
    """A source was read to its end.

    num_bytes, num_tokens, num_blocks: of this source in this reading (its names between not counted; num_blocks:
    blocks that closed in it). num_replaced: invalid byte sequences that were read as U+FFFD. sha256: of the bytes
    [0, num_bytes), None if they are no longer available (a pipe that was read in several runs).
    """

    name: str
    index: int
    num_bytes: int
    num_tokens: int
    num_blocks: int
    num_replaced: int
    sha256: str | None
    encoding: str


@dataclass(frozen=True)
class ReadingWarning:
    """Something a reader of the result must know. Each code is reported at most once in a reading.

    code: "past-validated-length", "invalid-bytes" or "unknown-tokens". message: one line for people.
    """

    code: str
    message: str


Event = SourceStart | TextEvent | BlockEvent | SourceEnd | ReadingWarning


def invalid_bytes(name: str, number: int, encoding: str) -> ReadingWarning:
    return ReadingWarning(
        "invalid-bytes",
        f"{name}: {plural(number, 'byte sequence')} not valid in {encoding} read as U+FFFD; if "
        "there are many, name the encoding",
    )


def unknown_tokens(name: str, number: int) -> ReadingWarning:
    return ReadingWarning(
        "unknown-tokens",
        f"{name}: {plural(number, 'token')} unknown to the tokenizer; their text is lost to the "
        "network, and bits per byte come out too low",
    )


def past_validated_length(model_name: str, limit: int) -> ReadingWarning:
    return ReadingWarning(
        "past-validated-length",
        f"the text is longer than the {limit:,} tokens that {model_name} was validated for; results past that length "
        "are not covered by its evaluation",
    )


def read_text(documents: Iterable[Source]) -> Iterator[Event]:
    """The events of reading documents one after the other without a network, for what needs their words alone."""
    warned = False
    for index, document in enumerate(documents):
        with document:
            yield SourceStart(document, index)
            for piece in document.pieces():
                yield TextEvent(index, piece)
            name, encoding, num_replaced = document.name, document.encoding, document.num_replaced
            if num_replaced and not warned:
                warned = True
                yield invalid_bytes(name, num_replaced, encoding)
            yield SourceEnd(name, index, document.end, 0, 0, num_replaced, document.digest(), encoding)
