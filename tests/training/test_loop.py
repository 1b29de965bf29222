"""Whole runs: they learn, they end in a checkpoint, and being killed changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from famcli.checkpoint.open import open_model
from famcli.errors import RecipeError
from famcli.training import loop
from famcli.training.events import CheckDone, RunEnded, RunSaved, RunStarted, StepDone, StepSkipped, TrainEvent
from famcli.training.loop import train
from famcli.training.recipe import Recipe
from famcli.training.saving import cut_log, load_run, save_run

Make = Callable[..., Recipe]


def steps_of(log: Path) -> list[tuple[Any, ...]]:
    """What a step's log line says of the numbers, without the clock."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    keys = ("step", "loss", "bits_per_byte", "tokens", "lr", "grad_norm", "memory_rms")
    return [tuple(str(line[key]) for key in keys) for line in lines if line["event"] == "StepDone"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_loss_falls_and_the_run_ends_in_a_checkpoint(recipe: Make, tmp_path: Path, dtype: str) -> None:
    events: list[TrainEvent] = []
    made = recipe("schedule.steps=40", f"hardware.dtype={dtype}", "checks.every_steps=40", "schedule.adamw_lr=0.02")
    ended = train(made, tmp_path / "run", events.append)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert sum(step.loss for step in steps[-5:]) < 0.8 * sum(step.loss for step in steps[:5])
    assert [step.step for step in steps] == list(range(1, 41))
    check = next(event for event in events if isinstance(event, CheckDone))
    assert set(check.bits_per_byte) == {"on", "frozen"}
    assert check.by_position["on"][0] == pytest.approx(check.by_position["frozen"][0], abs=1e-6)
    started = next(event for event in events if isinstance(event, RunStarted))
    assert set(started.corpus_tokens) == {"tales", "notes"}
    assert ended == events[-1] == RunEnded(40, steps[-1].tokens, ended.seconds, True, tmp_path / "run" / "export")
    model = open_model(tmp_path / "run" / "export", device="cpu", dtype="float32")
    assert model.sidecar.memory_trained
    assert model.sidecar.validated_tokens == 40
    assert model.network.dtype == torch.float32


def test_killed_runs_go_on_as_if_unbroken(recipe: Make, toy: Path, tmp_path: Path) -> None:
    changes = ["schedule.steps=9", "checks.save_minutes=0", "checks.every_steps=4"]
    train(recipe(*changes), tmp_path / "whole")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from famcli.training.events import StepDone\n"
        "from famcli.training.loop import train\n"
        "from famcli.training.recipe import load_recipe\n"
        "def kill(event):\n"
        "    if isinstance(event, StepDone) and event.step == 6:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "train(load_recipe(sys.argv[1], sys.argv[3:]), Path(sys.argv[2]), kill)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(toy), str(tmp_path / "broken"), *changes], check=False)
    assert killed.returncode == -9
    assert len(steps_of(tmp_path / "broken" / "log.jsonl")) == 6
    saved = load_run(tmp_path / "broken")
    assert saved is not None
    assert saved.values["step"] == 5
    train(recipe(*changes), tmp_path / "broken")
    whole = steps_of(tmp_path / "whole" / "log.jsonl")
    assert len(whole) == 9
    assert steps_of(tmp_path / "broken" / "log.jsonl") == whole


def test_a_stopped_run_goes_on_with_a_larger_budget(recipe: Make, tmp_path: Path) -> None:
    stopped = train(recipe("schedule.decay_share=0"), tmp_path, should_stop=lambda: True)
    assert (stopped.step, stopped.finished, stopped.exported) == (1, False, None)
    went_on = train(recipe("schedule.steps=8", "schedule.decay_share=0"), tmp_path)
    assert (went_on.step, went_on.finished) == (8, True)


def test_another_recipe_does_not_go_on_with_a_run(recipe: Make, tmp_path: Path) -> None:
    train(recipe("schedule.steps=1"), tmp_path)
    with pytest.raises(RecipeError, match="another recipe"):
        train(recipe("schedule.adamw_lr=0.1"), tmp_path)


def test_a_minute_budget_counts_over_resumes(recipe: Make, tmp_path: Path) -> None:
    made = recipe("schedule.max_minutes=0.001", "schedule.steps=100000")
    first = train(made, tmp_path)
    assert first.finished
    assert first.seconds >= 0.06
    assert train(made, tmp_path).step == first.step


def test_steps_that_are_not_finite_are_left_out(recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, calls = loop.language_model_gradient, [0]

    def broken(*args: Any) -> float:
        calls[0] += 1
        return float("nan") if calls[0] == 3 else plain(*args)

    monkeypatch.setattr(loop, "language_model_gradient", broken)
    events: list[TrainEvent] = []
    ended = train(recipe(), tmp_path / "run", events.append)
    assert ended.step == 6
    assert sum(isinstance(event, StepSkipped) for event in events) == 1
    assert all(torch.isfinite(torch.tensor(event.loss)) for event in events if isinstance(event, StepDone))


def test_a_run_that_only_diverges_stops_with_its_checkpoint(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe("schedule.steps=2"), tmp_path)
    monkeypatch.setattr(loop, "language_model_gradient", lambda *args: float("inf"))
    with pytest.raises(RecipeError, match="3 steps were not finite"):
        train(recipe("schedule.steps=9", "schedule.max_skipped=2"), tmp_path)
    saved = load_run(tmp_path)
    assert saved is not None
    assert saved.values["step"] == 2


def test_heldout_figures_stand_beside_the_checkpoint(recipe: Make, tmp_path: Path) -> None:
    train(recipe("schedule.steps=2", "checks.heldout=notes"), tmp_path / "run")
    figures = json.loads((tmp_path / "run" / "export" / "figures.json").read_text())
    assert figures["steps"] == 2
    assert figures["documents"] == 3
    sidecar = json.loads((tmp_path / "run" / "export" / "fam.json").read_text())
    assert sidecar["validated_tokens"] == figures["longest_document_tokens"]


def test_the_twin_without_memory_trains(recipe: Make, tmp_path: Path) -> None:
    events: list[TrainEvent] = []
    train(recipe("network.fam_length=0", "checks.every_steps=6"), tmp_path, events.append)
    assert set(next(event for event in events if isinstance(event, CheckDone)).bits_per_byte) == {"on"}


def test_only_the_newest_checkpoint_is_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save_run(tmp_path, step, {"a/b": torch.full((2,), float(step)).t()}, {"step": step})
    (tmp_path / ".checkpoint-00000011.tmp").mkdir()
    assert [path.name for path in sorted(tmp_path.glob("checkpoint-*"))] == ["checkpoint-00000010"]
    saved = load_run(tmp_path)
    assert saved is not None
    assert saved.section("a")["b"].tolist() == [10.0, 10.0]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    folder = save_run(tmp_path, 1, {"a": torch.ones(3)}, {"step": 1})
    (folder / "tensors.safetensors").write_bytes(b"short")
    with pytest.raises(RecipeError, match="damaged training checkpoint"):
        load_run(tmp_path)


def test_the_log_loses_what_will_be_done_again(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"corpus": "x"}\n{"step": 2}\n{"step": 3}\n{"st')
    cut_log(log, 2)
    assert log.read_text() == '{"step": 1}\n{"corpus": "x"}\n{"step": 2}\n'


def test_saving_tells_where(recipe: Make, tmp_path: Path) -> None:
    events: list[TrainEvent] = []
    train(recipe("schedule.steps=2", "checks.save_minutes=0"), tmp_path, events.append)
    assert [event.step for event in events if isinstance(event, RunSaved)] == [1, 2, 2]
