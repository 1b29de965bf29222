"""How the results of `famcli eval` look: tables, and a heat map for the grid of needles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from famcli.cli.render import describe_seconds, plural
from famcli.cli.work import Work
from famcli.plain import to_json

if TYPE_CHECKING:
    from famcli.evaluation.positions import DocumentFigures
    from famcli.evaluation.trials import CellScore


def show_cells(work: Work, cells: Sequence[CellScore]) -> None:
    """Print what one reading came to, where every event is asked for."""
    if work.form == "jsonl":
        for cell in cells:
            work.output.json({"event": "cell", **to_json(cell)})


def show_recall(work: Work, values: dict[str, Any], cells: Sequence[CellScore]) -> None:
    """Print the result of passkey, needle or babi (its values as --json has them) in the form that was asked for."""
    if work.form != "text":
        if work.form == "jsonl":
            values = {"event": "result"} | {key: value for key, value in values.items() if key != "cells"}
        work.output.json(values)
        return
    work.make_room()
    if values["benchmark"] == "needle":
        _grids(work, cells)
    else:
        table(work, [_HEADER, *(_row(cell) for cell in cells)])
    if not work.notes.quiet:
        work.output.paragraph(values["definition"], "dim")
    work.output.line(f"Read {plural(values['tokens'], 'token')} in {describe_seconds(values['seconds'])}.", "dim")
    if values["partial"]:
        work.output.line("Partial: interrupted before all streams were read.", "yellow")


def show_positions(work: Work, files: Sequence[Path], figures: DocumentFigures, seconds: float) -> None:
    """Print the result of ppl in the form that was asked for."""
    from famcli.evaluation.positions import POSITION_DEFINITION

    if work.form != "text":
        values = {"benchmark": "ppl", "files": list(map(str, files)), **to_json(figures), "seconds": seconds}
        values |= {"definition": POSITION_DEFINITION, "partial": work.interrupted}
        work.output.json(({"event": "result"} if work.form == "jsonl" else {}) | values)
        return
    work.make_room()
    header = ["model", "memory", "bits/byte", "perplexity", "accuracy"]
    rows = [
        [s.model, s.memory_mode, f"{s.bits_per_byte:.4f}", f"{s.perplexity:.3f}", f"{100 * s.accuracy:.2f} %"]
        for s in figures.subjects
    ]
    table(work, [header, *rows])
    work.output.line()
    work.output.line("bits/byte by position", "bold")
    header = ["from token", *(f"{s.model}, {s.memory_mode}" for s in figures.subjects)]
    rows = [
        [f"{start:,}", *(f"{s.by_position[bucket]:.4f}" for s in figures.subjects)]
        for bucket, start in enumerate(figures.positions)
    ]
    table(work, [header, *rows], words=0)
    first = figures.subjects[0]
    for gap in figures.differences:
        name = f"{gap.other} ({gap.other_mode}) minus {first.model} ({first.memory_mode})"
        if gap.mean is None or gap.interval is None:
            work.output.line(f"{name}: too few documents reach past token {gap.from_position:,}.")
            continue
        work.output.line(
            f"{name}, from token {gap.from_position:,}: {gap.mean:+.5f} \u00b1 {gap.standard_error:.5f} bits/byte "
            f"({gap.interval[0]:+.5f} to {gap.interval[1]:+.5f}) over {plural(gap.documents, 'document')}"
        )
    if not work.notes.quiet:
        work.output.paragraph(POSITION_DEFINITION, "dim")
    read = (
        f"{plural(figures.documents, 'document')}, {plural(figures.bytes, 'byte')}, {plural(figures.tokens, 'token')}"
    )
    work.output.line(f"Scored {read} in {describe_seconds(seconds)}.", "dim")
    if work.interrupted:
        work.output.line("Partial: interrupted before all documents were scored.", "yellow")


_HEADER = ["task", "model", "memory", "tokens", "blocks", "right", "share", "95 % interval", "over streams"]


def _row(cell: CellScore) -> list[str]:
    return [
        cell.task,
        cell.model,
        cell.memory_mode,
        f"{cell.length:,}",
        f"{cell.blocks:,}",
        f"{cell.right:,} of {cell.total:,}",
        _percent(cell.share),
        _interval(cell.interval),
        _interval(cell.stream_interval),
    ]


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:.1f} - {100 * interval[1]:.1f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def table(work: Work, rows: Sequence[Sequence[str]], words: int = 3) -> None:
    """Rows with aligned columns, the first one as a heading; the first `words` columns hold words. Empty columns are
    left out."""
    keep = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in keep]
    for number, row in enumerate(rows):
        cells = [
            row[i].ljust(width) if i < words else row[i].rjust(width) for i, width in zip(keep, widths, strict=True)
        ]
        work.output.line("  ".join(cells).rstrip(), "bold" if not number else "")


def _grids(work: Work, cells: Sequence[CellScore]) -> None:
    """One grid of depth by length for each model and memory mode, shaded by the share of right answers."""
    for name in dict.fromkeys(f"{cell.model}, memory {cell.memory_mode}" for cell in cells):
        members = [cell for cell in cells if f"{cell.model}, memory {cell.memory_mode}" == name]
        lengths = sorted({cell.length for cell in members})
        depths = sorted({cell.depth for cell in members if cell.depth is not None})
        found = {(cell.depth, cell.length): cell for cell in members}
        work.output.line(f"{name}: share of answers right, by depth and tokens read", "bold")
        width = max(9, *(len(f"{length:,}") + 2 for length in lengths))
        work.output.line(" " * 7 + "".join(f"{length:,}".rjust(width) for length in lengths))
        for depth in depths:
            line: list[tuple[str, float | None]] = [(f"{100 * depth:5.0f} %", None)]
            for length in lengths:
                cell = found.get((depth, length))
                line.append(
                    ("".rjust(width), None) if cell is None else (_percent(cell.share).rjust(width), cell.share)
                )
            work.output.shaded(line)
        counts = sorted({cell.total for cell in members})
        questions = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        work.output.line(f"Questions a cell: {questions}; --json has their intervals.", "dim")
