"""What tells during a run whether the memory earns its keep: bits per byte by position and passkeys by distance, on
validation documents, with the memory on and frozen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from famcli.evaluation.positions import DocumentScore, bits_per_byte, bucket_starts, score_documents, token_num_bytes
from famcli.evaluation.recall import trial_tokens
from famcli.evaluation.texts import Texts
from famcli.evaluation.trials import passkey_trials, score_trials
from famcli.nn import MemoryMode, Network
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.data.corpus import PackedCorpus, TokenDocument
from famcli.training.loop.events import CheckDone, PasskeyDone
from famcli.training.recipe.recipe import ChecksRecipe


def choose_validation(corpora: Sequence[PackedCorpus], count: int, num_tokens: int) -> dict[str, list[TokenDocument]]:
    """The first `count` documents of each corpus that are long enough for `num_tokens`; corpora without any are left
    out."""
    chosen = {}
    for corpus in corpora:
        lengths = np.diff(corpus.offsets)
        long_enough = np.flatnonzero(lengths >= num_tokens)[:count]
        if len(long_enough):
            chosen[corpus.name] = [corpus.document(int(index)) for index in long_enough]
    return chosen


def check_modes(network: Network) -> tuple[MemoryMode, ...]:
    """The memory modes that checks compare."""
    return ("on", "frozen") if network.fam.fam_length else ("on",)


def check_documents(
    network: Network, validation: Sequence[PackedCorpus], tokenizer: Tokenizer, checks: ChecksRecipe, step: int
) -> CheckDone | None:
    """Bits per byte of the recipe's validation documents after `step` steps; None without documents long enough."""
    began = time.monotonic()
    documents = choose_validation(validation, checks.documents, checks.tokens)
    if not documents:
        return None
    starts = bucket_starts(network.fam.block_size, checks.tokens)
    widths = token_num_bytes(tokenizer)
    total: dict[str, float] = {}
    by_corpus: dict[str, dict[str, float]] = {}
    by_position: dict[str, list[float]] = {}
    for mode in check_modes(network):
        scores: dict[str, list[DocumentScore]] = {
            name: score_documents(
                network, members, widths, tokenizer.bos_id, memory_mode=mode, max_tokens=checks.tokens
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
    validation: Sequence[PackedCorpus],
    tokenizer: Tokenizer,
    distances: Sequence[int],
    streams: int,
    step: int,
) -> PasskeyDone | None:
    """Passkeys of five digits, recalled `distances` tokens after a stream began, the key at a random depth.

    The filler is the largest validation corpus; the same keys at the same places every time. Distances too short for a
    key are left out; None where none is left, or no validation text.
    """
    began = time.monotonic()
    least = 2 * trial_tokens(passkey_trials([0], streams=1), tokenizer)
    lengths = [distance for distance in distances if distance >= least]
    if not lengths or not validation:
        return None
    corpus = max(validation, key=lambda each: each.num_tokens)
    texts = Texts(tuple(corpus.ids), corpus.tokens, corpus.offsets)
    trials = passkey_trials(lengths, streams=streams)
    right: dict[str, list[int]] = {}
    for mode in check_modes(network):
        *_, cells = score_trials(trials, "", network, tokenizer, texts, memory_mode=mode, batch=streams)
        by_length = {cell.length: cell.right for cell in cells}
        right[mode] = [by_length[length] for length in lengths]
    return PasskeyDone(step, tuple(lengths), streams, right, time.monotonic() - began)
