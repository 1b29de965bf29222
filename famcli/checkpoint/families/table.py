"""The table of families: for each, its switches of the one decoder, and its names of the weights.

This package's docstring says how to add a family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from famcli.checkpoint.families import shared
from famcli.checkpoint.folder import Fields
from famcli.nn.config import DecoderConfig, ExpertConfig, RopeConfig

Switches = dict[str, Any]

# ------------------------------------------------------------------------------------------------------ weight names
# A map takes the name of a stored tensor and gives the parameters in it: the tensor itself under another name, some of
# its rows each, or nothing for buffers and parts that are not read.


@dataclass(frozen=True)
class Rows:
    """The rows r of a stored tensor with start <= r % period < stop; it has `groups` times `period` rows in all."""

    start: int
    stop: int
    period: int
    groups: int = 1

    @property
    def count(self) -> int:
        """Number of rows with start <= r % period < stop."""
        return (self.stop - self.start) * self.groups

    @property
    def total(self) -> int:
        """Rows of the stored tensor."""
        return self.period * self.groups

    def of(self, stored: Any) -> Any:
        """Those rows of a torch tensor [total, ...], as a view [groups, rows, ...] of it."""
        return stored.view(self.groups, self.period, *stored.shape[1:])[:, self.start : self.stop]


ParameterRows = Mapping[str, Rows | None]
"""The network's parameters in a stored tensor, with their rows of it; None is the whole tensor."""

NameMap = Callable[[str, DecoderConfig], ParameterRows]

_ROTARY_BUFFER = re.compile(r".*\brotary_emb\.inv_freq")


def same_names(name: str, config: DecoderConfig) -> ParameterRows:
    """Llama's names, which are those of the parameters."""
    # Old files hold rotary buffers too, which are computed here.
    return {} if _ROTARY_BUFFER.fullmatch(name) else {name: None}


def phi3_names(name: str, config: DecoderConfig) -> ParameterRows:
    """One tensor holds queries, keys and values in this order, another gate and up."""
    queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    inner = config.intermediate_size
    for fused, parts in (
        ("qkv_proj", (("q_proj", queries), ("k_proj", keys), ("v_proj", keys))),
        ("gate_up_proj", (("gate_proj", inner), ("up_proj", inner))),
    ):
        if f".{fused}." in name:
            return _consecutive({name.replace(fused, part): rows for part, rows in parts})
    return same_names(name, config)


def gpt_neox_names(name: str, config: DecoderConfig) -> ParameterRows:
    """Pythia's own names. One tensor holds query, key and value of each head in turn."""
    if name in _NEOX_OUTER:
        return {_NEOX_OUTER[name]: None}
    match = re.fullmatch(r"gpt_neox\.(layers\.\d+\.)(.+)", name)
    if match is None:
        return same_names(name, config)
    layer, inner = f"model.{match[1]}", match[2]
    if inner in {"attention.bias", "attention.masked_bias"} or _ROTARY_BUFFER.fullmatch(name):
        return {}
    part, _, kind = inner.rpartition(".")
    if part == "attention.query_key_value":
        e, heads = config.head_dim, config.num_heads
        return {
            f"{layer}self_attn.{one}_proj.{kind}": Rows(i * e, (i + 1) * e, 3 * e, heads) for i, one in enumerate("qkv")
        }
    return {f"{layer}{_NEOX_INNER.get(part, part)}.{kind}": None}


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


def mixtral_names(name: str, config: DecoderConfig) -> ParameterRows:
    """Experts' matrices are numbered: w1 is the gate, w2 down, w3 up."""
    name = name.replace(".block_sparse_moe.", ".mlp.")
    if match := re.fullmatch(r"(.+\.experts\.\d+)\.(w[123])\.weight", name):
        part = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}[match[2]]
        name = f"{match[1]}.{part}.weight"
    return same_names(name, config)


def gemma3_names(name: str, config: DecoderConfig) -> ParameterRows:
    """The text part of a checkpoint that reads images too; the vision part is skipped."""
    if re.match(r"(model\.)?(vision_tower|multi_modal_projector)\.", name):
        return {}
    for prefix, ours in (("language_model.model.", "model."), ("model.language_model.", "model.")):
        if name.startswith(prefix):
            return same_names(ours + name.removeprefix(prefix), config)
    return same_names(name.removeprefix("language_model."), config)


