"""What shape a network has.

`DecoderConfig` is what a pretrained checkpoint fixes; `FamConfig` is how it is streamed, and may be chosen anew each
time it is opened (the reductions of FAM are choices of it: fam_length 0 is block sliding window attention).
"""

# ruff: noqa: RUF009 - `_setting` is dataclasses.field with its documentation

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, Field, dataclass, field, fields, replace
from typing import Any, Literal, get_args

MemoryUpdate = Literal["additive", "gated", "kept", "delta"]
"""How a memory takes in a block: added to it, as in the paper; in exchange for as much of itself (`memory_gate`); as
the tokens themselves that score highest (kept.py), for a decoder whose weights stay as they are; or as associations in
a matrix (delta.py)."""

MemoryMode = Literal["on", "frozen", "none"]
"""How a network reads: with its memory, with the initial memory never updated, or without memory keys at all."""

MEMORY_MODES: tuple[MemoryMode, ...] = get_args(MemoryMode)

ARCHITECTURES = {"fam": "famcli.nn.decoder:Decoder", "feedback": "famcli.nn.feedback:FeedbackDecoder"}
"""The class of each network that a checkpoint may name; a string, because what is declared is checked without torch."""

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
NormKind = Literal["rms", "rms_plus_one", "layer"]
NormPlace = Literal["before", "after", "around"]
QueryKeyNorm = Literal["none", "head", "all"]

