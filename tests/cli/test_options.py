"""Shared options: groups expand to options, defaults come from the environment, contradictions are refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from famcli.cli.main import COMMANDS, load_command
from famcli.cli.options import EncodingOption, MachineOptions, OutputOptions, ReportOptions
from famcli.errors import UsageError


def test_groups_arrive_filled(run, fake_command: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fake(machine: MachineOptions, output: OutputOptions, encoding: EncodingOption = None) -> None:
        """A command for tests."""
        seen.append((machine, encoding, output))

    fake_command(fake)
    monkeypatch.delenv("FAMCLI_THREADS")
    monkeypatch.delenv("FAMCLI_CACHE")
    monkeypatch.setenv("FAMCLI_DEVICE", "cpu")
    assert run("fake", "--model", "some", "--encoding", "cp1252", "--json").exit_code == 0
    machine = MachineOptions(model="some", device="cpu")
    assert seen == [(machine, "cp1252", OutputOptions(json=True))]


def test_an_option_beats_the_environment(run, fake_command: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fake(machine: MachineOptions) -> None:
        """A command for tests."""
        seen.append(machine.dtype)

    fake_command(fake)
    monkeypatch.setenv("FAMCLI_DTYPE", "bfloat16")
    assert run("fake", "--dtype", "float32").exit_code == 0
    assert seen == ["float32"]


def test_an_option_that_is_wrong_is_told_in_our_words(run, story: Path) -> None:
    result = run("ppl", story, "--device", "tpu")
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.endswith("'FAMCLI_DEVICE'): 'tpu' is not one of 'auto', 'cpu', 'cuda', 'mps'.")


def test_json_and_jsonl_exclude_each_other() -> None:
    assert [OutputOptions().form, OutputOptions(json=True).form, OutputOptions(jsonl=True).form] == [
        "text",
        "json",
        "jsonl",
    ]
    with pytest.raises(UsageError, match="exclude each other"):
        _ = OutputOptions(json=True, jsonl=True).form


def test_progress_is_a_bar_only_on_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ReportOptions().progress_mode == "none"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert ReportOptions().progress_mode == "bar"
    assert ReportOptions(progress="json").progress_mode == "json"
    assert ReportOptions(progress="json", quiet=True).progress_mode == "none"


SAME_IN_KIND = {"--dtype", "--force", "--json", "--jsonl", "--lr", "--memory-mode", "--out", "--seed"}
"""Options whose help names what is special in one command (which types, which file); their meaning is one."""


def test_an_option_means_the_same_in_every_command() -> None:
    texts: dict[str, set[str]] = {}
    letters: dict[str, set[str]] = {}
    for name in COMMANDS:
        command = load_command(name)
        for each in getattr(command, "commands", {name: command}).values():
            for parameter in each.params:
                long = [option for option in parameter.opts if option.startswith("--")]
                for option in long:
                    texts.setdefault(option, set()).add(parameter.help)
                for option in set(parameter.opts) - set(long) if long else ():
                    letters.setdefault(option, set()).add(long[0])
    assert {option for option, found in texts.items() if len(found) > 1} <= SAME_IN_KIND
    assert all(len(found) == 1 for found in letters.values()), letters
