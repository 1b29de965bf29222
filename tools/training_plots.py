"""The logs of training runs, read back, and their plots: each is a function from runs to a matplotlib figure, or None.

Plots are drawn without a display and without pyplot's global state. Several runs share the axes, one colour each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from famcli.errors import RecipeError
from famcli.evaluation.intervals import wilson
from famcli.training.loop.run_folder import LOG_NAME

Series = NDArray[np.float64]
_MODE_STYLES = {"on": "-", "frozen": "--", "none": ":"}
_SIZE, _DPI = (8.0, 4.2), 110
_SMOOTHED_POINTS = 100


@dataclass(frozen=True)
class RunLog:
    """The events of one run by kind, as the log has them, each list in the order of steps. label: the run's name."""

    label: str
    path: Path
    started: dict[str, Any]
    steps: list[dict[str, Any]]
    checks: list[dict[str, Any]]
    passkeys: list[dict[str, Any]]
    ended: dict[str, Any] | None

    def column(self, key: str) -> Series:
        """`key` of every step, [steps]; NaN where a step has no such number."""
        return np.array([number(step.get(key)) for step in self.steps])

    def objective_names(self) -> list[str]:
        """The objectives that any step counts, in the order in which they appear."""
        return list(dict.fromkeys(name for step in self.steps for name in step.get("by_objective") or {}))

    def objective(self, name: str, key: str) -> Series:
        """`key` of objective `name` at every step, [steps]; NaN where nothing was counted."""
        return np.array([number(((step.get("by_objective") or {}).get(name) or {}).get(key)) for step in self.steps])

    def memory_rms(self) -> Series:
        """Root mean square of the carried memory, [steps, layers]; no layer without a memory."""
        rows = [step.get("memory_rms") or () for step in self.steps]
        width = max((len(row) for row in rows), default=0)
        return np.array([[number(value) for value in row] if len(row) == width else [math.nan] * width for row in rows])

    def tokens_at(self, step: float) -> float:
        """Tokens predicted when `step` was done."""
        if not self.steps:
            return 0.0
        return float(np.interp(step, self.column("step"), self.column("tokens")))


def number(value: object) -> float:
    """`value` as a float; NaN if it is not a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def read_run(path: Path) -> RunLog:
    """The log of a run folder, or a log file. Raises RecipeError if there is none, or no step in it.

    Unknown events, missing keys, and the torn last line of a run that was killed are not errors, so that logs of older
    and newer versions can be drawn together.
    """
    log = path / LOG_NAME if path.is_dir() else path
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise RecipeError(f"{log}: no log of a run could be read there; give the folder of a run") from error
    events: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict):
            events.setdefault(str(event.get("event")), []).append(event)
    steps = _by_step(events.get("StepDone", []))
    if not steps:
        raise RecipeError(f"{log}: no finished step in it, so there is nothing to draw; train first")
    return RunLog(
        label=log.resolve().parent.name if log.name == LOG_NAME else log.stem,
        path=log,
        started=events.get("RunStarted", [{}])[0],
        steps=steps,
        checks=_by_step(events.get("CheckDone", [])),
        passkeys=_by_step(events.get("PasskeyDone", [])),
        ended=events.get("RunEnded", [None])[-1],
    )


def read_runs(paths: list[Path]) -> list[RunLog]:
    """Several logs, each with a label of its own. Raises RecipeError."""
    runs = [read_run(path) for path in paths]
    labels = [run.label for run in runs]
    if len(set(labels)) == len(labels):
        return runs
    return [RunLog(**(vars(run) | {"label": str(path)})) for run, path in zip(runs, paths, strict=True)]


def _by_step(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One event for each step, the last one written: a run that was continued may have written a step twice."""
    latest = {event["step"]: event for event in events if isinstance(event.get("step"), int)}
    return [latest[step] for step in sorted(latest)]


Runs = Sequence[RunLog]
Plot = Callable[[Runs], Any]


def loss(runs: Runs) -> Any:
    """Training loss in nats per token, smoothed over the raw line."""
    return _over_tokens(runs, "loss", "nats per token")


def gradient_norm(runs: Runs) -> Any:
    """The gradient's norm before clipping."""
    return _over_tokens(runs, "grad_norm", "gradient norm", logarithmic=True)


def learning_rate(runs: Runs) -> Any:
    """The rate of the matrices."""
    return _over_tokens(runs, "lr", "learning rate")


def tokens_per_second(runs: Runs) -> Any:
    """Speed of each step."""
    return _over_tokens(runs, "tokens_per_second", "tokens per second")


def bits_per_byte(runs: Runs) -> Any:
    """Bits per byte of the training text (faint) and of the validation documents, memory on and frozen."""
    figure, axes = _axes("tokens (millions)", "bits per byte")
    for run, colour in _coloured(runs):
        axes.plot(_millions(run), _smooth(run.column("bits_per_byte")), color=colour, alpha=0.35, linewidth=1)
        modes = sorted({mode for check in run.checks for mode in check["bits_per_byte"]}, reverse=True)
        for mode in modes:
            points = [
                (run.tokens_at(check["step"]) / 1e6, number(check["bits_per_byte"].get(mode))) for check in run.checks
            ]
            style = _MODE_STYLES.get(mode, "-.")
            axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=f"{run.label}, memory {mode}")
        if not modes:
            axes.plot([], [], color=colour, label=f"{run.label}, training text")
    _limit_to_late(axes, runs)
    return _finished(figure, axes)


