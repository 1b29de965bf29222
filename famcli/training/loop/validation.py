"""Measurements during a run and after it: bits per byte by position, and pass keys by distance.

Both are measured with the memory on and frozen, on documents that are never trained on: the difference shows if the
memory helps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from famcli.evaluation.positions import (
    Subject,
    bits_per_byte,
    bucket_starts,
    document_figures,
    score_documents,
    token_num_bytes,
)
from famcli.evaluation.recall import passkey_trials, score_trials, trial_tokens
from famcli.evaluation.texts import TokenCorpus, TokenDocument
from famcli.nn import MemoryMode, Network
from famcli.plain import to_json
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.data.corpus import OnProgress, ignore_progress, pack
from famcli.training.loop.run_folder import CheckDone, PasskeyDone, ScoreProgress, TrainEvent
from famcli.training.recipe.sections import ChecksRecipe, CorpusRecipe


def choose_validation(corpora: Sequence[TokenCorpus], count: int, num_tokens: int) -> dict[str, list[TokenDocument]]:
    """By corpus, its first `count` documents of at least `num_tokens`; corpora without any are left out."""
    chosen = {}
    for corpus in corpora:
        long_enough = np.flatnonzero(np.diff(corpus.offsets) >= num_tokens)[:count]
        if len(long_enough):
            chosen[corpus.name] = [corpus.document(int(index)) for index in long_enough]
    return chosen


def check_documents(
    network: Network, validation: Sequence[TokenCorpus], tokenizer: Tokenizer, checks: ChecksRecipe, step: int
) -> CheckDone | None:
    """Bits per byte of the validation documents after `step` steps; None if no document is long enough."""
    began = time.monotonic()
    documents = choose_validation(validation, checks.documents, checks.tokens)
    if not documents:
        return None
    starts = bucket_starts(network.fam.block_size, checks.tokens)
    num_bytes = token_num_bytes(tokenizer)
    total: dict[str, float] = {}
    by_corpus: dict[str, dict[str, float]] = {}
    by_position: dict[str, list[float]] = {}
    for mode in _modes(network):
        scores = {
            name: score_documents(
                network, members, num_bytes, tokenizer.bos_id, memory_mode=mode, max_tokens=checks.tokens
            )
            for name, members in documents.items()
        }
        everything = [score for members in scores.values() for score in members]
        total[mode] = bits_per_byte(everything)
        by_corpus[mode] = {name: bits_per_byte(members) for name, members in scores.items()}
        by_position[mode] = [bits_per_byte(everything, bucket) for bucket in range(len(starts))]
    return CheckDone(step, total, by_corpus, starts, by_position, time.monotonic() - began)


def check_passkeys(
    network: Network,
    validation: Sequence[TokenCorpus],
    tokenizer: Tokenizer,
    distances: Sequence[int],
    streams: int,
    step: int,
) -> PasskeyDone | None:
    """Pass keys of five digits, recalled `distances` tokens after a stream began, with the key at a random depth.

    The filler is the largest validation corpus; keys and places are the same every time. Distances too short for a key
    are left out. None if no distance is left, or there is no validation text.
    """
    began = time.monotonic()
    # In a text hardly longer than its statement, recalling the key would show nothing.
    shortest = 2 * trial_tokens(passkey_trials([0], streams=1), tokenizer)
    lengths = [distance for distance in distances if distance >= shortest]
    if not lengths or not validation:
        return None
    # The largest corpus repeats least over the streams.
    texts = max(validation, key=lambda corpus: corpus.num_tokens)
    trials = passkey_trials(lengths, streams=streams)
    right: dict[str, list[int]] = {}
    for mode in _modes(network):
        *_, cells = score_trials(trials, "", network, tokenizer, texts, memory_mode=mode, batch=streams)
        by_length = {cell.length: cell.right for cell in cells}
        right[mode] = [by_length[length] for length in lengths]
    return PasskeyDone(step, tuple(lengths), streams, right, time.monotonic() - began)


def open_heldout(
    path: Path, tokenizer: Tokenizer, cache: Path, on_progress: OnProgress = ignore_progress
) -> TokenCorpus:
    """The held-out corpus at `path` as tokens, from the cache if it is there."""
    return pack(CorpusRecipe(name="heldout", path=path, weight=1.0), tokenizer, cache, 0, on_progress=on_progress)


def heldout_figures(
    network: Network,
    tokenizer: Tokenizer,
    path: Path,
    cache: Path,
    on_event: Callable[[TrainEvent], None] = ignore_progress,
) -> dict[str, Any]:
    """The figures of a model card: bits per byte, accuracy and more over the corpus at `path`, as plain values.

    Each document is read once in each memory mode and starts afresh; its first token is predicted from BOS.
    `difference` pairs the modes document by document, past the window of (m + 1) * C tokens: frozen minus on, so above
    0 the memory helps.
    """
    corpus = open_heldout(path, tokenizer, cache, on_event)
    done: dict[str, int] = dict.fromkeys(_modes(network), 0)

    def on_tokens(subject: Subject, count: int) -> None:
        done[subject.memory_mode] += count
        on_event(ScoreProgress(subject.memory_mode, done[subject.memory_mode], corpus.num_tokens))

    subjects = [Subject("", network, mode) for mode in _modes(network)]
    *_, total = document_figures(subjects, tokenizer, corpus.documents(), on_tokens=on_tokens)
    shown = ("bits_per_byte", "perplexity", "accuracy", "by_position")
    figures: dict[str, Any] = {
        "corpus": path.name,
        "documents": total.documents,
        "tokens": total.tokens,
        "bytes": total.bytes,
        "longest_document_tokens": total.longest,
        "dtype": str(network.dtype).removeprefix("torch."),
        "positions": list(total.positions),
        "modes": {subject.memory_mode: {key: to_json(subject)[key] for key in shown} for subject in total.subjects},
    }
    for difference in total.differences:
        shown = ("from_position", "documents", "mean", "standard_error")
        figures["difference"] = {key: to_json(difference)[key] for key in shown}
    return figures


def _modes(network: Network) -> tuple[MemoryMode, ...]:
    """The memory modes to compare."""
    return ("on", "frozen") if network.fam.fam_length else ("on",)
