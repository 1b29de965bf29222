"""The attention kernel: queries over keys that lie in several parts.

One public function, `attend`, and one plain reference. What a token may see is decided by the order of the parts
[sinks ; segments ; memory ; open block]: all but the last are fully visible, the last is causal, so no mask over the
whole width is ever built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Part = tuple[Tensor, Tensor]


def attend(queries: Tensor, parts: Sequence[Part], *, causal: bool, scale: float | None = None) -> Tensor:
    """Softmax attention of queries [b, h, n, e] over parts of keys and values [b, hk, k_i, e] -> [b, h, n, e]."""
    return attend_reference(queries, parts, causal=causal, scale=scale)


def attend_reference(queries: Tensor, parts: Sequence[Part], *, causal: bool, scale: float | None = None) -> Tensor:
    """The plain implementation of `attend`: one float32 softmax over all keys, any device, differentiable."""
    weights = _reference_weights(queries, parts, causal, scale)
    values = torch.cat([value for _, value in parts], dim=2)
    values = values.repeat_interleave(queries.shape[1] // values.shape[1], dim=1)
    return (weights @ values.float()).to(queries.dtype)


def attention_received(queries: Tensor, parts: Sequence[Part], *, scale: float | None = None) -> Tensor:
    """Attention weight that each key of the last part receives, averaged over heads and query rows -> [b, k] float32."""
    return _reference_weights(queries, parts, False, scale)[..., -parts[-1][0].shape[2] :].mean(dim=(1, 2))


def _reference_weights(queries: Tensor, parts: Sequence[Part], causal: bool, scale: float | None) -> Tensor:
    keys = torch.cat([key for key, _ in parts], dim=2)
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    scores = (queries.float() @ keys.float().transpose(-1, -2)) * (scale or 1 / math.sqrt(queries.shape[-1]))
    if causal:
        rows, own = queries.shape[2], parts[-1][0].shape[2]
        hidden = torch.ones(rows, own, dtype=torch.bool, device=queries.device).triu(own - rows + 1)
        scores[..., -own:].masked_fill_(hidden, float("-inf"))
    return F.softmax(scores, dim=-1)
