"""The recipes of the Feedback Transformer: their size, and the twin that is one setting away."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.algorithmic import write_programs
from famcli.checkpoint.open import open_model
from famcli.training.loop.networks import build_network
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import load_recipe

ROOT = Path(__file__).parents[2]


def test_feedback_tiny_begins_with_the_weights_of_its_twin() -> None:
    first, second = (
        load_recipe(ROOT / "benchmarks" / "recipes" / f"{name}.toml")
        for name in ("feedback-tiny-parallel", "feedback-tiny")
    )
    plain, feedback = (build_network(recipe, 4096) for recipe in (first, second))
    assert second.network.fam.visible_tokens == first.network.fam.visible_tokens == 192
    assert 1_000_000 < sum(parameter.numel() for parameter in feedback.parameters()) < 3_000_000
    there = {name: value.shape for name, value in plain.named_parameters()}
    new = {name for name, value in feedback.named_parameters() if there.get(name) != value.shape}
    assert new == {"layer_weights", "memory_norm.weight"}


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
    # Each symbol is one piece, and so is the space before a digit.
    assert len(model.tokenizer.encode(" if x < y : x ++ ;")) == 8