_ROWS_PER_CALL = 512  # from which on more rows make a matrix product no faster


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

    per_token: experts chosen. size: width of one expert. normalize: scale the weights of the chosen ones to a sum of 1.
    dense_layers: layers with one plain feed-forward instead.
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
    """The shape of a decoder, with the names of a checkpoint's `config.json`.

    The fields before `_` describe a Llama: norms before attention and a gated feed-forward. Raises ValueError if the
    numbers do not fit together.

    output_bias: of attention's output; None is as attention_bias. gated: whether the feed-forward has a gate. norm:
    "rms_plus_one" multiplies by 1 + weight (Gemma). norm_place: of attention's and the feed-forward's norm, "around" is
    before and after. parallel: both read the layer's input, and their sum is added to it (GPT-NeoX). query_key_norm:
    for each head, or over all heads at once. attention_scale: of the scores, None is 1 / sqrt(head_dim). *_softcap:
    x becomes cap * tanh(x / cap). embedding_scale, residual_scale: factors of the embedding and of what is added to
    the residual; logits_scale divides. rotary_dim: leading dimensions of a head that are rotated, None is all.

    local_layers see the last sliding_window tokens only, the token itself included; local_rope replaces rope in them.
    unrotated_layers have no positions at all (NoPE). experts: mixture of experts.
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
    def biases_output(self) -> bool:
        return self.attention_bias if self.output_bias is None else self.output_bias

    @property
    def rotated_dim(self) -> int:
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    def window(self, layer: int) -> int | None:
        """Tokens that a token of this layer sees, itself included; None is all that are there."""
        return self.sliding_window if layer in self.local_layers else None


def later_switches(config: object) -> dict[str, Any]:
    """The keyword-only fields of a configuration that differ from their defaults: what an older famcli did not know.

    Of a `DecoderConfig`, what a Llama does not have.
    """
    later = [each for each in fields(config) if each.kw_only]  # type: ignore[arg-type]
    return {each.name: value for each in later if (value := getattr(config, each.name)) != each.default}


def _setting(default: Any, doc: str, **more: Any) -> Any:
    """A field of `FamConfig`. low, high: bounds of a number, inclusive. choices: the strings that are allowed.

    in_block: at most block_size too. required: files must say it, whatever the default here is. internal: recipes have
    no such key.
    """
    return field(default=default, metadata={"doc": doc, **more})


@dataclass(frozen=True)
class FamConfig:
    """How a network reads a stream (arXiv 2404.09173, section 2): one value, checked whenever it is made.

    `fam.json`, memory files and recipes embed it through `to_json` and `from_json`. Raises ValueError for a value of
    another type or out of bounds.
    """

    # Keyword-only fields came later. They are stored only where they differ from their defaults, so that files and
    # fingerprints of older versions keep their meaning.

    block_size: int = _setting(1024, "tokens in a block, C", low=1, high=1 << 20, required=True)
    memory_segments: int = _setting(3, "closed blocks a token still sees, m", low=0, high=1 << 20, required=True)
    fam_length: int = _setting(
        64,
        "rows of the feedback memory, f; 0 is block sliding window attention (the BSWA twin)",
        low=0,
        high=1 << 14,
        in_block=True,
        required=True,
    )
    # For decoders that were never adapted to streaming (arXiv 2309.17453): training has no use for it.
    sink_tokens: int = _setting(
        0, "first tokens of the stream that stay visible for ever, s", low=0, high=1 << 20, in_block=True, internal=True
    )
    memory_update: MemoryUpdate = _setting(
        "additive",
        "how a memory takes in a block: additive (the paper's form), gated, kept (the tokens that score highest), or "
        "delta (a matrix of associations)",
        choices=get_args(MemoryUpdate),
    )
    _: KW_ONLY
    # Which layers have a window is the checkpoint's affair, so recipes derive this from it.
    local_memory: bool = _setting(
        False, "whether layers with a sliding window have a memory too; they keep their window", internal=True
    )
    gate_threshold: float = _setting(
        0.5, "gated: the share of a row's attention that a block must get before the row changes", low=0, high=0.999
    )
    architecture: str = _setting(
        "fam",
        "fam: each layer has a memory of its own blocks; feedback: all layers share a memory of each past token "
        "(the Feedback Transformer), and fam_length is 0",
        choices=tuple(ARCHITECTURES),
    )
    feedback_projections: str = _setting(
        "layer",
        "feedback: each layer makes its own keys and values of the memory, or all share one projection and its norm",
        choices=("layer", "shared"),
    )
    feedback_passes: int = _setting(
        0,
        "feedback: read a call's tokens side by side, in this many passes or fewer (for training); 0 is one by one, "
        "exactly",
        low=0,
        high=1 << 10,
    )

    def __post_init__(self) -> None:
        for each in fields(FamConfig):
            if problem := self._problem(each):
                # As JSON spells it, on one line and shortened.
                text = json.dumps(getattr(self, each.name), default=str)
                text = text if len(text) <= 60 else text[:57] + "..."
                raise ValueError(f"'{each.name}' must be {problem}, it is {text}")
        if self.architecture == "feedback":
            for name in ("fam_length", "sink_tokens"):
                if getattr(self, name):
                    raise ValueError(f"'{name}' must be 0 for architecture 'feedback', whose memory is one of tokens")
        if self.keeps_tokens and self.fam_length > self.block_size - self.sink_tokens:
            # The memory begins with the first block, and would have to take in its sinks, which are seen anyway.
            most = self.block_size - self.sink_tokens
            raise ValueError(
                f"'fam_length' must be at most {most} ('block_size' less 'sink_tokens') where tokens are kept"
            )

    def _problem(self, each: Field[Any]) -> str | None:
        """What a field must be and is not."""
        value, kind, metadata = getattr(self, each.name), type(each.default), each.metadata
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
            return _KINDS[kind]
        if "choices" in metadata and value not in metadata["choices"]:
            return f"one of {', '.join(metadata['choices'])}"
        if "low" not in metadata:
            return None
        low, high = metadata["low"], metadata["high"]
        high = min(high, self.block_size) if metadata.get("in_block") else high
        return None if low <= value <= high else f"between {low} and {high}"

    @property
    def visible_tokens(self) -> int:
        """Tokens that are visible at once: the closed blocks and the open one."""
        return (self.memory_segments + 1) * self.block_size

    @property
    def memory_is_separate(self) -> bool:
        """True if the memory can be frozen, left out or kept alone; False if it is all that tokens see of the past."""
        return self.architecture == "fam"

    @property
    def remembers(self) -> bool:
        """True if there is a memory: rows of the layers' own, or the one that all layers share."""
        return self.fam_length > 0 or not self.memory_is_separate

    @property
    def keeps_tokens(self) -> bool:
        """True if the memory rows are tokens that were read: their keys, not rotated, and their values."""
        return self.fam_length > 0 and self.memory_update == "kept"

    @property
    def associates(self) -> bool:
        """True if the memory is a matrix of associations, which rows of a block are written into."""
        return self.fam_length > 0 and self.memory_update == "delta"

    @property
    def blocks_not_taken_in(self) -> int:
        """Closed blocks that the memory has not taken in yet: where it keeps tokens, those that are still seen."""
        return self.memory_segments if self.keeps_tokens else 0

    @property
    def blocks_per_call(self) -> int:
        """Blocks that are read fastest in one call, with the same result: where the memory keeps tokens, as many as
        make 512 rows of a matrix product. Other memories gain nothing by it (docs/experiments.md)."""
        return max(1, _ROWS_PER_CALL // self.block_size) if self.keeps_tokens else 1

    @property
    def shares_projections(self) -> bool:
        """True if all layers make the same keys and values of the memory."""
        return self.architecture == "feedback" and self.feedback_projections == "shared"

    @property
    def without_memory(self) -> FamConfig:
        """The same without memory rows: block sliding window attention, for which a plain decoder's weights suffice."""
        return replace(self, fam_length=0)

    def to_json(self) -> dict[str, Any]:
        first = {each.name: getattr(self, each.name) for each in fields(FamConfig) if not each.kw_only}
        return first | later_switches(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FamConfig:
        """What `to_json` wrote, of this version or an older one. A key that is null counts as absent.

        Raises KeyError for a required key that is absent, ValueError for a value that cannot be, TypeError for an
        unknown key.
        """
        given = {key: value for key, value in values.items() if value is not None}
        for each in fields(FamConfig):
            if each.metadata.get("required") and each.name not in given:
                raise KeyError(each.name)
            if type(each.default) is float and type(given.get(each.name)) is int:
                # Other writers of JSON spell 0.0 as 0.
                given[each.name] = float(given[each.name])
        return cls(**given)


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
