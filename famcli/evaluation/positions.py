"""Bits per byte of whole documents by position, with the memory on and frozen: what shows if the memory helps.

Documents are read side by side from their start, in whole blocks as in training. Only sums by position are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from famcli.evaluation.intervals import Interval, bootstrap
from famcli.nn import MemoryMode, Network, State
from famcli.reading.engine import check_finite
from famcli.reading.scoring import cross_entropy
from famcli.tokens.tokenizer import Tokenizer

POSITION_DEFINITION = (
    "Each document starts afresh. Each token is predicted from all of its document before it; the first one from the "
    "begin-of-stream token, or not scored if there is none. bits per byte: the sum of -log2 p over the UTF-8 bytes of "
    "the tokens; by position: of the tokens from one position to the next. Differences are another memory mode or "
    "checkpoint minus the first one, document by document from the stated position on, in bits per byte: above 0 the "
    "first one predicts better. \u00b1: standard error over documents; the interval is 95 %, by bootstrap over "
    "documents."
)

# Documents that are read side by side.
_BATCH = 8
_BLOCKS_PER_CALL = 4


@dataclass(frozen=True)
class DocumentScore:
    """Sums of one document by position bucket [k]: nats, bytes, tokens, and tokens predicted right."""

    nats: NDArray[np.float64]
    num_bytes: NDArray[np.int64]
    num_tokens: NDArray[np.int64]
    num_right: NDArray[np.int64]


@dataclass(frozen=True)
class Subject:
    name: str
    network: Network
    memory_mode: MemoryMode


@dataclass(frozen=True)
class SubjectFigures:
    """One subject over all documents.

    by_position: bits per byte in each bucket, over the documents that reach it. accuracy: share of tokens that were
    the most likely one.
    """

    model: str
    memory_mode: MemoryMode
    bits_per_byte: float
    perplexity: float
    accuracy: float
    by_position: tuple[float, ...]


@dataclass(frozen=True)
class PairedDifference:
    """Bits per byte of `other` minus those of the first subject, document by document, from a position on.

    Above 0 the first subject predicts better. mean: over documents. standard_error: of the mean. interval: bootstrap
    over documents, 95 %. These three are None if fewer than two documents are long enough.
    """

    other: str
    other_mode: MemoryMode
    from_position: int
    documents: int
    mean: float | None
    standard_error: float | None
    interval: Interval | None


@dataclass(frozen=True)
class DocumentFigures:
    """Figures of all subjects over all documents; the first subject is the one that others are compared with.

    positions: the first token of each bucket. longest: tokens scored of the longest document.
    """

    documents: int
    tokens: int
    bytes: int
    longest: int
    positions: tuple[int, ...]
    subjects: tuple[SubjectFigures, ...]
    differences: tuple[PairedDifference, ...]


def bucket_starts(block_size: int, num_tokens: int) -> tuple[int, ...]:
    """First positions of the buckets: 0, C, 2C, 4C, 8C, ... below `num_tokens`."""
    starts = [0]
    while max(block_size, 2 * starts[-1]) < num_tokens:
        starts.append(max(block_size, 2 * starts[-1]))
    return tuple(starts)


@torch.no_grad()
def score_documents(
    subject: Subject,
    documents: Sequence[NDArray[np.integer]],
    num_bytes: NDArray[np.int64],
    bos_id: int | None,
    *,
    max_tokens: int | None = None,
    starts: Sequence[int] | None = None,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> list[DocumentScore]:
    """Scores of `documents` (tokens [n] of each), each cut to `max_tokens`, in their order. Computes without gradients.

    num_bytes [v]: bytes of each token (`token_num_bytes`). starts: first positions of the buckets; by default the
    `bucket_starts` of the longest document. on_tokens: called with the number of tokens as they are scored.
    """
    rows = [document[:max_tokens] for document in documents]
    # Longest first: the rows of a batch then end from the last one on, and batches waste little.
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    starts = starts or bucket_starts(subject.network.fam.block_size, max(map(len, rows)))
    scores: dict[int, DocumentScore] = {}
    for first in range(0, len(order), _BATCH):
        members = order[first : first + _BATCH]
        batch = [_inputs_targets(rows[index], bos_id) for index in members]
        sums = _score_rows(subject, batch, starts, num_bytes, on_tokens)
        for index, row in zip(members, sums, strict=True):
            scores[index] = DocumentScore(row[0], *row[1:].astype(np.int64))
    return [scores[index] for index in range(len(rows))]


def document_figures(
    subjects: Sequence[Subject],
    tokenizer: Tokenizer,
    documents: Sequence[NDArray[np.integer]],
    *,
    on_tokens: Callable[[Subject, int], None] = lambda subject, count: None,
) -> Iterator[DocumentFigures]:
    """Score `documents` with every subject, the longest first, a few side by side.

    Yields the figures of all documents so far after each few; the last ones are of all. Each document starts afresh;
    its first token is predicted from BOS, or not scored without one. Differences are taken from the position on from
    which the first subject's window of (m + 1) * C tokens no longer reaches back to the start. on_tokens: called with
    the number of tokens as they are scored.
    """
    ordered = sorted(documents, key=lambda document: -len(document))
    num_bytes, fam = token_num_bytes(tokenizer), subjects[0].network.fam
    starts = bucket_starts(fam.block_size, len(ordered[0]))
    window = (fam.memory_segments + 1) * fam.block_size
    scores: list[list[DocumentScore]] = [[] for _ in subjects]
    for first in range(0, len(ordered), _BATCH):
        for subject, so_far in zip(subjects, scores, strict=True):
            few, on_read = ordered[first : first + _BATCH], partial(on_tokens, subject)
            so_far += score_documents(subject, few, num_bytes, tokenizer.bos_id, starts=starts, on_tokens=on_read)
        lengths = [int(score.num_tokens.sum()) for score in scores[0]]
        pairs = list(zip(subjects, scores, strict=True))
        yield DocumentFigures(
            documents=len(lengths),
            tokens=sum(lengths),
            bytes=sum(int(score.num_bytes.sum()) for score in scores[0]),
            longest=max(lengths),
            positions=starts,
            subjects=tuple(_figures(subject, own, starts) for subject, own in pairs),
            differences=tuple(_paired(subject, own, scores[0], starts, window) for subject, own in pairs[1:]),
        )


def bits_per_byte(scores: Iterable[DocumentScore], part: int | slice = slice(None)) -> float:
    """All bits over all bytes of the documents, in one position bucket, in several, or in all. NaN without bytes."""
    chosen = list(scores)
    num_bytes = sum(int(score.num_bytes[part].sum()) for score in chosen)
    nats = sum(float(score.nats[part].sum()) for score in chosen)
    return nats / math.log(2) / num_bytes if num_bytes else math.nan


def token_num_bytes(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """UTF-8 bytes that each token stands for, [v]; 0 for control tokens."""
    return np.array([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)], dtype=np.int64)


def _inputs_targets(tokens: NDArray[np.integer], bos_id: int | None) -> tuple[Tensor, Tensor]:
    """Inputs and targets [n]; with BOS every token is predicted, without it all but the first."""
    ids = torch.from_numpy(np.asarray(tokens).astype(np.int64))
    if bos_id is None:
        return ids[:-1], ids[1:]
    return torch.cat((torch.tensor([bos_id]), ids[:-1])), ids


def _score_rows(
    subject: Subject,
    rows: list[tuple[Tensor, Tensor]],
    starts: Sequence[int],
    num_bytes: NDArray[np.int64],
    on_tokens: Callable[[int], None],
) -> NDArray[np.float64]:
    """Sums [row, (nats, bytes, tokens, right), bucket]. Rows come longest first, so rows end from the last one on."""
    network, sums = subject.network, np.zeros((len(rows), 4, len(starts)))
    # Calls of one length, padded at the end: rows of a batch end in different blocks, and rows that have ended are
    # split off before the next call. Padding follows the last token of a row, so nothing of the row sees it.
    span = _BLOCKS_PER_CALL * network.fam.block_size
    state, alive = network.start(len(rows), subject.memory_mode), len(rows)
    for offset in range(0, len(rows[0][0]), span):
        remaining = sum(len(inputs) > offset for inputs, _ in rows)
        if remaining < alive:
            state, alive = State.stack(state.split()[:remaining]), remaining
        inputs = torch.zeros(alive, span, dtype=torch.int64)
        for row, (tokens, _) in zip(inputs, rows, strict=False):
            part = tokens[offset : offset + span]
            row[: len(part)] = part
        hidden, state = network.read(inputs.to(network.device), state)
        check_finite(hidden)
        for row in range(alive):
            targets = rows[row][1][offset : offset + span]
            seen, wanted = hidden[row : row + 1, : len(targets)], targets[None].to(hidden.device)
            nats, right = (values[0].double().numpy() for values in cross_entropy(network, seen, wanted))
            bucket = np.searchsorted(starts, np.arange(offset, offset + len(targets)), side="right") - 1
            columns = (nats, num_bytes[targets.numpy()], np.ones(len(targets)), right)
            for number, column in enumerate(columns):
                sums[row, number] += np.bincount(bucket, weights=column, minlength=len(starts))
            on_tokens(len(targets))
    return sums


def _figures(subject: Subject, scores: Sequence[DocumentScore], starts: Sequence[int]) -> SubjectFigures:
    nats = sum(float(score.nats.sum()) for score in scores)
    num_tokens = max(1, sum(int(score.num_tokens.sum()) for score in scores))
    return SubjectFigures(
        model=subject.name,
        memory_mode=subject.memory_mode,
        bits_per_byte=bits_per_byte(scores),
        perplexity=math.exp(nats / num_tokens),
        accuracy=sum(int(score.num_right.sum()) for score in scores) / num_tokens,
        by_position=tuple(bits_per_byte(scores, bucket) for bucket in range(len(starts))),
    )


def _paired(
    subject: Subject,
    scores: Sequence[DocumentScore],
    first: Sequence[DocumentScore],
    starts: Sequence[int],
    window: int,
) -> PairedDifference:
    bucket = next((index for index, start in enumerate(starts) if start >= window), len(starts))
    # Before the window is full, text itself is visible, and modes differ little.
    tail = slice(bucket, None)
    gaps = [bits_per_byte([own], tail) - bits_per_byte([base], tail) for own, base in zip(scores, first, strict=True)]
    # Documents that do not reach so far have NaN.
    values = np.array([gap for gap in gaps if not math.isnan(gap)])
    several = len(values) > 1
    return PairedDifference(
        other=subject.name,
        other_mode=subject.memory_mode,
        from_position=starts[bucket] if bucket < len(starts) else window,
        documents=len(values),
        mean=float(values.mean()) if several else None,
        standard_error=float(values.std(ddof=1) / math.sqrt(len(values))) if several else None,
        interval=bootstrap(values),
    )
