"""What happens before a network runs: cheap checks come first, little is imported, and Ctrl-C is silent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import _heed_interrupts
from tests.cli.test_start import run_and_list_heavy
from tests.helpers import make_random_checkpoint

STARTED = "import sys, famcli.cli.main as m; print('started', file=sys.stderr, flush=True); m.main()"


@pytest.fixture(scope="module")
def saved(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory file of the tiny checkpoint."""
    from typer.testing import CliRunner

    from famcli.cli import main

    path = tmp_path_factory.mktemp("memory") / "story.fam"
    arguments = ["read", "--save", str(path), "--model", str(tiny), "--json"]
    assert CliRunner().invoke(main.app, arguments, input="A story. " * 40).exit_code == 0
    return path


def test_inspecting_loads_no_torch(tiny: Path, saved: Path) -> None:
    for path, kind in ((tiny, "checkpoint"), (saved, "memory file")):
        stdout, stderr, code = run_and_list_heavy("inspect", str(path), "--json")
        assert code == 0, stderr
        assert json.loads(stdout)["kind"] == kind
        assert "'torch'" not in stderr


def test_reading_loads_no_compiler(tiny: Path, story: Path) -> None:
    code = f"""
import sys
from famcli.cli.main import main
sys.argv = ["famcli", "ppl", {str(story)!r}, "--model", {str(tiny)!r}, "--quiet"]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split()
    assert "torch" in modules
    assert {"torch._dynamo", "sympy", "charset_normalizer", "rich.console"} & set(modules) == set()


def test_what_needs_no_network_is_refused_before_torch_is_loaded(tiny: Path, saved: Path, tmp_path: Path) -> None:
    damaged, text = tmp_path / "damaged.fam", tmp_path / "text.txt"
    damaged.write_bytes(saved.read_bytes()[:200])
    text.write_text("Just a text.")
    other = make_random_checkpoint(tmp_path / "other", seed=1)
    mine = ["--model", str(tiny)]
    for arguments, code, words in (
        (["ask", "", "--load", saved, *mine], 2, "question is empty"),
        (["ask", "Who?", "--load", damaged, *mine], 1, "was cut short"),
        (["ask", "Who?", "--load", text, *mine], 1, "is not a memory file"),
        (["ask", "Who?", "--load", saved, "--model", other], 1, f"(--model {tiny})"),
        (["read", text, "--save", saved, "--append", "--model", other], 1, f"(--model {tiny})"),
        *(
            (command, 1, "nope.txt does not exist: check the path")
            for command in (
                ["summarize", "nope.txt", *mine],
                ["ppl", "nope.txt", *mine],
                ["chat", "nope.txt", *mine],
                ["read", text, "nope.txt", *mine],
                ["ask", "Who?", "--file", "nope.txt", *mine],
            )
        ),
        (["adapt", tiny, "--out", tmp_path / "out", "--data", "nope.txt"], 1, "nope.txt does not exist"),
        (["ask", "Who?", "--file", text, "--draft", tmp_path, *mine], 1, "is no draft's folder"),
    ):
        stdout, stderr, exit_code = run_and_list_heavy(*map(str, arguments))
        assert (stdout, exit_code) == ("", code), stderr
        assert words in stderr
        assert "'torch'" not in stderr


def test_inspect_names_its_argument(run, tmp_path: Path) -> None:
    message = run("inspect", "nope").stderr
    assert message.startswith("famcli: 'nope' (PATH) is no folder")
    path = tmp_path / "s.txt"
    path.write_text("Just a text.")
    assert "s.txt is not a memory file or checkpoint" in run("inspect", path).stderr


@pytest.mark.parametrize("delay", [0.0, 0.15, 0.4, 0.8])
def test_ctrl_c_while_starting_is_silent(tiny: Path, delay: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, "ppl", "--model", str(tiny), "--quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    with process:
        process.stdin.write("Some text.")
        process.stdin.flush()  # and no end, so that it never finishes by itself
        assert process.stderr.readline() == "started\n"
        time.sleep(0.05 + delay)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "")
    assert stdout == "" or "Partial" in stdout  # a quick machine may be reading already
