"""The network against `transformers`' Llama on the same random weights, through a real checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from famcli.checkpoint.checks import checked_weights
from famcli.checkpoint.families import read_config
from famcli.checkpoint.open import load_network
from famcli.nn import Decoder, FamConfig
from tests.helpers import change_json

LENGTH = 64
TOLERANCE = 1e-4
SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 256}
CASES: dict[str, dict[str, Any]] = {
    "grouped-query": {},
    "multi-head": {"num_key_value_heads": 4},
    "multi-query": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "attention-bias": {"attention_bias": True},
    "mlp-bias": {"mlp_bias": True},
    "wide-heads": {"head_dim": 16},
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
    "dynamic": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}},
    "llama3": {"rope_parameters": LLAMA3 | {"rope_theta": 500000.0}, "tie_word_embeddings": True},
    "yarn": {"rope_parameters": YARN},
    "yarn-tuned": {
        "rope_parameters": YARN
        | {"beta_fast": 16.0, "beta_slow": 2.0, "mscale": 1.0, "mscale_all_dim": 0.7, "truncate": False}
    },
    "yarn-attention": {"rope_parameters": YARN | {"attention_factor": 1.5}},
    "yarn-steep": {"rope_parameters": YARN | {"original_max_position_embeddings": 8, "truncate": False}},
}


def _oracle(options: dict[str, Any], seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    oracle = LlamaForCausalLM(LlamaConfig(**(SHAPE | options))).eval()
    with torch.no_grad():
        for name, parameter in oracle.named_parameters():
            # Weights large enough that attention is sharp, norms and biases that are not ones and zeros.
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if "norm" in name else 0.2 * noise)
    return oracle


def _ours(oracle: LlamaForCausalLM, folder: Path, fam: FamConfig) -> Decoder:
    oracle.save_pretrained(folder)
    config = read_config(folder)
    stored = checked_weights(folder, config, fam)
    return load_network(config.decoder, fam, stored, torch.device("cpu"), torch.float32)


def _tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, SHAPE["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_logits_equal_transformers(case: str, tmp_path: Path) -> None:
    oracle = _oracle(CASES[case])
    # The window is just the text, so that scalings that depend on a length see the same one on both sides.
    ours = _ours(oracle, tmp_path, FamConfig(block_size=16, memory_segments=3, fam_length=0))
    tokens = _tokens(2, LENGTH)
    hidden, _ = ours.read(tokens, ours.start(batch=2))
    expected = oracle(tokens).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(ours.logits(hidden), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", [case for case in CASES if case != "dynamic"])
@torch.inference_mode()
def test_greedy_continuation_equals_transformers(case: str, tmp_path: Path) -> None:
    # Not for dynamic scaling: there transformers turns new keys faster than the ones it has cached.
    oracle = _oracle(CASES[case])
    ours = _ours(oracle, tmp_path, FamConfig(block_size=16, memory_segments=1000, fam_length=0))
    prompt = _tokens(1, 21)
    expected = oracle.generate(prompt, max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)

    state = ours.start()
    _, state = ours.read(prompt[:, :16], state)
    hidden, state = ours.read(prompt[:, 16:], state)
    tokens = prompt
    for _ in range(24):
        chosen = ours.logits(hidden[:, -1:]).argmax(-1)
        tokens = torch.cat((tokens, chosen), dim=1)
        hidden, state = ours.read(chosen, state)
    assert tokens.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "scaling",
    [None, {"type": "linear", "factor": 2.0}, LLAMA3],
    ids=["none", "linear", "llama3"],
)
@torch.inference_mode()
def test_config_of_older_transformers_means_the_same(scaling: dict[str, Any] | None, tmp_path: Path) -> None:
    parameters = {"rope_type": "default"} if scaling is None else dict(scaling)
    parameters["rope_type"] = parameters.pop("type", parameters.get("rope_type"))
    oracle = _oracle({"rope_parameters": parameters | {"rope_theta": 20000.0}})
    oracle.save_pretrained(tmp_path)
    fam = FamConfig(block_size=16, memory_segments=3, fam_length=0)
    new = read_config(tmp_path).decoder
    change_json(tmp_path / "config.json", rope_parameters=..., rope_theta=20000.0, rope_scaling=scaling)
    old = read_config(tmp_path)
    ours = load_network(old.decoder, fam, checked_weights(tmp_path, old, fam), torch.device("cpu"), torch.float32)
    assert old.decoder == new
    tokens = _tokens(1, LENGTH)
    hidden, _ = ours.read(tokens, ours.start())
    torch.testing.assert_close(ours.logits(hidden), oracle(tokens).logits, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_a_stream_past_the_window_is_a_banded_mask(tmp_path: Path) -> None:
    """BSWA on the oracle's weights: transformers with an explicit mask of what each block may see."""
    oracle = _oracle({"max_position_embeddings": 128})
    oracle.config._attn_implementation = "eager"
    ours = _ours(oracle, tmp_path, FamConfig(block_size=8, memory_segments=2, fam_length=0))
    tokens = _tokens(1, LENGTH)
    hidden, _ = ours.read(tokens, ours.start())
    place = torch.arange(LENGTH)
    visible = (place[None] <= place[:, None]) & (place[None] // 8 >= place[:, None] // 8 - 2)
    mask = torch.zeros(LENGTH, LENGTH).masked_fill(~visible, torch.finfo(torch.float32).min)
    expected = oracle(tokens, attention_mask=mask[None, None]).logits
    torch.testing.assert_close(ours.logits(hidden), expected, atol=TOLERANCE, rtol=0)