def _consecutive(counts: Mapping[str, int]) -> ParameterRows:
    """Parameters that follow one another in one tensor. counts: rows of each."""
    ends = list(accumulate(counts.values()))
    starts = [0, *ends]
    return {name: Rows(start, end, ends[-1]) for name, start, end in zip(counts, starts, ends, strict=False)}


# --------------------------------------------------------------------------------------------------------- families


@dataclass(frozen=True)
class Family:
    """One entry: name is the `model_type` of `config.json`.

    switches: the fields of DecoderConfig in which the family differs from Llama, `rope` among them if `shared.rope`
    does not read it. parameters: those that a stored tensor holds. defaults: values of `config.json` keys that are
    absent (null stays null). inner: the key of the text part's configuration, in checkpoints that read more than text.
    """

    name: str
    switches: Callable[[Fields], Switches]
    parameters: NameMap = same_names
    defaults: Mapping[str, Any] = field(default_factory=dict)
    inner: str | None = None

    def parse(self, fields: Fields) -> DecoderConfig:
        """The decoder that `config.json` describes. Raises CheckpointError, and ValueError for sizes that clash."""
        values = dict(self.defaults)
        if self.inner is None:
            values |= fields.values
        else:
            values |= fields.mapping(self.inner) or {}
            values["tie_word_embeddings"] = fields.boolean("tie_word_embeddings", values["tie_word_embeddings"])
        fields = Fields(fields.path, values)
        return DecoderConfig(**(shared.sizes(fields) | {"rope": shared.rope(fields)} | self.switches(fields)))


def _llama(fields: Fields) -> Switches:
    shared.refuse_partial(fields)
    return {key: fields.boolean(key, False) for key in ("attention_bias", "mlp_bias")}


def _mixtral(fields: Fields) -> Switches:
    mixture = ExpertConfig(**shared.experts(fields, "num_local_experts", "intermediate_size"))
    return {"rope": shared.rope(fields, 1e6), "experts": mixture} | shared.window_everywhere(fields)


def _qwen2(fields: Fields) -> Switches:
    first = fields.integer("max_window_layers", 28, low=0, high=1 << 20)
    # The first max_window_layers layers see everything.
    upper = tuple(range(min(first, shared.num_layers(fields)), shared.num_layers(fields)))
    return {"attention_bias": True, "output_bias": False} | shared.window_by_layer(
        fields, upper, used=_uses_window(fields)
    )


def _qwen3(fields: Fields) -> Switches:
    switches = _qwen2(fields) | {"attention_bias": fields.boolean("attention_bias", False), "output_bias": None}
    return switches | {"query_key_norm": "head"}


def _qwen3_moe(fields: Fields) -> Switches:
    switches = {"attention_bias": fields.boolean("attention_bias", False), "query_key_norm": "head"}
    switches |= shared.window_everywhere(fields, used=_uses_window(fields))
    count = "num_experts" if fields.values.get("num_experts") is not None else "num_local_experts"
    step = fields.integer("decoder_sparse_step", 1, low=1, high=shared.MAX_LAYERS)
    # Only every decoder_sparse_step-th layer has experts.
    dense = {i for i in range(shared.num_layers(fields)) if (i + 1) % step} | set(
        shared.layer_numbers(fields, "mlp_only_layers")
    )
    mixture = ExpertConfig(
        **shared.experts(fields, count, "moe_intermediate_size"),
        normalize=fields.boolean("norm_topk_prob", False),
        dense_layers=tuple(sorted(dense)),
    )
    return switches | {"experts": mixture}


def _uses_window(fields: Fields) -> bool:
    return fields.boolean("use_sliding_window", False)


def _gemma(fields: Fields) -> Switches:
    if fields.boolean("use_bidirectional_attention", False):
        raise fields.wrong("use_bidirectional_attention", "is true: such a network reads no stream")
    key = "hidden_activation" if fields.values.get("hidden_activation") is not None else "hidden_act"
    act = shared.activation(fields, key)
    return {
        "attention_bias": fields.boolean("attention_bias", False),
        # The first checkpoints say gelu and were trained with its approximation by tanh.
        "activation": "gelu_tanh" if act == "gelu" else act,
        "norm": "rms_plus_one",
        "embedding_scale": fields.integer("hidden_size", low=1, high=1 << 20) ** 0.5,
    }


