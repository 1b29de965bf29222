"""The logs of training runs as plots and one page: `python -m tools.train_report RUN...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from famcli.cli.main import make_app


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
    from dataclasses import asdict

    from famcli.cli.render import Output, plural
    from tools.training_page import write_report

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
