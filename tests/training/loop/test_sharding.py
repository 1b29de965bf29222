"""A network divided over two processes (FSDP2 over gloo) gives the losses of one, and checkpoints that either opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from famcli.checkpoint.open import open_model
from famcli.errors import RecipeError
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import Recipe, load_recipe
from tests.training.loop.test_processes import assert_same_run, events, torchrun
from tests.training.test_adapt import adapting  # noqa: F401  (a fixture)

# five lanes over two processes: they read different numbers of groups, and begin documents at different steps
CHANGES = (
    "schedule.steps=6",
    "schedule.lanes=5",
    "schedule.muon_lr=0",
    "schedule.decay_share=0",
    "schedule.random_state_passing=0.5",
    "schedule.segment_dropout=0.3",
    "checks.every_steps=3",
)
SHARD = "hardware.shard=true"


def test_a_divided_network_gives_the_losses_of_one_process(
    recipe: Callable[..., Recipe], toy: Path, tmp_path: Path
) -> None:
    train(recipe(*CHANGES), tmp_path / "one")
    torchrun(toy, tmp_path / "two", *CHANGES, SHARD)
    assert_same_run(tmp_path / "one", tmp_path / "two", steps=6)
    for one, other in zip(events(tmp_path / "one", "CheckDone"), events(tmp_path / "two", "CheckDone"), strict=True):
        assert one["bits_per_byte"]["on"] == pytest.approx(other["bits_per_byte"]["on"], rel=1e-4)
    models = [open_model(tmp_path / run / "export", dtype="float32").network for run in ("one", "two")]
    for (name, one), (_, other) in zip(*(model.named_parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, atol=2e-2, rtol=2e-2, msg=lambda text, name=name: f"{name}: {text}")


def test_a_divided_run_goes_on_in_one_process_and_back(
    recipe: Callable[..., Recipe], toy: Path, tmp_path: Path
) -> None:
    train(recipe(*CHANGES), tmp_path / "one")
    torchrun(toy, tmp_path / "two", *CHANGES, SHARD, "schedule.steps=2")
    train(recipe(*CHANGES, "schedule.steps=4"), tmp_path / "two")
    torchrun(toy, tmp_path / "two", *CHANGES, SHARD)
    assert_same_run(tmp_path / "one", tmp_path / "two", steps=6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_of_a_divided_network(adapting: Path, tmp_path: Path, dtype: str) -> None:  # noqa: F811
    changes = (*CHANGES, "checks.every_steps=0", f"hardware.dtype={dtype}")
    train(load_recipe(adapting, changes), tmp_path / "one")
    torchrun(adapting, tmp_path / "two", *changes, SHARD)
    if dtype == "float32":
        assert_same_run(tmp_path / "one", tmp_path / "two", steps=6)
    else:  # the updates are rounded too where a divided layer is put together
        pairs = zip(events(tmp_path / "one", "StepDone"), events(tmp_path / "two", "StepDone"), strict=True)
        assert all(one["loss"] == pytest.approx(other["loss"], rel=2e-2) for one, other in pairs)
    assert open_model(tmp_path / "base", adapter=tmp_path / "two" / "export").sidecar.memory_trained


def test_what_a_divided_network_cannot_do(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is one; start it under torchrun"):
        train(recipe(SHARD), tmp_path / "run")
