"""Shared options: groups expand to options, defaults come from the environment, contradictions are refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from famcli.cli.options import DocumentOptions, MachineOptions, OutputOptions, ReportOptions
from famcli.errors import UsageError


def test_groups_arrive_filled(run, fake_command: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fake(machine: MachineOptions, documents: DocumentOptions, output: OutputOptions) -> None:
        """A command for tests."""
        seen.append((machine, documents, output))

    fake_command(fake)
    monkeypatch.delenv("FAMCLI_THREADS")
    monkeypatch.delenv("FAMCLI_CACHE")
    monkeypatch.setenv("FAMCLI_DEVICE", "cpu")
    assert run("fake", "--model", "some", "--encoding", "cp1252", "--json").exit_code == 0
    machine = MachineOptions(model="some", device="cpu")
    assert seen == [(machine, DocumentOptions(encoding="cp1252"), OutputOptions(json=True))]


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
