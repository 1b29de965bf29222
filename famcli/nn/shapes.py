"""The shapes of a network's parameters and of its states, from its configuration alone.

What a file declares is compared with them before memory is taken, and before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from famcli.nn.config import DecoderConfig, FamConfig, NormPlace

Shape = tuple[int, ...]

EMBEDDING = "model.embed_tokens.weight"

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The matrices of attention and feed-forward, by the last part of their names."""

SCORES_NAME = "memory_scores"
"""The parameter [l, w] by which each layer scores tokens that it may keep."""


_NORMS: dict[NormPlace, tuple[str, ...]] = {
    "before": ("input", "post_attention"),
    "after": ("post_attention", "post_feedforward"),
    "around": ("input", "post_attention", "pre_feedforward", "post_feedforward"),
}


# What makes keys and values: the first layer's alone, where all layers share them.
_PROJECTIONS = ("self_attn.k_proj", "self_attn.v_proj", "self_attn.k_norm")


def expert_layer(config: DecoderConfig, layer: int) -> bool:
    """True if the layer's feed-forward is a mixture of experts."""
    return config.experts is not None and layer not in config.experts.dense_layers


def memory_layers(config: DecoderConfig, fam: FamConfig) -> tuple[int, ...]:
    """The layers that have a memory: all of them, local ones only with `local_memory`."""
    if not fam.fam_length:
        return ()
    local = fam.local_memory and not fam.keeps_tokens
    return tuple(i for i in range(config.num_layers) if local or config.window(i) is None)


def memory_shape(config: DecoderConfig, fam: FamConfig) -> Shape:
    """[l, f, w] of the memories of a state of batch one, stacked: `State.memories`."""
    return (len(memory_layers(config, fam)), memory_rows(config, fam), memory_width(config, fam))


def memory_rows(config: DecoderConfig, fam: FamConfig) -> int:
    """Rows of a layer's memory in a state: f, or of a matrix of associations as many as a key has features."""
    return 6 * config.head_dim if fam.associates else fam.fam_length


def memory_width(config: DecoderConfig, fam: FamConfig) -> int:
    """Numbers of a memory row: the network's width, or the keys and values of a token that is kept."""
    if fam.associates:
        return config.hidden_size + 1
    return 2 * config.num_key_value_heads * config.head_dim if fam.keeps_tokens else config.hidden_size


def segment_rows(config: DecoderConfig, fam: FamConfig, layer: int, num_closed: int) -> int:
    """Rows of closed blocks that the layer keeps: those that the next token, or one after it, can see."""
    rows, window = min(num_closed, fam.memory_segments) * fam.block_size, config.window(layer)
    return rows if window is None else min(rows, window - 1)


def parameter_shapes(config: DecoderConfig, fam: FamConfig) -> dict[str, Shape]:
    """The shape of every parameter of a network by name."""
    width = config.hidden_size
    shapes: dict[str, Shape] = {EMBEDDING: (config.vocab_size, width)}
    dense = dict(_layer_shapes(config, False))
    mixed = dict(_layer_shapes(config, True)) if config.experts else {}
    for index in range(config.num_layers):
        # Layers of one kind are alike, and a mixture of experts has many parameters: each kind is described once.
        layer = mixed if expert_layer(config, index) else dense
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
        if fam.shares_projections and index:
            for name in layer:
                if name.startswith(_PROJECTIONS):
                    del shapes[f"model.layers.{index}.{name}"]
    shapes |= _norm_shapes(config, "model.norm", width)
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    return shapes | own_shapes(config, fam)


def own_shapes(config: DecoderConfig, fam: FamConfig) -> dict[str, Shape]:
    """The shapes of the parameters that a pretrained decoder does not have, by name. They are float32.

    Raises ValueError for a decoder that the architecture cannot read with.
    """
    if fam.keeps_tokens:
        return {SCORES_NAME: (config.num_layers, memory_width(config, fam))}
    if fam.architecture != "feedback":
        prompt: dict[str, Shape] = {"memory_prompt": (fam.fam_length, config.hidden_size)} if fam.fam_length else {}
        # Of each layer, one above the other: the maps to queries, keys, the weight of what is written, and values.
        maps = (config.num_layers, 2 * config.head_dim + 1 + config.hidden_size, config.hidden_size)
        return prompt | ({"memory_maps": maps} if fam.associates else {})
    shared = fam.shares_projections
    if config.local_layers:
        raise ValueError("layers with a sliding window of their own have no meaning in a Feedback Transformer")
    if shared and config.unrotated_layers and len(config.unrotated_layers) < config.num_layers:
        raise ValueError("layers that share their keys must all have rotary positions, or none")
    shapes: dict[str, Shape] = {"layer_weights": (config.num_layers + 1,)}
    return shapes | (_norm_shapes(config, "memory_norm", config.hidden_size) if shared else {})


