"""Output: plain on pipes, styled on terminals, harmless whatever a document holds."""

from __future__ import annotations

import io
import json
import math

import pytest

from famcli.cli.render import Notes, Output, harmless


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_the_bytes_of_the_text() -> None:
    stream = io.StringIO()
    Output(stream).line("a quote \x1b[31m", "bold")
    assert stream.getvalue() == "a quote \x1b[31m\n"


def test_a_terminal_gets_style_but_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    Output(stream).line("a quote \x1b]0;t\x07", "bold")
    assert stream.getvalue() == "\x1b[1ma quote \\x1b]0;t\\x07\x1b[0m\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_style_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    stream = Terminal()
    Output(stream).line("text", "bold")
    assert stream.getvalue() == "text\n"


def test_our_own_prose_is_wrapped_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream, terminal = io.StringIO(), Terminal()
    for output in (Output(stream), Output(terminal)):
        output.paragraph("word " * 30)
    assert len(stream.getvalue().splitlines()) == 1
    assert max(len(line) for line in terminal.getvalue().splitlines()) < 40


def test_cells_are_shaded_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream, terminal = io.StringIO(), Terminal()
    for output in (Output(stream), Output(terminal)):
        output.shaded([("row", None), (" 10 %", 0.1), (" 90 %\x1b", 0.9)])
    assert stream.getvalue() == "row 10 % 90 %\x1b\n"
    plain, low, high = terminal.getvalue().split("\x1b[30;48;")
    assert plain == "row"
    assert low.endswith(" 10 %\x1b[0m")
    assert high.endswith(" 90 %\\x1b\x1b[0m\n")
    assert low[:10] != high[:10]


def test_json_is_strict_and_keeps_the_script_of_the_text() -> None:
    stream = io.StringIO()
    Output(stream).json({"a": math.nan, "b": [math.inf, 1.5, ("é",)], "c": {"d": None}})
    assert stream.getvalue().endswith("}\n")
    assert "é" in stream.getvalue()
    assert json.loads(stream.getvalue()) == {"a": None, "b": [None, 1.5, ["é"]], "c": {"d": None}}


def test_notes_are_one_line_or_nothing() -> None:
    stream = io.StringIO()
    Notes(stream=stream).warn("first\nsecond \x1b[0m")
    Notes(quiet=True, stream=stream).note("hidden")
    assert stream.getvalue() == "famcli: warning: first second \\x1b[0m\n"


def test_newlines_and_tabs_are_harmless() -> None:
    assert harmless("a\n\tb\r\x9b\u202e") == "a\n\tb\\x0d\\x9b\ufffd"


def test_words_wrap_at_the_width_of_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    address = "https://example.org/" + "a" * 50
    text = f"The keeper lights the lamp each evening before {address} comes in."
    Output(terminal := Terminal()).paragraph(text, indent="    ")
    lines = terminal.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[2] == f"    {address}"
    assert all(line.startswith("    ") and (len(line) < 40 or address in line) for line in lines)
    Output(pipe := io.StringIO()).paragraph(text, indent="    ")
    assert pipe.getvalue() == f"    {text}\n"


def test_a_warning_begins_a_line_of_its_own_on_the_terminal_of_the_result() -> None:
    terminal = Terminal()
    output = Output(terminal)
    notes = Notes(stream=terminal, output=output)
    output.write("The keeper is")
    notes.warn("a source was changed")
    output.line("Nobody.")
    notes.note("done")
    assert terminal.getvalue() == "The keeper is\nfamcli: warning: a source was changed\nNobody.\nfamcli: done\n"
