"""Reports on runs: numbers are the log's, every plot with data is there, and the page carries them inside itself."""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from famcli.errors import RecipeError
from tools import training_plots as figures
from tools.train_report import write_report
from tools.training_plots import PLOTS, read_run, read_runs

PNG = b"\x89PNG\r\n\x1a\n"


def _step(step: int, **more: Any) -> dict[str, Any]:
    values = {"loss": 5.0 - step / 10, "bits_per_byte": 2.0, "tokens": 1000 * step, "tokens_per_second": 500.0 + step}
    others = {"lr": 0.003, "grad_norm": 1.0, "memory_rms": [1.0, step], "seconds": 2.0 * step, "num_skipped": 1}
    return {"event": "StepDone", "step": step} | values | others | more


def _check(step: int, on: float, frozen: float) -> dict[str, Any]:
    by_position = {"on": [on, on - 0.1], "frozen": [on, frozen - 0.1]}
    bits = {"on": on, "frozen": frozen}
    return {"event": "CheckDone", "step": step, "bits_per_byte": bits, "positions": [0, 64], "by_position": by_position}


def _passkey(step: int, *right: int) -> dict[str, Any]:
    counts = {"on": list(right), "frozen": [0] * len(right)}
    return {"event": "PasskeyDone", "step": step, "distances": [64, 256], "total": 20, "right": counts}


def _objectives(right: float | None) -> dict[str, Any]:
    text = {"text_loss": 3.0, "answer_loss": None, "answers_right": None}
    return {"books": text, "facts": {"text_loss": 2.0, "answer_loss": 1.0, "answers_right": right}}


EVENTS = [
    {"event": "RunStarted", "name": "toy", "num_parameters": 1234, "step": 0},
    *(_step(step, by_objective=_objectives(None if step == 2 else 0.1 * step)) for step in range(1, 7)),
    _check(3, 2.0, 2.0),
    _check(6, 1.5, 1.75),
    _passkey(3, 10, 0),
    _passkey(6, 20, 5),
    {"event": "SomethingNew", "step": 6},
    {"event": "RunEnded", "step": 6, "finished": True},
]


def _write(folder: Path, events: list[dict[str, Any]], tail: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return _write(tmp_path / "toy", EVENTS, tail='{"event": "StepDone", "ste')


def test_a_report_has_every_plot_and_the_page_carries_them(run: Path) -> None:
    report = write_report([run])
    assert [path.stem for path in report.figures] == [name for name, _, _ in PLOTS]
    assert report.page == run / "report" / "report.html"
    page = report.page.read_text()
    carried = [base64.b64decode(data) for data in re.findall(r"base64,([\w+/=]+)", page)]
    assert carried == [path.read_bytes() for path in report.figures]
    assert all(image.startswith(PNG) for image in carried)
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_numbers_are_those_of_the_log(run: Path) -> None:
    (summary,) = write_report([run]).runs
    assert (summary.steps, summary.tokens, summary.num_parameters, summary.num_skipped) == (6, 6000, 1234, 1)
    assert (summary.bits_per_byte, summary.finished) == ({"on": 1.5, "frozen": 1.75}, True)
    assert summary.loss == pytest.approx(4.4)
    assert summary.tokens_per_second == 503.5
    assert summary.peak_share is None


def test_lines_hold_what_the_log_says(run: Path) -> None:
    log = read_run(run)
    (axes,) = figures.memory_gain([log]).axes
    assert [tuple(point) for point in axes.lines[0].get_xydata()] == [(0.003, 0.0), (0.006, 0.25)]
    (axes,) = figures.passkey([log]).axes
    on = axes.containers[0].lines[0]
    assert [tuple(point) for point in on.get_xydata()] == [(64, 1.0), (256, 0.25)]
    (axes,) = figures.passkey_over_time([log]).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.5, 1.0], [0.0, 0.25]]
    (axes,) = figures.objective_right([log]).axes
    assert len(axes.lines) == 1  # books has no answers
    assert list(axes.lines[0].get_ydata()) == pytest.approx([0.1, 0.3, 0.4, 0.5, 0.6])
    (axes,) = figures.memory_rms([log]).axes
    assert list(axes.lines[1].get_ydata()) == [1, 2, 3, 4, 5, 6]


def test_several_runs_share_the_axes(run: Path, tmp_path: Path) -> None:
    other = _write(tmp_path / "other", [_step(1), _step(2)])
    report = write_report([run, other], tmp_path / "out")
    assert [summary.label for summary in report.runs] == ["toy", "other"]
    assert [summary.finished for summary in report.runs] == [True, False]
    (axes,) = figures.loss(read_runs([run, other])).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["toy", "other"]
    assert "other (not finished)" in report.page.read_text()


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [_write(tmp_path / part / "run", [_step(1)]) for part in "ab"]
    assert [log.label for log in read_runs(paths)] == [str(path) for path in paths]


def test_a_log_with_little_in_it_gives_a_small_report(tmp_path: Path) -> None:
    steps = [
        {"event": "StepDone", "step": step, "loss": 3.0, "tokens": step, "tokens_per_second": 1.0} for step in (1, 2)
    ]
    folder = _write(tmp_path / "bare", steps)
    (folder / "report").mkdir()
    (folder / "report" / "passkey.png").write_bytes(b"of an earlier report")
    report = write_report([folder])
    names = [path.stem for path in report.figures]
    assert "loss" in names
    assert not {"passkey", "memory_gain", "by_position", "memory_rms", "objective_text"} & set(names)
    assert not (folder / "report" / "passkey.png").exists()


def test_losses_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    folder = _write(tmp_path / "nan", [_step(1), _step(2, loss=math.nan, grad_norm=math.inf), _step(3)])
    assert len(write_report([folder]).figures) > 3


def test_a_step_written_twice_counts_once(tmp_path: Path) -> None:
    log = read_run(_write(tmp_path / "twice", [_step(1), _step(2), _step(2, loss=1.0), _step(3)]))
    assert list(log.column("loss")) == [4.9, 1.0, 4.7]


def test_smoothing_is_a_running_mean_that_skips_gaps() -> None:
    values = np.arange(1000.0)
    values[500] = np.nan
    smooth = figures._smooth(values)
    assert smooth[100] == 100
    assert smooth[0] == np.arange(6).mean()
    assert smooth[500] == 500


def test_titles_are_made_harmless(tmp_path: Path) -> None:
    page = write_report([_write(tmp_path / "a<script>b", [_step(1)])]).page.read_text()
    assert "<script>" not in page


@pytest.mark.parametrize("content", [None, b"", b'{"event": "RunStarted"}\n', b"no json\n[1]\n", b"\xff\xfe\0"])
def test_a_folder_without_a_run_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "log.jsonl").write_bytes(content)
    with pytest.raises(RecipeError, match=r"log\.jsonl: no ") as caught:
        write_report([tmp_path])
    assert "\n" not in str(caught.value)
