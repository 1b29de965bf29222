"""Language modelling on hidden rows: the loss, and its gradient made slice by slice.

The vocabulary's logits are the widest thing a step makes. They live for one slice only: each slice's gradient goes
back through the head at once, and what reaches the hidden rows is collected for one pass through the decoder.
"""

from __future__ import annotations

import torch
from torch import Tensor

from famcli.nn.decoder import Decoder
from famcli.training.lanes import IGNORE

_ROWS = 1024


def language_model_gradient(network: Decoder, hidden: Tensor, targets: Tensor, scale: float) -> float:
    """Sum of the negative log-likelihoods of `targets` [b, n] (nats), padding left out.

    Adds `scale` times its gradient to the `.grad` of the network's parameters; `hidden` [b, n, d] must come from a
    read with gradient. A probability under 1e-38 counts as 1e-38.
    """
    leaf = hidden.detach().flatten(0, 1).requires_grad_()
    rows = targets.flatten()
    total = 0.0
    for first in range(0, len(rows), _ROWS):
        wanted = rows[first : first + _ROWS]
        used = wanted != IGNORE
        if not bool(used.any()):
            continue
        logits = network.logits(leaf[None, first : first + _ROWS])[0]
        with torch.no_grad():
            gradient = torch.softmax(logits.float(), dim=-1)
            at = wanted.clamp_min(0)[:, None]
            chosen = gradient.gather(1, at)
            total += float(-(chosen[:, 0].clamp_min(1e-38).log()[used]).sum())
            gradient.scatter_(1, at, chosen - 1)
            gradient.mul_(scale)
            if not bool(used.all()):
                gradient.mul_(used[:, None])
        logits.backward(gradient.to(logits.dtype))  # type: ignore[no-untyped-call]
    if leaf.grad is not None:
        hidden.backward(leaf.grad.view_as(hidden))  # type: ignore[no-untyped-call]
    return total
