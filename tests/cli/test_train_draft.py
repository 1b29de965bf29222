"""`famcli train-draft`."""

from __future__ import annotations

import json
from pathlib import Path


def test_a_draft_is_trained(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    out, size = tmp_path / "draft", ("--texts", "2", "--text-tokens", "24", "--window", "8", "--drafted-tokens", "2")
    train = ("train-draft", tiny, "--data", story, "--out", out, "--run", tmp_path / "run", "--steps", "3", *size)
    result = run(*train)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{out}: trained 3 steps, about ")
    assert json.loads((out / "draft.json").read_text())["num_layers"] == 1
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 3
    again = run(*train)
    assert again.exit_code == 2
    assert "draft" in again.stderr


def test_mistakes_are_told_in_one_line(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    nothing = run("train-draft", tiny, "--out", tmp_path / "out")
    assert (nothing.exit_code, "--data PATH" in nothing.stderr) == (2, True), nothing.stderr
    missing = run("train-draft", tiny, "--data", tmp_path / "no.txt", "--out", tmp_path / "out")
    assert (missing.exit_code, "no.txt does not exist" in missing.stderr) == (2, True), missing.stderr
