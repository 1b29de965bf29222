"""Read a pretrained decoder's `config.json`, and write that of a Llama."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from famcli.checkpoint.families.table import DIFFERENCES, FAMILIES, Family
from famcli.checkpoint.folder import Fields, read_json_object, shown
from famcli.checkpoint.gguf import config_values
from famcli.errors import CheckpointError
from famcli.nn.config import DecoderConfig, later_switches
from famcli.nn.rope_scaling import inverse_frequencies
from famcli.tokens.gguf_file import is_gguf

CONFIG_FILE = "config.json"

# The ways in which weights are stored (see quantize.py for int8 and int4), and config.json's `quantization_config`.
STORAGES: dict[str, dict[str, Any] | None] = {
    "float": None,
    "int8": {"quant_method": "famcli_int8", "format": 1},
    "int4": {"quant_method": "famcli_int4", "format": 1},
}


@dataclass(frozen=True)
class PretrainedConfig:
    """A parsed `config.json`. storage: one of STORAGES."""

    family: Family
    decoder: DecoderConfig
    storage: str = "float"


def read_config(folder: Path) -> PretrainedConfig:
    """Parse `config.json` of `folder`. Raises CheckpointError: missing, malformed, or of an unknown family."""
    path = folder if is_gguf(folder) else folder / CONFIG_FILE
    fields = Fields(path, config_values(path) if is_gguf(folder) else read_json_object(path))
    name = fields.string("model_type")
    family = FAMILIES.get(name)
    if family is None:
        raise _unknown(fields, name)
    quantization = fields.values.get("quantization_config")
    storage = next((name for name, marked in STORAGES.items() if marked == quantization), None)
    if storage is None:
        raise fields.wrong(
            "quantization_config",
            "says that the weights are quantized in a way this famcli does not know",
            "use an unquantized checkpoint",
        )
    try:
        decoder = family.parse(fields)
        # Only so that an error in the scaling names the file.
        check_ropes(decoder, decoder.rope.max_position)
    except CheckpointError:
        raise
    except (ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return PretrainedConfig(family, decoder, storage)


def check_ropes(decoder: DecoderConfig, visible: int) -> None:
    """Raise ValueError or ArithmeticError if the rotary frequencies are not finite for `visible` tokens."""
    for rope in (decoder.rope, decoder.local_rope):
        if rope is not None:
            frequencies, gain = inverse_frequencies(rope, decoder.rotated_dim, visible)
            if not (bool(np.isfinite(frequencies).all()) and isfinite(gain)):
                raise ValueError("the rotary frequencies are not finite; check its rope settings")


def _unknown(fields: Fields, name: str) -> CheckpointError:
    """The error for a family that is not in the table: how it differs, where that is known, and the known families."""
    problem = f"is '{shown(name)}', a family this famcli does not know"
    inner = fields.values.get("text_config")
    if name in DIFFERENCES:
        problem = f"is '{name}', a family this famcli cannot read with: {DIFFERENCES[name]}"
    elif isinstance(inner, dict) and inner.get("model_type") in FAMILIES:
        problem += f" (its text part is of the family '{inner['model_type']}': a folder with that part alone opens)"
    return fields.wrong("model_type", problem, f"known: {', '.join(FAMILIES)}")


def llama_json(config: DecoderConfig, dtype: str, storage: str = "float") -> dict[str, Any]:
    """The `config.json` that any Llama runtime reads, for weights stored as `dtype` (float32, bfloat16, float16).

    Another `storage` than "float" is declared in it, so that other runtimes refuse the weights instead of misreading
    them. Raises ValueError for a network with features that Llama lacks.
    """
    if later := later_switches(config):
        raise ValueError(f"a network with {', '.join(later)} is no Llama")
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
    marked = STORAGES[storage]
    return values if marked is None else values | {"quantization_config": marked}
