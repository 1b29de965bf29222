"""Two real processes over gloo: the numbers of one process, to rounding, and one checkpoint for any number of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from famcli.errors import RecipeError
from famcli.training.loop.processes import Processes
from famcli.training.loop.run_folder import merge_lanes
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import Recipe

CHANGES = (
    "schedule.steps=6",
    "schedule.lanes=5",
    "schedule.average_decay=0.9",
    "schedule.random_state_passing=0.5",
    "schedule.decay_share=0",
    "checks.every_steps=3",
)


def torchrun(recipe: Path, run: Path, *changes: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["--", "famcli", "train", str(recipe), "--run", str(run), "--quiet"]
    for change in changes:
        command += ["--set", change]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("export: trained") == 1


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]


def assert_same_run(one: Path, other: Path, steps: int) -> None:
    pairs = list(zip(events(one, "StepDone"), events(other, "StepDone"), strict=True))
    assert len(pairs) == steps
    for first, second in pairs:
        assert (first["step"], first["tokens"]) == (second["step"], second["tokens"])
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-5, abs=1e-7)  # a divergence may be near 0
        assert first["bits_per_byte"] == pytest.approx(second["bits_per_byte"], rel=1e-5)
        assert first["grad_norm"] == pytest.approx(second["grad_norm"], rel=1e-3)  # rounding adds up over steps
        assert first["memory_rms"] == pytest.approx(second["memory_rms"], rel=1e-3)


def test_two_processes_give_the_losses_of_one(recipe: Callable[..., Recipe], toy: Path, tmp_path: Path) -> None:
    train(recipe(*CHANGES), tmp_path / "one")
    torchrun(toy, tmp_path / "two", *CHANGES)
    assert_same_run(tmp_path / "one", tmp_path / "two", 6)
    for first, second in zip(*(events(tmp_path / run, "CheckDone") for run in ("one", "two")), strict=True):
        assert first["bits_per_byte"] == pytest.approx(second["bits_per_byte"], rel=1e-5)
    started = events(tmp_path / "two", "RunStarted")
    assert [event["num_processes"] for event in started] == [2]
    # one process goes on with what two began: the checkpoint holds all lanes
    more = ("schedule.steps=9", *CHANGES[1:])
    train(recipe(*more), tmp_path / "one")
    train(recipe(*more), tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two", 9)


def test_lanes_are_shared_out_evenly_and_all_of_them() -> None:
    for size, lanes in ((1, 3), (2, 5), (3, 3), (4, 11)):
        shares = [Processes(rank, size, torch.device("cpu")).share(lanes) for rank in range(size)]
        assert [lane for share in shares for lane in share] == list(range(lanes))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    with pytest.raises(RecipeError, match="fewer than 4 processes"):
        Processes(0, 4, torch.device("cpu")).share(3)


def test_each_lane_is_saved_by_the_process_that_reads_it() -> None:
    parts = [
        ({"0.x": torch.zeros(1)}, {"lanes": [{"at": 0, "state": 1}, {"at": 7}, {"at": 9}], "sampler": 5}),
        ({"1.x": torch.ones(1)}, {"lanes": [{"at": 0}, {"at": 7, "memory": 2}, {"at": 9}], "sampler": 5}),
    ]
    tensors, values = merge_lanes(parts)
    assert sorted(tensors) == ["0.x", "1.x"]
    assert values == {"lanes": [{"at": 0, "state": 1}, {"at": 7, "memory": 2}, {"at": 9}], "sampler": 5}
