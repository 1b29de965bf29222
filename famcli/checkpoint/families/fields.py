"""What many families' `config.json` have in common: sizes, rotary positions and their scalings, sliding windows."""

from __future__ import annotations

from typing import Any

from famcli.checkpoint.jsonfile import Fields, shown
from famcli.nn.config import Activation, RopeConfig

# Beyond any decoder there is, and low enough that a hostile file cannot make us take memory before its weights,
# which cannot lie about their size, are compared with it.
_MAX_VOCAB = 1 << 23
_MAX_WIDTH = 1 << 17
_MAX_FEED_FORWARD = 1 << 20
MAX_LAYERS = 512
_MAX_HEADS = 1 << 12
_MAX_HEAD_DIM = 1 << 12
_MAX_POSITION = 1 << 40
_MAX_EXPERTS = 1 << 12

_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a DecoderConfig that every family has, by Llama's keys."""
    hidden_size = fields.integer("hidden_size", low=1, high=_MAX_WIDTH)
    num_heads = fields.integer("num_attention_heads", low=1, high=_MAX_HEADS)
    num_key_value_heads = fields.integer("num_key_value_heads", num_heads, low=1, high=_MAX_HEADS)
    if num_heads % num_key_value_heads:
        raise fields.wrong(
            "num_attention_heads", f"is {num_heads}, no multiple of num_key_value_heads ({num_key_value_heads})"
        )
    return {
        "vocab_size": fields.integer("vocab_size", low=1, high=_MAX_VOCAB),
        "hidden_size": hidden_size,
        "intermediate_size": fields.integer("intermediate_size", low=1, high=_MAX_FEED_FORWARD),
        "num_layers": fields.integer("num_hidden_layers", low=1, high=MAX_LAYERS),
        "num_heads": num_heads,
        "num_key_value_heads": num_key_value_heads,
        "head_dim": fields.integer("head_dim", max(1, hidden_size // num_heads), low=1, high=_MAX_HEAD_DIM),
        "norm_eps": fields.number("rms_norm_eps", 1e-6, low=0.0, high=1.0),
        "tie_embeddings": fields.boolean("tie_word_embeddings", False),
        "activation": activation(fields, "hidden_act"),
    }


def experts(fields: Fields, count: str, size: str) -> dict[str, Any]:
    """How many experts there are, how many a token goes through, and how wide they are."""
    return {
        "num_experts": fields.integer(count, low=1, high=_MAX_EXPERTS),
        "per_token": fields.integer("num_experts_per_tok", low=1, high=_MAX_EXPERTS),
        "size": fields.integer(size, low=1, high=_MAX_FEED_FORWARD),
    }


def activation(fields: Fields, key: str) -> Activation:
    """The feed-forward's activation, by the name that `transformers` gives it."""
    name = fields.string(key, "silu")
    if name not in _ACTIVATIONS:
        raise fields.wrong(
            key, f"is '{shown(name)}', which this famcli does not know", f"known: {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def factor(fields: Fields, key: str) -> float:
    """A multiplier, 1 when absent."""
    return fields.number(key, 1.0, low=1e-9, high=1e9)


def softcap(fields: Fields, key: str) -> float | None:
    """A cap, None when absent."""
    return None if fields.values.get(key) is None else fields.number(key, low=1e-3, high=1e9)


def layer_numbers(fields: Fields, key: str) -> tuple[int, ...]:
    """A list of layers' numbers, none when absent."""
    value = fields.values.get(key) or []
    if not isinstance(value, list) or any(type(each) is not int or not 0 <= each < MAX_LAYERS for each in value):
        raise fields.wrong(key, "must be a list of layers' numbers")
    return tuple(sorted(set(value)))


# ----------------------------------------------------------------------------------------------------------- windows


def window(fields: Fields) -> int | None:
    """`sliding_window`, or None for none, and for one as wide as what was trained on, which never closed."""
    if fields.values.get("sliding_window") is None:
        return None
    width = fields.integer("sliding_window", low=1, high=_MAX_POSITION)
    return width if width < max_position(fields) else None


def local(layers: tuple[int, ...], width: int | None) -> dict[str, Any]:
    """The switches of layers with a sliding window."""
    return {"sliding_window": width, "local_layers": layers} if width is not None and layers else {}


def everywhere(fields: Fields, width: int | None) -> dict[str, Any]:
    """A window in all layers."""
    return local(tuple(range(num_layers(fields))), width)


def by_layer(fields: Fields, width: int | None, default: tuple[int, ...]) -> dict[str, Any]:
    """A window in the layers that `layer_types` names, or, where it is absent, in those of `default`."""
    types = fields.values.get("layer_types")
    if types is None:
        return local(default, width)
    if not isinstance(types, list) or len(types) != num_layers(fields):
        raise fields.wrong("layer_types", f"must name the type of each of the {num_layers(fields)} layers")
    for each in types:
        if each not in ("full_attention", "sliding_attention"):
            raise fields.wrong("layer_types", f"has '{shown(each)}', known are full_attention and sliding_attention")
    return local(tuple(i for i, each in enumerate(types) if each == "sliding_attention"), width)


def num_layers(fields: Fields) -> int:
    """How many layers there are."""
    return fields.integer("num_hidden_layers", low=1, high=MAX_LAYERS)


# -------------------------------------------------------------------------------------------------- rotary positions


def max_position(fields: Fields) -> int:
    """Tokens that the checkpoint was trained for."""
    return fields.integer("max_position_embeddings", 2048, low=1, high=_MAX_POSITION)


def rope(fields: Fields, default_theta: float = 10000.0) -> RopeConfig:
    """Both ways a `config.json` says it: `rope_theta` with `rope_scaling`, or one `rope_parameters`."""
    key = "rope_parameters" if fields.values.get("rope_parameters") is not None else "rope_scaling"
    return one_rope(fields, Fields(fields.path, fields.mapping(key) or {}), default_theta)


def one_rope(fields: Fields, inner: Fields, default_theta: float) -> RopeConfig:
    """A scaling's object `inner`, of the file `fields`."""
    length = max_position(fields)
    holder = inner if inner.values.get("rope_theta") is not None else fields
    theta = holder.number("rope_theta", default_theta, low=1.0, high=1e15)
    kind = inner.string("rope_type", inner.string("type", "default"))
    if kind == "default":
        return RopeConfig(theta, None, length)
    kept = {name: value for name, value in inner.values.items() if name not in _NOT_SCALING and value is not None}
    kept["rope_type"] = kind
    if kind in {"llama3", "yarn", "longrope"}:
        trained = fields.values.get("original_max_position_embeddings")
        kept.setdefault("original_max_position_embeddings", length)
        if trained is not None:
            kept["original_max_position_embeddings"] = trained
    return RopeConfig(theta, kept, length)


_NOT_SCALING = {"type", "rope_theta", "partial_rotary_factor"}


def rotary_dim(fields: Fields, head_dim: int, default: float = 1.0) -> int | None:
    """Dimensions of a head that are rotated, None for all: `partial_rotary_factor`, wherever it stands."""
    share = default
    for key in ("rope_scaling", "rope_parameters"):
        share = Fields(fields.path, fields.mapping(key) or {}).number("partial_rotary_factor", share, low=0.0, high=1.0)
    share = fields.number("partial_rotary_factor", share, low=0.0, high=1.0)
    return None if share == 1.0 else int(head_dim * share)


def refuse_partial(fields: Fields) -> None:
    """For families that rotate whole heads."""
    if rotary_dim(fields, 1 << 20) is not None:
        raise fields.wrong("partial_rotary_factor", "is below 1, which this family does not have")
