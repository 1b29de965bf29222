"""Results as plots, by matplotlib (the `train` extra), drawn without a display."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from famcli.errors import UsageError
from famcli.evaluation.positions import DocumentFigures
from famcli.evaluation.recall import CellScore

ENDINGS = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Raise UsageError now, before hours of reading, if the plot cannot be written at the end."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"plot {path}: the name must end in one of {', '.join(ENDINGS)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"plot {path}: there is no folder {path.parent}; make it first")
    if find_spec("matplotlib") is None:
        raise UsageError("plots need the package matplotlib; pip install 'famcli[train]'")


def plot_recall(cells: Sequence[CellScore], path: Path) -> None:
    """Share of right answers by length, a line for each task, model and memory mode, with 95 % intervals."""
    figure, axes = _figure(7, 4.5)
    lengths = sorted({cell.length for cell in cells})
    for name, members in _by_subject(cells, with_task=True).items():
        # By index, as lengths grow by factors.
        x = [lengths.index(cell.length) for cell in members]
        y = np.array([cell.share for cell in members])
        low, high = np.array([cell.interval for cell in members]).T
        axes.errorbar(x, y, yerr=np.clip([y - low, high - y], 0, None), marker="o", capsize=3, label=name)
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axes.set(xlabel="tokens read before the question", ylabel="share of answers right", ylim=(-0.03, 1.03))
    _save(figure, axes, path)


def plot_grid(cells: Sequence[CellScore], path: Path) -> None:
    """A heat map of length x depth for each model and memory mode."""
    subjects = _by_subject(cells, with_task=False)
    lengths = sorted({cell.length for cell in cells})
    depths = sorted({cell.depth for cell in cells if cell.depth is not None})
    figure, axes = _figure(1.5 + (1 + 0.8 * len(lengths)) * len(subjects), 1.5 + 0.45 * len(depths), len(subjects))
    for panel, (name, members) in zip(np.atleast_1d(axes), subjects.items(), strict=True):
        shares = np.full((len(depths), len(lengths)), np.nan)
        for cell in members:
            if cell.depth is not None:
                shares[depths.index(cell.depth), lengths.index(cell.length)] = cell.share
        panel.imshow(shares, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
        for row, column in np.argwhere(~np.isnan(shares)):
            panel.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center")
        panel.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths], rotation=30)
        panel.set_yticks(range(len(depths)), [f"{100 * depth:.0f} %" for depth in depths])
        panel.set(title=name, xlabel="tokens read", ylabel="depth")
    _save(figure, None, path)


def plot_positions(figures: DocumentFigures, path: Path) -> None:
    """Bits per byte by position, one line for each model and memory mode."""
    figure, axes = _figure(7, 4.5)
    for subject in figures.subjects:
        axes.plot(subject.by_position, marker="o", label=f"{subject.model}, memory {subject.memory_mode}")
    axes.set_xticks(range(len(figures.positions)), [f"{start:,}" for start in figures.positions], rotation=30)
    axes.set(xlabel="position in the document (first token of each bucket)", ylabel="bits per byte")
    _save(figure, axes, path)


def _by_subject(cells: Iterable[CellScore], *, with_task: bool) -> dict[str, list[CellScore]]:
    subjects: dict[str, list[CellScore]] = {}
    for cell in sorted(cells, key=lambda cell: cell.length):
        name = f"{cell.model}, memory {cell.memory_mode}"
        subjects.setdefault(f"{cell.task}: {name}" if with_task else name, []).append(cell)
    return subjects


def _figure(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    # Without pyplot, which needs a display and keeps global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, panels)


def _save(figure: Any, axes: Any, path: Path) -> None:
    if axes is not None:
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"plot {path}: cannot be written ({error.strerror}); choose another place") from error
