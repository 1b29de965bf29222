"""`famcli train`: a checkpoint from a recipe."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli.failures import INTERRUPTS, interrupted_code, interrupts_raise, remember_interrupt
from famcli.cli.options import ReportOptions, RunOptions
from famcli.cli.progress import print_progress
from famcli.cli.render import Bar, Notes, Output, describe_bytes, describe_seconds
from famcli.interrupts import interrupt
from famcli.plain import plural

if TYPE_CHECKING:
    from famcli.training.loop.run_folder import FitDone, StepDone, TrainEvent
    from famcli.training.recipe.recipe import Recipe

# A step of a small model takes milliseconds: nobody reads, and no log should hold, a line for each.
_SECONDS_BETWEEN = 0.5


def train(
    *,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file; docs/training.md explains its keys.")],
    options: RunOptions,
    report: ReportOptions,
) -> None:
    """Train a checkpoint from a recipe.

    A run that was stopped, by Ctrl-C or by force, goes on from its last training checkpoint when the same command is
    given again. Ctrl-C ends the step, saves and stops; a second one stops at once. The log of the run is log.jsonl in
    its folder, the finished checkpoint is exported to the folder's `export`. Under torchrun, as in `torchrun
    --nproc-per-node 2 -m -- famcli train RECIPE`, the lanes are divided over the processes.
    """
    from famcli.training.recipe.recipe import load_recipe

    options.check()
    loaded = load_recipe(recipe, options.settings or [])
    folder = options.run or Path("runs") / loaded.name
    if options.dry_run:
        show_estimate(loaded, folder, options.as_json)
        return
    again = shlex.join(["famcli", "train", str(recipe), "--run", str(folder)])
    follow(loaded, folder, report, options.jsonl, f"{again}, and the same --set")


def follow(
    recipe: Recipe,
    folder: Path,
    report: ReportOptions,
    jsonl: bool,
    again: str,
    shown: Path | None = None,
    on_start: Callable[[], object] = lambda: None,
) -> Path:
    """Run a recipe and show how it goes; the folder that it was exported to. again: how to go on if it is stopped.

    shown: where the result will be found, if that is not the folder it is exported to. on_start: called, in the first
    process, once the run has begun or gone on.
    """
    from famcli.training.loop.processes import is_first_process

    # Under torchrun all processes run the same command, and one of them speaks.
    if not is_first_process():
        report, jsonl = replace(report, quiet=True, progress="none"), False
    with closing(Watch(report, recipe.name, jsonl)) as watch:
        from famcli.training.loop.run_folder import RunStarted
        from famcli.training.loop.train import train as train_recipe

        def show(event: TrainEvent) -> None:
            if isinstance(event, RunStarted):
                on_start()
                if recipe.schedule.steps and event.step > recipe.schedule.steps:
                    Notes(report.quiet).warn(
                        f"the run has made {event.step:,} steps, more than its budget of {recipe.schedule.steps:,}: it "
                        "is exported as it is, before its learning rate fell"
                    )
            watch.event(event)

        interrupts_raise()
        ended = train_recipe(recipe, folder, show, lambda: watch.stop)
    times = f" ({ended.tokens / watch.corpus_tokens:,.2f} times all there are)" if watch.corpus_tokens else ""
    done = f"{plural(ended.step, 'step')}, {plural(ended.tokens, 'token')}{times} in {describe_seconds(ended.seconds)}"
    if not ended.finished:
        Notes(report.quiet).note(f"stopped and saved after {done}; go on with: {again}")
        raise typer.Exit(interrupted_code())
    assert ended.exported is not None
    if not jsonl and is_first_process():
        Output().line(f"{shown or ended.exported}: trained {done}.")
    return ended.exported


class Watch:
    """Shows a run's events, and stops it after a step when Ctrl-C or SIGTERM asks for that."""

    def __init__(self, report: ReportOptions, name: str, jsonl: bool) -> None:
        self._notes, self._name, self._mode = Notes(report.quiet), name, report.progress_mode
        self._output = Output() if jsonl else None
        self._bar = Bar(sys.stderr) if self._mode == "bar" else None
        self._last_shown, self._old_handlers = 0.0, dict[signal.Signals, Any]()
        self.corpus_tokens = 0
        # True if Ctrl-C or SIGTERM came since the first step began.
        self.stop = False
        self.show({"stage": f"loading {name}"}, 0, None, always=True)

    def close(self) -> None:
        """Take the bar away, and let signals do what they did before."""
        for signum, handler in self._old_handlers.items():
            signal.signal(signum, handler)
        if self._bar is not None:
            self._bar.close()

    def catch_signals(self) -> None:
        """From now on they end a step: before the first one there is nothing to save, and they end the run at once."""
        self._old_handlers = {signum: signal.signal(signum, self._interrupt) for signum in INTERRUPTS}

    def event(self, event: TrainEvent) -> None:
        from famcli.training.data.corpus import PackProgress
        from famcli.training.loop.run_folder import FitDone, RunStarted, ScoreProgress, StepDone, to_json

        if self._output is not None:
            self._output.json(to_json(event))
        if isinstance(event, PackProgress):
            self.show({"stage": f"tokenizing {event.corpus}"}, event.done, event.total)
        elif isinstance(event, ScoreProgress):
            stage = f"scoring held-out documents, memory {event.memory_mode}"
            self.show({"stage": stage}, event.done, event.total, always=True)
        elif isinstance(event, StepDone | FitDone):
            self._step(event)
        elif isinstance(event, RunStarted):
            self.catch_signals()
            self.corpus_tokens = sum(event.corpus_tokens.values())
        for line in _describe(event):
            self._notes.note(line)

    def _step(self, event: StepDone | FitDone) -> None:
        left = event.seconds * (1 - event.progress) / event.progress if event.progress else None
        numbers, speed = f"step {event.step:,}  ", f"{event.tokens_per_second:,.0f} tokens/s"
        names: tuple[str, ...] = ("step", "unexplained", "tokens_per_second", "seconds")
        if hasattr(event, "unexplained"):
            numbers += f"{event.unexplained:.1%} unexplained  {speed}"
        else:
            numbers += f"loss {event.loss:.3f}  {event.bits_per_byte:.3f} bits/byte  {speed}  "
            numbers += f"{event.peak_share:.0%} of peak"
            names = ("step", "loss", "bits_per_byte", "tokens_per_second", "peak_share", "seconds")
        numbers += "" if left is None else f"  ETA {describe_seconds(left)}"
        values = {name: getattr(event, name) for name in names}
        self.show({"stage": f"training {self._name}", **values, "eta_seconds": left}, event.progress, 1.0, numbers)

    def show(
        self, values: dict[str, Any], done: float, total: float | None, numbers: str = "", always: bool = False
    ) -> None:
        """A line of progress, unless one was shown just now. values: of the JSON form, their `stage` for both."""
        now = time.monotonic()
        if not always and now - self._last_shown < _SECONDS_BETWEEN:
            return
        self._last_shown = now
        if self._bar is not None:
            self._bar.show(str(values["stage"]), done, total, numbers)
        elif self._mode == "json":
            print_progress({**values, "share": done / total if total else None}, sys.stderr)

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        remember_interrupt(signum)
        # SIGTERM may come twice from one shutdown; only somebody at the keyboard asks for a stop at once.
        if self.stop and signum == signal.SIGINT:
            interrupt()
        self.stop = True
        self._notes.note("stopping after this step; Ctrl-C again stops at once, back to the last saved step")


def _describe(event: TrainEvent) -> Iterator[str]:
    """The lines that are said of an event on stderr, if there are any."""
    from famcli.training.data.corpus import EncodingGuessed
    from famcli.training.loop.run_folder import CheckDone, PasskeyDone, RunStarted, StepSkipped, TurnsChecked

    match event:
        case EncodingGuessed():
            guessed = f"{plural(event.num_files, 'file')} not in UTF-8, read as {' or '.join(event.encodings)}"
            yield f"warning: {event.corpus}: {guessed}, which is a guess; convert to UTF-8 if it is wrong"
        case RunStarted():
            changed = "" if event.num_trained == event.num_parameters else f" ({event.num_trained:,} are trained)"
            yield (
                f"{event.name}: {event.num_parameters:,} parameters{changed}, "
                f"{sum(event.corpus_tokens.values()):,} tokens to train on, {event.tokens_per_step:,} a step, "
                f"from step {event.step:,}"
            )
        case StepSkipped():
            yield f"warning: step {event.step + 1:,} was not finite and was left out ({event.num_skipped} so far)"
        case CheckDone():
            figures = ", ".join(f"{value:.4f} with memory {mode}" for mode, value in event.bits_per_byte.items())
            yield f"step {event.step:,}: validation bits per byte {figures}"
        case TurnsChecked():
            refused = f"refusals {event.refusal_recall:.0%} found, {event.refusal_precision:.0%} right"
            yield f"step {event.step:,}: F1 {event.f1:.3f} over {event.questions} questions, {refused}"
        case PasskeyDone():
            for mode, right in event.right.items():
                figures = ", ".join(f"{n} at {d:,}" for n, d in zip(right, event.distances, strict=True))
                yield f"step {event.step:,}: passkeys of {event.total} with memory {mode}: {figures}"


def show_estimate(recipe: Recipe, run_folder: Path, as_json: bool, goes_to: str | None = None) -> None:
    """Measure, and print on stdout. goes_to: where what is made will be copied to, in words."""
    from famcli.training.estimate import estimate, expected_vocab_size

    found, output = estimate(recipe, expected_vocab_size(recipe)), Output()
    if as_json:
        output.json({"run": str(run_folder), "estimate": found, "recipe": asdict(recipe)})
        return
    limit = "" if found.steps == recipe.schedule.steps else " (the minutes end it)"
    distance = f"{found.training_distance:,} tokens from a key to its question" if found.training_distance else "none"
    made = "adapter" if recipe.trains_updates else "checkpoint"
    stored = "float32" if recipe.trains_updates else recipe.export.storage
    trained = "" if found.trained == found.parameters else f", of which {found.trained:,} are trained"
    total = found.fixed_bytes + found.step_bytes
    # Windows has no sysconf; there nothing is said of the machine.
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else total
    too_much = f"; more than the {describe_bytes(there)} of this machine" if total > there else ""
    facts = {
        "recipe": f"{recipe.name}, {recipe.path}",
        "run": str(run_folder),
        "parameters": f"{found.parameters:,}{trained}",
        "steps": f"{found.steps:,} of about {found.tokens_per_step:,.0f} tokens{limit}",
        "tokens": f"{found.tokens:,}",
        "distance": distance,
        "operations": f"{found.flops_per_token:.3g} a token, {found.flops_per_token * found.tokens:.3g} in all",
        "memory": f"{describe_bytes(total)}: {describe_bytes(found.fixed_bytes)} weights and optimiser, "
        f"{describe_bytes(found.step_bytes)} the longest step{too_much}",
        "speed": f"{found.tokens_per_second:,.0f} tokens/s, {found.peak_share:.0%} of this machine's peak",
        "time": f"{describe_seconds(found.seconds)}, checks not counted",
        "disk": f"{describe_bytes(found.export_bytes)} the {made} in {stored}; while training "
        f"{describe_bytes(found.checkpoint_bytes)}, twice that for a moment",
        "measured": found.measured,
    }
    output.facts([*facts.items(), *([] if goes_to is None else [(made, goes_to)])])
