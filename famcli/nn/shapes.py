"""The shapes of a network's parameters and of its states, from its configuration alone.

What a file declares is compared with them before memory is taken, and before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from famcli.nn.config import DecoderConfig, FamConfig

MemoryMode = Literal["on", "frozen", "none"]
MEMORY_MODES: tuple[MemoryMode, ...] = get_args(MemoryMode)


def parameter_shapes(config: DecoderConfig, fam: FamConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of `Decoder(config, fam)` by name."""
    width, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    layer: dict[str, tuple[int, ...]] = {f"{norm}_layernorm.weight": (width,) for norm in ("input", "post_attention")}
    for part, rows, columns, bias in (
        ("self_attn.q_proj", queries, width, config.attention_bias),
        ("self_attn.k_proj", keys, width, config.attention_bias),
        ("self_attn.v_proj", keys, width, config.attention_bias),
        ("self_attn.o_proj", width, queries, config.attention_bias),
        ("mlp.gate_proj", inner, width, config.mlp_bias),
        ("mlp.up_proj", inner, width, config.mlp_bias),
        ("mlp.down_proj", width, inner, config.mlp_bias),
    ):
        layer[f"{part}.weight"] = (rows, columns)
        if bias:
            layer[f"{part}.bias"] = (rows,)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, width)}
    for index in range(config.num_layers):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (width,)
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    if fam.fam_length:
        shapes["memory_prompt"] = (fam.fam_length, width)
    return shapes


def state_shapes(
    config: DecoderConfig, fam: FamConfig, meta: Mapping[str, int | bool | str], batch: int = 1
) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a state with this `meta`, to check a file before memory is taken for it."""
    fill, num_closed = int(meta["fill"]), int(meta["num_closed"])
    if not (0 <= fill < fam.block_size and 0 <= num_closed <= fam.memory_segments + 1):
        raise ValueError(f"no state has fill {fill} and {num_closed} closed blocks with this block size and segments")
    memory_rows = 0 if meta["memory_mode"] == "none" else fam.fam_length
    sinks = fam.sink_tokens if num_closed else min(fill, fam.sink_tokens)
    segments = min(num_closed, fam.memory_segments) * fam.block_size
    heads, width = config.num_key_value_heads, config.head_dim
    rows = {"segment": segments, "open": fill, "sink": sinks}
    layer: dict[str, tuple[int, ...]] = {"memory": (batch, memory_rows, config.hidden_size)}
    for part, count in rows.items():
        layer |= {f"{part}_keys": (batch, heads, count, width), f"{part}_values": (batch, heads, count, width)}
    shapes: dict[str, tuple[int, ...]] = {"position": (batch,)}
    for index in range(config.num_layers):
        shapes |= {f"layers.{index}.{name}": shape for name, shape in layer.items()}
    return shapes
