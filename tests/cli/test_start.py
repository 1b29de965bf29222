"""Starting: help, version, completion and usage errors are quick and load nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from famcli.cli.main import COMMANDS, load_command

HEAVY = ("torch", "numpy", "safetensors", "sentencepiece", "tokenizers", "transformers", "rich.console", "click")

REPORT = """
import sys
from famcli.cli.main import main
try:
    main()
finally:
    print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""


def run_and_list_heavy(*arguments: str, **environment: str) -> tuple[str, str, int]:
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(heavy=HEAVY), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *[[name, "--help"] for name in COMMANDS]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    stdout, stderr, code = run_and_list_heavy(*arguments)
    assert code == 0
    assert stderr == "[]\n"
    assert stdout.startswith(("Usage: famcli", "famcli 0."))


@pytest.mark.parametrize("arguments", [["no-such-command"], ["ppl", "--no-such-option"], ["ppl", "--dtype", "float99"]])
def test_usage_errors_load_nothing_heavy_and_exit_2(arguments: list[str]) -> None:
    stdout, stderr, code = run_and_list_heavy(*arguments)
    assert (stdout, code) == ("", 2)
    assert stderr.endswith("[]\n")
    assert "Traceback" not in stderr


def test_ctrl_c_while_the_first_modules_load_is_silent() -> None:
    program = """
import builtins, famcli.__main__
plain = builtins.__import__
def interrupted(name, *rest):
    if name == "famcli.cli.main":
        raise KeyboardInterrupt
    return plain(name, *rest)
builtins.__import__ = interrupted
famcli.__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_completion_loads_nothing_heavy() -> None:
    environment = {"_FAMCLI_COMPLETE": "complete_bash", "COMP_WORDS": "famcli s", "COMP_CWORD": "1"}
    stdout, stderr, code = run_and_list_heavy(**environment)
    assert (stdout.split(), stderr, code) == (["summarize"], "[]\n", 0)


def test_completion_knows_the_options_of_a_command() -> None:
    environment = {"_FAMCLI_COMPLETE": "complete_bash", "COMP_WORDS": "famcli ppl --memory", "COMP_CWORD": "2"}
    assert run_and_list_heavy(**environment)[0].split() == ["--memory-mode"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    assert (load_command(name).help or "").split("\n\n")[0].replace("\n", " ") == COMMANDS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    command = load_command(name)
    for part in getattr(command, "commands", {name: command}).values():
        options = [parameter for parameter in part.params if parameter.param_type_name == "option"]
        assert options
        assert [option.name for option in options if not getattr(option, "help", None)] == []


def test_a_group_answers_for_its_commands_without_loading_anything_heavy() -> None:
    for arguments, code in ((["passkey", "--help"], 0), (["passkey", "--no-such-option"], 2), (["nonsense"], 2)):
        stdout, stderr, exit_code = run_and_list_heavy("eval", *arguments)
        assert (exit_code, stderr.endswith("[]\n")) == (code, True)
        assert stdout.startswith("Usage: famcli eval passkey") == (code == 0)


def test_nothing_asked_shows_help(run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.output


def test_a_misspelt_command_is_guessed(run) -> None:
    result = run("sumarize")
    assert result.exit_code == 2
    assert "Did you mean 'summarize'" in result.stderr
