"""A memory of associations, beside FAM's rows: a matrix written by the delta rule, with a corrected normaliser (after
the Associative Recurrent Memory Transformer, arXiv 2407.04841, section 3).

Each layer carries A [p, d] and z [p], zero at the start, as one tensor [b, p, d + 1] whose last column is z. With n the
layer's norm before attention, and Wq, Wk [e, d], Wb [1, d], Wv [d, d] of `memory_maps` [l, 2e + 1 + d, d]:

    phi(u) = DPFP-3 of u, to unit length              p = 6e numbers, none negative: `features`
    x     += A^T phi(Wq n(x)) / max(1, z . phi)       each token, before the layer reads it: `changed_input`
    F_t                                               FAM's first update of F_0 by block t (memory.py)
    k, b, v = phi(Wk n(F)), sigmoid(Wb n(F)), Wv n(F)      of each row of F_t in turn: `take_in`
    z     += max(0, 1 - z . k) k                      the part of k that is new, so that z . k >= 1
    A     += b k (v - A^T k / (z . k))^T              what was under k is replaced; the rest stays

The rows F_t are made anew from F_0 at every block and seen by nothing else: all that is carried is in A and z. What a
token reads depends on what the block before wrote, so blocks of one call are read in turn (steps.py).

ARMT writes the rows of a block side by side and divides by z . k as it was before them. What f rows under like keys
take away is then up to f times what was there, and A diverged within 30 steps of training (docs/decisions.md). In turn,
and with z first, A shrinks in the direction of k by b / (z . k) <= 1 and stays bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from famcli.nn.call import Call, Memory
from famcli.nn.kernels.attention import KeysValues
from famcli.nn.layers import Layer
from famcli.nn.memory import FeedbackMemory, compressed


class AssociativeMemory(Memory):
    """A matrix [b, p, d + 1] that tokens read before each layer: `memory_update` "delta"."""

    parameter: ClassVar[str | None] = "memory_maps"
    returns_to_prompt: ClassVar[bool] = True
    changes_input: ClassVar[bool] = True
    _rows = FeedbackMemory()

    def changed_input(self, layer: Layer, x: Tensor, memory: Tensor, call: Call) -> Tensor:
        """x [b, n, d] with what the memory has for each token."""
        with torch.autocast(x.device.type, enabled=False):
            found = features(layer.attention_input(x).float() @ _maps(layer, call)[0].T) @ memory
            return x + (found[..., :-1] / found[..., -1:].clamp_min(1)).to(x.dtype)

    def seen(self, layer: Layer, memory: Tensor, call: Call, t: int) -> None:
        """Nothing: what a token reads of it comes before the layer."""

    def take_in(
        self, layer: Layer, memory: Tensor, pieces: Sequence[KeysValues], num_blocks: int, call: Call
    ) -> tuple[Tensor, list[KeysValues]]:
        if call.state.memory_mode != "on":
            return memory, []
        # Only the last block counts, for blocks are read in turn.
        rows = call.initial_rows[layer.index].expand(len(memory), -1, -1)
        parts = [self._rows.seen(layer, rows, call, 0), pieces[-1]]
        first = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        made = layer.attention_output_and_mlp(*compressed(layer, rows, first, parts, call, 0), inputs=rows)
        with torch.autocast(made.device.type, enabled=False):
            normed = layer.attention_input(made).float()
            keys, weights, values = (normed @ part.T for part in _maps(layer, call)[1:])
            return write(memory, features(keys), torch.sigmoid(weights), values), []


def _maps(layer: Layer, call: Call) -> Sequence[Tensor]:
    """Wq, Wk [e, d], Wb [1, d] and Wv [d, d] of the layer, in float32."""
    own = call.own(layer).float()
    return own.split_with_sizes([layer.self_attn.head_dim] * 2 + [1, own.shape[1]])


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