def _gemma2(fields: Fields) -> Switches:
    # Gemma 2 alternates, beginning with a window.
    evens = tuple(range(0, shared.num_layers(fields), 2))
    return (
        _gemma(fields)
        | {
            "activation": shared.activation(fields, "hidden_activation"),
            "norm_place": "around",
            "attention_scale": fields.number("query_pre_attn_scalar", 256, low=1e-6, high=1e9) ** -0.5,
            "attention_softcap": shared.softcap(fields, "attn_logit_softcapping"),
            "logits_softcap": shared.softcap(fields, "final_logit_softcapping"),
        }
        | shared.window_by_layer(fields, evens)
    )


def _gemma3(fields: Fields) -> Switches:
    every = fields.integer("sliding_window_pattern", 6, low=1, high=1 << 20)
    # Every sixth layer sees everything.
    lower = tuple(i for i in range(shared.num_layers(fields)) if (i + 1) % every)
    switches = (
        _gemma2(fields)
        # Gemma 3 does not use the cap, even where the file gives one.
        | {"query_key_norm": "head", "attention_softcap": None}
        | shared.window_by_layer(fields, lower)
    )
    wide, near = _gemma3_ropes(fields)
    return switches | {"rope": wide} | ({"local_rope": near} if switches.get("local_layers") else {})


def _gemma3_ropes(fields: Fields) -> tuple[RopeConfig, RopeConfig]:
    """The rotary positions of the global and of the local layers: one object for each, or separate keys."""
    both = fields.mapping("rope_parameters") or {}
    nested = Fields(fields.path, both)
    wide = nested.mapping("full_attention") or fields.mapping("rope_scaling") or {}
    near = nested.mapping("sliding_attention") or {}
    theta = fields.number("rope_local_base_freq", 10000.0, low=1.0, high=1e15)
    near = {"rope_theta": theta} | near
    return shared.one_rope(fields, Fields(fields.path, wide), 1e6), shared.one_rope(
        fields, Fields(fields.path, near), 1e4
    )


def _phi3(fields: Fields) -> Switches:
    head_dim = shared.sizes(fields)["head_dim"]
    rope = shared.rope(fields)
    if rope.scaling is not None:
        kind = rope.scaling["rope_type"]
        # All three are names that files give to the same scaling.
        if kind not in {"longrope", "su", "yarn"}:
            raise fields.wrong("rope_scaling", f"is of type '{kind}', Phi-3 has longrope alone")
        trained = fields.integer("original_max_position_embeddings", 4096, low=1, high=1 << 40)
        scaling = dict(rope.scaling) | {"rope_type": "longrope", "original_max_position_embeddings": trained}
        rope = replace(rope, scaling=scaling)
    switches: Switches = {"rope": rope, "rotary_dim": shared.rotary_dim(fields, head_dim)}
    return switches | shared.window_everywhere(fields)


def _smollm3(fields: Fields) -> Switches:
    count = shared.num_layers(fields)
    every = fields.integer("no_rope_layer_interval", 4, low=1, high=1 << 20)
    rotated = fields.values.get("no_rope_layers")
    if rotated is None:
        rotated = [(i + 1) % every for i in range(count)]
    if not isinstance(rotated, list) or len(rotated) < count:
        raise fields.wrong("no_rope_layers", f"must say for each of the {count} layers whether it is rotated")
    unrotated = tuple(i for i in range(count) if not rotated[i])
    windows = shared.window_by_layer(fields, unrotated, used=_uses_window(fields))
    return _llama(fields) | {"rope": shared.rope(fields, 2e6), "unrotated_layers": unrotated} | windows


def _gpt_neox(fields: Fields) -> Switches:
    sizes = shared.sizes(fields)
    theta = fields.number("rotary_emb_base", 10000.0, low=1.0, high=1e15)
    share = fields.number("rotary_pct", 0.25, low=0.0, high=1.0)
    return {
        "rope": shared.rope(fields, theta),
        "rotary_dim": shared.rotary_dim(fields, sizes["head_dim"], share),
        "norm": "layer",
        "norm_eps": fields.number("layer_norm_eps", 1e-5, low=0.0, high=1.0),
        "num_key_value_heads": sizes["num_heads"],
        "attention_bias": fields.boolean("attention_bias", True),
        "mlp_bias": True,
        "gated": False,
        "parallel": fields.boolean("use_parallel_residual", True),
    }


def _olmo2(fields: Fields) -> Switches:
    return {"attention_bias": fields.boolean("attention_bias", False), "norm_place": "after", "query_key_norm": "all"}


