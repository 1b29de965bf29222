"""The negative log-likelihood of tokens, in slices, so that the logits of a whole block are never held at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from famcli.nn import Network
from famcli.reading.engine import check_finite

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
