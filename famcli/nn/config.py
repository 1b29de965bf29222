"""What shape a network has.

`DecoderConfig` is what a pretrained checkpoint fixes; `FamConfig` is how it is streamed, and may be chosen anew each
time it is opened (the reductions of FAM are choices of it: fam_length 0 is block sliding window attention).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

MemoryUpdate = Literal["additive", "gated"]
"""How a memory takes in a block: added to it, as in the paper, or in exchange for as much of itself (`memory_gate`)."""

MEMORY_UPDATES: tuple[MemoryUpdate, ...] = get_args(MemoryUpdate)


@dataclass(frozen=True)
class RopeConfig:
    """Rotary positions: `theta` is the base of the frequencies; `scaling` as in a checkpoint's `rope_scaling`.

    `max_position` is the length the checkpoint was trained for; scalings that depend on a length read it.
    """

    theta: float = 10000.0
    scaling: Mapping[str, object] | None = None
    max_position: int = 2048


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a Llama-like decoder: pre-norm, grouped-query attention, gated feed-forward.

    Names are those of a checkpoint's `config.json`. Raises ValueError if the numbers do not fit together.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    norm_eps: float = 1e-5
    rope: RopeConfig = field(default_factory=RopeConfig)
    tie_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads", "head_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.num_key_value_heads < 1 or self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}, rotary positions need an even number")


@dataclass(frozen=True)
class FamConfig:
    """How a decoder reads a stream (arXiv 2404.09173, section 2).

    block_size: tokens a block (C). memory_segments: closed blocks still visible as keys (m). fam_length: memory rows
    a layer (f); 0 is block sliding window attention. sink_tokens: first tokens of the stream that stay visible for
    ever (s), for decoders that were never adapted to streaming. memory_update: how a memory takes in a block,
    "additive" (the paper's form) or "gated" (docs/decisions.md).

    Three switches are for the paper's ablations in training only (its section 3.4 and figure 5), and are not stored in
    a checkpoint: first_update_residual keeps the residual of the first update, stop_segment_gradient lets no gradient
    through the segments (Transformer-XL's way), prompt_with_first_block makes the first memory of rows that go up the
    layers together with block 0.
    """

    block_size: int = 1024
    memory_segments: int = 3
    fam_length: int = 64
    sink_tokens: int = 0
    memory_update: MemoryUpdate = "additive"
    first_update_residual: bool = False
    stop_segment_gradient: bool = False
    prompt_with_first_block: bool = False

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise ValueError(f"block_size is {self.block_size}, it must be at least 1")
        if self.memory_segments < 0:
            raise ValueError(f"memory_segments is {self.memory_segments}, it cannot be negative")
        for name in ("fam_length", "sink_tokens"):
            if not 0 <= getattr(self, name) <= self.block_size:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be between 0 and block_size")
        if self.memory_update not in MEMORY_UPDATES:
            raise ValueError(f"memory_update is {self.memory_update!r}, it must be one of {', '.join(MEMORY_UPDATES)}")
