"""What a family's weights are called on disk, and which of them hold several of the network's parameters at once.

A map takes the name of a stored tensor and gives the parameters that it holds: itself under another name, some of its
rows each, or nothing for buffers and parts that are not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from famcli.nn.config import DecoderConfig


@dataclass(frozen=True)
class Rows:
    """Rows r of a stored tensor with start <= r % period < stop, of `groups` times `period` rows in all."""

    start: int
    stop: int
    period: int
    groups: int = 1

    @property
    def count(self) -> int:
        """Rows that are meant."""
        return (self.stop - self.start) * self.groups

    @property
    def total(self) -> int:
        """Rows of the stored tensor."""
        return self.period * self.groups


@dataclass(frozen=True)
class Piece:
    """One of the network's parameters, and the rows of the stored tensor that are it (None: the whole tensor)."""

    parameter: str
    rows: Rows | None = None


NameMap = Callable[[str, DecoderConfig], tuple[Piece, ...]]

_ROTARY_BUFFER = re.compile(r".*\brotary_emb\.inv_freq")


def same_names(name: str, config: DecoderConfig) -> tuple[Piece, ...]:
    """The parameters' own names; old files carry rotary buffers beside them."""
    return () if _ROTARY_BUFFER.fullmatch(name) else (Piece(name),)


def phi3_names(name: str, config: DecoderConfig) -> tuple[Piece, ...]:
    """Queries, keys and values lie one after the other in one tensor, gate and up in another."""
    queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    inner = config.intermediate_size
    for fused, parts in (
        ("qkv_proj", (("q_proj", queries), ("k_proj", keys), ("v_proj", keys))),
        ("gate_up_proj", (("gate_proj", inner), ("up_proj", inner))),
    ):
        if f".{fused}." in name:
            return _one_after_the_other({name.replace(fused, part): rows for part, rows in parts})
    return same_names(name, config)


def gpt_neox_names(name: str, config: DecoderConfig) -> tuple[Piece, ...]:
    """Each head's query, key and value lie one after the other; everything has a name of its own."""
    if name in _NEOX_OUTER:
        return (Piece(_NEOX_OUTER[name]),)
    found = re.fullmatch(r"gpt_neox\.(layers\.\d+\.)(.+)", name)
    if found is None:
        return same_names(name, config)
    layer, inner = f"model.{found[1]}", found[2]
    if inner in {"attention.bias", "attention.masked_bias"} or _ROTARY_BUFFER.fullmatch(name):
        return ()
    part, _, kind = inner.rpartition(".")
    if part == "attention.query_key_value":
        e, heads = config.head_dim, config.num_heads
        return tuple(
            Piece(f"{layer}self_attn.{one}_proj.{kind}", Rows(i * e, (i + 1) * e, 3 * e, heads))
            for i, one in enumerate("qkv")
        )
    return (Piece(f"{layer}{_NEOX_INNER.get(part, part)}.{kind}"),)


_NEOX_OUTER = {
    "gpt_neox.embed_in.weight": "model.embed_tokens.weight",
    "gpt_neox.final_layer_norm.weight": "model.norm.weight",
    "gpt_neox.final_layer_norm.bias": "model.norm.bias",
    "embed_out.weight": "lm_head.weight",
}
_NEOX_INNER = {
    "attention.dense": "self_attn.o_proj",
    "mlp.dense_h_to_4h": "mlp.up_proj",
    "mlp.dense_4h_to_h": "mlp.down_proj",
}


def mixtral_names(name: str, config: DecoderConfig) -> tuple[Piece, ...]:
    """Experts' matrices are numbered: w1 is the gate, w2 down, w3 up."""
    name = name.replace(".block_sparse_moe.", ".mlp.")
    if found := re.fullmatch(r"(.+\.experts\.\d+)\.(w[123])\.weight", name):
        part = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}[found[2]]
        name = f"{found[1]}.{part}.weight"
    return same_names(name, config)


def gemma3_names(name: str, config: DecoderConfig) -> tuple[Piece, ...]:
    """The text part of a folder that reads images too; that part is passed over."""
    if re.match(r"(model\.)?(vision_tower|multi_modal_projector)\.", name):
        return ()
    for prefix, ours in (("language_model.model.", "model."), ("model.language_model.", "model.")):
        if name.startswith(prefix):
            return same_names(ours + name.removeprefix(prefix), config)
    return same_names(name.removeprefix("language_model."), config)


def _one_after_the_other(rows: Mapping[str, int]) -> tuple[Piece, ...]:
    total, start, pieces = sum(rows.values()), 0, []
    for parameter, count in rows.items():
        pieces.append(Piece(parameter, Rows(start, start + count, total)))
        start += count
    return tuple(pieces)
