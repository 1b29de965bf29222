"""What the commands of `famcli eval` share: their options, and what is said in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from famcli.cli.options import CompareMode
from famcli.cli.work import Work
from famcli.errors import UsageError

if TYPE_CHECKING:
    from famcli.checkpoint.model import Model
    from famcli.nn import MemoryMode

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([km]?)", re.IGNORECASE)
# Powers of two, as context lengths are: blocks of 1,024 tokens fit evenly.
_UNITS = {"": 1, "k": 1024, "m": 1024**2}

LengthsOption = Annotated[
    str, typer.Option("--lengths", metavar="N,...", help="Tokens before the question; k is 1,024, M is 1,048,576.")
]


TwinOption = Annotated[
    str | None,
    typer.Option(
        "--twin",
        metavar="PATH|NAME",
        help="A second checkpoint to compare with; same tokenizer.",
        rich_help_panel="Control",
    ),
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw the result: .png, .svg or .pdf.", rich_help_panel="Control"),
]


@dataclass(frozen=True)
class StreamOptions:
    """The streams that sentences are hidden in."""

    PANEL: ClassVar = "Streams"

    streams: Annotated[int, typer.Option("--streams", min=1, help="Streams at each length (and of each task).")] = 20
    filler: Annotated[
        list[Path] | None,
        typer.Option(
            "--filler",
            metavar="FILE",
            help="Texts, or .jsonl(.zst) of documents, to hide sentences in; repeatable. Default: the novel that comes "
            "with famcli (examples/).",
        ),
    ] = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws facts, places and filler.")] = 0
    batch: Annotated[int, typer.Option("--batch", min=1, help="Streams that are read side by side.")] = 16


def parse_lengths(text: str) -> list[int]:
    """`4k,1.5M,300` as numbers of tokens. Raises UsageError."""
    found = []
    for word in text.split(","):
        match = _LENGTH.fullmatch(word.strip())
        if match is None:
            raise UsageError(f"'{word.strip()}' is no length: give tokens like 4096, 4k (4,096) or 1M (1,048,576)")
        found.append(round(float(match[1]) * _UNITS[match[2].lower()]))
    return found


def parse_shares(text: str, option: str) -> list[float]:
    """`0,0.5,1` as shares of a stream. Raises UsageError."""
    try:
        shares = [float(word) for word in text.split(",")]
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share <= 1 for share in shares):
        raise UsageError(f"{option} {text}: give shares of the stream from 0 (its start) to 1 (its end)")
    return shares


def modes_of(model: Model, wanted: CompareMode | None) -> tuple[MemoryMode, ...]:
    """The memory modes to read with; a checkpoint without memory rows has one."""
    if not model.sidecar.fam.fam_length:
        return ("none",)
    mode = wanted or model.default_memory_mode
    return ("on", "frozen") if mode == "compare" else (mode,)


def open_models(work: Work, twin: str | None, plot: Path | None) -> list[Model]:
    """The checkpoint and its twin, if there is one. Raises UsageError where their tokenizers differ.

    plot: a file to draw to, which must have an ending that can be drawn.
    """
    if plot is not None:
        from famcli.evaluation.plots import check_plot

        check_plot(plot)
    models = [work.open_model()]
    if twin is not None:
        # The second one has a bar of its own, which names what is loaded.
        work.progress.close()
        models.append(work.open_model(machine=replace(work.machine, model=twin, adapter=None)))
        if models[0].fingerprints.tokenizer != models[1].fingerprints.tokenizer:
            raise UsageError(f"--twin {twin} has another tokenizer than {models[0].name}: they read other tokens")
    return models


def check_files(paths: Sequence[Path]) -> None:
    """Raise UsageError unless all of them are files."""
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path} is no file; give text files, or .jsonl(.zst) files of documents")
