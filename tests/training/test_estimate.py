"""What a dry run says, held against what a run then needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from famcli.training.estimate import estimate
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import Recipe

Make = Callable[..., Recipe]


def test_an_estimate_is_what_the_run_needs(recipe: Make, tmp_path: Path) -> None:
    made = recipe("network.hidden_size=64", "network.num_layers=3", "schedule.average_decay=0.9")
    found = estimate(made, 257)
    ended = train(made, tmp_path / "run")
    assert ended.exported is not None
    assert found.steps == ended.step
    assert ended.tokens <= found.tokens == 6 * 3 * 2 * 8
    sizes = [path.stat().st_size for path in ended.exported.glob("*.safetensors")]
    assert sum(sizes) == pytest.approx(found.export_bytes, rel=0.1)  # and the headers
    checkpoint = next((tmp_path / "run").glob("checkpoint-*/tensors.safetensors")).stat().st_size
    assert checkpoint == pytest.approx(found.checkpoint_bytes, rel=0.1)  # and the lanes
    assert found.fixed_bytes == found.checkpoint_bytes + 4 * found.parameters  # gradients
    assert found.tokens_per_second > 0
    assert 0 < found.peak_share < 1


def test_the_smaller_budget_ends_the_run(recipe: Make) -> None:
    minutes = estimate(recipe("schedule.max_minutes=0.01", "schedule.steps=100000000"), 257)
    assert minutes.seconds == pytest.approx(0.6)
    assert 0 < minutes.steps < 100_000_000
    steps = estimate(recipe("schedule.max_minutes=1000", "schedule.steps=10"), 257)
    assert steps.steps == 10
    assert steps.seconds < 60


def test_a_growing_number_of_blocks_is_counted_as_it_is_drawn(recipe: Make, toy: Path) -> None:
    toy.write_text(toy.read_text().replace("blocks_per_step = 2", "max_blocks = 9\ncurriculum_share = 0.25"))
    made = recipe("schedule.steps=2000")
    drawn = sum(made.schedule.blocks_of_step(1, step, step / 2000) for step in range(2000))
    assert estimate(made, 257).tokens == pytest.approx(drawn * 3 * 8, rel=0.03)
