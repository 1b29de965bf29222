"""`config.json` becomes a DecoderConfig, or an error that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.checkpoint.families import llama_json, read_config
from famcli.errors import CheckpointError
from famcli.nn import DecoderConfig, RopeConfig
from tests.helpers import TINY_CONFIG, change_json, write_json


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    config = DecoderConfig(97, 32, 48, 3, 4, 2, 16, 1e-6, RopeConfig(5e5, yarn, 256), True, True, True)
    write_json(tmp_path / "config.json", llama_json(config, "float32"))
    parsed = read_config(tmp_path)
    assert parsed.decoder == config
    assert parsed.family.name == "llama"
    assert parsed.max_positions == 256


def test_absent_and_null_keys_take_llamas_defaults(tmp_path: Path) -> None:
    shape = {"vocab_size": 10, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1}
    write_json(
        tmp_path / "config.json",
        {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": None, "head_dim": None} | shape,
    )
    assert read_config(tmp_path).decoder == DecoderConfig(10, 16, 20, 1, 4, 4, 4, 1e-6, RopeConfig(1e4, None, 2048))


def test_length_of_scalings_defaults_to_the_trained_one(checkpoint: Path) -> None:
    change_json(checkpoint / "config.json", rope_scaling={"type": "yarn", "factor": 2.0})
    scaling = read_config(checkpoint).decoder.rope.scaling
    assert scaling == {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 256}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "mamba"}, "'model_type' is 'mamba'.*known: llama"),
        ({"model_type": ...}, "'model_type' is missing"),
        ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu'"),
        ({"vocab_size": 10**15}, "'vocab_size' must be between 1 and"),
        ({"num_hidden_layers": 10**9}, "'num_hidden_layers' must be between 1 and"),
        ({"hidden_size": "32"}, "'hidden_size' must be a whole number"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"head_dim": 7}, "even number"),
        ({"rms_norm_eps": float("nan")}, "'rms_norm_eps' must be between"),
        ({"rope_theta": float("inf")}, "'rope_theta' must be between"),
        ({"rope_theta": 10**400}, "'rope_theta' must be between"),
        ({"rope_scaling": "linear"}, "'rope_scaling' must be an object"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "'longrope' is not known; known are"),
        ({"rope_scaling": {"rope_type": "linear"}}, "needs a positive number for 'factor'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": -1.0}}, "needs a positive number for 'factor'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "head_dim": 2}, "config.json"),
        ({"partial_rotary_factor": 0.5}, "'partial_rotary_factor' is below 1"),
        ({"quantization_config": {"bits": 4}}, "weights are quantized"),
        ({"tie_word_embeddings": "no"}, "'tie_word_embeddings' must be true or false"),
    ],
)
def test_what_is_wrong_is_named(checkpoint: Path, changes: dict[str, object], expected: str) -> None:
    change_json(checkpoint / "config.json", **changes)
    with pytest.raises(CheckpointError, match=expected) as caught:
        read_config(checkpoint)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_helpers_shape_is_what_it_says(checkpoint: Path) -> None:
    assert read_config(checkpoint).decoder == TINY_CONFIG
