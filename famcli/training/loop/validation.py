"""Measurements during a run and after it: bits per byte by position, and pass keys by distance.

Both are measured with the memory on and frozen, on documents that are never trained on: the difference shows if the
memory helps.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from famcli.evaluation.positions import (
    Subject,
    bits_per_byte,
    bucket_starts,
    document_figures,
    score_documents,
    token_num_bytes,
)
from famcli.evaluation.recall import passkey_trials, score_trials, trial_tokens
from famcli.evaluation.texts import TokenCorpus
from famcli.nn import MemoryMode, Network
from famcli.plain import to_json
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.data.corpus import OnProgress, ignore_progress, pack
from famcli.training.loop.run_folder import CheckDone, PasskeyDone, ScoreProgress, TrainEvent
from famcli.training.recipe.sections import ChecksRecipe, CorpusRecipe


def choose_validation(corpora: Sequence[TokenCorpus], count: int, num_tokens: int) -> dict[str, list[NDArray[Any]]]:
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
    starts, num_bytes = bucket_starts(network.fam.block_size, checks.tokens), token_num_bytes(tokenizer)
    scores = {
        subject.memory_mode: {
            name: score_documents(subject, members, num_bytes, tokenizer.bos_id, max_tokens=checks.tokens)
            for name, members in documents.items()
        }
        for subject in _subjects(network)
    }
    together = {mode: list(chain(*corpora.values())) for mode, corpora in scores.items()}
    return CheckDone(
        step=step,
        bits_per_byte={mode: bits_per_byte(own) for mode, own in together.items()},
        by_corpus={mode: {name: bits_per_byte(own) for name, own in each.items()} for mode, each in scores.items()},
        positions=starts,
        by_position={mode: [bits_per_byte(own, part) for part in range(len(starts))] for mode, own in together.items()},
        seconds=time.monotonic() - began,
    )


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
    for subject in _subjects(network):
        *_, cells = score_trials(trials, subject, tokenizer, texts, batch=streams)
        by_length = {cell.length: cell.right for cell in cells}
        right[subject.memory_mode] = [by_length[length] for length in lengths]
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
    done = Counter[str]()

    def on_tokens(subject: Subject, count: int) -> None:
        done[subject.memory_mode] += count
        on_event(ScoreProgress(subject.memory_mode, done[subject.memory_mode], corpus.num_tokens))

    *_, total = document_figures(_subjects(network), tokenizer, corpus.documents(), on_tokens=on_tokens)
    plain = to_json(total)
    shown = ("bits_per_byte", "perplexity", "accuracy", "by_position")
    compared = ("from_position", "documents", "mean", "standard_error")
    figures = {
        "corpus": path.name,
        **{name: plain[name] for name in ("documents", "tokens", "bytes")},
        "longest_document_tokens": total.longest,
        "dtype": str(network.dtype).removeprefix("torch."),
        "positions": plain["positions"],
        "modes": {each["memory_mode"]: {key: each[key] for key in shown} for each in plain["subjects"]},
    }
    for each in plain["differences"]:
        figures["difference"] = {key: each[key] for key in compared}
    return figures


def _subjects(network: Network) -> list[Subject]:
    modes: tuple[MemoryMode, ...] = ("on", "frozen") if network.fam.fam_length else ("on",)
    return [Subject("", network, mode) for mode in modes]
