"""Families of pretrained decoders: what a `config.json` means, and what a family's weights are called.

A family is an entry of the table: it turns `config.json` into a DecoderConfig, and the name of a stored tensor into
the name of a parameter. The network is the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from famcli.checkpoint.jsonfile import Fields, read_json_object, shown
from famcli.errors import CheckpointError
from famcli.nn.config import DecoderConfig, RopeConfig
from famcli.nn.frequencies import inverse_frequencies

CONFIG_FILE = "config.json"

# How weights lie on disk: as numbers of their own type, or matrices as int8 with a scale for each row (int8.py).
STORAGES = ("float", "int8")
INT8_STORAGE: dict[str, Any] = {"quant_method": "famcli_int8", "format": 1}

# Beyond any decoder there is, and low enough that a hostile file cannot make us take memory before its weights,
# which cannot lie about their size, are compared with it.
_MAX_VOCAB = 1 << 23
_MAX_WIDTH = 1 << 17
_MAX_FEED_FORWARD = 1 << 20
_MAX_LAYERS = 512
_MAX_HEADS = 1 << 12
_MAX_HEAD_DIM = 1 << 12
_MAX_POSITION = 1 << 40


@dataclass(frozen=True)
class Family:
    """One entry: `parse` reads `config.json`; `parameter` names the network's parameter of a stored tensor.

    `parameter` returns None for tensors that hold nothing to learn, such as the buffers that old files carry.
    """

    name: str
    parse: Callable[[Fields], DecoderConfig]
    parameter: Callable[[str], str | None]


@dataclass(frozen=True)
class PretrainedConfig:
    """What `config.json` says: the network's shape, its family, the length it was trained for in tokens, and the
    storage of its weights (one of STORAGES)."""

    family: Family
    decoder: DecoderConfig
    max_positions: int
    storage: str = "float"


def read_config(folder: Path) -> PretrainedConfig:
    """Parse `config.json` of `folder`. Raises CheckpointError: missing, malformed, or of an unknown family."""
    path = folder / CONFIG_FILE
    fields = Fields(path, read_json_object(path))
    name = fields.string("model_type")
    family = FAMILIES.get(name)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise fields.wrong("model_type", f"is '{shown(name)}', a family this famcli does not know", f"known: {known}")
    quantization = fields.values.get("quantization_config")
    if quantization not in (None, INT8_STORAGE):
        raise fields.wrong(
            "quantization_config",
            "says that the weights are quantized in a way this famcli does not know",
            "use an unquantized checkpoint",
        )
    try:
        decoder = family.parse(fields)
        # Only to hear now, with the file's name, what is wrong with the scaling.
        frequencies, gain = inverse_frequencies(decoder.rope, decoder.head_dim, decoder.rope.max_position)
    except CheckpointError:
        raise
    except (ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not (bool(np.isfinite(frequencies).all()) and isfinite(gain)):
        raise CheckpointError(f"{path}: the rotary positions come out as no numbers; check its rope settings")
    storage = "float" if quantization is None else "int8"
    return PretrainedConfig(family, decoder, decoder.rope.max_position, storage)


def llama_json(config: DecoderConfig, dtype: str, storage: str = "float") -> dict[str, Any]:
    """The `config.json` that any Llama runtime reads, for weights stored as `dtype` (float32, bfloat16, float16).

    With `storage` "int8" it says so, and other runtimes refuse it instead of misreading the weights.
    """
    values = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "rope_scaling": None if config.rope.scaling is None else dict(config.rope.scaling),
        "max_position_embeddings": config.rope.max_position,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "torch_dtype": dtype,
    }
    return values | {"quantization_config": INT8_STORAGE} if storage == "int8" else values


def _parse_llama(fields: Fields) -> DecoderConfig:
    activation = fields.string("hidden_act", "silu")
    if activation != "silu":
        raise fields.wrong("hidden_act", f"is '{shown(activation)}', this famcli knows 'silu' for llama")
    hidden_size = fields.integer("hidden_size", low=1, high=_MAX_WIDTH)
    num_heads = fields.integer("num_attention_heads", low=1, high=_MAX_HEADS)
    return DecoderConfig(
        vocab_size=fields.integer("vocab_size", low=1, high=_MAX_VOCAB),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size", low=1, high=_MAX_FEED_FORWARD),
        num_layers=fields.integer("num_hidden_layers", low=1, high=_MAX_LAYERS),
        num_heads=num_heads,
        num_key_value_heads=fields.integer("num_key_value_heads", num_heads, low=1, high=_MAX_HEADS),
        head_dim=fields.integer("head_dim", max(1, hidden_size // num_heads), low=1, high=_MAX_HEAD_DIM),
        norm_eps=fields.number("rms_norm_eps", 1e-6, low=0.0, high=1.0),
        rope=_rope(fields),
        tie_embeddings=fields.boolean("tie_word_embeddings", False),
        attention_bias=fields.boolean("attention_bias", False),
        mlp_bias=fields.boolean("mlp_bias", False),
    )


def _rope(fields: Fields) -> RopeConfig:
    """Both ways a `config.json` says it: `rope_theta` with `rope_scaling`, or one `rope_parameters`."""
    max_position = fields.integer("max_position_embeddings", 2048, low=1, high=_MAX_POSITION)
    key = "rope_parameters" if fields.values.get("rope_parameters") is not None else "rope_scaling"
    scaling = fields.mapping(key) or {}
    inner = Fields(fields.path, scaling)
    theta = (inner if scaling.get("rope_theta") is not None else fields).number(
        "rope_theta", 10000.0, low=1.0, high=1e15
    )
    for source in (fields, inner):
        if source.number("partial_rotary_factor", 1.0, low=0.0, high=1.0) != 1.0:
            raise source.wrong("partial_rotary_factor", "is below 1, which llama does not have")
    kind = inner.string("rope_type", inner.string("type", "default"))
    if kind == "default":
        return RopeConfig(theta, None, max_position)
    kept = {name: value for name, value in scaling.items() if name not in {"type", "rope_theta"} and value is not None}
    kept["rope_type"] = kind
    if kind in {"llama3", "yarn"}:
        trained = fields.values.get("original_max_position_embeddings")
        kept.setdefault("original_max_position_embeddings", max_position)
        if trained is not None:
            kept["original_max_position_embeddings"] = trained
    return RopeConfig(theta, kept, max_position)


_OLD_BUFFER = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")


def _llama_parameter(name: str) -> str | None:
    return None if _OLD_BUFFER.fullmatch(name) else name


FAMILIES = {"llama": Family("llama", _parse_llama, _llama_parameter)}
