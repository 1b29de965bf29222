"""Keys that the `config.json` of many families share: sizes, rotary positions and their scalings, sliding windows."""

from __future__ import annotations

from typing import Any

from famcli.checkpoint.folder import Fields, shown
from famcli.nn.config import Activation, RopeConfig

# Larger than in any existing decoder, and small enough that a hostile file cannot make us take memory before it is
# compared with its weights, which cannot lie about their size.
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
    """The fields of an ExpertConfig: how many experts there are, how many a token uses, and their width."""
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
    return fields.number(key, 1.0, low=1e-9, high=1e9)


def softcap(fields: Fields, key: str) -> float | None:
    """A cap, None when absent."""
    return None if fields.values.get(key) is None else fields.number(key, low=1e-3, high=1e9)


def layer_numbers(fields: Fields, key: str) -> tuple[int, ...]:
    """A list of layer indices, empty when absent."""
    value = fields.values.get(key) or []
    if not isinstance(value, list) or any(type(each) is not int or not 0 <= each < MAX_LAYERS for each in value):
        raise fields.wrong(key, "must be a list of layers' numbers")
    return tuple(sorted(set(value)))


# ----------------------------------------------------------------------------------------------------------- windows


def window_everywhere(fields: Fields, *, used: bool = True) -> dict[str, Any]:
    """The switches of a sliding window in all layers, none unless it is `used`."""
    return _windows(fields, tuple(range(num_layers(fields)))) if used else {}


def window_by_layer(fields: Fields, default: tuple[int, ...], *, used: bool = True) -> dict[str, Any]:
    """The switches of a sliding window in the layers that `layer_types` names, or in those of `default`."""
    types, count = fields.values.get("layer_types"), num_layers(fields)
    if types is None:
        return _windows(fields, default) if used else {}
    if not isinstance(types, list) or len(types) != count:
        raise fields.wrong("layer_types", f"must name the type of each of the {count} layers")
    for each in types:
        if each not in ("full_attention", "sliding_attention"):
            raise fields.wrong("layer_types", f"has '{shown(each)}', known are full_attention and sliding_attention")
    layers = tuple(i for i, each in enumerate(types) if each == "sliding_attention")
    return _windows(fields, layers) if used else {}


def _windows(fields: Fields, layers: tuple[int, ...]) -> dict[str, Any]:
    if fields.values.get("sliding_window") is None:
        return {}
    width = fields.integer("sliding_window", low=1, high=_MAX_POSITION)
    # A window as wide as what was trained on never closed.
    return {"sliding_window": width, "local_layers": layers} if layers and width < max_position(fields) else {}


def num_layers(fields: Fields) -> int:
    return fields.integer("num_hidden_layers", low=1, high=MAX_LAYERS)


# -------------------------------------------------------------------------------------------------- rotary positions


def max_position(fields: Fields) -> int:
    """The length, in tokens, that the checkpoint was trained for."""
    return fields.integer("max_position_embeddings", 2048, low=1, high=_MAX_POSITION)


def rope(fields: Fields, default_theta: float = 10000.0) -> RopeConfig:
    """The rotary positions, from `rope_theta` with `rope_scaling` (older files) or from `rope_parameters`."""
    key = "rope_parameters" if fields.values.get("rope_parameters") is not None else "rope_scaling"
    return one_rope(fields, Fields(fields.path, fields.mapping(key) or {}), default_theta)


def one_rope(fields: Fields, inner: Fields, default_theta: float) -> RopeConfig:
    """The rotary positions of one scaling object `inner` in the file `fields`."""
    length = max_position(fields)
    holder = inner if inner.values.get("rope_theta") is not None else fields
    theta = holder.number("rope_theta", default_theta, low=1.0, high=1e15)
    # Older files say `type`.
    kind = inner.string("rope_type", inner.string("type", "default"))
    if kind == "default":
        return RopeConfig(theta, None, length)
    kept = {name: value for name, value in inner.values.items() if name not in _NOT_SCALING and value is not None}
    kept["rope_type"] = kind
    # These scalings depend on the length before the scaling, which some files give outside of the object.
    if kind in {"llama3", "yarn", "longrope"}:
        trained = fields.values.get("original_max_position_embeddings")
        kept.setdefault("original_max_position_embeddings", length)
        if trained is not None:
            kept["original_max_position_embeddings"] = trained
    return RopeConfig(theta, kept, length)


_NOT_SCALING = {"type", "rope_theta", "partial_rotary_factor"}


def rotary_dim(fields: Fields, head_dim: int, default: float = 1.0) -> int | None:
    """Dimensions of a head that are rotated, None for all: `partial_rotary_factor`, which has stood in three places."""
    share = default
    for key in ("rope_scaling", "rope_parameters"):
        share = Fields(fields.path, fields.mapping(key) or {}).number("partial_rotary_factor", share, low=0.0, high=1.0)
    share = fields.number("partial_rotary_factor", share, low=0.0, high=1.0)
    return None if share == 1.0 else int(head_dim * share)


def refuse_partial(fields: Fields) -> None:
    """Raise CheckpointError if only a part of each head is rotated, for families that rotate whole heads."""
    if rotary_dim(fields, 1 << 20) is not None:
        raise fields.wrong("partial_rotary_factor", "is below 1, which this family does not have")
