"""The scores by which tokens are kept: what is wanted later, fitted in one pass, and the adapter that comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from famcli.checkpoint.open import open_model
from famcli.checkpoint.save import merge
from famcli.errors import RecipeError
from famcli.nn import FamConfig
from famcli.nn.kept import token_rows
from famcli.nn.wanted import wanted_later
from famcli.training.keep import shares_of
from famcli.training.loop.run_folder import FitDone, TrainEvent
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import Recipe, load_recipe
from tests.helpers import make_random_checkpoint
from tests.nn.test_decoder import CONFIG, make, tokens_of

RECIPE = """
name = "keeps"
[network]
block_size = 8
memory_segments = 1
fam_length = 3
memory_update = "kept"
[adapt]
model = "base"
method = "keep"
[data]
folder = "."
seed = 3
[[corpora]]
name = "tales"
path = "tales.jsonl"
weight = 1
[schedule]
lanes = 8
min_blocks = 4
max_blocks = 6
steps = 6
[hardware]
dtype = "float32"
threads = 1
[checks]
every_steps = 0
save_minutes = 0
[[objectives]]
kind = "language_modelling"
[[objectives]]
kind = "passkey"
digits = 2
text_weight = 0.1
"""


@pytest.fixture
def recipe(toy: Path) -> Callable[..., Recipe]:
    make_random_checkpoint(toy.parent / "base", fam=None, gain=3.0)
    (toy.parent / "keep.toml").write_text(RECIPE)
    return lambda *changes: load_recipe(toy.parent / "keep.toml", changes)


@torch.no_grad()
def test_what_is_wanted_is_the_largest_attention_of_a_later_block_that_counts() -> None:
    """Against attention written out for one layer, whose keys are those of the embedding."""
    network, tokens, shares = make(FamConfig(8, 0, 0)), tokens_of(2, 24), torch.rand(2, 24)
    layer, attention = network.layers[0], network.layers[0].self_attn
    queries, keys, values = attention.queries_keys_values(layer.attention_input(network.embed(tokens)))
    rotate = network.rotation_at("global", torch.arange(24)[None], False)
    wide = rotate(keys).repeat_interleave(CONFIG.num_heads // CONFIG.num_key_value_heads, dim=1)
    scores = rotate(queries) @ wide.transpose(-1, -2) * CONFIG.head_dim**-0.5
    weights = scores.masked_fill(~torch.ones(24, 24, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
    expected = torch.zeros(2, 24)
    for b in range(2):
        for key in range(16):
            later = range(key // 8 * 8 + 8, 24)
            expected[b, key] = max(float(shares[b, q] * weights[b, :, q, key].max()) for q in later)
    parts = list(wanted_later(network, tokens, shares, 8))
    assert len(parts) == CONFIG.num_layers
    assert parts[0] is not None
    torch.testing.assert_close(parts[0][0], token_rows(keys, values))
    torch.testing.assert_close(parts[0][1], expected, rtol=1e-4, atol=1e-6)


def test_a_question_counts_as_its_answer_does() -> None:
    weights = torch.zeros(1, 40)
    weights[0, :10], weights[0, 30] = 0.1, 12.0
    expected = torch.zeros(1, 40)
    expected[0, :10], expected[0, 15:31] = 0.1, 1.0
    torch.testing.assert_close(shares_of(weights), expected)


def test_the_fit_is_that_of_least_squares_and_goes_on_where_it_was_stopped(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    events: list[TrainEvent] = []
    whole = train(recipe("schedule.steps=12"), tmp_path / "whole", events.append)
    steps = [event for event in events if isinstance(event, FitDone)]
    # Before anything is known nothing is explained, not even the mean.
    assert steps[0].unexplained > 1.5
    assert sum(step.unexplained for step in steps[-4:]) < 0.5 * 4 * steps[0].unexplained, steps
    stops = iter([False, False, True])
    half = train(recipe("schedule.steps=12"), tmp_path / "half", should_stop=lambda: next(stops))
    assert (half.step, half.finished, half.exported) == (3, False, None)
    again = train(recipe("schedule.steps=12"), tmp_path / "half")
    assert whole.exported is not None
    assert again.exported is not None
    one, other = (load_file(done / "fam.safetensors")["memory_scores"] for done in (whole.exported, again.exported))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)
    assert bool((one.abs().sum(1) > 0).all())
    log = [json.loads(line) for line in (tmp_path / "half" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 13))
    with pytest.raises(RecipeError, match="began with another recipe"):
        train(recipe("schedule.steps=12", "schedule.lanes=2"), tmp_path / "half")


def test_the_adapter_reads_with_the_base_s_own_weights(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    ended = train(recipe(), tmp_path / "run")
    assert ended.exported is not None
    model = open_model(tmp_path / "base", adapter=ended.exported, dtype="float32")
    assert model.sidecar.memory_trained
    assert model.sidecar.fam == FamConfig(8, 1, 3, 4, "kept")
    base = load_file(tmp_path / "base" / "model.safetensors")
    own = dict(model.network.named_parameters())
    assert all(torch.equal(own[name], value) for name, value in base.items() if name in own)
    assert not load_file(ended.exported / "adapter_model.safetensors")
    merge(tmp_path / "base", ended.exported, tmp_path / "merged")
    merged, tokens = open_model(tmp_path / "merged", dtype="float32"), tokens_of(1, 40)
    hidden = [_read(each.network, tokens, "on") for each in (model, merged)]
    torch.testing.assert_close(*hidden)
    assert float((hidden[0] - _read(model.network, tokens, "frozen")).abs().max()) > 1e-3


def test_the_first_block_must_hold_the_rows_beside_its_sinks(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"network: 'fam_length' must be at most 4 \('block_size' less 'sink_tokens'\)"
    ):
        train(recipe("network.fam_length=5"), tmp_path / "run")


@pytest.mark.parametrize("change", ["network.memory_update=gated", "adapt.method=lora"])
def test_method_and_memory_belong_together(recipe: Callable[..., Recipe], change: str) -> None:
    with pytest.raises(RecipeError, match="belong together"):
        recipe(change)


@torch.no_grad()
def _read(network: object, tokens: Tensor, mode: str) -> Tensor:
    hidden: Tensor = network.read(tokens, network.start(1, mode))[0]  # type: ignore[attr-defined]
    return hidden
