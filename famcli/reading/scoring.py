"""How expected tokens were: cross-entropy in slices, so that no logits of a whole block are ever held."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from famcli.nn import Network, State
from famcli.reading.engine import Tokens, as_batch, check_finite, legal_cuts

SLICE = 256
"""Positions whose logits are held at once."""


@torch.inference_mode()
def cross_entropy(network: Network, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood (nats) of `targets` [b, n], each predicted from its row of `hidden` [b, n, d].

    Returns nll [b, n] float32 and whether the most likely token was the right one [b, n] bool, both on the CPU.
    Computed in float32, at most 256 positions x vocabulary at a time for each row of the batch. Raises CheckpointError
    for what is not a number.
    """
    nll = torch.empty(targets.shape, dtype=torch.float32)
    correct = torch.empty(targets.shape, dtype=torch.bool)
    for row in range(targets.shape[0]):
        for first in range(0, targets.shape[1], SLICE):
            part = slice(first, first + SLICE)
            logits = network.logits(hidden[row : row + 1, part])[0].float()
            wanted = targets[row, part]
            nll[row, part] = functional.cross_entropy(logits, wanted, reduction="none").cpu()
            correct[row, part] = (logits.max(-1).indices == wanted).cpu()  # argmax takes twice as long
    check_finite(nll)
    return nll, correct


@torch.inference_mode()
def score_continuation(network: Network, state: State, tokens: Tokens, *, last_hidden: Tensor | None = None) -> Tensor:
    """Negative log-likelihood (nats) of each of `tokens` ([n], or [b, n] with a state of batch b) read after `state`.

    `last_hidden` [b, 1, d] of the token before them predicts the first one; without it the first is NaN. `state` stays
    as it is. Returns float32 on the CPU, of the shape of `tokens`.
    """
    batch, flat = as_batch(tokens, network), len(getattr(tokens, "shape", (0,))) == 1
    parts, first = [torch.empty(batch.shape[0], 0)], 0
    for n in legal_cuts(batch.shape[1], state.fill, network.fam.block_size):
        ids = batch[:, first : first + n]
        hidden, state = network.read(ids, state)
        if last_hidden is None:
            parts.append(torch.full((batch.shape[0], 1), torch.nan))
            parts.append(cross_entropy(network, hidden[:, :-1], ids[:, 1:])[0])
        else:
            parts.append(cross_entropy(network, torch.cat((last_hidden, hidden[:, :-1]), 1), ids)[0])
        last_hidden, first = hidden[:, -1:], first + n
    nll = torch.cat(parts, 1)
    return nll[0] if flat else nll


@torch.inference_mode()
def score_continuations(
    network: Network, state: State, runs: Sequence[Tokens], *, last_hidden: Tensor | None = None
) -> list[Tensor]:
    """`score_continuation` for several runs of different lengths after one state of batch one, in one batch.

    Shorter runs are filled up behind their end, where nothing can see it, and no state is kept. Costs len(runs) copies
    of the state.
    """
    if not runs:
        return []
    lengths = [len(run) for run in runs]
    filled = torch.zeros(len(runs), max(lengths), dtype=torch.int64, device=network.device)
    for row, run in enumerate(runs):
        filled[row, : lengths[row]] = as_batch(run, network)[0]
    stacked = state if len(runs) == 1 else State.stack([state] * len(runs))
    before = None if last_hidden is None else last_hidden.expand(len(runs), -1, -1)
    nll = score_continuation(network, stacked, filled, last_hidden=before)
    return [nll[row, :length] for row, length in enumerate(lengths)]
