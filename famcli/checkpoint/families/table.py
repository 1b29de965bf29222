"""The table of families: for each, what its `config.json` switches on in the one network, and its weights' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from famcli.checkpoint.families import fields as read
from famcli.checkpoint.families.weight_names import (
    NameMap,
    gemma3_names,
    gpt_neox_names,
    mixtral_names,
    phi3_names,
    same_names,
)
from famcli.checkpoint.jsonfile import Fields
from famcli.nn.config import DecoderConfig, ExpertConfig, RopeConfig

Switches = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """One entry.

    switches: fields of a DecoderConfig where they are not Llama's. pieces: the parameters of a stored tensor. defaults:
    of `config.json`, for keys that are absent (a null is no default). inner: the key under which a folder that does
    more than text keeps what is meant here.
    """

    name: str
    switches: Callable[[Fields], Switches]
    pieces: NameMap = same_names
    defaults: Mapping[str, Any] = field(default_factory=dict)
    inner: str | None = None

    def parse(self, fields: Fields) -> DecoderConfig:
        """The network that `config.json` asks for. Raises CheckpointError, and ValueError for sizes that clash."""
        values = dict(self.defaults)
        if self.inner is None:
            values |= fields.values
        else:
            values |= fields.mapping(self.inner) or {}
            values["tie_word_embeddings"] = fields.boolean("tie_word_embeddings", values["tie_word_embeddings"])
        fields = Fields(fields.path, values)
        return DecoderConfig(**(read.sizes(fields) | self.switches(fields)))


def _llama(fields: Fields) -> Switches:
    read.refuse_partial(fields)
    biases = {key: fields.boolean(key, False) for key in ("attention_bias", "mlp_bias")}
    return {"rope": read.rope(fields), **biases}


def _mistral(fields: Fields) -> Switches:
    return {"rope": read.rope(fields)} | read.everywhere(fields, read.window(fields))


def _mixtral(fields: Fields) -> Switches:
    mixture = ExpertConfig(**read.experts(fields, "num_local_experts", "intermediate_size"))
    return {"rope": read.rope(fields, 1e6), "experts": mixture} | read.everywhere(fields, read.window(fields))


def _qwen2(fields: Fields) -> Switches:
    first = fields.integer("max_window_layers", 28, low=0, high=1 << 20)
    upper = tuple(range(min(first, read.num_layers(fields)), read.num_layers(fields)))
    return {
        "rope": read.rope(fields),
        "attention_bias": True,
        "output_bias": False,
    } | read.by_layer(fields, _used_window(fields), upper)


def _qwen3(fields: Fields) -> Switches:
    switches = _qwen2(fields) | {"attention_bias": fields.boolean("attention_bias", False), "output_bias": None}
    return switches | {"query_key_norm": "head"}


def _qwen3_moe(fields: Fields) -> Switches:
    switches: Switches = {
        "rope": read.rope(fields),
        "attention_bias": fields.boolean("attention_bias", False),
        "query_key_norm": "head",
    } | read.everywhere(fields, _used_window(fields))
    count = "num_experts" if fields.values.get("num_experts") is not None else "num_local_experts"
    step = fields.integer("decoder_sparse_step", 1, low=1, high=read.MAX_LAYERS)
    dense = {i for i in range(read.num_layers(fields)) if (i + 1) % step} | set(
        read.layer_numbers(fields, "mlp_only_layers")
    )
    mixture = ExpertConfig(
        **read.experts(fields, count, "moe_intermediate_size"),
        normalize=fields.boolean("norm_topk_prob", False),
        dense_layers=tuple(sorted(dense)),
    )
    return switches | {"experts": mixture}


def _used_window(fields: Fields) -> int | None:
    return read.window(fields) if fields.boolean("use_sliding_window", False) else None


def _gemma(fields: Fields) -> Switches:
    if fields.boolean("use_bidirectional_attention", False):
        raise fields.wrong("use_bidirectional_attention", "is true: such a network reads no stream")
    key = "hidden_activation" if fields.values.get("hidden_activation") is not None else "hidden_act"
    act = read.activation(fields, key)
    return {
        "rope": read.rope(fields),
        "attention_bias": fields.boolean("attention_bias", False),
        "activation": "gelu_tanh" if act == "gelu" else act,  # the name that the first checkpoints gave it
        "norm": "rms_plus_one",
        "embedding_scale": fields.integer("hidden_size", low=1, high=1 << 20) ** 0.5,
    }


def _gemma2(fields: Fields) -> Switches:
    evens = tuple(range(0, read.num_layers(fields), 2))
    return (
        _gemma(fields)
        | {
            "activation": read.activation(fields, "hidden_activation"),
            "norm_place": "around",
            "attention_scale": fields.number("query_pre_attn_scalar", 256, low=1e-6, high=1e9) ** -0.5,
            "attention_softcap": read.softcap(fields, "attn_logit_softcapping"),
            "logits_softcap": read.softcap(fields, "final_logit_softcapping"),
        }
        | read.by_layer(fields, read.window(fields), evens)
    )


def _gemma3(fields: Fields) -> Switches:
    every = fields.integer("sliding_window_pattern", 6, low=1, high=1 << 20)
    lower = tuple(i for i in range(read.num_layers(fields)) if (i + 1) % every)
    switches = (
        _gemma2(fields)
        | {"query_key_norm": "head", "attention_softcap": None}  # which Gemma 3 does not use even where it is given
        | read.by_layer(fields, read.window(fields), lower)
    )
    wide, near = _gemma3_ropes(fields)
    return switches | {"rope": wide} | ({"local_rope": near} if switches.get("local_layers") else {})


def _gemma3_ropes(fields: Fields) -> tuple[RopeConfig, RopeConfig]:
    """Of the layers that see everything, and of those with a window: one object for each, or keys of their own."""
    both = fields.mapping("rope_parameters") or {}
    nested = Fields(fields.path, both)
    wide = nested.mapping("full_attention") or fields.mapping("rope_scaling") or {}
    near = nested.mapping("sliding_attention") or {}
    theta = fields.number("rope_local_base_freq", 10000.0, low=1.0, high=1e15)
    near = {"rope_theta": theta} | near
    return read.one_rope(fields, Fields(fields.path, wide), 1e6), read.one_rope(fields, Fields(fields.path, near), 1e4)


def _phi3(fields: Fields) -> Switches:
    head_dim = read.sizes(fields)["head_dim"]
    rope = read.rope(fields)
    if rope.scaling is not None:
        kind = rope.scaling["rope_type"]
        if kind not in {"longrope", "su", "yarn"}:
            raise fields.wrong("rope_scaling", f"is of type '{kind}', Phi-3 has longrope alone")
        trained = fields.integer("original_max_position_embeddings", 4096, low=1, high=1 << 40)
        scaling = dict(rope.scaling) | {"rope_type": "longrope", "original_max_position_embeddings": trained}
        rope = replace(rope, scaling=scaling)
    switches: Switches = {"rope": rope, "rotary_dim": read.rotary_dim(fields, head_dim)}
    return switches | read.everywhere(fields, read.window(fields))


def _smollm3(fields: Fields) -> Switches:
    count = read.num_layers(fields)
    every = fields.integer("no_rope_layer_interval", 4, low=1, high=1 << 20)
    rotated = fields.values.get("no_rope_layers")
    if rotated is None:
        rotated = [(i + 1) % every for i in range(count)]
    if not isinstance(rotated, list) or len(rotated) < count:
        raise fields.wrong("no_rope_layers", f"must say for each of the {count} layers whether it is rotated")
    unrotated = tuple(i for i in range(count) if not rotated[i])
    width = _used_window(fields)
    return (
        _llama(fields)
        | {"rope": read.rope(fields, 2e6), "unrotated_layers": unrotated}
        | read.by_layer(fields, width, unrotated)
    )


def _gpt_neox(fields: Fields) -> Switches:
    sizes = read.sizes(fields)
    theta = fields.number("rotary_emb_base", 10000.0, low=1.0, high=1e15)
    share = fields.number("rotary_pct", 0.25, low=0.0, high=1.0)
    return {
        "rope": read.rope(fields, theta),
        "rotary_dim": read.rotary_dim(fields, sizes["head_dim"], share),
        "norm": "layer",
        "norm_eps": fields.number("layer_norm_eps", 1e-5, low=0.0, high=1.0),
        "num_key_value_heads": sizes["num_heads"],
        "attention_bias": fields.boolean("attention_bias", True),
        "mlp_bias": True,
        "gated": False,
        "parallel": fields.boolean("use_parallel_residual", True),
    }


def _olmo2(fields: Fields) -> Switches:
    return {
        "rope": read.rope(fields),
        "attention_bias": fields.boolean("attention_bias", False),
        "norm_place": "after",
        "query_key_norm": "all",
    }


def _granite(fields: Fields) -> Switches:
    return _llama(fields) | {
        "embedding_scale": read.factor(fields, "embedding_multiplier"),
        "residual_scale": read.factor(fields, "residual_multiplier"),
        "logits_scale": read.factor(fields, "logits_scaling"),
        "attention_scale": read.factor(fields, "attention_multiplier"),
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
    Family("mistral", _mistral, defaults={"max_position_embeddings": 131072, "sliding_window": 4096}),
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
