"""The negative log-likelihood of tokens, in slices, so that the logits of a whole block are never held at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from famcli.nn import Network, State
from famcli.reading.engine import Tokens, as_batch, check_finite, copies, pad_runs, read_calls

SLICE = 256
"""Positions whose logits are held at once."""


@torch.inference_mode()
def cross_entropy(network: Network, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood (nats) of `targets` [b, n], each predicted from its row of `hidden` [b, n, d].

    Returns nll [b, n] float32 and whether the most likely token was the right one [b, n] bool, both on the CPU.
    Computed in float32, at most 256 positions x vocabulary at a time for each row of the batch. Raises CheckpointError
    for values that are not finite.
    """
    nll = torch.empty(targets.shape, dtype=torch.float32)
    correct = torch.empty(targets.shape, dtype=torch.bool)
    for row in range(targets.shape[0]):
        for first in range(0, targets.shape[1], SLICE):
            part = slice(first, first + SLICE)
            logits = network.logits(hidden[row : row + 1, part])[0].float()
            wanted = targets[row, part]
            nll[row, part] = functional.cross_entropy(logits, wanted, reduction="none").cpu()
            # `argmax` takes twice as long as the index of `max`.
            correct[row, part] = (logits.max(-1).indices == wanted).cpu()
    check_finite(nll)
    return nll, correct


def score_call(network: Network, last_hidden: Tensor | None, hidden: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """`cross_entropy` of the tokens `ids` [b, n] of one call, whose hidden rows are `hidden` [b, n, d].

    last_hidden: [b, 1, d] of the token before them, which predicts the first one. Without it the first has NaN and
    False.
    """
    if last_hidden is not None:
        return cross_entropy(network, torch.cat((last_hidden, hidden[:, :-1]), 1), ids)
    nll, correct = cross_entropy(network, hidden[:, :-1], ids[:, 1:])
    unknown = torch.full((len(ids), 1), torch.nan)
    return torch.cat((unknown, nll), 1), torch.cat((torch.zeros_like(unknown, dtype=torch.bool), correct), 1)


@torch.inference_mode()
def score_continuation(network: Network, state: State, tokens: Tokens, *, last_hidden: Tensor | None = None) -> Tensor:
    """Negative log-likelihood (nats) of each of `tokens` ([n], or [b, n] with a state of batch b) read after `state`.

    `last_hidden` [b, 1, d] of the token before them predicts the first one; without it the first is NaN. `state` stays
    as it is. Returns float32 on the CPU, of the shape of `tokens`.
    """
    batch, is_flat = as_batch(tokens, network), len(getattr(tokens, "shape", (0,))) == 1
    parts = [torch.empty(batch.shape[0], 0)]
    for ids, hidden, _ in read_calls(network, batch, state):
        parts.append(score_call(network, last_hidden, hidden, ids)[0])
        last_hidden = hidden[:, -1:]
    nll = torch.cat(parts, 1)
    return nll[0] if is_flat else nll


@torch.inference_mode()
def score_continuations(
    network: Network, state: State, runs: Sequence[Tokens], *, last_hidden: Tensor | None = None
) -> list[Tensor]:
    """`score_continuation` for several runs of different lengths after one state of batch one, in one batch.

    Costs len(runs) copies of the state, which are not kept.
    """
    if not runs:
        return []
    before = None if last_hidden is None else last_hidden.expand(len(runs), -1, -1)
    nll = score_continuation(network, copies(state, len(runs)), pad_runs(network, runs), last_hidden=before)
    return [row[: len(run)] for row, run in zip(nll, runs, strict=True)]
