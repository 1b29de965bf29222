"""Every family against `transformers` on the same tiny random weights, through the folder that it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from famcli.checkpoint.families.pretrained import read_config
from famcli.checkpoint.families.table import FAMILIES
from famcli.nn import FamConfig
from tests.helpers import change_json, read_json, write_json
from tests.nn.families import CASES, LENGTH, LONG, NO_HEAD_DIM, SHAPE, Case, ours, tokens_of
from tests.nn.test_decoder import read

TOLERANCE = 1e-4


def test_every_family_of_the_table_is_here() -> None:
    there = {case.config().model_type for case in CASES.values()}
    assert there | {"gemma3"} == set(FAMILIES)


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_logits_equal_transformers(case: str, tmp_path: Path) -> None:
    oracle, tokens = CASES[case].oracle(), tokens_of(2, LENGTH)
    oracle.save_pretrained(tmp_path)
    network = ours(tmp_path)
    hidden, _ = network.read(tokens, network.start(batch=2))
    expected = oracle(tokens).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(network.logits(hidden), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case].steady])
@torch.inference_mode()
def test_greedy_continuation_equals_transformers(case: str, tmp_path: Path) -> None:
    # 41 tokens and 20 more stay on one side of a scaling's switch: past it transformers turns new keys otherwise than
    # those it has cached.
    oracle, tokens = CASES[case].oracle(), tokens_of(1, 41)
    oracle.save_pretrained(tmp_path)
    network = ours(tmp_path)
    options: dict[str, Any] = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = oracle.generate(tokens, max_new_tokens=20, use_cache=CASES[case].cached, **options)
    hidden, state = read(network, tokens, network.start(), [32])
    for _ in range(20):
        chosen = network.logits(hidden[:, -1:]).argmax(-1)
        tokens = torch.cat((tokens, chosen), dim=1)
        hidden, state = network.read(chosen, state)
    assert tokens.tolist() == expected.tolist()


# ------------------------------------------------------------------------------------------------- past the window


@pytest.mark.parametrize("case", ["llama", "gemma2-caps", "gemma3-scaled", "qwen3-all", "qwen2-window-tied"])
@torch.inference_mode()
def test_past_the_visible_window_each_layer_has_its_own_band(case: str, tmp_path: Path) -> None:
    """`transformers` with a mask of what the blocks may see, and in local layers of the window too."""
    oracle, tokens = CASES[case].oracle(), tokens_of(1, LENGTH)
    oracle.save_pretrained(tmp_path)
    network = ours(tmp_path, FamConfig(block_size=8, memory_segments=2, fam_length=0))
    hidden, _ = network.read(tokens, network.start())
    place = torch.arange(LENGTH)
    seen = (place[None] <= place[:, None]) & (place[None] // 8 >= place[:, None] // 8 - 2)
    near = seen & (place[None] > place[:, None] - (getattr(oracle.config, "sliding_window", None) or LENGTH))
    lowest = torch.finfo(torch.float32).min
    wide, narrow = (torch.zeros(LENGTH, LENGTH).masked_fill(~mask, lowest)[None, None] for mask in (seen, near))
    masks = {"full_attention": wide, "sliding_attention": narrow}
    expected = oracle(tokens, attention_mask=wide if case == "llama" else masks).logits
    torch.testing.assert_close(network.logits(hidden), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("trained", [24, 40])
@torch.inference_mode()
def test_a_scaling_is_fixed_by_the_visible_window_not_by_the_text(trained: int, tmp_path: Path) -> None:
    """32 tokens are visible: within 40, past 24. Each side is that of `transformers` on a text of 32 tokens."""
    case = Case("Phi3", {"original_max_position_embeddings": trained, "rope_parameters": LONG}, NO_HEAD_DIM)
    oracle, tokens = case.oracle(), tokens_of(1, 160)
    oracle.save_pretrained(tmp_path)
    network = ours(tmp_path, FamConfig(block_size=16, memory_segments=1, fam_length=0))
    hidden, state = read(network, tokens[:, :32], network.start(), [5])
    torch.testing.assert_close(network.logits(hidden), oracle(tokens[:, :32]).logits, atol=TOLERANCE, rtol=0)
    _, state = read(network, tokens[:, 32:], state, [])
    dropped = network.start()
    _, dropped = read(network, tokens, replace(dropped, position=dropped.position + 16), [])
    torch.testing.assert_close(state.layers[-1].segment_values, dropped.layers[-1].segment_values, rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------------------------------- other files


@torch.inference_mode()
def test_the_text_part_of_a_folder_that_sees_images(tmp_path: Path) -> None:
    text = {key: value for key, value in SHAPE.items() if not key.endswith("token_id")} | {"sliding_window": 10}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    torch.manual_seed(0)
    config = transformers.Gemma3Config(
        text_config=text, vision_config=vision | {"image_size": 28, "patch_size": 14}, mm_tokens_per_image=1
    )
    oracle = transformers.Gemma3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    oracle.save_pretrained(tmp_path)
    network, tokens = ours(tmp_path), tokens_of(1, LENGTH)
    hidden, _ = network.read(tokens, network.start())
    torch.testing.assert_close(network.logits(hidden), oracle(tokens).logits, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_buffers_of_older_files_are_passed_over_whatever_their_type(tmp_path: Path) -> None:
    """As Pythia's have them: masks as bytes or booleans, and rotary frequencies."""
    oracle, tokens, file = CASES["gpt-neox"].oracle(), tokens_of(1, LENGTH), tmp_path / "model.safetensors"
    oracle.save_pretrained(tmp_path)
    kinds = (torch.uint8, torch.bool, torch.float64, torch.int64)
    buffers = {
        f"gpt_neox.layers.{layer}.attention.{name}": torch.ones(1, 1, 4, 4).to(kind)
        for layer, kind in enumerate(kinds)
        for name in ("bias", "masked_bias", "rotary_emb.inv_freq")
    }
    save_file(load_file(file) | buffers, file)
    network = ours(tmp_path)
    hidden, _ = network.read(tokens, network.start())
    torch.testing.assert_close(network.logits(hidden), oracle(tokens).logits, atol=TOLERANCE, rtol=0)


