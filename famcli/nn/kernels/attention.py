"""The attention kernel, chosen by measurement (docs/decisions.md): queries over keys and values in several parts.

What a token may see is decided by the order of the parts [sinks ; segments ; memory ; open block]: all but the last are
fully visible and the last is causal from its lower right corner. Layers with a sliding window have segments and open
block as one part, the last, of which each token sees its window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from famcli.nn.kernels import native
from famcli.nn.kernels.linear import ONEDNN_TYPES
from famcli.nn.kernels.measured import fastest

KeysValues = tuple[Tensor, Tensor]

# Rows of one score tile, with the heads that share keys folded into rows: large enough that matrix products run at
# full speed, small enough that a tile of scores stays in cache and little is computed above the causal diagonal.
_TILE_ROWS = 512
# For a single query: up to this many keys in one tensor (half as many in several), copying them to float32 takes less
# time than narrow products need to start and to copy keys that do not lie densely.
FEW_KEYS = 2048
# Up to this many multiplications torch's fused call is the fastest: starting each tile from Python takes most
# of the time. For more, what is fastest is measured on the processor (`_fastest_way`), on a problem of this shape:
# heads, key heads, queries, keys before their own, width.
_FEW_PRODUCTS = 1 << 22
_MEASURED = (8, 2, 256, 1792, 64)


class _Scoring(NamedTuple):
    """How scores are made and masked.

    own: keys of the last part, 0 if nothing is causal. window: of the last part, keys up to a query's own that it sees;
    None is all of them.
    """

    own: int
    window: int | None
    scale: float
    softcap: float | None


def attend(
    queries: Tensor,
    parts: Sequence[KeysValues],
    *,
    causal: bool,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Softmax attention of queries over the keys of all parts, differentiable.

    Args:
        queries: [b, h, n, e], n >= 1.
        parts: keys and values, each [b, hk, k_i, e], in key order; views are fine, h is a multiple of hk. Empty parts
            are skipped.
        causal: query i sees keys 0 .. k - n + i of the last part (of length k >= n), and all keys of the others.
            Otherwise every query sees every key.
        scale: factor of the scores, 1 / sqrt(e) by default.
        window: with `causal`, query i sees only the last `window` keys of those of the last part; None is all.
        softcap: scores x become softcap * tanh(x / softcap).

    Returns:
        [b, h, n, e] in the type of the queries.
    """
    parts, scoring = _visible(queries, parts, causal, window, _scale(queries, scale), softcap)
    if queries.device.type != "cpu":
        return _attend_fused(queries, parts, scoring)
    graph = torch.is_grad_enabled() and any(x.requires_grad for x in (queries, *(t for part in parts for t in part)))
    if queries.shape[2] == 1 and not graph:
        return _attend_one(queries, parts, scoring)
    if not graph:
        group, total = queries.shape[1] // parts[0][0].shape[1], sum(keys.shape[2] for keys, _ in parts)
        if softcap is not None:
            return _tiled(queries, parts, scoring)
        if group * queries.shape[2] * total * queries.shape[3] <= _FEW_PRODUCTS:
            return _masked(queries, parts, scoring)
        return _WAYS[_fastest_way(queries.dtype, native.attends_blocks(queries, parts))](queries, parts, scoring)
    keys, values = joined(parts)
    if softcap is not None:
        return _attend_plainly(queries, keys, values, scoring)
    return _attend_with_gradient(queries, keys, values, scoring)


def _compiled(queries: Tensor, parts: Sequence[KeysValues], scoring: _Scoring) -> Tensor:
    return native.attend_blocks(queries, parts, scoring.scale, scoring.own, scoring.window)


@lru_cache
def _fastest_way(dtype: torch.dtype, compiled: bool) -> str:
    """Which of the ways that there are is the fastest for large problems: measured at first use, and kept."""
    heads, hk, n, before, e = _MEASURED
    queries = torch.ones(1, heads, n, e, dtype=dtype)
    parts = [(keys, keys) for keys in (torch.ones(1, hk, k, e, dtype=dtype) for k in (before, n))]
    scoring = _Scoring(n, None, _scale(queries, None), None)
    ways = {
        name: partial(way, queries, parts, scoring) for name, way in _WAYS.items() if compiled or name != "compiled"
    }
    tiles = bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
    expected = "torch" if tiles else "compiled" if compiled else "tiles"
    return fastest(f"attention {str(dtype).removeprefix('torch.')}", ways, expected)


