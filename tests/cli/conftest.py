"""Running the command line in process and as a real process, with nothing of the user's own settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from famcli.cli import main
from famcli.nn import FamConfig
from tests.helpers import make_random_checkpoint

Run = Callable[..., Result]
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("FAMCLI_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FAMCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FAMCLI_READINGS", str(tmp_path / "readings"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    monkeypatch.setenv("FAMCLI_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint that reads bytes in blocks of 128."""
    fam = FamConfig(block_size=128, memory_segments=1, fam_length=4)
    return make_random_checkpoint(tmp_path_factory.mktemp("models") / "tiny", fam=fam)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A small text with a few dozen sentences, one paragraph a line."""
    names = ["Anna", "Bert", "Cora", "Dirk", "Elsa", "Fred"]
    places = ["the harbour", "a mill by the river", "the old library", "an orchard", "the night train"]
    lines = [
        f"{name} went to {place} in the {season}. Nobody knew why {name} had taken the {thing} along."
        for season, thing in (("spring", "silver key"), ("autumn", "green umbrella"))
        for name in names
        for place in places
    ]
    lines.insert(30, "The keeper Ottilie hid the treasure map under a red stone near the lighthouse.")
    path = tmp_path / "story.txt"
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run() -> Run:
    """Run a command line in process: run("ppl", path, input="...") -> typer.testing.Result."""

    def invoke(*arguments: object, input: str | bytes | None = None) -> Result:
        return run_app(main.app, *arguments, input=input)

    return invoke


def run_app(app: typer.Typer, *arguments: object, input: str | bytes | None = None) -> Result:
    """Run the command line of any app in process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=input, prog_name="famcli")


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start a command line as a process of its own, with pipes unless told otherwise."""
    with ExitStack() as processes:

        def start(*arguments: object, **settings: Any) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "famcli", *map(str, arguments)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            # a test runner started in the background ignores SIGINT, and would pass that on
            process = subprocess.Popen(command, text=True, preexec_fn=_heed_interrupts, **(pipes | settings))
            processes.enter_context(process)
            processes.callback(process.kill)
            return process

        yield start


@pytest.fixture
def until_tokens_are_read() -> Callable[..., None]:
    """until_tokens_are_read(process, more): give more text until progress (json, on stderr) counts tokens, or bytes."""

    def wait(
        process: subprocess.Popen[str], more: Callable[[], None], tokens: bool = True, seconds: float = 60
    ) -> None:
        counted, stop = threading.Event(), time.monotonic() + seconds

        def listen() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("{") and json.loads(line)["num_tokens" if tokens else "num_bytes"]:
                    counted.set()
                    return

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        while not counted.is_set():
            assert time.monotonic() < stop, "no tokens were read"
            more()
            counted.wait(0.3)
        listener.join()

    return wait


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def fake_command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Register a function as the command `fake`."""

    def register(function: Callable[..., None]) -> None:
        module = types.ModuleType("famcli.cli.fake")
        module.fake = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "famcli.cli.fake", module)
        monkeypatch.setitem(main.COMMANDS, "fake", "A command for tests.")

    return register
