"""The attention kernel: queries over keys and values that lie in several parts.

What a token may see is decided by the order of the parts [sinks ; segments ; memory ; open block]: all but the last are
fully visible and the last is causal from its lower right corner, so no mask over the whole width is ever built.
`attend` is the kernel, chosen by measurement (docs/decisions.md); `attend_reference` says what it must compute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Part = tuple[Tensor, Tensor]

# Rows of one score tile, with the heads that share keys folded into rows: large enough that matrix products run at
# full speed, small enough that a tile of scores stays in cache and little is computed above the causal diagonal.
_TILE_ROWS = 512


def _onednn_types() -> frozenset[torch.dtype]:
    """Types whose products go to oneDNN by name: for float32 torch would choose MKL, at less than half the speed."""
    if not torch._C._has_mkldnn or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return frozenset()
    wide, narrow = {torch.float32}, {torch.bfloat16} if torch.ops.mkldnn._is_mkldnn_bf16_supported() else set()
    return frozenset(wide | narrow)


_ONEDNN_TYPES = _onednn_types()


def attend(queries: Tensor, parts: Sequence[Part], *, causal: bool, scale: float | None = None) -> Tensor:
    """Softmax attention of queries over the keys of all parts, differentiable.

    Args:
        queries: [b, h, n, e], n >= 1.
        parts: keys and values, each [b, hk, k_i, e], in key order; views are fine, h is a multiple of hk. Empty parts
            are skipped.
        causal: query i sees keys 0 .. k - n + i of the last part (of length k >= n), and all keys of the others.
            Otherwise every query sees every key.
        scale: factor of the scores, 1 / sqrt(e) by default.

    Returns:
        [b, h, n, e] in the type of the queries.
    """
    parts = [part for part in parts if part[0].shape[2] > 0]
    scale = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    if queries.device.type != "cpu":
        return _attend_fused(queries, parts, causal, scale)
    graph = torch.is_grad_enabled() and any(x.requires_grad for x in (queries, *(t for part in parts for t in part)))
    if queries.shape[2] == 1 and not graph:
        return _attend_one(queries, parts, scale)
    keys, values = _joined(parts)
    if graph:
        return _attend_with_gradient(queries, keys, values, parts[-1][0].shape[2] if causal else 0, scale)
    return _tiled_forward(queries, keys, values, causal, scale)


def attend_reference(queries: Tensor, parts: Sequence[Part], *, causal: bool, scale: float | None = None) -> Tensor:
    """What `attend` computes, plainly: all scores at once, one softmax in float32. For tests."""
    weights = _reference_weights(queries, parts, causal, scale)
    values = torch.cat([value for _, value in parts], dim=2).float()
    values = values.repeat_interleave(queries.shape[1] // values.shape[1], dim=1)
    return (weights @ values).to(queries.dtype)


def attend_with_share(queries: Tensor, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """`attend` without a causal mask, and the share of its attention that each row gives to the last part.

    For the few rows of a memory: [b, h, n, e] in the type of the queries, and [b, n] float32, a mean over heads.
    """
    keys, values = _joined(parts)
    b, h, n, e = queries.shape
    hk, own = keys.shape[1], parts[-1][0].shape[2]
    rows = (queries / math.sqrt(e)).reshape(b, hk, h // hk * n, e)
    weights = torch.softmax((rows @ keys.transpose(-1, -2)).float(), dim=-1)
    share = weights[..., -own:].sum(-1).view(b, h, n).mean(1)
    return (weights.to(values.dtype) @ values).view(b, h, n, e), share


def attention_received(queries: Tensor, parts: Sequence[Part], *, scale: float | None = None) -> Tensor:
    """Weight that each key of the last part receives, averaged over heads and query rows: [b, k] float32.

    Nothing is masked: the queries are the memory's rows, which see the whole block they compress.
    """
    own = parts[-1][0].shape[2]
    return _reference_weights(queries, parts, False, scale)[..., -own:].mean(dim=(1, 2))


def _reference_weights(queries: Tensor, parts: Sequence[Part], causal: bool, scale: float | None) -> Tensor:
    keys = torch.cat([key for key, _ in parts], dim=2).float()
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    scale = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    scores = (queries.float() @ keys.transpose(-1, -2)) * scale
    if causal:
        n, total = scores.shape[-2:]
        future = torch.ones(n, total, dtype=torch.bool, device=scores.device).triu(total - n + 1)
        scores = scores.masked_fill(future, -torch.inf)
    return torch.softmax(scores, dim=-1)


def _joined(parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    return torch.cat([key for key, _ in parts], dim=2), torch.cat([value for _, value in parts], dim=2)


def _attend_fused(queries: Tensor, parts: Sequence[Part], causal: bool, scale: float) -> Tensor:
    """Accelerators: torch's fused call, whose kernels know the lower-right causal form without a mask."""
    from torch.nn.attention.bias import causal_lower_right  # loads torch's compiler: seconds that a CPU need not wait

    keys, values = _joined(parts)
    n, total = queries.shape[2], keys.shape[2]
    bias = causal_lower_right(n, total) if causal and n > 1 else None
    if bias is not None:  # this form of the mask does not know grouped keys
        keys, values = (x.repeat_interleave(queries.shape[1] // x.shape[1], dim=1) for x in (keys, values))
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=scale, enable_gqa=bias is None)


def _attend_one(queries: Tensor, parts: Sequence[Part], scale: float) -> Tensor:
    """A single query per row (decoding): bound by reading the keys, so they are neither copied nor joined."""
    b, h, _, e = queries.shape
    hk = parts[0][0].shape[1]
    rows = (queries * scale).view(b * hk, h // hk, e)
    scores = [torch.bmm(rows, key.reshape(b * hk, -1, e).transpose(1, 2)) for key, _ in parts]
    weights = torch.softmax(torch.cat(scores, dim=-1), dim=-1).split_with_sizes([s.shape[-1] for s in scores], dim=-1)
    out: Tensor | None = None
    for weight, (_, value) in zip(weights, parts, strict=True):
        value = value.reshape(b * hk, -1, e)
        out = torch.bmm(weight, value) if out is None else torch.baddbmm(out, weight, value)
    assert out is not None
    return out.view(b, h, 1, e)


def _times_transposed(a: Tensor, b: Tensor) -> Tensor:
    """a @ b.T for matrices [r, e] and [k, e], either of which may be a transposed view."""
    if a.dtype in _ONEDNN_TYPES:
        return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")  # type: ignore[no-any-return]
    return a @ b.t()


def _tiles(n: int, group: int, total: int, causal: bool) -> Iterator[tuple[slice, int]]:
    """Query rows of each tile, and how many keys the last of them sees."""
    num_tiles = -(-n * group // _TILE_ROWS)
    rows = -(-n // num_tiles)
    for first in range(0, n, rows):
        last = min(first + rows, n)
        yield slice(first, last), total - n + last if causal else total


def _tile_weights(rows: Tensor, keys: Tensor, group: int, causal: bool) -> Tensor:
    """Softmax weights [group * r, k] of one tile; the last r keys are the causal ones."""
    scores = _times_transposed(rows, keys)
    r = rows.shape[0] // group
    if causal and r > 1:
        corner = scores.view(group, r, -1)[..., -r:]
        corner += torch.full((r, r), -torch.inf, dtype=scores.dtype).triu_(1)
    return torch.softmax(scores, dim=-1, out=scores)


def _tiled_forward(queries: Tensor, keys: Tensor, values: Tensor, causal: bool, scale: float) -> Tensor:
    b, h, n, e = queries.shape
    hk, total = keys.shape[1:3]
    group = h // hk
    queries = (queries * scale).view(b, hk, group, n, e)
    out = queries.new_empty(b, hk, group, n, e)
    for row in range(b):
        for head in range(hk):
            key, value = keys[row, head].contiguous(), values[row, head].contiguous()
            for tile, seen in _tiles(n, group, total, causal):
                weights = _tile_weights(queries[row, head, :, tile].reshape(-1, e), key[:seen], group, causal)
                out[row, head, :, tile] = _times_transposed(weights, value[:seen].t()).view(group, -1, e)
    return out.view(b, h, n, e)


class _Batched(torch.autograd.Function):
    """Attention with a gradient, all heads and rows of the batch in the same products: [b*hk, group*n, e] queries.

    The weights are kept for the backward pass. Tiles, as without gradient, would save that memory and cost a quarter
    more time; the transposed products of the backward pass have no fast path for float32 tile by tile.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, n: int, num_causal: int) -> Tensor:
        weights = torch.bmm(queries, keys.transpose(1, 2))
        if num_causal:
            corner = weights.view(weights.shape[0], -1, n, keys.shape[1])[..., -num_causal:]
            corner += torch.full((n, num_causal), -torch.inf, dtype=weights.dtype).triu_(num_causal - n + 1)
        weights = torch.softmax(weights, dim=-1)
        ctx.save_for_backward(queries, keys, values, weights)
        return torch.bmm(weights, values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, weights = ctx.saved_tensors
        grad = grad.contiguous()
        grad_values = torch.bmm(weights.transpose(1, 2), grad)
        grad_scores = torch.bmm(grad, values.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_scores, weights, -1, weights.dtype)
        grad_keys = torch.bmm(grad_scores.transpose(1, 2), queries)
        return torch.bmm(grad_scores, keys), grad_keys, grad_values, None, None


def _attend_with_gradient(queries: Tensor, keys: Tensor, values: Tensor, num_causal: int, scale: float) -> Tensor:
    b, h, n, e = queries.shape
    hk = keys.shape[1]
    rows = (queries * scale).reshape(b * hk, h // hk * n, e)
    keys, values = keys.reshape(b * hk, -1, e), values.reshape(b * hk, -1, e)
    out: Tensor = _Batched.apply(rows, keys, values, n, num_causal)  # type: ignore[no-untyped-call]
    return out.view(b, h, n, e)