def by_position(runs: Runs) -> Any:
    """Bits per byte of the last check by position in the document, memory on and frozen."""
    checked = [(run, colour) for run, colour in _coloured(runs) if run.checks]
    if not checked:
        return None
    figure, axes = _axes("position in the document (tokens)", "bits per byte")
    for run, colour in checked:
        check = run.checks[-1]
        for mode, values in check["by_position"].items():
            style = _MODE_STYLES.get(mode, "-.")
            axes.plot(
                _places(check["positions"]),
                values,
                style,
                color=colour,
                marker=".",
                label=f"{run.label}, memory {mode}",
            )
    positions = max((run.checks[-1]["positions"] for run, _ in checked), key=len)
    axes.set_xscale("log", base=2)
    axes.set_xticks(_places(positions), [f"{position:,}+" for position in positions], rotation=30, fontsize=8)
    return _finished(figure, axes)


def memory_gain(runs: Runs) -> Any:
    """What the memory is worth at each check: bits per byte with it frozen less those with it on."""
    figure, axes = _axes("tokens (millions)", "bits per byte, frozen - on")
    drawn = False
    for run, colour in _coloured(runs):
        pairs = [check for check in run.checks if {"on", "frozen"} <= set(check["bits_per_byte"])]
        if pairs:
            gains = [number(check["bits_per_byte"]["frozen"]) - number(check["bits_per_byte"]["on"]) for check in pairs]
            tokens = [run.tokens_at(check["step"]) / 1e6 for check in pairs]
            axes.plot(tokens, gains, color=colour, marker=".", label=run.label)
            drawn = True
    axes.axhline(0, color="grey", linewidth=0.8)
    return _finished(figure, axes) if drawn else None


def passkey(runs: Runs) -> Any:
    """Share of pass keys recalled at the last check by distance, with Wilson's 95 % intervals."""
    figure, axes = _axes("distance from key to question (tokens)", "share recalled")
    drawn = False
    for run, colour in _coloured(runs):
        for mode, counts in (run.passkeys[-1]["right"] if run.passkeys else {}).items():
            last = run.passkeys[-1]
            shares = np.array(counts) / last["total"]
            low, high = np.array([wilson(count, last["total"]) for count in counts]).T
            bars = np.maximum([shares - low, high - shares], 0)
            style = _MODE_STYLES.get(mode, "-.")
            axes.errorbar(
                last["distances"], shares, bars, color=colour, linestyle=style, marker=".", capsize=3,
                label=f"{run.label}, memory {mode}",
            )  # fmt: skip
            drawn = True
    distances = sorted({distance for run in runs if run.passkeys for distance in run.passkeys[-1]["distances"]})
    axes.set_xscale("log", base=2)
    axes.set_xticks(distances, [f"{distance:,}" for distance in distances], rotation=30, fontsize=8)
    axes.set_ylim(-0.03, 1.03)
    return _finished(figure, axes) if drawn else None


def passkey_over_time(runs: Runs) -> Any:
    """Share of pass keys recalled with the memory on, by distance, at every check."""
    figure, axes = _axes("tokens (millions)", "share recalled, memory on")
    drawn = False
    for run, colour in _coloured(runs):
        found = [event for event in run.passkeys if "on" in event["right"]]
        distances = found[-1]["distances"] if found else []
        for place, distance in enumerate(distances):
            same = [event for event in found if event["distances"] == distances]
            shares = [event["right"]["on"][place] / event["total"] for event in same]
            tokens = [run.tokens_at(event["step"]) / 1e6 for event in same]
            fade = 1.0 - 0.7 * place / max(len(distances) - 1, 1)
            label = f"{run.label}, {distance:,} tokens"
            axes.plot(tokens, shares, color=colour, alpha=fade, marker=".", label=label)
            drawn = True
    axes.set_ylim(-0.03, 1.03)
    return _finished(figure, axes) if drawn else None


def objective_text(runs: Runs) -> Any:
    """Loss on ordinary tokens, by objective."""
    return _by_objective(runs, "text_loss", "nats per token of text")


def objective_answers(runs: Runs) -> Any:
    """Loss on the tokens of answers, by objective."""
    return _by_objective(runs, "answer_loss", "nats per token of answers")


def objective_right(runs: Runs) -> Any:
    """Share of whole answers predicted right, by objective."""
    return _by_objective(runs, "answers_right", "share of answers right", limits=(-0.03, 1.03))


