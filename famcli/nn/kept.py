"""A memory of tokens that were read, beside FAM's (ours): of all that left the window, those that score highest.

For a decoder whose weights stay as they are. Where FAM's rows are made by weights that must learn to make them, these
are the keys (not rotated) and values of f tokens, which the decoder can read already; a row stays until f others score
higher, so what it holds does not fade with the number of blocks. A token's score is linear in its keys and values, one
`memory_scores` [w] for each layer: what famcli/training/keep.py fits to the attention that later tokens give. As other
memories it is updated by blocks, but by the one that leaves the window, so that no token is seen twice:

    rows                [F_t-1 ; K_t-m, V_t-m]              w = 2 hk e numbers each
    F_t                 the f rows with the largest rows . scores, in the order of the text
    positions           [sinks ; F ; segments ; its block]  F at the last f positions before the segments

Before the first block has left there is no memory, and a frozen one never comes to be. Sinks are seen anyway and never
kept: the first block has f other tokens (`FamConfig` sees to that).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from famcli.nn.call import Call, Memory
from famcli.nn.kernels.attention import KeysValues
from famcli.nn.layers import Layer


class KeptTokens(Memory):
    """Rows that are tokens which were read: `memory_update` "kept"."""

    parameter: ClassVar[str | None] = "memory_scores"
    is_before_segments: ClassVar[bool] = True

    def seen(self, layer: Layer, memory: Tensor, call: Call, t: int) -> KeysValues | None:
        return _keys_values(layer, memory, call, t) if _holds(call) else None

    def take_in(
        self, layer: Layer, memory: Tensor, pieces: Sequence[KeysValues], num_blocks: int, call: Call
    ) -> tuple[Tensor, list[KeysValues]]:
        held, first, rows = _holds(call), len(pieces) - num_blocks, []
        for t in range(num_blocks):
            keys, values = pieces[0]
            rows.append(_keys_values(layer, memory, call, t) if held else (keys[:, :, :0], values[:, :, :0]))
            leaving = first + t - call.fam.memory_segments
            if leaving >= 0 and call.state.memory_mode == "on":
                memory, held = _keep(layer, memory if held else None, pieces[leaving], call, t), True
        return memory, rows


def _holds(call: Call) -> bool:
    """True if a block has left the window before the call."""
    if call.initial is None:
        return True
    if not bool(call.initial.all()):
        raise ValueError("texts that keep tokens already and texts that keep none yet cannot be read together")
    return False


def _keys_values(layer: Layer, memory: Tensor, call: Call, t: int) -> KeysValues:
    """Keys (rotated) and values [b, hk, f, e] of the rows, as block t of a call sees them."""
    keys, values = (layer.self_attn.heads(part.to(layer.dtype)) for part in memory.chunk(2, dim=-1))
    return call.rotate_memory(layer, t)(keys), values


def _keep(layer: Layer, memory: Tensor | None, leaving: KeysValues, call: Call, t: int) -> Tensor:
    """F_t [b, f, w] once block t of a call is closed. memory: F_t-1, None before the first block has left.

    leaving: keys (rotated) and values [b, hk, c, e] of the block that leaves the window by that.
    """
    made = token_rows(call.rotate_back(layer, t - call.fam.memory_segments)(leaving[0]), leaving[1])
    scores = made @ call.own(layer).to(made)
    if call.state.num_closed + t == call.fam.memory_segments:
        # The first tokens of a stream stay as sinks.
        scores[:, : call.fam.sink_tokens] = -torch.inf
    if memory is not None:
        made = torch.cat((memory, made), dim=1)
        scores = torch.cat((memory @ call.own(layer).to(memory), scores), dim=1)
    chosen = scores.topk(call.fam.fam_length, dim=1).indices.sort(dim=1).values
    return made.gather(1, chosen[..., None].expand(-1, -1, made.shape[2]))


def token_rows(keys: Tensor, values: Tensor) -> Tensor:
    """[b, n, w] in float32, of keys (not rotated) and values [b, hk, n, e]."""
    return torch.cat([part.float().transpose(1, 2).flatten(2) for part in (keys, values)], dim=-1)
