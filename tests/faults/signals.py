"""INT, TERM and HUP at random moments of every command: the right exit code, no "bug", what was promised is saved."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from famcli.errors import FamcliError
from famcli.nn import FamConfig
from famcli.reading.memory_file import inspect_memory_file
from tests.faults.children import Child, Figures, command, run_command
from tests.faults.kills import FACT, QUESTION
from tests.helpers import make_random_checkpoint
from tests.tasks.support import prose
from tests.training.conftest import make_toy

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
_BAD = ("this is a bug", "Traceback", "Exception ignored", "Fatal Python error")
_TEXT_SENTENCES = 60
_LASTS: list[float] = []  # seconds that each command takes without a signal, measured once


def signals(size: int, seed: int, folder: Path) -> Figures:
    """`size` signals, divided over the commands, each one of the three at a random moment of the command."""
    figures, draw = Figures("signals"), random.Random(seed)
    commands = make_commands(folder)
    if not _LASTS:
        _LASTS.extend(_seconds(words, folder, environ) for words, environ in commands)
    for number in range(size):
        words, environ = commands[number % len(commands)]
        signum = draw.choice(list(CODES))
        place = folder / f"signal-{number}"
        place.mkdir()
        figures.trials += 1
        try:
            _interrupt(words(place), signum, draw.uniform(0, _LASTS[number % len(commands)]), place, environ, figures)
        except (AssertionError, TimeoutError, FamcliError) as error:
            figures.failures.append(f"{signum.name} {words(place)[0]}: {type(error).__name__}: {error}"[:400])
        shutil.rmtree(place)
    return figures


Words = Callable[[Path], Sequence[object]]


def make_commands(folder: Path) -> list[tuple[Words, dict[str, str]]]:
    """Commands as functions of the folder that they may write in, and what they need of the environment."""
    model = make_random_checkpoint(folder / "tiny", fam=FamConfig(block_size=128, memory_segments=1, fam_length=4))
    story, memory, kept = folder / "story.txt", folder / "story.fam", folder / "readings"
    story.write_text(prose(_TEXT_SENTENCES // 2) + FACT + prose(_TEXT_SENTENCES // 2, 1))
    environ = {"FAMCLI_READINGS": str(kept), "FAMCLI_CACHE": str(folder / "hub"), "FAMCLI_THREADS": "1"}
    plain = make_random_checkpoint(folder / "plain", fam=None)
    (folder / "toy").mkdir()
    recipe = make_toy(folder / "toy")
    code, _, error = run_command(["read", story, "--save", memory, "--model", model], folder, environ=environ)
    assert code == 0, error
    use = ["--model", model]
    found: list[Words] = [
        lambda place: ["read", story, "--save", place / "new.fam", *use],
        lambda place: ["read", story, "--save", place / "new.fam", "--progress", "json", *use],
        lambda place: ["ask", QUESTION, "--load", memory, *use],
        lambda place: ["ask", QUESTION, "--file", story, "--readings", place / "kept", *use],
        lambda place: [
            "ask",
            QUESTION,
            "-f",
            story,
            "--readings-limit",
            0,
            "--html",
            place / "p.html",
            *use,
        ],
        lambda place: ["chat", "--load", memory, *use],
        lambda place: ["chat", story, "--readings", place / "kept", *use],
        lambda place: ["summarize", story, "--html", place / "page.html", *use],
        lambda place: ["ppl", story, "--json", *use],
        lambda place: ["quantize", model, place / "small"],
        lambda place: ["train", recipe, "--run", place / "run", "--set", "schedule.steps=12"],
        lambda place: ["enable", shutil.copytree(plain, place / "plain", dirs_exist_ok=True)],
        lambda place: ["eval", "ppl", story, "--model", model],
        lambda place: ["inspect", model],
        lambda place: ["readings"],
    ]
    return [(words, environ) for words in found]


def _seconds(words: Words, folder: Path, environ: dict[str, str]) -> float:
    """How long the command takes without a signal."""
    place = folder / "unbroken"
    place.mkdir()
    began = time.monotonic()
    code, _, error = run_command(words(place), place, environ=environ)
    assert code == 0, f"{words(place)}: {error}"
    seconds = time.monotonic() - began
    shutil.rmtree(place)
    return seconds


def _interrupt(
    words: Sequence[object],
    signum: signal.Signals,
    seconds: float,
    place: Path,
    environ: dict[str, str],
    figures: Figures,
) -> None:
    child = Child(command(words, environ=environ), place)
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        child.send(signum)
    code = child.wait(60)
    _, stderr = child.texts()
    assert not any(bad in stderr for bad in _BAD), f"after {seconds:.3f} s: {stderr[-300:]}"
    # A signal that comes before the command has begun ends it as the system does.
    assert code in (0, CODES[signum], -signum), f"exit code {code} after {seconds:.3f} s: {stderr[-300:]}"
    figures.count("ended before" if code == 0 else f"exit {CODES[signum]}")
    saved = place / "new.fam"
    if "what was read is saved" in stderr:
        assert saved.exists(), "it says that it saved, and has not"
        figures.count("saved, as promised")
    elif words[0] == "read" and code > 0:
        # Nothing was read yet: a text that has begun must be saved.
        assert '"num_tokens": 1' not in stderr, "tokens were read and are not saved"
    if saved.exists():
        inspect_memory_file(saved)
    # A packed corpus may lie in a folder with a dot; what famcli has in the making ends in one of these.
    left = [path for path in place.rglob(".*") if path.suffix in (".tmp", ".old", ".lock")]
    assert not left or code < 0, f"leftovers: {left}"
