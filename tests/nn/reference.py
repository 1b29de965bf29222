"""What the attention kernel must compute, plainly: all scores at once and one softmax in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def attend_reference(
    queries: Tensor,
    parts: Sequence[tuple[Tensor, Tensor]],
    *,
    causal: bool,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """What `famcli.nn.kernels.attention.attend` computes with the same arguments."""
    keys, values = (torch.cat(each, dim=2).float() for each in zip(*parts, strict=True))
    keys, values = (x.repeat_interleave(queries.shape[1] // x.shape[1], dim=1) for x in (keys, values))
    scores = (queries.float() @ keys.transpose(-1, -2)) * (1 / math.sqrt(queries.shape[-1]) if scale is None else scale)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if causal:
        n, total = scores.shape[-2:]
        own = parts[-1][0].shape[2]
        key, query = torch.arange(total)[None], torch.arange(total - n, total)[:, None]
        seen = key <= query
        if window is not None:
            seen &= (key > query - window) | (key < total - own)
        scores = scores.masked_fill(~seen, -torch.inf)
    return (torch.softmax(scores, dim=-1) @ values).to(queries.dtype)
