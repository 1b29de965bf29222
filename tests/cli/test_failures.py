"""Whatever a command raises becomes one line and an exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from famcli.errors import DocumentError, UsageError

ONE_LINE = [
    (DocumentError("book.txt: no such file"), 1, "famcli: book.txt: no such file\n"),
    (UsageError("--a and --b exclude each other"), 2, "famcli: --a and --b exclude each other\n"),
    (DocumentError("two\nlines"), 1, "famcli: two lines\n"),
    (
        OSError(errno.ENOSPC, "No space left on device", "out.fam"),
        1,
        "famcli: out.fam: no space left on device; free some space or write elsewhere\n",
    ),
    (PermissionError(errno.EACCES, "Permission denied", "x"), 1, "famcli: x: permission denied\n"),
    (KeyError("k"), 1, "famcli: this is a bug: KeyError: 'k'; `famcli --debug ...` shows where\n"),
    (BrokenPipeError(), 141, ""),
    (KeyboardInterrupt(), 130, ""),
]


@pytest.mark.parametrize(("error", "code", "line"), ONE_LINE, ids=lambda value: type(value).__name__)
def test_one_line_and_exit_code(run, fake_command: Callable, error: BaseException, code: int, line: str) -> None:
    def fake() -> None:
        """A command for tests."""
        raise error

    fake_command(fake)
    result = run("fake")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", line)


def test_debug_shows_the_traceback(run, fake_command: Callable) -> None:
    def fake() -> None:
        """A command for tests."""
        raise KeyError("k")

    fake_command(fake)
    result = run("--debug", "fake")
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("this is a bug: KeyError: 'k'; `famcli --debug ...` shows where\n")


def test_what_was_printed_before_a_failure_stays(run, fake_command: Callable) -> None:
    def fake() -> None:
        """A command for tests."""
        print("half")
        raise DocumentError("gone")

    fake_command(fake)
    result = run("fake")
    assert (result.stdout, result.stderr, result.exit_code) == ("half\n", "famcli: gone\n", 1)


def test_warnings_of_libraries_reach_tests_but_not_users(spawn) -> None:
    with pytest.raises(DeprecationWarning), warnings.catch_warnings():
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    code = "import warnings, famcli.cli.main as m; m.app = lambda **_: warnings.warn('old'); m.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_help_to_a_closed_pipe_is_silent(spawn) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = spawn("ppl", "--help", stdout=write_end)
    os.close(write_end)
    assert process.communicate(timeout=60)[1] == ""


@pytest.mark.parametrize("command", [["ppl"], []])
def test_help_to_a_full_disk_is_one_line(spawn, command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        process = spawn(*command, "--help", stdout=full)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert stderr == "famcli: no space left on device; free some space or write elsewhere\n"


def test_a_full_disk_is_said_to_be_that_of_standard_output(spawn, tiny: Path, story: Path, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        process = spawn("quantize", tiny, tmp_path / "small", stdout=full)
    assert process.communicate(timeout=60)[1] == (
        "famcli: standard output cannot be written: no space left on device; what was done until then stays; free some "
        "space or write elsewhere\n"
    )
    assert process.returncode == 1
    assert (tmp_path / "small" / "model.safetensors").exists()


def test_a_signal_inside_of_executed_code_ends_with_its_own_code(tmp_path: Path) -> None:
    code = """
import sys
import famcli.checkpoint.locate as locate
from famcli.cli.failures import interrupts_raise
from famcli.__main__ import main
def listed(environ):
    interrupts_raise()
    exec("import os, signal; os.kill(os.getpid(), signal.SIGTERM); str()")
locate.list_models = listed
sys.argv = ["famcli", "models"]
main()
"""
    (tmp_path / "interrupted.py").write_text(code)
    environ = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    # As a module, which is how `python -m famcli` runs.
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (143, "")
