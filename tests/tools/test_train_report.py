"""`tools.train_report`: from logs to files, in one line or one JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    steps = [
        {"event": "StepDone", "step": step, "loss": 3.0, "tokens": step, "tokens_per_second": 1.0} for step in (1, 2)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return tmp_path


def test_it_says_where_the_page_is(run, folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0
    assert result.stdout == f"{folder / 'report' / 'report.html'}: 3 plots of 1 run.\n"
    assert (folder / "report" / "loss.png").exists()


def test_json_names_files_and_numbers(run, folder: Path, tmp_path: Path) -> None:
    written = json.loads(run(folder / "log.jsonl", "--out", tmp_path / "out", "--json").stdout)
    assert Path(written["page"]) == tmp_path / "out" / "report.html"
    assert all(Path(path).exists() for path in written["figures"])
    assert (written["runs"][0]["steps"], written["runs"][0]["loss"]) == (2, 3.0)


def test_a_folder_without_a_log_is_one_line(run, tmp_path: Path) -> None:
    result = run(tmp_path / "none")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "none: no log of a run" in result.stderr
