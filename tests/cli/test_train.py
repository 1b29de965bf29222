"""`famcli train`: a recipe becomes a checkpoint; an interrupted run goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from famcli.tokens.tokenizer import ByteTokenizer

RECIPE = """
name = "toy"

[network]
hidden_size = 16
num_layers = 1
num_heads = 2
num_key_value_heads = 1
head_dim = 8
intermediate_size = 24
block_size = 16
memory_segments = 1
fam_length = 2

[tokenizer]
path = "tokenizer"

[data]
folder = "."

[[corpora]]
name = "stories"
path = "texts"
weight = 1.0

[schedule]
lanes = 2
blocks_per_step = 2
steps = 4

[hardware]
dtype = "float32"
threads = 1

[checks]
every_steps = 0
"""


@pytest.fixture
def recipe(tmp_path: Path, story: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for n in range(3):
        (tmp_path / "texts" / f"{n}.txt").write_text(story.read_text())
    (tmp_path / "tokenizer").mkdir()
    ByteTokenizer().save(tmp_path / "tokenizer")
    path = tmp_path / "toy.toml"
    path.write_text(RECIPE)
    return path


def test_a_dry_run_prints_what_the_run_will_need_and_trains_nothing(run, recipe: Path) -> None:
    result = run("train", recipe, "--dry-run", "--json", "--set", "schedule.steps=7")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert (printed["recipe"]["schedule"]["steps"], printed["run"]) == (7, "runs/toy")
    assert (printed["estimate"]["steps"], printed["estimate"]["tokens"]) == (7, 7 * 2 * 2 * 16)
    shown = run("train", recipe, "--dry-run")
    assert shown.exit_code == 0
    lines = {line[:14].strip(): line[14:] for line in shown.stdout.splitlines()}
    assert {"parameters", "steps", "tokens", "memory", "speed", "time", "disk"} <= lines.keys()
    assert lines["parameters"] == f"{printed['estimate']['parameters']:,}"
    assert not (recipe.parent / "runs").exists()


def test_a_dry_run_says_what_the_machine_cannot_hold(run, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    assert "longest step; more than the 100 B of this machine\n" in run("train", recipe, "--dry-run").stdout


def test_json_belongs_to_a_dry_run(run, recipe: Path) -> None:
    result = run("train", recipe, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--jsonl" in result.stderr


@pytest.mark.parametrize(("num_steps", "words"), [(1, "1 step"), (4, "4 steps")])
def test_a_run_ends_in_a_checkpoint_that_reads(
    run, recipe: Path, story: Path, tmp_path: Path, num_steps: int, words: str
) -> None:
    result = run("train", recipe, "--run", tmp_path / "run", "--set", f"schedule.steps={num_steps}")
    assert result.exit_code == 0
    export = tmp_path / "run" / "export"
    assert result.stdout.startswith(f"{export}: trained {words}, ")
    assert "famcli: toy: " in result.stderr
    steps = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [event["step"] for event in steps if event["event"] == "StepDone"] == [*range(1, num_steps + 1)]
    assert run("ppl", story, "--model", export, "--json").exit_code == 0


def test_a_budget_that_is_used_already_ends_the_run_and_is_told(run, recipe: Path, tmp_path: Path) -> None:
    command = ["train", recipe, "--run", tmp_path / "run"]
    for num_steps in (4, 4, 2):
        result = run(*command, "--set", f"schedule.steps={num_steps}")
        assert result.exit_code == 0
        assert ("the run has made 4 steps, more than its budget of 2:" in result.stderr) == (num_steps == 2)


def test_events_on_stdout_and_progress_on_stderr(run, recipe: Path, tmp_path: Path) -> None:
    result = run("train", recipe, "--run", tmp_path / "run", "--jsonl", "--progress", "json")
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert events.count("StepDone") == 4
    assert events[-1] == "RunEnded"
    progress = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert progress[0]["stage"] == "loading toy"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.toml"], "missing.toml"),
        (["toy.toml", "--set", "schedule.stepz=1"], "stepz"),
        (["toy.toml", "--set", "nonsense"], "key=value"),
        (["toy.toml", "--set", "network.num_heads=0"], "num_heads"),
    ],
)
def test_a_bad_recipe_is_one_line(
    run, recipe: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe.parent)
    result = run("train", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_saves_and_goes_on(run, spawn, recipe: Path, tmp_path: Path, signum: int, code: int) -> None:
    folder = tmp_path / "run"
    process = spawn("train", recipe, "--run", folder, "--set", "schedule.steps=100000", "--jsonl")
    for line in process.stdout:
        if json.loads(line)["event"] == "StepDone":
            break
    process.send_signal(signum)
    stdout, stderr = process.communicate(timeout=60)
    ended = json.loads(stdout.splitlines()[-1])
    assert (process.returncode, ended["event"], ended["finished"]) == (code, "RunEnded", False)
    assert "go on with: famcli train" in stderr
    assert "Traceback" not in stderr
    again = run("train", recipe, "--run", folder, "--set", f"schedule.steps={ended['step'] + 1}")
    assert again.exit_code == 0
    assert f"from step {ended['step']:,}" in again.stderr
    assert again.stdout.startswith(f"{folder / 'export'}: trained {ended['step'] + 1:,} steps, ")