def _visible(
    queries: Tensor, parts: Sequence[KeysValues], causal: bool, window: int | None, scale: float, softcap: float | None
) -> tuple[list[KeysValues], _Scoring]:
    """The parts without what no query sees, and how the rest is scored."""
    parts = [part for part in parts if part[0].shape[2] > 0]
    n, own = queries.shape[2], parts[-1][0].shape[2]
    if not causal or window is None or window >= own:
        window = None
    elif own > window + n - 1:
        own = window + n - 1
        parts[-1] = (parts[-1][0][:, :, -own:], parts[-1][1][:, :, -own:])
        window = window if n > 1 else None
    return parts, _Scoring(own if causal else 0, window, scale, softcap)


def attend_few(
    queries: Tensor,
    past: Sequence[KeysValues],
    windowed: Sequence[KeysValues],
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """`attend` for a few queries in float32 over keys and values in bfloat16, by the compiled kernel.

    past: what all queries see. windowed: one or two parts that follow one another and end with the queries' own keys.
    """
    parts = [*past, *windowed]
    return native.attend(queries, parts, _scale(queries, scale), window, softcap, len(windowed))


def attend_with_share(
    queries: Tensor, parts: Sequence[KeysValues], *, scale: float | None = None, softcap: float | None = None
) -> tuple[Tensor, Tensor]:
    """`attend` without a causal mask, and the share of its attention that each row gives to the last part.

    For the few rows of a memory: [b, h, n, e] in the type of the queries, and [b, n] float32, a mean over heads.
    """
    keys, values = joined(parts)
    b, h, n, e = queries.shape
    hk, own = keys.shape[1], parts[-1][0].shape[2]
    rows = (queries * _scale(queries, scale)).reshape(b, hk, h // hk * n, e)
    weights = torch.softmax(_capped((rows @ keys.transpose(-1, -2)).float(), softcap), dim=-1)
    share = weights[..., -own:].sum(-1).view(b, h, n).mean(1)
    return (weights.to(values.dtype) @ values).view(b, h, n, e), share


def attention_weights(
    queries: Tensor, keys: Tensor, *, scale: float | None = None, softcap: float | None = None
) -> Tensor:
    """The weights [b, h, n, k] in float32 that `queries` [b, h, n, e], the last of k tokens, give to all `keys`."""
    (b, h, n, e), (hk, total) = queries.shape, keys.shape[1:3]
    rows = (queries * _scale(queries, scale)).reshape(b, hk, h // hk * n, e)
    scores = _capped((rows @ keys.transpose(-1, -2)).float(), softcap).view(b, h, n, total)
    hidden = torch.ones(n, total, dtype=torch.bool, device=queries.device).triu(total - n + 1)
    return torch.softmax(scores.masked_fill(hidden, -torch.inf), dim=-1)


def attention_received(
    queries: Tensor, parts: Sequence[KeysValues], *, scale: float | None = None, softcap: float | None = None
) -> Tensor:
    """Weight that each key of the last part receives, averaged over heads and query rows: [b, k] float32.

    Nothing is masked: the queries are the memory's rows, which see the whole block they compress.
    """
    keys = torch.cat([key for key, _ in parts], dim=2).float()
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    scores = _capped((queries.float() @ keys.transpose(-1, -2)) * _scale(queries, scale), softcap)
    return torch.softmax(scores, dim=-1)[..., -parts[-1][0].shape[2] :].mean(dim=(1, 2))


def _scale(queries: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(queries.shape[-1]) if scale is None else scale


def _seen(n: int, total: int, own: int, window: int | None, device: torch.device) -> Tensor:
    """[n, total]: which keys each query sees, the last `own` of them causally and within the window."""
    key, query = torch.arange(total, device=device)[None], torch.arange(total - n, total, device=device)[:, None]
    seen = key <= query
    if window is None:
        return seen
    return seen & ((key > query - window) | (key < total - own))


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def joined(parts: Sequence[KeysValues]) -> KeysValues:
    """Parts as one, in key order."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([key for key, _ in parts], dim=2), torch.cat([value for _, value in parts], dim=2)


def _attend_fused(queries: Tensor, parts: Sequence[KeysValues], scoring: _Scoring) -> Tensor:
    """Accelerators: torch's fused call, whose kernels know the lower-right causal form without a mask."""
    # Imported here: it loads torch's compiler, for seconds that a CPU need not wait.
    from torch.nn.attention.bias import causal_lower_right

    keys, values = joined(parts)
    if scoring.softcap is not None:
        # No fused call knows a cap.
        return _attend_plainly(queries, keys, values, scoring)
    n, total = queries.shape[2], keys.shape[2]
    bias: Any = None
    if scoring.own and n > 1:
        whole = scoring.window is None
        bias = causal_lower_right(n, total) if whole else _seen(n, total, scoring.own, scoring.window, queries.device)
        # This form of the mask does not know grouped keys.
        keys, values = (x.repeat_interleave(queries.shape[1] // x.shape[1], dim=1) for x in (keys, values))
    return F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=bias, scale=scoring.scale, enable_gqa=bias is None
    )


def _attend_plainly(queries: Tensor, keys: Tensor, values: Tensor, scoring: _Scoring) -> Tensor:
    """Products and a softmax that torch differentiates itself, for what faster ways do not know; a few rows at once."""
    b, h, n, e = queries.shape
    hk, total = keys.shape[1:3]
    grouped = (queries * scoring.scale).view(b, hk, h // hk, n, e)
    out = []
    for first in range(0, n, _TILE_ROWS):
        rows = grouped[:, :, :, first : first + _TILE_ROWS]
        scores = _capped(rows.reshape(b, hk, -1, e) @ keys.transpose(-1, -2), scoring.softcap)
        if scoring.own:
            seen = _seen(n, total, scoring.own, scoring.window, queries.device)[first : first + _TILE_ROWS]
            scores = scores.view(*rows.shape[:4], total).masked_fill(~seen, -torch.inf).view_as(scores)
        out.append((torch.softmax(scores, dim=-1) @ values).view(rows.shape))
    return torch.cat(out, dim=3).view(b, h, n, e)


def _masked(queries: Tensor, parts: Sequence[KeysValues], scoring: _Scoring) -> Tensor:
    """torch's fused call on a CPU, which wants a mask over the whole width."""
    keys, values = joined(parts)
    b, h, n, e = queries.shape
    hk, total = keys.shape[1:3]
    seen = _seen(n, total, scoring.own, scoring.window, queries.device) if scoring.own and n > 1 else None
    # Not all versions of the fused call know grouped keys: heads that share them are its heads, key heads its rows.
    rows = queries.reshape(b * hk, h // hk, n, e)
    keys, values = (x.reshape(b * hk, 1, total, e).expand(-1, h // hk, -1, -1) for x in (keys, values))
    return F.scaled_dot_product_attention(rows, keys, values, attn_mask=seen, scale=scoring.scale).reshape(b, h, n, e)


def _attend_one(queries: Tensor, parts: Sequence[KeysValues], scoring: _Scoring) -> Tensor:
    """A single query per row (decoding): bound by reading the keys, so they are neither copied nor joined."""
    dtype, few = queries.dtype, FEW_KEYS if len(parts) == 1 else FEW_KEYS // 2
    sizes = [key.shape[2] for key, _ in parts]
    if dtype != torch.float32 and sum(sizes) <= few:
        queries, sizes = queries.float(), [sum(sizes)]
        parts = [(_wide([key for key, _ in parts]), _wide([value for _, value in parts]))]
    b, h, _, e = queries.shape
    hk = parts[0][0].shape[1]
    rows, scores = (queries * scoring.scale).view(b * hk, h // hk, e), []
    for key, _ in parts:
        scores.append(torch.bmm(rows, key.reshape(b * hk, -1, e).transpose(1, 2)))
    joint = scores[0] if len(scores) == 1 else torch.cat(scores, dim=-1)
    weights = torch.softmax(_capped(joint, scoring.softcap), dim=-1).split_with_sizes(sizes, dim=-1)
    out = torch.bmm(weights[0], parts[0][1].reshape(b * hk, -1, e))
    for weight, (_, value) in zip(weights[1:], parts[1:], strict=True):
        out = torch.baddbmm(out, weight, value.reshape(b * hk, -1, e))
    return out.view(b, h, 1, e).to(dtype)


def _wide(rows: Sequence[Tensor]) -> Tensor:
    """Keys or values [b, hk, k_i, e] as one tensor in float32: each number is read and written once."""
    if len(rows) == 1:
        return rows[0].float()
    b, hk, _, e = rows[0].shape
    sizes = [each.shape[2] for each in rows]
    wide = rows[0].new_empty(b, hk, sum(sizes), e, dtype=torch.float32)
    for part, each in zip(wide.split_with_sizes(sizes, dim=2), rows, strict=True):
        part.copy_(each)
    return wide


def _times_transposed(a: Tensor, b: Tensor) -> Tensor:
    """a @ b.T for matrices [r, e] and [k, e], either of which may be a transposed view."""
    if a.dtype in ONEDNN_TYPES:
        return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")  # type: ignore[no-any-return]
    return a @ b.t()


def _tile_weights(rows: Tensor, keys: Tensor, group: int, scoring: _Scoring, hidden: tuple[int, int]) -> Tensor:
    """Softmax weights [group * r, k] of one tile; the last r keys are the causal ones.

    hidden: the column from which on the window hides keys, and how many of them from the tile's last row.
    """
    scores = _times_transposed(rows, keys)
    if scoring.softcap is not None:
        scores.div_(scoring.softcap).tanh_().mul_(scoring.softcap)
    r, (begin, width) = rows.shape[0] // group, hidden
    if scoring.own and r > 1:
        corner = scores.view(group, r, -1)[..., -r:]
        corner += torch.full((r, r), -torch.inf, dtype=scores.dtype).triu_(1)
    if width > 0:
        corner = scores.view(group, r, -1)[..., begin : begin + width]
        corner += torch.full((r, width), -torch.inf, dtype=scores.dtype).tril_(width - r)
    return torch.softmax(scores, dim=-1, out=scores)


def _tiled(queries: Tensor, parts: Sequence[KeysValues], scoring: _Scoring) -> Tensor:
    keys, values = joined(parts)
    b, h, n, e = queries.shape
    hk, total = keys.shape[1:3]
    group, others = h // hk, total - scoring.own
    queries = (queries * scoring.scale).view(b, hk, group, n, e)
    out = queries.new_empty(b, hk, group, n, e)
    # Query rows of a tile.
    size = -(-n // -(-n * group // _TILE_ROWS))
    for row in range(b):
        for head in range(hk):
            key, value = keys[row, head].contiguous(), values[row, head].contiguous()
            for tile in (slice(first, min(first + size, n)) for first in range(0, n, size)):
                # Keys that the last of them sees.
                seen = total - n + tile.stop if scoring.own else total
                begin, width = others, 0
                tile_key, tile_value = key[:seen], value[:seen]
                if scoring.window is not None:
                    # The tile's rows see keys from `first` on (of the last part, negative: no key is hidden from it).
                    first = scoring.own - n + tile.start - scoring.window + 1
                    width = min(first, 0) + tile.stop - tile.start - 1
                    if first > 0:
                        tile_key, tile_value = (torch.cat((x[:others], x[others + first : seen])) for x in (key, value))
                rows = queries[row, head, :, tile].reshape(-1, e)
                weights = _tile_weights(rows, tile_key, group, scoring, (begin, width))
                out[row, head, :, tile] = _times_transposed(weights, tile_value.t()).view(group, -1, e)
    return out.view(b, h, n, e)


class _Batched(torch.autograd.Function):
    """Attention with a gradient, all heads and rows of the batch in the same products: [b*hk, group*n, e] queries.

    The weights are kept for the backward pass. Tiles, as without gradient, would save that memory and cost a quarter
    more time; the transposed products of the backward pass have no fast path for float32 tile by tile.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, n: int, scoring: _Scoring) -> Tensor:
        weights = torch.bmm(queries, keys.transpose(1, 2))
        if own := scoring.own:
            corner = weights.view(weights.shape[0], -1, n, keys.shape[1])[..., -own:]
            hidden = torch.full((n, own), -torch.inf, dtype=weights.dtype)
            corner += hidden.triu(own - n + 1)
            if scoring.window is not None:
                corner += hidden.tril_(own - n - scoring.window)
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


def _attend_with_gradient(queries: Tensor, keys: Tensor, values: Tensor, scoring: _Scoring) -> Tensor:
    b, h, n, e = queries.shape
    hk = keys.shape[1]
    rows = (queries * scoring.scale).reshape(b * hk, h // hk * n, e)
    keys, values = keys.reshape(b * hk, -1, e), values.reshape(b * hk, -1, e)
    out: Tensor = _Batched.apply(rows, keys, values, n, scoring)  # type: ignore[no-untyped-call]
    return out.view(b, h, n, e)


_WAYS = {"compiled": _compiled, "tiles": _tiled, "torch": _masked}
