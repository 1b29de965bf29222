"""What shape a network has.

`DecoderConfig` is what a pretrained checkpoint fixes; `FamConfig` is how it is streamed, and may be chosen anew each
time it is opened (the reductions of FAM are choices of it: fam_length 0 is block sliding window attention).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, Literal, get_args

MemoryUpdate = Literal["additive", "gated"]
"""How a memory takes in a block: added to it, as in the paper, or in exchange for as much of itself (`memory_gate`)."""

MEMORY_UPDATES: tuple[MemoryUpdate, ...] = get_args(MemoryUpdate)

MemoryMode = Literal["on", "frozen", "none"]
"""How a network reads: with its memory, with the initial memory never updated, or without memory keys at all."""

MEMORY_MODES: tuple[MemoryMode, ...] = get_args(MemoryMode)

ARCHITECTURES = {"fam": "famcli.nn.decoder:Decoder"}
"""The class of each network that a checkpoint may name; a string, because what is declared is checked without torch."""

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
NormKind = Literal["rms", "rms_plus_one", "layer"]
NormPlace = Literal["before", "after", "around"]
QueryKeyNorm = Literal["none", "head", "all"]


@dataclass(frozen=True)
class RopeConfig:
    """Rotary positions: `theta` is the base of the frequencies; `scaling` as in a checkpoint's `rope_scaling`.

    `max_position` is the length the checkpoint was trained for; scalings that depend on a length read it.
    """

    theta: float = 10000.0
    scaling: Mapping[str, object] | None = None
    max_position: int = 2048


@dataclass(frozen=True)
class ExpertConfig:
    """Feed-forwards of which a router chooses a few for each token (arXiv 2401.04088).

    per_token: experts chosen. size: width inside one. normalize: whether the chosen ones' weights are made to add up to
    1. dense_layers: layers that have one plain feed-forward instead.
    """

    num_experts: int
    per_token: int
    size: int
    normalize: bool = True
    dense_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.per_token <= self.num_experts:
            raise ValueError(f"{self.per_token} of {self.num_experts} experts cannot be chosen for a token")
        if self.size < 1:
            raise ValueError(f"the experts' size is {self.size}, it must be at least 1")


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder. Without what follows `_` it is Llama's: norms before attention and a gated feed-forward.

    Names are those of a checkpoint's `config.json`. Raises ValueError if the numbers do not fit together.

    output_bias: of attention's output; None is as attention_bias. gated: whether the feed-forward has a gate. norm:
    "rms_plus_one" multiplies by 1 + weight (Gemma). norm_place: of attention's and the feed-forward's norm, "around" is
    before and after. parallel: both read the layer's input, and their sum is added to it (GPT-NeoX). query_key_norm:
    for each head, or over all heads at once. attention_scale: of the scores, None is 1 / sqrt(head_dim). *_softcap:
    x becomes cap * tanh(x / cap). embedding_scale, residual_scale: factors of the embedding and of what is added to
    the residual; logits_scale divides. rotary_dim: leading dimensions of a head that are rotated, None is all.

    local_layers see the last sliding_window tokens only, each token itself included; with local_rope they are rotated
    in a way of their own. unrotated_layers have no positions at all (NoPE). experts: mixture of experts.
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
    _: KW_ONLY
    output_bias: bool | None = None
    activation: Activation = "silu"
    gated: bool = True
    norm: NormKind = "rms"
    norm_place: NormPlace = "before"
    parallel: bool = False
    query_key_norm: QueryKeyNorm = "none"
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logits_softcap: float | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logits_scale: float = 1.0
    rotary_dim: int | None = None
    sliding_window: int | None = None
    local_layers: tuple[int, ...] = ()
    local_rope: RopeConfig | None = None
    unrotated_layers: tuple[int, ...] = ()
    experts: ExpertConfig | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads", "head_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.num_key_value_heads < 1 or self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.rotated_dim % 2 or not 0 < self.rotated_dim <= self.head_dim:
            what = f"head_dim is {self.head_dim}" + ("" if self.rotary_dim is None else f", {self.rotary_dim} rotated")
            raise ValueError(f"{what}, rotary positions need an even number")
        if self.local_layers and (self.sliding_window is None or self.sliding_window < 1):
            raise ValueError(f"sliding_window is {self.sliding_window}, local layers need at least 1")
        if self.parallel and self.norm_place != "before":
            raise ValueError("parallel attention and feed-forward have their norms before them")

    @property
    def rotated_dim(self) -> int:
        """Dimensions of a head that are rotated."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    def window(self, layer: int) -> int | None:
        """Tokens that a token of this layer sees, itself included; None is all that are there."""
        return self.sliding_window if layer in self.local_layers else None

    @property
    def is_plain(self) -> bool:
        """Whether it has nothing that a Llama has not."""
        return not later_switches(self)


def later_switches(config: object) -> dict[str, Any]:
    """The keyword-only fields of a configuration that are not at rest: what an older famcli did not know."""
    later = [each for each in fields(config) if each.kw_only]  # type: ignore[arg-type]
    return {each.name: value for each in later if (value := getattr(config, each.name)) != each.default}


@dataclass(frozen=True)
class FamConfig:
    """How a decoder reads a stream (arXiv 2404.09173, section 2).

    block_size: tokens a block (C). memory_segments: closed blocks still visible as keys (m). fam_length: memory rows
    a layer (f); 0 is block sliding window attention. sink_tokens: first tokens of the stream that stay visible for
    ever (s), for decoders that were never adapted to streaming. memory_update: how a memory takes in a block,
    "additive" (the paper's form) or "gated" (docs/decisions.md). gate_threshold: the share of a gated row's attention
    that a block must get before the row changes. local_memory: whether layers with a sliding window have a memory too;
    they keep their window among tokens either way.

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
    _: KW_ONLY
    local_memory: bool = False
    gate_threshold: float = 0.5
    architecture: str = "fam"

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
        if not 0 <= self.gate_threshold < 1:
            raise ValueError(f"gate_threshold is {self.gate_threshold}, it must be at least 0 and below 1")
