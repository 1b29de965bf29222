"""Feedback Attention Memory itself: how a layer's memory begins, is seen, and takes in a block.

TransformerFAM, arXiv 2404.09173, section 3. Shapes: b batch, f memory rows, d width, h heads, e width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from famcli.nn.attention import attend, attend_with_share
from famcli.nn.call import Call, KeysValues
from famcli.nn.config import FamConfig
from famcli.nn.layers import Layer
from famcli.nn.rope import Rotation


def run_prompt(layers: Sequence[Layer], prompt: Tensor, rotate: Rotation) -> list[Tensor]:
    """F_0 of each layer [1, f, d]: the prompt's rows [f, d] go up the layers and attend to one another only."""
    rows, memories = prompt.float()[None], []
    for layer in layers:
        own = memory_keys_values(layer, rows, rotate)
        queries = rotate(layer.self_attn.queries(layer.input_layernorm(rows)))
        rows = layer.finish(rows, attend(queries, [own], causal=False))
        memories.append(rows)
    return memories


def memory_keys_values(layer: Layer, memory: Tensor, rotate: Rotation) -> KeysValues:
    """Kf, Vf [b, hk, f, e]: the keys and values that tokens and the next memory see."""
    keys, values = layer.self_attn.keys_values(layer.input_layernorm(memory))
    return rotate(keys), values


def next_memory(
    fam: FamConfig, layer: Layer, memory: Tensor, initial: bool, parts: list[KeysValues], call: Call, t: int
) -> Tensor:
    """F_t from F_{t-1} [b, f, d] and `parts` [Kf ; K_t], for block t of a call."""
    if initial and call.rising is not None:
        memory, parts = call.rising, [memory_keys_values(layer, call.rising, call.memory(t)), parts[1]]
    queries = call.memory(t + 1)(layer.self_attn.queries(layer.input_layernorm(memory)))
    if call.probe is not None:
        call.probe.observe(queries, parts)
    if initial and call.rising is not None:
        call.rising = layer.finish(memory, attend(queries, parts, causal=False))
        return call.rising
    attended, kept, gate = compress(fam, queries, memory, parts, initial)
    return layer.finish(kept, attended, gate)


def compress(
    fam: FamConfig, queries: Tensor, memory: Tensor, parts: list[KeysValues], initial: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What the memory's rows read of [Kf ; K_t] [b, h, f, e], what they keep of themselves [b, f, d], and the gate
    [b, f, 1] of what is added to that.

    The first update keeps nothing (section 3.2 of the paper): a gated one whose gate is 1.
    """
    initial = initial and not fam.first_update_residual
    if fam.memory_update == "additive":
        kept = torch.zeros_like(memory) if initial else memory
        return attend(queries, parts, causal=False), kept, None
    attended, share = attend_with_share(queries, parts)
    gate = torch.ones_like(share) if initial else memory_gate(share)
    return attended, (1 - gate[..., None]) * memory, gate[..., None]


def memory_gate(share: Tensor) -> Tensor:
    """How much of itself a memory row replaces: relu(2 s - 1) for the share s of its attention that the block received.

    A row that gives itself and its fellows more than half of its attention is left exactly as it was, so that what it
    holds does not fade with the number of blocks; what is replaced bounds the norm. Ours, not the paper's.
    """
    return (2 * share - 1).clamp_min(0)