def _granite(fields: Fields) -> Switches:
    return _llama(fields) | {
        "embedding_scale": shared.factor(fields, "embedding_multiplier"),
        "residual_scale": shared.factor(fields, "residual_multiplier"),
        "logits_scale": shared.factor(fields, "logits_scaling"),
        "attention_scale": shared.factor(fields, "attention_multiplier"),
    }


_GEMMA = {
    "vocab_size": 256000,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "hidden_act": "gelu_pytorch_tanh",
}
_GEMMA2 = _GEMMA | {
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
_GEMMA3 = _GEMMA2 | {
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
}
_QWEN = {"max_position_embeddings": 32768, "sliding_window": 4096}

_ENTRIES = (
    Family("llama", _llama),
    Family("mistral", shared.window_everywhere, defaults={"max_position_embeddings": 131072, "sliding_window": 4096}),
    Family("qwen2", _qwen2, defaults=_QWEN),
    Family("qwen3", _qwen3, defaults=_QWEN | {"head_dim": 128}),
    Family("gemma2", _gemma2, defaults=_GEMMA2),
    Family("gemma3_text", _gemma3, defaults=_GEMMA3),
    Family("gemma3", _gemma3, gemma3_names, _GEMMA3, inner="text_config"),
    Family("phi3", _phi3, phi3_names, {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5}),
    Family("smollm3", _smollm3, defaults={"max_position_embeddings": 32768, "tie_word_embeddings": True}),
    Family("gpt_neox", _gpt_neox, gpt_neox_names, {"hidden_act": "gelu"}),
    Family("gemma", _gemma, defaults=_GEMMA),
    Family("olmo2", _olmo2, defaults={"rms_norm_eps": 1e-5}),
    Family("granite", _granite),
    Family("mixtral", _mixtral, mixtral_names, {"max_position_embeddings": 131072, "rms_norm_eps": 1e-5}),
    Family("qwen3_moe", _qwen3_moe, defaults=_QWEN),
)
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ENTRIES}

_ABSOLUTE = "it learns a vector for each absolute position, so it cannot read past them and cannot stream"
_ALIBI = "it tells positions apart by a bias on attention's scores"
_RECURRENT = "it has no attention, so there is nothing that a feedback memory could join"
_TWO_PARTS = "it is an encoder with a decoder; famcli streams decoders"
DIFFERENCES: Mapping[str, str] = {
    **dict.fromkeys(("gpt2", "openai-gpt", "gpt_bigcode", "gpt_neo", "opt", "xglm", "biogpt", "ctrl"), _ABSOLUTE),
    **dict.fromkeys(("bloom", "mpt"), _ALIBI),
    **dict.fromkeys(("mamba", "mamba2", "rwkv", "xlstm", "falcon_mamba"), _RECURRENT),
    **dict.fromkeys(
        ("jamba", "bamba", "zamba2", "qwen3_next", "recurrent_gemma", "granitemoehybrid", "lfm2"),
        "some of its layers are recurrent instead of attention",
    ),
    **dict.fromkeys(("t5", "mt5", "bart", "mbart", "pegasus", "led", "longt5", "whisper", "t5gemma"), _TWO_PARTS),
    **dict.fromkeys(("bert", "roberta", "modernbert", "deberta-v2"), "it is an encoder; famcli streams decoders"),
    **dict.fromkeys(
        ("deepseek_v2", "deepseek_v3"), "its keys and values come from a latent, not from projections of their own"
    ),
    "gpt_oss": "its attention has learned sinks, and its experts are stored in 4 bits",
    "qwen2_moe": "one expert of each layer is shared by all tokens",
    "llama4": "its layers attend within chunks, and one expert is shared by all tokens",
    "llama4_text": "its layers attend within chunks, and one expert is shared by all tokens",
    "gemma3n": "its layers have several residual streams",
    "cohere": "it rotates neighbouring dimensions, and its norms have a mean and no bias",
    "cohere2": "it rotates neighbouring dimensions, and its norms have a mean and no bias",
    "gptj": "it rotates neighbouring dimensions",
    "falcon": "it has one norm for attention and feed-forward, or a bias on attention's scores",
    "phi": "it has one norm for attention and feed-forward",
    "phimoe": "its router and its norms are of another kind",
    "olmo": "its norms have no weights",
    "granitemoe": "its experts are stored as one tensor",
}
