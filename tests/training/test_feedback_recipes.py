"""The recipes of the Feedback Transformer: their size, and the twin that is one setting away."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.algorithmic import write_programs
from benchmarks.feedback_start import fit
from famcli.checkpoint.open import open_model
from famcli.evaluation.texts import example_book
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import load_recipe

ROOT = Path(__file__).parents[2]


def test_feedback_tiny_is_what_its_recipe_says_and_has_the_weights_of_its_twin() -> None:
    recipe = load_recipe(ROOT / "models" / "feedback-tiny" / "recipe.toml")
    feedback, twin = (open_model(name, device="cpu") for name in ("feedback-tiny", "fam-tiny"))
    assert feedback.network.fam == recipe.network.fam
    assert feedback.fingerprints.tokenizer == twin.fingerprints.tokenizer
    there = {name: value.shape for name, value in twin.network.named_parameters()}
    new = {name for name, value in feedback.network.named_parameters() if there.get(name) != value.shape}
    assert new == {"layer_weights"}


def test_a_decoder_s_keys_and_values_are_fitted_to_memories(tmp_path: Path) -> None:
    recipe, text = ROOT / "models" / "feedback-tiny" / "recipe.toml", example_book()
    fitted = fit(recipe, "fam-tiny", text, tmp_path / "start", 2048)
    # By layer and projection: with the decoder's own, and fitted.
    assert len(fitted) == 8
    assert all(own < best for _, own, best in fitted)
    assert min(best for *_, best in fitted) > 0.5
    start, decoder = (open_model(name, device="cpu").network for name in (tmp_path / "start", "fam-tiny"))
    changed = {
        name.rsplit(".", 2)[1]
        for name, value in start.named_parameters()
        if name != "layer_weights" and not torch.equal(value, dict(decoder.named_parameters())[name])
    }
    assert changed == {"k_proj", "v_proj"}


@pytest.mark.parametrize("architecture", ["feedback", "fam"])
def test_the_algorithmic_recipe_runs_from_its_programs_to_a_checkpoint(architecture: str, tmp_path: Path) -> None:
    write_programs(tmp_path)
    changes = ("network.hidden_size=16", "network.num_layers=2", "network.head_dim=8", "network.intermediate_size=24")
    changes += (
        "network.block_size=16",
        "schedule.lanes=4",
        "schedule.steps=3",
        "hardware.compile=false",
        f"network.architecture={architecture}",
    )
    recipe = load_recipe(ROOT / "benchmarks" / "recipes" / "algorithmic.toml", (*changes, f"data.folder={tmp_path}"))
    ended = train(recipe, tmp_path / "run")
    assert ended.exported is not None
    model = open_model(ended.exported, device="cpu")
    assert model.network.fam.architecture == architecture
    # Each symbol is one piece.
    for text, count in ((" if x < y : x ++ ;", 8), (" x =3 ;", 4), (" print x7 ;", 4)):
        assert len(model.tokenizer.encode(text)) == count
