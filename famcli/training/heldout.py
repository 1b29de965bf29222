"""The figures of a model card: whole held-out documents, read once after the run, with the memory on and frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from famcli.nn.decoder import Decoder
from famcli.nn.state import MemoryMode
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.checks import DocumentScore, bits_per_byte, bucket_starts, score_documents
from famcli.training.corpus import pack, token_num_bytes
from famcli.training.events import ScoreProgress, TrainEvent
from famcli.training.recipe import CorpusRecipe

_BATCH = 8


def heldout_figures(
    network: Decoder,
    tokenizer: Tokenizer,
    path: Path,
    cache: Path,
    on_event: Callable[[TrainEvent], None] = lambda event: None,
) -> dict[str, Any]:
    """Bits per byte, next-token accuracy and more over all documents of the corpus at `path`, as plain values.

    Each document starts afresh, its first token is predicted from BOS. `difference` pairs the memory modes document by
    document, past the window of (m + 1) * C tokens: frozen minus on, so above 0 the memory helps.
    """
    corpus = pack(CorpusRecipe(name="heldout", path=path, weight=1.0), tokenizer, cache, 0, on_progress=on_event)
    documents = sorted((corpus.document(index) for index in range(len(corpus))), key=lambda item: -len(item.tokens))
    widths = token_num_bytes(tokenizer)
    modes: tuple[MemoryMode, ...] = ("on", "frozen") if network.fam.fam_length else ("on",)
    longest = len(documents[0].tokens)
    starts = bucket_starts(network.fam.block_size, longest)
    scores: dict[str, list[DocumentScore]] = {mode: [] for mode in modes}
    for mode in modes:
        done = 0
        for first in range(0, len(documents), _BATCH):
            batch = documents[first : first + _BATCH]
            scores[mode] += score_documents(network, batch, widths, tokenizer.bos_id, memory_mode=mode, batch=_BATCH)
            done += sum(len(document.tokens) for document in batch)
            on_event(ScoreProgress(mode, done, corpus.num_tokens))
    figures: dict[str, Any] = {
        "corpus": path.name,
        "documents": len(documents),
        "tokens": corpus.num_tokens,
        "bytes": int(corpus.num_bytes.sum()),
        "longest_document_tokens": longest,
        "dtype": str(network.dtype).removeprefix("torch."),
        "positions": list(starts),
        "modes": {mode: _mode_figures(members, len(starts)) for mode, members in scores.items()},
    }
    if len(modes) == 2:
        window = (network.fam.memory_segments + 1) * network.fam.block_size
        figures["difference"] = _paired(scores["frozen"], scores["on"], starts, window)
    return figures


def _mode_figures(scores: Sequence[DocumentScore], num_buckets: int) -> dict[str, Any]:
    nats = sum(float(score.nats.sum()) for score in scores)
    num_tokens = sum(int(score.num_tokens.sum()) for score in scores)
    return {
        "bits_per_byte": bits_per_byte(scores),
        "perplexity": math.exp(nats / num_tokens),
        "accuracy": sum(int(score.num_right.sum()) for score in scores) / num_tokens,
        "by_position": [_bits_in_bucket(scores, bucket) for bucket in range(num_buckets)],
    }


def _bits_in_bucket(scores: Sequence[DocumentScore], bucket: int) -> float | None:
    """Bits per byte in one bucket of the common scale, over the documents that reach it."""
    return bits_per_byte([score for score in scores if len(score.nats) > bucket], bucket)


def _paired(
    worse: Sequence[DocumentScore], better: Sequence[DocumentScore], starts: Sequence[int], window: int
) -> dict[str, Any]:
    """Mean over documents of the difference in bits per byte at positions from `window` on, and its standard error."""
    first = next((bucket for bucket, start in enumerate(starts) if start >= window), len(starts))
    pairs = [(_tail_bits(left, first), _tail_bits(right, first)) for left, right in zip(worse, better, strict=True)]
    differences = np.array([left - right for left, right in pairs if not math.isnan(left)])
    if len(differences) < 2:
        return {"documents": len(differences)}
    return {
        "from_position": window,
        "documents": len(differences),
        "mean": float(differences.mean()),
        "standard_error": float(differences.std(ddof=1) / math.sqrt(len(differences))),
    }


def _tail_bits(score: DocumentScore, first: int) -> float:
    num_bytes = int(score.num_bytes[first:].sum())
    return float(score.nats[first:].sum()) / math.log(2) / num_bytes if num_bytes else math.nan
