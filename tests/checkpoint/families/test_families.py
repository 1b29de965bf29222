"""`config.json` becomes a DecoderConfig, or an error that says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from famcli.checkpoint.families.pretrained import llama_json, read_config
from famcli.checkpoint.families.table import FAMILIES
from famcli.checkpoint.fingerprints import config_fingerprint
from famcli.checkpoint.weights import stored_weights
from famcli.errors import CheckpointError
from famcli.nn import DecoderConfig, FamConfig, RopeConfig
from tests.helpers import TINY_CONFIG, change_json, write_json


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    config = DecoderConfig(97, 32, 48, 3, 4, 2, 16, 1e-6, RopeConfig(5e5, yarn, 256), True, True, True)
    write_json(tmp_path / "config.json", llama_json(config, "float32"))
    parsed = read_config(tmp_path)
    assert parsed.decoder == config
    assert parsed.family.name == "llama"
    assert parsed.decoder.rope.max_position == 256


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
        ({"hidden_act": "quick_gelu"}, "'hidden_act' is 'quick_gelu'.*known: silu"),
        ({"vocab_size": 10**15}, "'vocab_size' must be between 1 and"),
        ({"num_hidden_layers": 10**9}, "'num_hidden_layers' must be between 1 and"),
        ({"hidden_size": "32"}, "'hidden_size' must be a whole number"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"head_dim": 7}, "even number"),
        ({"rms_norm_eps": float("nan")}, "'rms_norm_eps' must be between"),
        ({"rope_theta": float("inf")}, "'rope_theta' must be between"),
        ({"rope_theta": 10**400}, "'rope_theta' must be between"),
        ({"rope_scaling": "linear"}, "'rope_scaling' must be an object"),
        ({"rope_scaling": {"rope_type": "xpos"}}, "'xpos' is not known; known are"),
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


# ------------------------------------------------------------------------------------------- families that are not read


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"model_type": "gpt2", "n_embd": 64},
            "'gpt2'.*a vector for each absolute position.*cannot stream; known: llama,",
        ),
        ({"model_type": "mamba2"}, "'mamba2'.*it has no attention.*known: llama, mistral"),
        ({"model_type": "t5"}, "'t5'.*an encoder with a decoder"),
        (
            {"model_type": "mistral3", "text_config": {"model_type": "mistral"}},
            "'mistral3', a family this famcli does not know.*its text part is of the family 'mistral'",
        ),
        ({"model_type": "n\nonesuch"}, "'n onesuch', a family this famcli does not know; known: .*, qwen3_moe"),
    ],
)
def test_an_unknown_family_is_told_what_there_is(tmp_path: Path, values: dict[str, object], expected: str) -> None:
    write_json(tmp_path / "config.json", values)
    with pytest.raises(CheckpointError, match=expected) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)
    assert all(family in str(caught.value) for family in FAMILIES)


SHAPE = {
    "vocab_size": 10,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 100,
}


@pytest.mark.parametrize(
    ("family", "changes", "expected"),
    [
        ("mistral", {"sliding_window": 0}, "'sliding_window' must be between 1"),
        ("qwen2", {"layer_types": ["full_attention"]}, "'layer_types' must name the type of each of the 2 layers"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 2}, "'layer_types' has 'chunked_attention'"),
        ("gemma", {"use_bidirectional_attention": True}, "'use_bidirectional_attention' is true"),
        ("gemma2", {"final_logit_softcapping": "x"}, "'final_logit_softcapping' must be a number"),
        ("gemma3_text", {"rope_parameters": {"full_attention": 3}}, "'full_attention' must be an object"),
        ("phi3", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "type 'linear', Phi-3 has longrope alone"),
        (
            "phi3",
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0]}},
            "a list of 2 numbers for 'short_factor'",
        ),
        ("smollm3", {"no_rope_layers": [1]}, "'no_rope_layers' must say for each of the 2 layers"),
        ("gpt_neox", {"rotary_pct": 0.75}, "3 rotated, rotary positions need an even number"),
        ("mixtral", {}, "'num_local_experts' is missing"),
        ("mixtral", {"num_local_experts": 2, "num_experts_per_tok": 3}, "3 of 2 experts cannot be chosen"),
        (
            "qwen3_moe",
            {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8, "mlp_only_layers": [-1]},
            "'mlp_only_layers' must be a list of layers' numbers",
        ),
        ("granite", {"logits_scaling": 0}, "'logits_scaling' must be between"),
    ],
)
def test_what_is_wrong_in_a_familys_own_keys_is_named(
    tmp_path: Path, family: str, changes: dict[str, object], expected: str
) -> None:
    write_json(tmp_path / "config.json", SHAPE | {"model_type": family} | changes)
    with pytest.raises(CheckpointError, match=expected) as caught:
        read_config(tmp_path)
    assert "config.json" in str(caught.value)


def test_a_window_that_never_closed_is_none(tmp_path: Path) -> None:
    for width, local in ((99, (0, 1)), (100, ()), (4096, ()), (None, ())):
        write_json(tmp_path / "config.json", SHAPE | {"model_type": "mistral", "sliding_window": width})
        assert read_config(tmp_path).decoder.local_layers == local


def test_a_fused_tensor_with_other_rows_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", SHAPE | {"model_type": "phi3"})
    save_file({"model.layers.0.self_attn.qkv_proj.weight": torch.zeros(40, 16)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"qkv_proj.weight' is \[40, 16\], the configuration asks for \[48, 16\]"):
        stored_weights(tmp_path, read_config(tmp_path))


def test_other_families_are_not_written_as_a_llama() -> None:
    with pytest.raises(ValueError, match="norm_place, query_key_norm is no Llama"):
        llama_json(replace(TINY_CONFIG, norm_place="after", query_key_norm="all"), "float32")


def test_switches_at_rest_change_no_fingerprint() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0}
    config = DecoderConfig(97, 32, 48, 3, 4, 2, 16, 1e-6, RopeConfig(5e5, yarn, 256), True, False, True)
    fam = FamConfig(16, 2, 4, 1, memory_update="gated")
    print_ = config_fingerprint(config, fam)
    assert print_ == "f69dc0f4306aa11277a6ce18d2c35b95b7b4ada0a15a9b49e0d2bf72c36e05e0"
    others = [
        config_fingerprint(replace(config, logits_scale=2.0), fam),
        config_fingerprint(config, replace(fam, local_memory=True)),
    ]
    assert len({print_, *others}) == 3
