"""Feedback Attention Memory itself: how a layer's memory begins, is seen, and takes in a block.

TransformerFAM, arXiv 2404.09173, section 3. Shapes: b batch, f memory rows, d width, h heads, e width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from famcli.nn.call import Call, KeysValues, Turn
from famcli.nn.config import FamConfig
from famcli.nn.kernels.attention import attend_with_share
from famcli.nn.layers import Layer


def run_prompt(layers: Sequence[Layer], prompt: Tensor, rotate: Callable[[Layer], Turn]) -> list[Tensor]:
    """F_0 of each layer [1, f, d]: the prompt's rows [f, d] go up the layers and attend to one another only."""
    rows, memories = prompt.float()[None], []
    for layer in layers:
        rows = layer(_raise_prompt, rows, rotate(layer))
        memories.append(rows)
    return memories


def _raise_prompt(layer: Layer, rows: Tensor, turn: Turn) -> Tensor:
    own = memory_keys_values(layer, rows, turn)
    queries = turn(layer.self_attn.queries(layer.normed(rows)))
    return layer.finish(rows, layer.self_attn.attend(queries, [own], causal=False))


def memory_keys_values(layer: Layer, memory: Tensor, rotate: Turn) -> KeysValues:
    """Kf, Vf [b, hk, f, e]: the keys and values that tokens and the next memory see."""
    keys, values = layer.self_attn.keys_values(layer.normed(memory))
    return rotate(keys), values


def next_memory(
    layer: Layer, memory: Tensor, initial: Tensor | None, parts: list[KeysValues], call: Call, t: int
) -> Tensor:
    """F_t from F_{t-1} [b, f, d] and `parts` [Kf ; K_t], for block t of a call. initial: see `compress`."""
    turns, attention = call.turns(layer), layer.self_attn
    queries = turns.memory(t + 1)(attention.queries(layer.normed(memory)))
    call.record(layer, queries, parts)
    attended, kept, gate = compress(call.fam, layer, queries, memory, parts, initial)
    return layer.finish(kept, attended, gate, memory)


def compress(
    fam: FamConfig, layer: Layer, queries: Tensor, memory: Tensor, parts: list[KeysValues], initial: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What the memory's rows read of [Kf ; K_t] [b, h, f, e], what they keep of themselves [b, f, d], and the gate
    [b, f, 1] of what is added to that.

    initial: [b] bool, where it is the first update, which keeps nothing (section 3.2 of the paper): a gated one whose
    gate is 1; None if it is nowhere.
    """
    attention = layer.self_attn
    if fam.memory_update == "additive":
        kept = memory if initial is None else memory.masked_fill(initial[:, None, None], 0)
        return attention.attend(queries, parts, causal=False), kept, None
    attended, share = attend_with_share(queries, parts, scale=attention.scale, softcap=attention.softcap)
    gate = memory_gate(share, fam.gate_threshold)
    gate = gate if initial is None else gate.masked_fill(initial[:, None], 1)
    return attended, (1 - gate[..., None]) * memory, gate[..., None]


def memory_gate(share: Tensor, threshold: float = 0.5) -> Tensor:
    """How much of itself a memory row replaces: relu(s - t) / (1 - t), for the share s of its attention that the block
    received and the threshold t (`FamConfig.gate_threshold`).

    A row that gives itself and its fellows more than 1 - t of its attention is left exactly as it was, so that what it
    holds does not fade with the number of blocks; what is replaced bounds the norm. Ours, not the paper's.
    """
    return ((share - threshold) / (1 - threshold)).clamp_min(0)
