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
from safetensors import SafetensorError

from famcli.checkpoint.open import open_model
from famcli.errors import RecipeError
from famcli.training.loop import step as gradient_step
from famcli.training.loop.networks import start_network
from famcli.training.loop.optimizer import Optimizers
from famcli.training.loop.run_folder import (
    CheckDone,
    RunEnded,
    RunSaved,
    RunStarted,
    StepDone,
    StepSkipped,
    TrainEvent,
    cut_log,
    load_run,
    save_run,
)
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import Recipe, load_recipe

Make = Callable[..., Recipe]


def steps_of(log: Path) -> list[tuple[Any, ...]]:
    """What a step's log line says of the numbers, without the clock."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    keys = ("step", "loss", "bits_per_byte", "tokens", "lr", "grad_norm", "memory_rms", "by_objective")
    return [tuple(str(line[key]) for key in keys) for line in lines if line["event"] == "StepDone"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_loss_falls_and_the_run_ends_in_a_checkpoint(recipe: Make, tmp_path: Path, dtype: str) -> None:
    events: list[TrainEvent] = []
    made = recipe("schedule.steps=40", f"hardware.dtype={dtype}", "checks.every_steps=40", "schedule.adamw_lr=0.02")
    ended = train(made, tmp_path / "run", events.append)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert sum(done.loss for done in steps[-5:]) < 0.8 * sum(done.loss for done in steps[:5])
    assert [done.step for done in steps] == list(range(1, 41))
    assert all(0 < done.peak_share < 1 for done in steps)
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


EVERYTHING = """
[[objectives]]
kind = "language_modelling"
weight = 1
[[objectives]]
kind = "passkey"
weight = 1
digits = 2
answer_weight = 3.0
"""
KILL_AFTER_STEP_6 = """
def on_event(event):
    if type(event).__name__ == "StepDone" and event.step == 6:
        os.kill(os.getpid(), signal.SIGKILL)
"""
KILL_WHILE_SAVING = """
flush, flushed = writing._flush, []
def flush_or_die(path):
    flushed.extend([path] if "checkpoint-" in str(path) else [])
    if len(flushed) == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(path)
writing._flush = flush_or_die
def on_event(event):
    pass
