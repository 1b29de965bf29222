"""INT, TERM and HUP in every phase of every command: the right exit code, no "bug", what was promised is saved.

Two of three signals are sent before a line of famcli's code, each phase of a command having its share of them and each
line in it: what takes a thousandth of a second is then hit as often as what takes long. The others come at a random
moment, inside of whatever library runs then. What is saved is gone on with, and must end where a run without a signal
ends.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import famcli
from famcli.checkpoint.open import open_model
from famcli.documents.opening import open_source
from famcli.errors import FamcliError
from famcli.nn import FamConfig
from famcli.reading.memory_file import load_memory
from famcli.reading.reader import Reader
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.reading_cache import ReadingCache
from famcli.tasks.read import ReadConfig, read
from tests.faults.children import Child, Figures, command, run_command
from tests.faults.hub import fetching, serving
from tests.faults.kills import ADAPT_WORDS
from tests.faults.saves import FACT, QUESTION
from tests.helpers import make_random_checkpoint
from tests.reading.support import same_reading
from tests.tasks.support import prose
from tests.training.conftest import make_toy

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
_BAD = ("this is a bug", "Traceback", "Exception ignored", "Fatal Python error")
_TEXT_SENTENCES = 60
_ROOT = str(Path(famcli.__file__).parent) + os.sep
_PHASES = {
    "save": (
        *("documents/writing", "documents/locking", "reading/memory_file", "tasks/ask/reading_cache", "tasks/report"),
        *("checkpoint/save", "checkpoint/convert", "training/loop/run_folder", "training/data/corpus"),
    ),
    "index": ("tasks/ask/passage_index", "tasks/ask/asked_text", "tasks/ask/rereading", "text/"),
    "open": ("checkpoint/", "tokens/", "cli/work", "cli/options", "cli/main", "training/recipe"),
    "read": ("reading/", "nn/", "documents/", "training/", "tasks/read", "tasks/task", "evaluation/"),
    "write": ("cli/", "tasks/"),
}
"""Which files of famcli belong to a phase; the first that fits."""

Words = Callable[[Path], Sequence[object]]
After = Callable[[Path, "Hit"], str | None]
"""Checks what a command left, which was hit there, and gives what is to be counted."""


@dataclass(frozen=True)
class Hit:
    """Where a signal came. phase: "" at a moment. had_read: tokens were read by then. code, error: how it ended."""

    phase: str
    had_read: bool
    code: int
    error: str


@dataclass
class Command:
    """name: the command's. words: all of it, for a folder that it may write in; `run` may do it instead. after: what is
    promised.

    seconds, lines: how long it takes without a signal, and how often it comes to which line, by phase; measured once.
    """

    name: str
    words: Words
    after: After = lambda place, hit: None
    stdin: str = ""
    run: Callable[[Path], Callable[[], None]] | None = None
    seconds: float = 0.0
    lines: dict[str, dict[str, int]] = field(default_factory=dict)


def signals(size: int, seed: int, folder: Path) -> Figures:
    """`size` signals, divided over the commands, their phases, and the three signals."""
    figures, draw = Figures("signals"), random.Random(seed)
    with ExitStack() as stack:
        commands, environ = make_commands(folder, stack)
        for number in range(size):
            turn = seed * size + number
            one = commands[turn % len(commands)]
            signum = list(CODES)[(turn // len(commands) + turn) % 3]
            place = folder / f"signal-{number}"
            place.mkdir()
            figures.trials += 1
            try:
                _measure(one, folder, environ)
                _interrupt(one, signum, turn // len(commands), draw, place, environ, figures)
            except (AssertionError, TimeoutError, FamcliError, OSError) as error:
                figures.failures.append(f"{signum.name} {one.name}: {type(error).__name__}: {error}"[:500])
            shutil.rmtree(place)
    return figures


# ------------------------------------------------------------------------------------------------- commands

_MEASURED: dict[int, Command] = {}


def make_commands(folder: Path, stack: ExitStack) -> tuple[list[Command], dict[str, str]]:
    """The commands, and the environment that they need."""
    model = make_random_checkpoint(folder / "tiny", fam=FamConfig(block_size=128, memory_segments=1, fam_length=4))
    story, begin, memory, kept = (folder / name for name in ("story.txt", "begin.txt", "story.fam", "readings"))
    other = folder / "other.txt"
    other.write_text(prose(9, 2))
    text = prose(_TEXT_SENTENCES // 2) + FACT + prose(_TEXT_SENTENCES // 2, 1)
    story.write_text(text)
    begin.write_text(text)
    environ = {"FAMCLI_READINGS": str(kept), "FAMCLI_CACHE": str(folder / "hub"), "FAMCLI_THREADS": "1"}
    plain = make_random_checkpoint(folder / "plain", fam=None)
    (folder / "toy").mkdir()
    recipe = make_toy(folder / "toy")
    use = ["--model", model]
    first = folder / "first.fam"
    _run(["read", story, "--save", memory, *use], folder, environ)
    begin.write_text(text[:400])
    _run(["read", begin, "--save", first, *use], folder, environ)
    begin.write_text(text)
    adapt = ["adapt", plain, "--data", story, "--progress", "none", *ADAPT_WORDS]
    _run([*adapt, "--out", folder / "adapter", "--run", folder / "run"], folder, environ)
    _run(["train", recipe, "--run", folder / "whole", "--set", "schedule.steps=4"], folder, environ)
    address = stack.enter_context(serving(model))
    check = _Checks(model, story, first, folder, environ)
    ask_words = ["ask", QUESTION, "-f", story]
    html = ["--readings-limit", 0, "--html"]
    found = [
        Command("read", lambda place: ["read", story, "--save", place / "new.fam", *use], check.saved),
        Command(
            "read",
            lambda place: ["read", begin, "--save", _copy(first, place / "new.fam"), "--append", *use],
            check.saved,
        ),
        Command("read", lambda place: ["read", story, "--save", place / "new.fam", "--json", *use], check.saved),
        Command("read", lambda place: ["read", begin, other, "--save", place / "new.fam", *use], check.saved_two),
        Command("ask", lambda place: ["ask", QUESTION, "--load", memory, *use]),
        Command("ask", lambda place: [*ask_words, "--readings", place / "kept", *use], check.kept),
        Command("ask", lambda place: [*ask_words, *html, place / "p.html", *use], check.page),
        Command("chat", lambda place: ["chat", "--load", memory, *use], stdin=f"{QUESTION}\n/source\n"),
        Command(
            "chat",
            lambda place: ["chat", story, "--readings", place / "kept", *use],
            check.kept,
            stdin=f"{QUESTION}\n/save %s/notes.md\n",
        ),
        Command("summarize", lambda place: ["summarize", story, "--html", place / "p.html", *use], check.page),
        Command("ppl", lambda place: ["ppl", story, "--json", *use]),
        Command("quantize", lambda place: ["quantize", model, place / "made"], check.made),
        Command("merge", lambda place: ["merge", plain, folder / "adapter", place / "made"], check.made),
        Command(
            "enable", lambda place: ["enable", shutil.copytree(plain, place / "made", dirs_exist_ok=True)], check.opens
        ),
        Command(
            "train", lambda place: ["train", recipe, "--run", place / "run", "--set", "schedule.steps=4"], check.trained
        ),
        Command("adapt", lambda place: [*adapt, "--out", place / "made", "--run", place / "run"], check.adapted),
        Command("eval", lambda place: ["eval", "ppl", story, *use]),
        Command("inspect", lambda place: ["inspect", model]),
        Command(
            "readings",
            lambda place: [
                "readings",
                "--readings",
                shutil.copytree(kept, place / "kept", dirs_exist_ok=True),
                "--clear",
            ],
        ),
        Command("pull", lambda place: [], check.fetched, run=lambda place: fetching(address, place / "cache")),
    ]
    _run([*ask_words, *use], folder, environ)  # so that something is kept
    for number, one in enumerate(found):
        if number in _MEASURED:
            one.seconds, one.lines = _MEASURED[number].seconds, _MEASURED[number].lines
        _MEASURED[number] = one
    return found, environ


def _copy(source: Path, target: Path) -> Path:
    if not target.exists():
        shutil.copyfile(source, target)
    return target


def _run(words: Sequence[object], folder: Path, environ: Mapping[str, str]) -> str:
    code, _, error = run_command(words, folder, environ=environ)
    assert code == 0, f"{words}: {error}"
    return error


class _Checks:
    """What is promised of the commands that save something."""

    def __init__(self, model: Path, story: Path, first: Path, folder: Path, environ: Mapping[str, str]) -> None:
        self._model, self._story, self._first = open_model(model, dtype="float32"), story, first
        self._folder, self._environ = folder, environ
        self._unbroken = Reader(self._model)
        for _ in self._unbroken.read([open_source(story)]):
            pass
        self._answers = ask(self._model, QUESTION, [story]).answers

    def saved(self, place: Path, hit: Hit) -> str | None:
        """`read --save`: what was read is saved, and reading on from there is reading at once."""
        path = place / "new.fam"
        if "what was read is saved" in hit.error:
            assert path.exists(), "it says that it saved, and has not"
        if hit.had_read and hit.code:
            # Unless it had come to its end, and the result is being shown.
            assert "what was read is saved" in hit.error or path.exists(), "tokens were read and are not saved"
        if not path.exists():
            return None
        # Another name for the same text: what follows is what is not in the file yet.
        source = self._story if self._begins_with(path) else self._story.with_name("begin.txt")
        read(self._model, [source], ReadConfig(save=path, append=True))
        again = Reader(self._model, resume=load_memory(path, self._model))
        same_reading(again, self._unbroken)
        return "saved, and gone on with" if hit.code else None

    def saved_two(self, place: Path, hit: Hit) -> str | None:
        """So are several texts: what is given again goes on where it was."""
        path, texts = place / "new.fam", [self._story.with_name(name) for name in ("begin.txt", "other.txt")]
        assert path.exists() or not (hit.had_read and hit.code), "tokens were read and are not saved"
        if not path.exists():
            return None
        num_known = len(load_memory(path, self._model).sources)
        read(self._model, texts[num_known - 1 :], ReadConfig(save=path, append=True))
        unbroken = Reader(self._model)
        for _ in unbroken.read([open_source(text) for text in texts]):
            pass
        same_reading(Reader(self._model, resume=load_memory(path, self._model)), unbroken)
        return "saved, and gone on with" if hit.code else None

    def _begins_with(self, path: Path) -> bool:
        return str(self._story) == load_memory(path, self._model).sources[0].path

    def kept(self, place: Path, hit: Hit) -> str | None:
        """A kept reading costs no answer, whatever became of it."""
        result = ask(self._model, QUESTION, [self._story], cache=ReadingCache(place / "kept"))
        assert result.answers == self._answers, "another answer"
        assert not result.warnings, result.warnings
        return "kept all the same" if hit.code and result.cached else None

    def page(self, place: Path, hit: Hit) -> str | None:
        """A page is whole or not there."""
        path = place / "p.html"
        if not path.exists():
            return None
        assert path.read_text().rstrip().endswith("</html>"), "half a page"
        return "page written" if hit.code else None

    def made(self, place: Path, hit: Hit) -> str | None:
        """A new checkpoint is whole or not there."""
        if not (place / "made").exists():
            return None
        open_model(place / "made")
        return "made all the same" if hit.code else None

    def opens(self, place: Path, hit: Hit) -> str | None:
        """A checkpoint that is enabled is one with a memory or one without."""
        open_model(place / "made")
        return None

    def trained(self, place: Path, hit: Hit) -> str | None:
        """A run is saved from its first step on, and going on ends where an unbroken run ends."""
        saved = list((place / "run").glob("checkpoint-*"))
        assert "stopped and saved" not in hit.error or saved, "it says that it saved, and has not"
        words = ["train", self._folder / "toy" / "toy.toml", "--run", place / "run", "--set", "schedule.steps=4"]
        _run(words, place, self._environ)
        for path in (self._folder / "whole" / "export").glob("*.safetensors"):
            assert (place / "run" / "export" / path.name).read_bytes() == path.read_bytes(), f"another {path.name}"
        return "saved, and gone on with" if hit.code and saved else None

    def adapted(self, place: Path, hit: Hit) -> str | None:
        """So is that of an adapter; what is made of it is whole or not there."""
        saved = list((place / "run").glob("checkpoint-*"))
        assert "stopped and saved" not in hit.error or saved, "it says that it saved, and has not"
        whole = {path.name: path.read_bytes() for path in (self._folder / "adapter").glob("*.safetensors")}
        if not (place / "made").exists():
            words = ["adapt", self._folder / "plain", "--data", self._story, "--progress", "none", *ADAPT_WORDS]
            _run([*words, "--out", place / "made", "--run", place / "run"], place, self._environ)
        assert {path.name: path.read_bytes() for path in (place / "made").glob("*.safetensors")} == whole
        return "saved, and gone on with" if hit.code and saved else None

    def fetched(self, place: Path, hit: Hit) -> str | None:
        """What was fetched in part is fetched in full the next time."""
        return None


# ------------------------------------------------------------------------------------------------- one signal


def _work(one: Command, place: Path, environ: Mapping[str, str]) -> Callable[[], None]:
    if one.stdin:
        (place / "stdin").write_text(one.stdin.replace("%s", str(place)))
    return one.run(place) if one.run is not None else command(one.words(place), environ=environ)


def _measure(one: Command, folder: Path, environ: Mapping[str, str]) -> None:
    """How long the command takes without a signal, and which lines it runs, once."""
    if one.seconds:
        return
    for with_lines in (False, True)[: 1 + (one.run is None)]:
        place = folder / f"unbroken-{with_lines}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        work, began = _work(one, place, environ), time.monotonic()
        child = Child(_counting(work, place / "lines") if with_lines else work, place)
        code = child.wait()
        assert code == 0, f"{one.name}: {child.texts()[1]}"
        if with_lines:
            one.lines = json.loads((place / "lines").read_text())
        else:
            one.seconds = time.monotonic() - began
        shutil.rmtree(place)


def _interrupt(
    one: Command,
    signum: signal.Signals,
    turn: int,
    draw: random.Random,
    place: Path,
    environ: Mapping[str, str],
    figures: Figures,
) -> None:
    work, phases = _work(one, place, environ), sorted(one.lines)
    # Every third at a moment, the others in the phases by turns.
    phase = "" if turn % 3 == 0 or not phases else phases[(turn - turn // 3 - 1) % len(phases)]
    where = place / "where"
    if phase:
        line = draw.choice(sorted(one.lines[phase]))
        child = Child(_hit(work, line, draw.randrange(one.lines[phase][line]), signum, where), place)
        told = f"{phase}, before {line}"
    else:
        seconds = draw.uniform(0, one.seconds)
        child = Child(work, place)
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            child.send(signum)
        told = f"after {seconds:.3f} s"
    code, stderr = child.wait(60), child.texts()[1]
    had_read = False
    if where.exists():
        had_read = json.loads(where.read_text())
    assert not any(bad in stderr for bad in _BAD), f"{told}: {stderr[-300:]}"
    # A signal that comes before the command has begun ends it as the system does.
    assert code in (0, CODES[signum], -signum), f"{told}: exit code {code}: {stderr[-300:]}"
    figures.count("ended before" if code == 0 else f"exit {CODES[signum]}")
    figures.count(f"in {phase}" if phase else "at a moment")
    try:
        counted = one.after(place, Hit(phase, had_read, code, stderr))
        # A packed corpus may lie in a folder with a dot; what famcli has in the making ends in one of these.
        left = [
            path for path in place.rglob(".*") if path.suffix in (".tmp", ".old", ".lock") or path.name[:4] == ".tmp"
        ]
        assert not left or one.name == "pull", f"leftovers: {left}"
    except (AssertionError, FamcliError, OSError) as error:
        raise AssertionError(f"{told}: {type(error).__name__}: {error}; {stderr[-200:]}") from error
    if counted:
        figures.count(counted)


# ------------------------------------------------------------------------------------------------- before a line

_phase_of_file: dict[str, str | None] = {}


def _phase(file: str) -> str | None:
    """The phase that a file's code belongs to; None for what is not famcli's."""
    if file not in _phase_of_file:
        name = file.removeprefix(_ROOT) if file.startswith(_ROOT) else ""
        fitting = [phase for phase, files in _PHASES.items() if name and name.startswith(files)]
        _phase_of_file[file] = fitting[0] if fitting else None
    return _phase_of_file[file]


def _counting(work: Callable[[], None], counts: Path) -> Callable[[], None]:
    """`work`, which notes at its end how often it came to each line, by phase."""
    found = Counter[tuple[str, int]]()

    def trace(frame: FrameType, event: str, value: object) -> Any:
        file = frame.f_code.co_filename
        if _phase(file) is None:
            return None
        if event == "line":
            found[file, frame.f_lineno] += 1
        return trace

    def run() -> None:
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(None)
            lines: dict[str, dict[str, int]] = {}
            for (file, line), count in found.items():
                lines.setdefault(str(_phase(file)), {})[f"{file.removeprefix(_ROOT)}:{line}"] = count
            counts.write_text(json.dumps(lines))

    return run


def _hit(work: Callable[[], None], line: str, number: int, signum: signal.Signals, where: Path) -> Callable[[], None]:
    """`work`, to which the signal comes at a line for the `number`th time; `where` says if tokens were read then."""
    left, had_read = number, False
    name, _, wanted_line = line.partition(":")
    wanted, wanted_number = _ROOT + name, int(wanted_line)

    def trace(frame: FrameType, event: str, value: object) -> Any:
        nonlocal left, had_read
        file = frame.f_code.co_filename
        if _phase(file) is None:
            return None
        had_read = had_read or (event == "return" and frame.f_code.co_name == "_read_call" and bool(value))
        if event == "line" and frame.f_lineno == wanted_number and file == wanted:
            left -= 1
            if left < 0:
                sys.settrace(None)
                where.write_text(json.dumps(had_read))
                os.kill(os.getpid(), signum)
        return trace

    def run() -> None:
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(None)

    return run
