"""Running the command line in process and as a real process, with nothing of the user's own settings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from famcli.cli import main

Run = Callable[..., Result]
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("FAMCLI_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FAMCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FAMCLI_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def run() -> Run:
    """Run a command line in process: run("ppl", path, input="...") -> typer.testing.Result."""

    def invoke(*arguments: object, input: str | bytes | None = None) -> Result:
        return CliRunner().invoke(main.app, [str(argument) for argument in arguments], input=input, prog_name="famcli")

    return invoke


@pytest.fixture
def spawn() -> Spawn:
    """Start a command line as a process of its own, with pipes unless told otherwise."""

    def start(*arguments: object, **settings: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "famcli", *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # a test runner started in the background ignores SIGINT, and would pass that on
        return subprocess.Popen(command, text=True, preexec_fn=_heed_interrupts, **(pipes | settings))

    return start


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
