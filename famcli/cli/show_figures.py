"""How the figures of `famcli eval` look as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from famcli.cli.render import aligned, describe_seconds
from famcli.cli.work import Work
from famcli.plain import plural

if TYPE_CHECKING:
    from famcli.evaluation.positions import DocumentFigures
    from famcli.evaluation.recall import CellScore

_HEADER = ["task", "model", "memory", "tokens", "blocks", "right", "share", "95 % interval", "over streams"]


def show_recall(work: Work, cells: Sequence[CellScore], values: dict[str, Any]) -> None:
    """Print the result of passkey, needle or babi (its values as --json has them) as text."""
    if values["benchmark"] == "needle":
        _grids(work, cells)
    else:
        rows = [_HEADER]
        for cell in cells:
            names = [cell.task, cell.model, cell.memory_mode, f"{cell.length:,}", f"{cell.blocks:,}"]
            right = [f"{cell.right:,} of {cell.total:,}", f"{100 * cell.share:.1f} %"]
            rows.append([*names, *right, _interval(cell.interval), _interval(cell.stream_interval)])
        table(work, rows)
    read = f"Read {plural(values['tokens'], 'token')} in {describe_seconds(values['seconds'])}."
    _end(work, values, read, "all streams were read")


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:.1f} - {100 * interval[1]:.1f} %"


def _end(work: Work, values: dict[str, Any], read: str, end: str) -> None:
    """The last lines of a result: what its figures mean, and what was read for them."""
    if not work.notes.quiet:
        work.output.paragraph(values["definition"], "dim")
    work.end_text(read, values["partial"], end)


def show_positions(work: Work, figures: DocumentFigures, values: dict[str, Any]) -> None:
    """Print the result of ppl (its values as --json has them) as text."""
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
    counts = ((figures.documents, "document"), (figures.bytes, "byte"), (figures.tokens, "token"))
    read = f"Scored {', '.join(plural(*count) for count in counts)} in {describe_seconds(values['seconds'])}."
    _end(work, values, read, "all documents were scored")


def table(work: Work, rows: Sequence[Sequence[str]], words: int = 3) -> None:
    """Print rows with aligned columns, the first row as a heading; the first `words` columns hold words.

    Columns that are empty below their heading are left out.
    """
    heading = [name if any(row[i] for row in rows[1:]) else "" for i, name in enumerate(rows[0])]
    for number, line in enumerate(aligned([heading, *rows[1:]], words)):
        work.output.line(line, "bold" if not number else "")


def _grids(work: Work, cells: Sequence[CellScore]) -> None:
    """One grid of depth by length for each model and memory mode, shaded by the share of right answers."""
    subjects: dict[str, list[CellScore]] = {}
    for cell in cells:
        subjects.setdefault(f"{cell.model}, memory {cell.memory_mode}", []).append(cell)
    for name, members in subjects.items():
        lengths = sorted({cell.length for cell in members})
        depths = sorted({cell.depth for cell in members if cell.depth is not None})
        shares = {(cell.depth, cell.length): cell.share for cell in members}
        work.output.line(f"{name}: share of answers right, by depth and tokens read", "bold")
        width = max(9, *(len(f"{length:,}") + 2 for length in lengths))
        work.output.line(" " * 7 + "".join(f"{length:,}".rjust(width) for length in lengths))
        for depth in depths:
            # A reading that was interrupted leaves holes in the grid.
            row = [shares.get((depth, length)) for length in lengths]
            texts = ["" if share is None else f"{100 * share:.1f} %" for share in row]
            shaded = [(text.rjust(width), share) for text, share in zip(texts, row, strict=True)]
            work.output.shaded([(f"{100 * depth:5.0f} %", None), *shaded])
        counts = sorted({cell.total for cell in members})
        questions = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        work.output.line(f"Questions a cell: {questions}; --json has their intervals.", "dim")