"""
SCRIPT = """
import os, signal, sys
from pathlib import Path
from famcli.documents import writing
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import load_recipe
%s
train(load_recipe(sys.argv[1], sys.argv[3:]), Path(sys.argv[2]), on_event)
"""


@pytest.mark.parametrize(("how", "steps", "kept"), [(KILL_AFTER_STEP_6, 6, 5), (KILL_WHILE_SAVING, 4, 3)])
def test_killed_runs_go_on_as_if_unbroken(toy: Path, tmp_path: Path, how: str, steps: int, kept: int) -> None:
    toy.write_text(
        toy.read_text().replace("blocks_per_step = 2", "max_blocks = 4\ncurriculum_share = 0.5") + EVERYTHING
    )
    changes = [
        "schedule.steps=9",
        "schedule.random_state_passing=0.5",
        "schedule.average_decay=0.9",
        "schedule.accumulate=2",
        "network.block_size=80",
        "hardware.checkpoint_gradients=true",
        "checks.save_minutes=0",
        "checks.every_steps=4",
    ]
    train(load_recipe(toy, changes), tmp_path / "whole")
    command = [sys.executable, "-c", SCRIPT % how, str(toy), str(tmp_path / "broken"), *changes]
    assert subprocess.run(command, check=False).returncode == -9
    assert len(steps_of(tmp_path / "broken" / "log.jsonl")) == steps
    assert saved_step(tmp_path / "broken") == kept
    train(load_recipe(toy, changes), tmp_path / "broken")
    whole = steps_of(tmp_path / "whole" / "log.jsonl")
    assert len(whole) == 9
    assert any("passkey" in done[-1] for done in whole)
    assert steps_of(tmp_path / "broken" / "log.jsonl") == whole
    for name, weight in weights_of(tmp_path / "whole", "average").items():
        assert torch.equal(weight, weights_of(tmp_path / "broken", "average")[name]), name


def weights_of(run: Path, section: str = "network") -> dict[str, torch.Tensor]:
    saved = load_run(run)
    assert saved is not None
    return saved[1][section]


def saved_step(run: Path) -> int:
    saved = load_run(run)
    assert saved is not None
    return int(saved[2]["step"])


def test_reading_in_parts_and_recomputing_change_nothing(recipe: Make, tmp_path: Path) -> None:
    shape = ("schedule.lanes=5", "schedule.steps=5")
    train(recipe(*shape), tmp_path / "plain")
    train(recipe(*shape, "schedule.accumulate=3"), tmp_path / "parts")
    train(recipe(*shape, "hardware.checkpoint_gradients=true"), tmp_path / "again")
    plain = weights_of(tmp_path / "plain")
    for other in ("parts", "again"):
        for name, weight in weights_of(tmp_path / other).items():
            torch.testing.assert_close(weight, plain[name], rtol=1e-4, atol=1e-5)


def test_the_average_is_what_is_exported(recipe: Make, tmp_path: Path) -> None:
    train(recipe("schedule.average_decay=0.9"), tmp_path)
    network = open_model(tmp_path / "export", device="cpu", dtype="float32").network
    for name, weight in weights_of(tmp_path, "average").items():
        exported = network.get_parameter(name)
        torch.testing.assert_close(exported.data, weight.bfloat16().float() if name != "memory_prompt" else weight)
        assert not torch.equal(weight, weights_of(tmp_path)[name])


def test_a_run_starts_from_the_weights_of_a_checkpoint(recipe: Make, tmp_path: Path) -> None:
    train(recipe("schedule.steps=3"), tmp_path / "first")
    export = tmp_path / "first" / "export"
    still = ("schedule.steps=1", "schedule.adamw_lr=0", "schedule.muon_lr=0", "network.memory_segments=2")
    train(recipe(*still, f"schedule.init={export}"), tmp_path / "second")
    network = open_model(export, device="cpu", dtype="float32").network
    for name, weight in weights_of(tmp_path / "second").items():
        assert torch.equal(weight, network.get_parameter(name)), name
    longer = train(recipe(*still, "network.fam_length=3", f"schedule.init={export}"), tmp_path / "third")
    assert longer.finished  # another memory begins with a prompt of its own
    with pytest.raises(RecipeError, match="in the recipe"):
        train(recipe("network.hidden_size=24", f"schedule.init={export}"), tmp_path / "fourth")


def test_broken_weights_are_never_saved(recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(recipe("schedule.steps=2"), tmp_path)
    plain = Optimizers.step

    def broken(self: Optimizers, factor: float) -> float:
        rate = plain(self, factor)
        with torch.no_grad():
            self._optimizers[-1].param_groups[0]["params"][0].fill_(float("inf"))
        return rate

    monkeypatch.setattr(Optimizers, "step", broken)
    with pytest.raises(RecipeError, match="weights are not finite after step 3"):
        train(recipe("schedule.steps=3"), tmp_path)
    assert saved_step(tmp_path) == 2


def test_a_stopped_run_goes_on_with_a_larger_budget(recipe: Make, tmp_path: Path) -> None:
    stopped = train(recipe("schedule.decay_share=0"), tmp_path, should_stop=lambda: True)
    assert (stopped.step, stopped.finished, stopped.exported) == (1, False, None)
    went_on = train(recipe("schedule.steps=8", "schedule.decay_share=0"), tmp_path)
    assert (went_on.step, went_on.finished) == (8, True)


def test_another_recipe_does_not_go_on_with_a_run(recipe: Make, tmp_path: Path) -> None:
    train(recipe("schedule.steps=1"), tmp_path)
    with pytest.raises(RecipeError, match=r"another recipe; undo the change of schedule\.adamw_lr,"):
        train(recipe("schedule.adamw_lr=0.1"), tmp_path)


def test_two_processes_do_not_train_in_one_folder(recipe: Make, tmp_path: Path) -> None:
    hold = "import sys; from pathlib import Path; from famcli.training.loop.run_folder import running_alone\n"
    hold += "with running_alone(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RecipeError, match=rf"another process trains in .*, process {other.pid} "):
            train(recipe("schedule.steps=2"), tmp_path / "run")
        assert not (tmp_path / "run" / "log.jsonl").exists()
        other.kill()
    assert train(recipe("schedule.steps=2"), tmp_path / "run").finished


def test_a_minute_budget_counts_over_resumes(recipe: Make, tmp_path: Path) -> None:
    made = recipe("schedule.max_minutes=0.001", "schedule.steps=100000")
    first = train(made, tmp_path)
    assert first.finished
    assert first.seconds >= 0.06
    assert train(made, tmp_path).step == first.step


def test_steps_that_are_not_finite_are_left_out(recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, calls = gradient_step.language_model_gradient, [0]

    def broken(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        loss = plain(*args, **options)
        return (float("nan"), *loss[1:]) if calls[0] == 3 else loss

    monkeypatch.setattr(gradient_step, "language_model_gradient", broken)
    events: list[TrainEvent] = []
    ended = train(recipe(), tmp_path / "run", events.append)
    assert ended.step == 6
    assert sum(isinstance(event, StepSkipped) for event in events) == 1
    assert all(torch.isfinite(torch.tensor(event.loss)) for event in events if isinstance(event, StepDone))


def test_a_run_that_only_diverges_stops_with_its_last_good_checkpoint(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe("schedule.steps=2"), tmp_path)

    def add_up(self: gradient_step.Gradients) -> float:
        return float("inf")

    monkeypatch.setattr(gradient_step.Gradients, "add_up", add_up)
    with pytest.raises(RecipeError, match=r"too many steps were not finite \(3\)"):
        train(recipe("schedule.steps=9", "schedule.max_skipped=2", "checks.save_minutes=0"), tmp_path)
    assert saved_step(tmp_path) == 2


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


@pytest.mark.parametrize("passes", [0, 8])
@pytest.mark.parametrize("projections", ["layer", "shared"])
def test_a_feedback_transformer_trains_and_goes_on(recipe: Make, tmp_path: Path, projections: str, passes: int) -> None:
    """One setting away from the twin without feedback; a run that was stopped ends as an unbroken one."""
    keys = ("network.fam_length=0", "network.architecture=feedback", f"network.feedback_projections={projections}")
    keys += (
        "schedule.steps=24",
        "schedule.adamw_lr=0.03",
        f"network.feedback_passes={passes}",
        "checks.every_steps=24",
    )
    events: list[TrainEvent] = []
    train(recipe(*keys), tmp_path / "whole", events.append)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert sum(done.loss for done in steps[-5:]) < 0.9 * sum(done.loss for done in steps[:5])
    assert set(next(event for event in events if isinstance(event, CheckDone)).bits_per_byte) == {"on"}
    stops = iter([False] * 9 + [True] * 20)
    train(recipe(*keys), tmp_path / "broken", should_stop=lambda: next(stops))
    train(recipe(*keys), tmp_path / "broken")
    assert steps_of(tmp_path / "broken" / "log.jsonl") == steps_of(tmp_path / "whole" / "log.jsonl")
    model = open_model(tmp_path / "whole" / "export", device="cpu", dtype="float32")
    assert model.network.fam.feedback_passes == 0
    assert model.default_memory_mode == "on"
    with pytest.raises(RecipeError, match="have no meaning for architecture 'feedback'"):
        recipe(*keys, "schedule.segment_dropout=0.5")
    with pytest.raises(RecipeError, match="'fam_length' must be 0 for architecture 'feedback'"):
        recipe(*keys, "network.fam_length=2")


def test_only_the_newest_checkpoint_is_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save_run(tmp_path, step, {"a": {"b": torch.full((2,), float(step)).t()}}, {"step": step})
    (tmp_path / ".checkpoint-00000011.tmp").mkdir()
    assert [path.name for path in sorted(tmp_path.glob("checkpoint-*"))] == ["checkpoint-00000010"]
    assert weights_of(tmp_path, "a")["b"].tolist() == [10.0, 10.0]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise SafetensorError("No space left on device")

    save_run(tmp_path, 1, {"a": {"b": torch.ones(3)}}, {"step": 1})
    monkeypatch.setattr("famcli.training.loop.run_folder.save_file", full)
    with pytest.raises(RecipeError, match=r"cannot be written \(No space left on device\); make room"):
        save_run(tmp_path, 2, {"a": {"b": torch.ones(3)}}, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001"]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    folder = save_run(tmp_path, 1, {"a": {"b": torch.ones(3)}}, {"step": 1})
    (folder / "tensors.safetensors").write_bytes(b"short")
    with pytest.raises(RecipeError, match="damaged training checkpoint"):
        load_run(tmp_path)


def test_the_log_loses_what_will_be_done_again(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"st')
    cut_log(tmp_path, 12)
    assert log.read_text() == '{"step": 1}\n'
    cut_log(tmp_path, 50)  # somebody shortened it
    assert log.read_text() == '{"step": 1}\n'
    cut_log(tmp_path, 0)
    cut_log(tmp_path, 1)
    assert not log.exists()


def test_saving_tells_where(recipe: Make, tmp_path: Path) -> None:
    events: list[TrainEvent] = []
    train(recipe("schedule.steps=2", "checks.save_minutes=0"), tmp_path, events.append)
    assert [event.step for event in events if isinstance(event, RunSaved)] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of what it does itself
@pytest.mark.parametrize("settings", [(), ("network.architecture=feedback", "network.fam_length=0")])
def test_compiling_changes_nothing(recipe: Make, settings: tuple[str, ...], tmp_path: Path) -> None:
    train(recipe(*settings), tmp_path / "plain")
    train(recipe(*settings, "hardware.compile=true"), tmp_path / "compiled")
    plain = weights_of(tmp_path / "plain")
    for name, weight in weights_of(tmp_path / "compiled").items():
        torch.testing.assert_close(weight, plain[name], rtol=1e-3, atol=1e-5)


def test_a_memory_of_associations_begins_with_maps_of_its_own(recipe: Make, tmp_path: Path) -> None:
    train(recipe("schedule.steps=2"), tmp_path / "first")
    settings = ("schedule.steps=3", "network.memory_update=delta", f"schedule.init={tmp_path / 'first' / 'export'}")
    ended = train(recipe(*settings), tmp_path / "second")
    assert ended.exported is not None
    network = open_model(ended.exported, device="cpu", dtype="float32").network
    drawn = start_network(recipe(*settings), open_model(ended.exported, device="cpu").tokenizer)
    assert network.fam.memory_update == "delta"
    assert not torch.equal(network.memory_maps, drawn.memory_maps)
