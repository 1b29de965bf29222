"""A memory of associations, beside FAM's rows: a matrix written by the delta rule, with a corrected normaliser (after
the Associative Recurrent Memory Transformer, arXiv 2407.04841, section 3).

Each layer carries A [p, d] and z [p], zero at the start, as one tensor [b, p, d + 1] whose last column is z. With n the
layer's norm before attention, and Wq, Wk [e, d], Wb [1, d], Wv [d, d] of `memory_maps` [l, 2e + 1 + d, d]:

    phi(u) = DPFP-3 of u, to unit length              p = 6e numbers, none negative: `features`
    x     += A^T phi(Wq n(x)) / max(1, z . phi)       each token, before the layer reads it: `recall`
    F_t                                               FAM's first update of F_0 by block t (memory.py)
    k, b, v = phi(Wk n(F)), sigmoid(Wb n(F)), Wv n(F)      of each row of F_t in turn: `associate`
    z     += max(0, 1 - z . k) k                      the part of k that is new, so that z . k >= 1
    A     += b k (v - A^T k / (z . k))^T              what was under k is replaced; the rest stays

The rows F_t are made anew from F_0 at every block and seen by nothing else: all that is carried is in A and z. What a
token reads depends on what the block before wrote, so blocks of one call are read in turn (steps.py).

ARMT writes the rows of a block side by side and divides by z . k as it was before them. What f rows under like keys
take away is then up to f times what was there, and A diverged within 30 steps of training (docs/decisions.md). In turn,
and with z first, A shrinks in the direction of k by b / (z . k) <= 1 and stays bounded.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from famcli.nn.call import Call
from famcli.nn.kernels.attention import KeysValues
from famcli.nn.layers import Layer
from famcli.nn.memory import memory_keys_values, next_memory


def recall(layer: Layer, x: Tensor, memory: Tensor, call: Call) -> Tensor:
    """The layer's input [b, n, d] with what the memory [b, p, d + 1] has for each token."""
    with torch.autocast(x.device.type, enabled=False):
        found = features(layer.attention_input(x).float() @ call.maps(layer)[0].T) @ memory
        return x + (found[..., :-1] / found[..., -1:].clamp_min(1)).to(x.dtype)


def associate(layer: Layer, memory: Tensor, block: KeysValues, call: Call) -> Tensor:
    """The memory [b, p, d + 1] once the block with these keys (rotated) and values, the call's only one, is closed."""
    rows = call.initial_rows[layer.index].expand(len(memory), -1, -1)
    parts = [memory_keys_values(layer, rows, call.rotate_memory(layer, 0)), block]
    made = next_memory(layer, rows, torch.ones(len(rows), dtype=torch.bool, device=rows.device), parts, call, 0)
    with torch.autocast(made.device.type, enabled=False):
        normed = layer.attention_input(made).float()
        keys, weights, values = (normed @ part.T for part in call.maps(layer)[1:])
        return write(memory, features(keys), torch.sigmoid(weights), values)


def write(memory: Tensor, keys: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """A memory [b, p, d + 1] with `values` [b, f, d] under `keys` [b, f, p], one after the other, by weights [b, f, 1].

    All rows at once: what a row adds depends on what earlier rows add by a triangular system (arXiv 2406.06484).
    """
    alike, found = (keys @ keys.transpose(1, 2)).tril(-1), keys @ memory
    known = found[..., -1:].detach().clone()  # z . k of each row, which earlier rows raise; without gradient, as ARMT's
    with torch.no_grad():
        for row in range(keys.shape[1]):
            known += alike[:, :, row, None] * (1 - known[:, row, None]).clamp_min(0)
    weighed = weights / known.clamp_min(1)
    wanted = weights * values - weighed * found[..., :-1]
    added = torch.linalg.solve_triangular(weighed * alike, wanted, upper=False, unitriangular=True)
    return memory + keys.transpose(1, 2) @ torch.cat((added, (1 - known).clamp_min(0)), dim=2)


def features(x: Tensor) -> Tensor:
    """DPFP-3 (arXiv 2102.11174, section 5.3) of [..., e], to unit length: [..., 6e]."""
    halves = torch.cat((x, -x), dim=-1).relu()
    return functional.normalize(torch.cat([halves * halves.roll(shift, -1) for shift in (1, 2, 3)], dim=-1), dim=-1)
