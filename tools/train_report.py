"""The logs of training runs as plots and one page: `python -m tools.train_report RUN...`.

Every plot is written as a PNG, and one HTML page carries them all inside itself.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from famcli.cli.failures import guarded
from famcli.cli.main import make_app
from famcli.cli.render import Output
from famcli.errors import RecipeError
from famcli.plain import plural
from tools.training_plots import PLOTS, RunLog, number, read_runs

PAGE_NAME = "report.html"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .8rem; border-bottom: 1px solid #ddd }
td { text-align: right } td:first-child, th:first-child { text-align: left } img { max-width: 100% }
h2 { margin-top: 2.5rem; font-size: 1.1rem } p { color: #555; margin: .2rem 0 }
"""


@dataclass(frozen=True)
class RunSummary:
    """A run's last numbers; None for what its log does not have.

    tokens_per_second and peak_share (share of the machine's matrix-product rate) are medians over the steps;
    bits_per_byte is that of the last check, by memory mode.
    """

    label: str
    num_parameters: int | None
    steps: int
    tokens: int
    seconds: float
    loss: float
    bits_per_byte: dict[str, float]
    tokens_per_second: float
    peak_share: float | None
    num_skipped: int
    finished: bool


@dataclass(frozen=True)
class TrainReport:
    """What was written."""

    page: Path
    figures: tuple[Path, ...]
    runs: tuple[RunSummary, ...]


def write_report(runs: Sequence[Path], folder: Path | None = None) -> TrainReport:
    """Draw the runs (their folders, or log files) into `folder`; `report` in the first run's folder if not given.

    Plots that no run has numbers for are left out, and older ones of them removed. Raises RecipeError when a run has no
    log, when matplotlib is not there, or when writing fails.
    """
    logs = read_runs(list(runs))
    target = folder or logs[0].path.parent / "report"
    images: list[tuple[str, str, str, bytes]] = []
    for name, title, plot in PLOTS:
        figure = plot(logs)
        if figure is not None:
            content = io.BytesIO()
            figure.savefig(content, format="png")
            images.append((name, title, (plot.__doc__ or "").strip(), content.getvalue()))
    summaries = tuple(summarize_run(log) for log in logs)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, _, _ in PLOTS:
            (target / f"{name}.png").unlink(missing_ok=True)
        for name, _, _, image in images:
            (target / f"{name}.png").write_bytes(image)
        (target / PAGE_NAME).write_text(_page(summaries, images), encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"{target}: the report could not be written ({error.strerror}); choose another folder"
        ) from error
    return TrainReport(target / PAGE_NAME, tuple(target / f"{name}.png" for name, *_ in images), summaries)


def summarize_run(run: RunLog) -> RunSummary:
    """The numbers at the end of a run's log."""
    last, peaks = run.steps[-1], run.column("peak_share")
    tail = run.column("loss")[-max(1, len(run.steps) // 50) :]
    parameters = run.started.get("num_parameters")
    return RunSummary(
        label=run.label,
        num_parameters=parameters if isinstance(parameters, int) else None,
        steps=int(last["step"]),
        tokens=int(number(last.get("tokens", 0))),
        seconds=number(last.get("seconds")),
        loss=float(np.mean(tail)),
        bits_per_byte={
            mode: number(value) for mode, value in (run.checks[-1]["bits_per_byte"] if run.checks else {}).items()
        },
        tokens_per_second=float(np.nanmedian(run.column("tokens_per_second"))),
        peak_share=float(np.nanmedian(peaks)) if np.isfinite(peaks).any() else None,
        num_skipped=int(last.get("num_skipped") or 0),
        finished=bool(run.ended and run.ended.get("finished")),
    )


def _page(runs: Sequence[RunSummary], images: Sequence[tuple[str, str, str, bytes]]) -> str:
    title = html.escape("Training: " + ", ".join(run.label for run in runs))
    parts = [
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n<style>{_STYLE}</style>',
        f"<h1>{title}</h1>",
        _table(runs),
        "<p>Lines are running means over a hundredth of the steps. The loss is the mean of the last fiftieth.</p>",
    ]
    for name, heading, explanation, image in images:
        data = base64.b64encode(image).decode()
        text = html.escape(heading)
        parts.append(f'<h2 id="{name}">{text}</h2>\n<p>{html.escape(explanation)}</p>')
        parts.append(f'<img alt="{text}" src="data:image/png;base64,{data}">')
    return "\n".join(parts) + "\n</html>\n"


def _table(runs: Sequence[RunSummary]) -> str:
    header = (
        "run",
        "parameters",
        "steps",
        "tokens",
        "time",
        "loss",
        "bits/byte on",
        "frozen",
        "tokens/s",
        "peak",
        "skipped",
    )
    rows = [
        (
            run.label + ("" if run.finished else " (not finished)"),
            "" if run.num_parameters is None else f"{run.num_parameters:,}",
            f"{run.steps:,}",
            f"{run.tokens:,}",
            _minutes(run.seconds),
            f"{run.loss:.4f}",
            _decimals(run.bits_per_byte.get("on")),
            _decimals(run.bits_per_byte.get("frozen")),
            f"{run.tokens_per_second:,.0f}",
            "" if run.peak_share is None else f"{100 * run.peak_share:.0f} %",
            f"{run.num_skipped:,}",
        )
        for run in runs
    ]
    lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    names = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    return "<table>\n" + "\n".join(f"<tr>{line}</tr>" for line in (names, *lines)) + "\n</table>"


def _decimals(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def _minutes(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds / 60:,.1f} min"


def train_report(
    *,
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders of `famcli train`, or log files; drawn together."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where to write. Default: `report` in the first run's folder."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was written, and each run's last numbers.")] = False,
) -> None:
    """Turn the logs of training runs into plots.

    PNG files, and one HTML page that has them all inside: loss, bits per byte with the memory on and frozen, by
    position too, passkeys by distance, answers by objective, the size of the memory, gradient norm, rate and speed;
    what no log has numbers for is left out. Runs that still go on can be drawn too.
    """
    # An app of one command has no group that would turn errors into one line.
    with guarded():
        written = write_report(runs, out)
    if json:
        Output().json(
            {
                "page": str(written.page),
                "figures": [str(path) for path in written.figures],
                "runs": [asdict(run) for run in written.runs],
            }
        )
        return
    Output().line(f"{written.page}: {plural(len(written.figures), 'plot')} of {plural(len(written.runs), 'run')}.")


app = make_app({"train-report": train_report})

if __name__ == "__main__":
    app(prog_name="train-report")