def _layer_shapes(config: DecoderConfig, has_experts: bool) -> Iterator[tuple[str, Shape]]:
    width = config.hidden_size
    for norm in _NORMS[config.norm_place]:
        yield from _norm_shapes(config, f"{norm}_layernorm", width).items()
    queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    for part, rows in (("q", queries), ("k", keys), ("v", keys)):
        yield from _linear_shapes(f"self_attn.{part}_proj", rows, width, config.attention_bias)
    yield from _linear_shapes("self_attn.o_proj", width, queries, config.biases_output)
    if config.query_key_norm != "none":
        for part, rows in (("q", queries), ("k", keys)):
            size = config.head_dim if config.query_key_norm == "head" else rows
            yield from _norm_shapes(config, f"self_attn.{part}_norm", size).items()
    if not has_experts:
        yield from _feed_forward_shapes(config, "mlp", config.intermediate_size)
        return
    assert config.experts is not None
    yield from _linear_shapes("mlp.gate", config.experts.num_experts, width, False)
    for number in range(config.experts.num_experts):
        yield from _feed_forward_shapes(config, f"mlp.experts.{number}", config.experts.size)


def _feed_forward_shapes(config: DecoderConfig, name: str, size: int) -> Iterator[tuple[str, Shape]]:
    for part in ("gate_proj", "up_proj") if config.gated else ("up_proj",):
        yield from _linear_shapes(f"{name}.{part}", size, config.hidden_size, config.mlp_bias)
    yield from _linear_shapes(f"{name}.down_proj", config.hidden_size, size, config.mlp_bias)


def _linear_shapes(name: str, rows: int, columns: int, bias: bool) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)


def _norm_shapes(config: DecoderConfig, name: str, width: int) -> dict[str, Shape]:
    parts = ("weight", "bias") if config.norm == "layer" else ("weight",)
    return {f"{name}.{part}": (width,) for part in parts}


def state_shapes(
    config: DecoderConfig, fam: FamConfig, meta: Mapping[str, Any] | None = None, batch: int = 1
) -> dict[str, Shape]:
    """The shape of every tensor of a state with this `meta` (`State.to_tensors`), or of the largest state without it.

    Files are checked by it before memory is taken for them. Raises ValueError for a `meta` that no state can have.
    """
    if meta is None:
        meta = {"fill": fam.block_size - 1, "num_closed": fam.memory_segments + 1, "memory_mode": "on"}
    fill, num_closed = int(meta["fill"]), int(meta["num_closed"])
    if not (0 <= fill < fam.block_size and 0 <= num_closed <= fam.memory_segments + 1):
        raise ValueError(f"no state has fill {fill} and {num_closed} closed blocks with this block size and segments")
    heads, width = config.num_key_value_heads, config.head_dim
    shapes: dict[str, Shape] = {"position": (batch,)}
    if fam.architecture == "feedback":
        rows = min(num_closed * fam.block_size + fill, fam.visible_tokens)
        for index in range(1 if fam.shares_projections else config.num_layers):
            for what in ("keys", "values"):
                shapes[f"windows.{index}.{what}"] = (batch, heads, rows, width)
        return shapes
    remembering = () if meta["memory_mode"] == "none" else memory_layers(config, fam)
    for index in range(config.num_layers):
        # Sinks are gathered while block 0 is read.
        sinks = fam.sink_tokens if num_closed else min(fill, fam.sink_tokens)
        counts = {"segment": segment_rows(config, fam, index, num_closed), "open": fill}
        counts["sink"] = sinks if config.window(index) is None else 0
        rows = memory_rows(config, fam) if index in remembering else 0
        shapes[f"layers.{index}.memory"] = (batch, rows, memory_width(config, fam))
        for part, count in counts.items():
            for what in ("keys", "values"):
                shapes[f"layers.{index}.{part}_{what}"] = (batch, heads, count, width)
    return shapes