def memory_rms(runs: Runs) -> Any:
    """Root mean square of the carried memory, one line for each layer (darker: higher up)."""
    runs = [run for run in runs if run.memory_rms().shape[1]]
    if not runs:
        return None
    figure = _figure((_SIZE[0], 1.2 + 2.6 * len(runs)))
    for place, run in enumerate(runs):
        axes = figure.add_subplot(len(runs), 1, place + 1)
        values = run.memory_rms()
        for layer in range(values.shape[1]):
            shade = 0.25 + 0.75 * (layer + 1) / values.shape[1]
            colour = f"C{place % 10}"
            axes.plot(_millions(run), _smooth(values[:, layer]), color=colour, alpha=shade, label=f"layer {layer}")
        axes.set(xlabel="tokens (millions)", ylabel=f"{run.label}: memory RMS", yscale="log")
        _legend(axes)
    return figure


# In the order of the page: name of the file, title, plot.
PLOTS: tuple[tuple[str, str, Plot], ...] = (
    ("loss", "Training loss", loss),
    ("bits_per_byte", "Bits per byte", bits_per_byte),
    ("by_position", "Bits per byte by position, last check", by_position),
    ("memory_gain", "What the memory is worth", memory_gain),
    ("passkey", "Pass keys by distance, last check", passkey),
    ("passkey_over_time", "Pass keys during the run", passkey_over_time),
    ("objective_right", "Answers right by objective", objective_right),
    ("objective_answers", "Loss on answers by objective", objective_answers),
    ("objective_text", "Loss on text by objective", objective_text),
    ("memory_rms", "Size of the memory by layer", memory_rms),
    ("gradient_norm", "Gradient norm", gradient_norm),
    ("learning_rate", "Learning rate", learning_rate),
    ("tokens_per_second", "Speed", tokens_per_second),
)


def _over_tokens(runs: Runs, key: str, label: str, *, logarithmic: bool = False) -> Any:
    figure, axes = _axes("tokens (millions)", label)
    drawn = False
    for run, colour in _coloured(runs):
        values = run.column(key)
        if np.isfinite(values).any():
            axes.plot(_millions(run), values, color=colour, alpha=0.2, linewidth=0.6)
            axes.plot(_millions(run), _smooth(values), color=colour, label=run.label)
            drawn = True
    if logarithmic:
        axes.set_yscale("log")
    return _finished(figure, axes) if drawn else None


def _by_objective(runs: Runs, key: str, label: str, limits: tuple[float, float] | None = None) -> Any:
    figure, axes = _axes("tokens (millions)", label)
    several, line = len(runs) > 1, 0
    for run in runs:
        for name in run.objective_names():
            values = run.objective(name, key)
            counted = np.isfinite(values)
            if counted.any():
                text = f"{run.label}: {name}" if several else name
                axes.plot(_millions(run)[counted], _smooth(values[counted]), color=f"C{line % 10}", label=text)
                line += 1
    if limits:
        axes.set_ylim(*limits)
    return _finished(figure, axes) if line else None


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RecipeError("plots need the package matplotlib; pip install 'famcli[train]'") from error
    return Figure(figsize=size, dpi=_DPI, layout="constrained")


def _axes(x_label: str, y_label: str) -> tuple[Any, Any]:
    figure = _figure(_SIZE)
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    return figure, axes


def _finished(figure: Any, axes: Any) -> Any:
    _legend(axes)
    return figure


def _legend(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def _coloured(runs: Runs) -> Iterator[tuple[RunLog, str]]:
    for place, run in enumerate(runs):
        yield run, f"C{place % 10}"


def _millions(run: RunLog) -> Series:
    return run.column("tokens") / 1e6


def _places(positions: Sequence[int]) -> list[float]:
    """Where buckets that start at `positions` (0, C, 2C, 4C, ...) stand on a logarithmic axis: 0 at C / 2."""
    return [
        float(position) if position else 0.5 * (positions[1] if len(positions) > 1 else 2) for position in positions
    ]


def _limit_to_late(axes: Any, runs: Runs) -> None:
    """Leave the first fall of the loss out of the frame: what is compared lies below it."""
    late = [value for run in runs for value in _smooth(run.column("bits_per_byte"))[len(run.steps) // 10 :]]
    late += [number(value) for run in runs for check in run.checks for value in check["bits_per_byte"].values()]
    finite = np.array([value for value in late if np.isfinite(value)])
    if len(finite) > 1 and finite.max() > finite.min():
        room = 0.05 * (finite.max() - finite.min())
        axes.set_ylim(finite.min() - room, finite.max() + room)


def _smooth(values: Series) -> Series:
    """A running mean over a hundredth of the steps (a window that shrinks at both ends); NaN counts for nothing."""
    half = len(values) // (2 * _SMOOTHED_POINTS)
    known = np.isfinite(values)
    sums = np.concatenate(([0.0], np.cumsum(np.where(known, values, 0.0))))
    counts = np.concatenate(([0], np.cumsum(known)))
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    number_of = counts[high] - counts[low]
    smoothed: Series = np.where(number_of > 0, (sums[high] - sums[low]) / np.maximum(number_of, 1), np.nan)
    return smoothed