OLDER = ["llama", "llama-linear", "llama-llama3", "gemma3-scaled", "gemma2", "gpt-neox-relu", "phi3-long", "smollm3"]


@pytest.mark.parametrize("case", [*OLDER, "qwen3-all"])
def test_config_of_older_transformers_means_the_same(case: str, tmp_path: Path) -> None:
    CASES[case].oracle().save_pretrained(tmp_path)
    new, path = read_config(tmp_path).decoder, tmp_path / "config.json"
    ropes = read_json(path)["rope_parameters"]
    if case == "gemma3-scaled":
        wide = ropes["full_attention"]
        old = {"rope_theta": wide.pop("rope_theta"), "rope_scaling": wide, "rope_local_base_freq": 20.0}
    elif case == "gpt-neox-relu":
        old = {"rotary_emb_base": 10000, "rotary_pct": ropes.pop("partial_rotary_factor"), "rope_scaling": ropes}
    else:
        kind = ropes.pop("rope_type")
        named = {"longrope": {"type": "su"}, "linear": {"type": kind}, "default": None}
        rest = named.get(kind, {"rope_type": kind})
        old = {"rope_theta": ropes.pop("rope_theta"), "rope_scaling": None if rest is None else ropes | rest}
    change_json(path, rope_parameters=..., **old)
    assert read_config(tmp_path).decoder == new


def test_keys_that_a_config_may_leave_out_have_the_familys_defaults(tmp_path: Path) -> None:
    """As the text part of published Gemma 3 checkpoints does."""
    shape = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    scaling = {"factor": 8.0, "rope_type": "linear"}
    text = shape | {"model_type": "gemma3_text", "rope_scaling": scaling}
    write_json(tmp_path / "config.json", {"model_type": "gemma3", "text_config": text})
    decoder, expected = read_config(tmp_path).decoder, transformers.Gemma3TextConfig(**shape)
    assert (decoder.vocab_size, decoder.num_heads, decoder.num_key_value_heads, decoder.head_dim) == (
        expected.vocab_size,
        expected.num_attention_heads,
        expected.num_key_value_heads,
        expected.head_dim,
    )
    assert decoder.local_layers == tuple(i for i, kind in enumerate(expected.layer_types) if kind[0] == "s")
    assert (decoder.rope.theta, decoder.rope.max_position, decoder.tie_embeddings) == (1e6, 131072, True)
    assert decoder.rope.scaling == scaling
    assert decoder.local_rope is not None
    assert (decoder.local_rope.theta, decoder.local_rope.scaling) == (1e4, None)
