"""Figures over whole documents: bits per byte in all and by position, and paired differences between memory modes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from famcli.evaluation.intervals import Interval, bootstrap
from famcli.evaluation.positions import (
    Document,
    DocumentScore,
    bits_per_byte,
    bucket_starts,
    score_documents,
    token_num_bytes,
)
from famcli.nn import MemoryMode, Network
from famcli.tokens.tokenizer import Tokenizer

_BATCH = 8


@dataclass(frozen=True)
class Subject:
    """What is judged: a network by its name, in one memory mode."""

    name: str
    network: Network
    memory_mode: MemoryMode


@dataclass(frozen=True)
class SubjectFigures:
    """Of one subject over all documents. by_position: bits per byte in each bucket, over the documents that reach it;
    accuracy: share of tokens that were the most likely one."""

    model: str
    memory_mode: MemoryMode
    bits_per_byte: float
    perplexity: float
    accuracy: float
    by_position: tuple[float, ...]


@dataclass(frozen=True)
class PairedDifference:
    """Bits per byte of `other` minus those of the first subject, document by document, from a position on.

    Above 0 the first subject predicts better. mean over documents; standard_error: of it; interval: bootstrap over
    documents, 95 %. The last three are None where fewer than two documents are long enough.
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
    """All figures. positions: first token of each bucket. longest: tokens scored of the longest document. The first
    subject is what the others are compared with."""

    documents: int
    tokens: int
    bytes: int
    longest: int
    positions: tuple[int, ...]
    subjects: tuple[SubjectFigures, ...]
    differences: tuple[PairedDifference, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Scored:
    """Documents that all subjects have scored. scores[subject][document]; starts: first token of each bucket."""

    subjects: tuple[Subject, ...]
    starts: tuple[int, ...]
    scores: tuple[tuple[DocumentScore, ...], ...]

    def figures(self) -> DocumentFigures:
        """What the scores add up to."""
        first = self.scores[0]
        fam = self.subjects[0].network.fam
        window = (fam.memory_segments + 1) * fam.block_size
        lengths = [int(score.num_tokens.sum()) for score in first]
        pairs = list(zip(self.subjects, self.scores, strict=True))
        return DocumentFigures(
            documents=len(first),
            tokens=sum(lengths),
            bytes=sum(int(score.num_bytes.sum()) for score in first),
            longest=max(lengths),
            positions=self.starts,
            subjects=tuple(_figures(subject, scores, self.starts) for subject, scores in pairs),
            differences=tuple(_paired(subject, scores, first, self.starts, window) for subject, scores in pairs[1:]),
        )


def score_subjects(
    subjects: Sequence[Subject],
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    max_tokens: int | None = None,
    on_tokens: Callable[[Subject, int], None] = lambda subject, count: None,
) -> Iterator[Scored]:
    """Score `documents` (each cut to `max_tokens`) by every subject, the longest first, some at a time side by side;
    all that was scored so far, after each time. Each document starts afresh; its first token is predicted from BOS, or
    not scored without one. `on_tokens` is told of tokens as they are scored.
    """
    ordered = sorted(documents, key=lambda document: -len(document.tokens))
    widths = token_num_bytes(tokenizer)
    longest = min(len(ordered[0].tokens), max_tokens or len(ordered[0].tokens))
    starts = bucket_starts(subjects[0].network.fam.block_size, longest)
    scores: list[tuple[DocumentScore, ...]] = [() for _ in subjects]
    for first in range(0, len(ordered), _BATCH):
        for index, subject in enumerate(subjects):
            scores[index] += tuple(
                score_documents(
                    subject.network,
                    ordered[first : first + _BATCH],
                    widths,
                    tokenizer.bos_id,
                    memory_mode=subject.memory_mode,
                    max_tokens=max_tokens,
                    batch=_BATCH,
                    starts=starts,
                    on_tokens=partial(on_tokens, subject),
                )
            )
        yield Scored(tuple(subjects), starts, tuple(scores))


def document_figures(
    subjects: Sequence[Subject],
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    max_tokens: int | None = None,
    on_tokens: Callable[[Subject, int], None] = lambda subject, count: None,
) -> DocumentFigures:
    """The figures of all `documents` (see `score_subjects`), of which there must be one at least.

    Differences are taken at positions from which the first subject's window of (m + 1) * C tokens no longer reaches
    back to the start.
    """
    *_, scored = score_subjects(subjects, tokenizer, documents, max_tokens=max_tokens, on_tokens=on_tokens)
    return scored.figures()


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
    pairs = [(_tail(score, bucket), _tail(other, bucket)) for score, other in zip(scores, first, strict=True)]
    values = np.array([left - right for left, right in pairs if not math.isnan(left)])
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


def _tail(score: DocumentScore, bucket: int) -> float:
    """Bits per byte of one document from a bucket on; NaN where it does not reach it."""
    num_bytes = int(score.num_bytes[bucket:].sum())
    return float(score.nats[bucket:].sum()) / math.log(2) / num_bytes if num_bytes else math.nan
