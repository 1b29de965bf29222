"""Bits per byte of documents by position, with the memory on and frozen: what tells whether the memory earns its keep.

Documents are read side by side from their start, whole blocks at a time, as in training; nothing is kept of them but
sums by position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from famcli.nn import MemoryMode, Network, State
from famcli.reading.engine import check_finite
from famcli.reading.scoring import cross_entropy
from famcli.tokens.tokenizer import Tokenizer


class Document(Protocol):
    """A document as tokens: `tokens` may be a memory map; no BOS."""

    @property
    def id(self) -> str: ...
    @property
    def tokens(self) -> NDArray[Any]: ...


@dataclass(frozen=True)
class DocumentScore:
    """Sums of one document by position bucket [k]: nats, bytes, tokens, and tokens predicted right."""

    id: str
    nats: NDArray[np.float64]
    num_bytes: NDArray[np.int64]
    num_tokens: NDArray[np.int64]
    num_right: NDArray[np.int64]

    @property
    def bits_per_byte(self) -> float:
        return float(self.nats.sum() / math.log(2) / max(self.num_bytes.sum(), 1))


def bucket_starts(block_size: int, num_tokens: int) -> tuple[int, ...]:
    """First positions of the buckets: 0, C, 2C, 4C, 8C, ... below `num_tokens`."""
    starts = [0]
    while max(block_size, 2 * starts[-1]) < num_tokens:
        starts.append(max(block_size, 2 * starts[-1]))
    return tuple(starts)


def score_documents(
    network: Network,
    documents: Sequence[Document],
    num_bytes: NDArray[np.int64],
    bos_id: int | None,
    *,
    memory_mode: MemoryMode = "on",
    max_tokens: int | None = None,
    batch: int = 8,
    blocks_per_call: int = 4,
    starts: Sequence[int] | None = None,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> list[DocumentScore]:
    """Scores of `documents`, each cut to `max_tokens`, in their order. Needs no gradient and leaves none.

    num_bytes [v]: bytes of each token (`token_num_bytes`). starts: first positions of the buckets (`bucket_starts` of
    the longest document if not given). on_tokens is told of tokens as they are scored.
    """
    lengths = [min(len(document.tokens), max_tokens or len(document.tokens)) for document in documents]
    order = sorted(range(len(documents)), key=lambda index: -lengths[index])
    starts = starts or bucket_starts(network.fam.block_size, max(lengths))
    scores: dict[int, DocumentScore] = {}
    with torch.no_grad():
        for first in range(0, len(order), batch):
            members = order[first : first + batch]
            rows = [_inputs_targets(documents[index].tokens[: lengths[index]], bos_id) for index in members]
            sums = _score_rows(network, rows, starts, num_bytes, memory_mode, blocks_per_call, on_tokens)
            for index, part in zip(members, sums, strict=True):
                nats, others = part[0], part[1:].astype(np.int64)
                scores[index] = DocumentScore(documents[index].id, nats, others[0], others[1], others[2])
    return [scores[index] for index in range(len(documents))]


def bits_per_byte(scores: Iterable[DocumentScore], bucket: int | None = None) -> float:
    """Bits per byte over documents: all bits over all bytes, of one position bucket or of all. NaN without bytes."""
    chosen = list(scores)
    pick = slice(None) if bucket is None else slice(bucket, bucket + 1)
    num_bytes = sum(int(score.num_bytes[pick].sum()) for score in chosen)
    nats = sum(float(score.nats[pick].sum()) for score in chosen)
    return nats / math.log(2) / num_bytes if num_bytes else math.nan


def token_num_bytes(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """UTF-8 bytes that each token stands for, [v]; 0 for control tokens."""
    return np.array([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)], dtype=np.int64)


def _inputs_targets(tokens: NDArray[np.integer], bos_id: int | None) -> tuple[Tensor, Tensor]:
    """Inputs and targets [n]; with BOS every token is predicted, else all but the first."""
    ids = torch.from_numpy(np.asarray(tokens).astype(np.int64))
    if bos_id is None:
        return ids[:-1], ids[1:]
    return torch.cat((torch.tensor([bos_id]), ids[:-1])), ids


def _score_rows(
    network: Network,
    rows: list[tuple[Tensor, Tensor]],
    starts: Sequence[int],
    num_bytes: NDArray[np.int64],
    memory_mode: MemoryMode,
    blocks_per_call: int,
    on_tokens: Callable[[int], None],
) -> NDArray[np.float64]:
    """Sums [row, (nats, bytes, tokens, right), bucket]. Rows come longest first, so those that end are the last."""
    sums = np.zeros((len(rows), 4, len(starts)))
    span = blocks_per_call * network.fam.block_size
    state, alive = network.start(len(rows), memory_mode), len(rows)
    for offset in range(0, len(rows[0][0]), span):
        still = sum(len(inputs) > offset for inputs, _ in rows)
        if still < alive:
            state, alive = State.stack(state.split()[:still]), still
        inputs = torch.zeros(alive, span, dtype=torch.int64)
        for row in range(alive):
            piece = rows[row][0][offset : offset + span]
            inputs[row, : len(piece)] = piece
        hidden, state = network.read(inputs.to(network.device), state)
        check_finite(hidden)
        for row in range(alive):
            targets = rows[row][1][offset : offset + span]
            seen, wanted = hidden[row : row + 1, : len(targets)], targets[None].to(hidden.device)
            nats, right = (each[0].double().numpy() for each in cross_entropy(network, seen, wanted))
            bucket = np.searchsorted(starts, np.arange(offset, offset + len(targets)), side="right") - 1
            columns = (nats, num_bytes[targets.numpy()], np.ones(len(targets)), right)
            for number, column in enumerate(columns):
                sums[row, number] += np.bincount(bucket, weights=column, minlength=len(starts))
            on_tokens(len(targets))
    return sums
