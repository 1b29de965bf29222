"""Feedback Attention Memory: the equations in one place (TransformerFAM, arXiv 2404.09173, section 3).

A memory F_t [b, f, d] of each layer follows block t. With K_t, V_t the block's keys and values, and W, norm and MLP the
layer's own:

    Kf, Vf = Wk norm(F_t-1), Wv norm(F_t-1)          what block t sees of the memory: `seen`
    Qf     = Wq norm(F_t-1)
    A      = softmax(Qf [Kf ; K_t]^T) [Vf ; V_t]      the memory reads itself and the block: `compress`
    F'     = F_t-1 + Wo A                             the first update keeps nothing: F' = Wo A
    F_t    = F' + MLP(norm(F'))                       `take_in`

Left out here: rotary positions of queries and keys (call.py), the scale 1/sqrt(e), and what a family's layer does
otherwise (norms after or around, parallel feed-forward, scaled residuals: layers.py, as for tokens).

F_0 is the memory prompt, run up the layers (`initial_memory`). Gated (`memory_gate`; ours, used by the checkpoints that
ship), a row with gate g becomes F' = (1 - g) F_t-1 + g Wo A, and F_t = F' + g MLP(norm(F')).

The output projection Wo, the residual, the MLP and the gate times both are `Layer.attention_output_and_mlp` in
layers.py, as of tokens. The other memories are in kept.py and delta.py, which makes its rows as this one does at first
updates; the contract of all is `Memory` in call.py.
`take_in` is the whole update when it runs by itself: a block that filled up token by token, or several blocks in
one call. **In the usual case, one whole block, it does not run**: `read_block_and_memory` in steps.py computes the same
with the memory rows in the matrix products of the tokens (`compress`, then `Layer.joint_output_and_mlp`). Shapes: see
network.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from famcli.nn.call import Call, Memory
from famcli.nn.config import FamConfig
from famcli.nn.kernels.attention import KeysValues, attend, attend_with_share
from famcli.nn.layers import Layer
from famcli.nn.rope import Rotation


def initial_memory(layer: Layer, rows: Tensor, rotate: Rotation) -> Tensor:
    """F_0 [1, f, d] of a layer from that of the layer below it (of the first layer: from the prompt).

    The rows attend to one another only. rotate: to the f positions before the first block.
    """
    normed = layer.attention_input(rows)
    (keys, values), queries = layer.self_attn.keys_values(normed), layer.self_attn.queries(normed)
    attended = attend(rotate(queries), [(rotate(keys), values)], causal=False, **layer.self_attn.scoring)
    return layer.attention_output_and_mlp(rows, attended)


class FeedbackMemory(Memory):
    """Rows that are updated through the layer's own weights: `memory_update` "additive" and "gated"."""

    begins_with_prompt: ClassVar[bool] = True
    joins_tokens: ClassVar[bool] = True

    def seen(self, layer: Layer, memory: Tensor, call: Call, t: int) -> KeysValues:
        """Kf, Vf [b, hk, f, e], which the next memory sees too."""
        keys, values = layer.self_attn.keys_values(layer.attention_input(memory))
        return call.rotate_memory(layer, t)(keys), values

    def take_in(
        self, layer: Layer, memory: Tensor, pieces: Sequence[KeysValues], num_blocks: int, call: Call
    ) -> tuple[Tensor, list[KeysValues]]:
        if call.state.memory_mode == "frozen":
            keys, values = layer.self_attn.keys_values(layer.attention_input(memory))
            return memory, [(call.rotate_memory(layer, t)(keys), values) for t in range(num_blocks)]
        rows = []
        for t, block in enumerate(pieces[-num_blocks:]):
            rows.append(self.seen(layer, memory, call, t))
            made = compressed(layer, memory, call.initial if t == 0 else None, [rows[t], block], call, t)
            memory = layer.attention_output_and_mlp(*made, inputs=memory)
        return memory, rows


def compressed(
    layer: Layer, memory: Tensor, initial: Tensor | None, parts: list[KeysValues], call: Call, t: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What `Layer.attention_output_and_mlp` makes F_t of, for block t of a call: (residual, attended, gate).

    memory: F_t-1 [b, f, d]. parts: [Kf ; K_t]. initial and the three: see `compress`.
    """
    # Rotated to the last f positions of this block: the position that the memory has when the next block reads it.
    queries = call.rotate_memory(layer, t + 1)(layer.self_attn.queries(layer.attention_input(memory)))
    call.record(layer, queries, parts)
    return compress(call.fam, layer, queries, memory, parts, initial)


def compress(
    fam: FamConfig, layer: Layer, queries: Tensor, memory: Tensor, parts: list[KeysValues], initial: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One update up to the output projection: (residual [b, f, d], attended [b, h, f, e], gate [b, f, 1] or None).

    residual: the part of F_t-1 that stays. attended: A. gate: the factor on what is added; None for the additive
    update.

    initial: [b] bool, True in batch rows at their first update, which keeps nothing (section 3.2 of the paper); with a
    gate, its gate is 1. None if no row is at its first update.
    """
    if fam.memory_update != "gated":
        residual = memory if initial is None else memory.masked_fill(initial[:, None, None], 0)
        return residual, attend(queries, parts, causal=False, **layer.self_attn.scoring), None
    attended, share = attend_with_share(queries, parts, **layer.self_attn.scoring)
    gate = memory_gate(share, fam.gate_threshold)
    gate = gate if initial is None else gate.masked_fill(initial[:, None], 1)
    return (1 - gate[..., None]) * memory, attended, gate[..., None]


def memory_gate(share: Tensor, threshold: float = 0.5) -> Tensor:
    """The gate of a memory row: relu(s - t) / (1 - t). Ours, not the paper's.

    share: s, the share of the row's attention that goes to the block. threshold: t (`FamConfig.gate_threshold`). A row
    that gives the memory more than 1 - t of its attention stays exactly as it was, so that what it holds does not fade
    with the number of blocks. Because old content is replaced, not added to, the norm stays bounded.
    """
    return ((share - threshold) / (1 - threshold)).clamp_min(0)
