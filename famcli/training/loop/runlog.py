"""The log of a training run, read back: what `train-report` draws.

Lines of events that are not known, of keys that are missing, and the torn last line of a run that was killed are no
errors: logs of older and newer versions can be put side by side.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from famcli.errors import RecipeError

LOG_NAME = "log.jsonl"
Series = NDArray[np.float64]


@dataclass(frozen=True)
class RunLog:
    """One run's events by kind, as the log has them, each list in the order of its steps. label: what to call it."""

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
    """`value` as a float; NaN for what is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def read_run(path: Path) -> RunLog:
    """The log of a run folder, or a log file. Raises RecipeError when there is none, or no step in it."""
    log = path / LOG_NAME if path.is_dir() else path
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise RecipeError(f"{log}: no log of a run could be read there; give the folder of `famcli train`") from error
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
    """One event for each step, the last one written: a run that went on may have written a step twice."""
    latest = {event["step"]: event for event in events if isinstance(event.get("step"), int)}
    return [latest[step] for step in sorted(latest)]
