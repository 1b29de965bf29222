"""`famcli ask`: questions from the command line, answers with evidence, from texts and from memory files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest


def test_an_answer_has_verified_evidence(run, tiny: Path, story: Path) -> None:
    result = run("ask", "Where did Ottilie hide the treasure map?", "--file", story, "--model", tiny)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "The keeper Ottilie hid the treasure map under a red stone near the lighthouse."
    places = [line for line in lines if line.startswith("  [")]
    assert 1 <= len(places) <= 3
    assert all(line.endswith(", verified:") for line in places)
    assert lines[-1].startswith(f"Read {story.stat().st_size:,} bytes, ")


def test_one_reading_serves_several_questions(run, tiny: Path, story: Path) -> None:
    questions = ["Where did Ottilie hide the treasure map?", "Who knows the zebra?"]
    values = json.loads(run("ask", *questions, "-f", story, "--model", tiny, "--json").stdout)
    assert [answer["question"] for answer in values["answers"]] == questions
    text = run("ask", *questions, "-f", story, "--model", tiny).stdout
    assert [line for line in text.splitlines() if line.startswith("Q")] == [
        "Q1: Where did Ottilie hide the treasure map?",
        "Q2: Who knows the zebra?",
    ]


def test_without_evidence_it_says_so(run, tiny: Path, story: Path) -> None:
    result = run("ask", "xylophone quagga?", "-f", story, "--model", tiny, "--jsonl")
    answer, summary = [json.loads(line) for line in result.stdout.splitlines()]
    assert (answer["event"], answer["found"], answer["citations"]) == ("answer", False, [])
    assert (summary["event"], summary["partial"]) == ("result", False)
    assert "answers" not in summary


def test_the_text_may_come_from_stdin(run, tiny: Path, story: Path) -> None:
    result = run("ask", "Where did Ottilie hide the treasure map?", "--model", tiny, "--json", input=story.read_bytes())
    citation = json.loads(result.stdout)["answers"][0]["citations"][0]
    assert citation["checked_against"] == "text read"


def test_a_question_is_asked_for_on_a_terminal_only(
    run, tiny: Path, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("ask", "--file", story, "--model", tiny)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "ask needs a question" in result.stderr
    from famcli.cli import ask

    class Terminal:
        def __init__(self, text: str) -> None:
            self.text = text

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return self.text

    class System:
        stdin = Terminal("Where did Ottilie hide the treasure map?\n")
        stderr = sys.stderr

    monkeypatch.setattr(ask, "sys", System)
    result = run("ask", "--file", story, "--model", tiny, "--json")
    assert json.loads(result.stdout)["answers"][0]["question"] == "Where did Ottilie hide the treasure map?"


def test_contradictions_are_usage_errors(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    for options in (["--load", "x.fam", "--file", story], ["--load", "x.fam", "--each"], ["--json", "--jsonl"]):
        result = run("ask", "Who?", *options)
        assert (result.exit_code, result.stdout) == (2, "")
    assert run("ask", "Who?", "--load", tmp_path / "none.fam", "--model", tiny).exit_code in (1, 2)
    assert run("ask", " ", "--file", story, "--model", tiny).exit_code == 2


def test_asking_a_memory_file(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    saved = tmp_path / "story.fam"
    assert run("read", story, "--save", saved, "--model", tiny).exit_code == 0
    result = run("ask", "Where did Ottilie hide the treasure map?", "--load", saved, "--model", tiny, "--json")
    answer = json.loads(result.stdout)["answers"][0]
    assert answer["cited"] is True
    assert answer["citations"][0]["checked_against"] == "source"
    size = story.stat().st_size
    told = run("ask", "Where did Ottilie hide the treasure map?", "--load", saved, "--model", tiny).stdout
    sizes = f"{size:,} bytes, {size:,} tokens, {(size + 1) // 128} full blocks"
    assert told.splitlines()[-1] == f"From {saved}: {sizes}, read earlier."
    story.write_text("Everything was rewritten.\n")
    changed = run("ask", "Where did Ottilie hide the treasure map?", "--load", saved, "--model", tiny, "--json")
    assert changed.exit_code == 0
    assert json.loads(changed.stdout)["answers"][0]["cited"] is False
    assert "warning" in changed.stderr


def test_a_written_answer_is_no_citation(run, tiny: Path, story: Path) -> None:
    arguments = ["ask", "Where did Ottilie hide the treasure map?", "-f", story, "--model", tiny, "--write"]
    result = run(*arguments, "--answer-tokens", 20)
    lines = result.stdout.splitlines()
    label = "  Written by the model; the passages below are where it looked, the answer itself is not checked."
    assert lines[1] == label
    assert lines[0] == lines[0].lstrip() != ""
    assert result.stderr.count("is not known to follow instructions") == 1
    answer = json.loads(run(*arguments, "--json").stdout)["answers"][0]
    assert (answer["kind"], answer["cited"]) == ("written", False)
    assert all(citation["verified"] for citation in answer["citations"])


def test_paragraphs_of_a_quote_are_lines_of_their_own(run, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("The map lies\nhere.\n\nOttilie hid it.\n")
    result = run("ask", "Who hid the map that lies here, Ottilie?", "-f", path, "--model", tiny)
    assert "      The map lies here.\n      Ottilie hid it.\n" in result.stdout
    quoted = json.loads(run("ask", "Who hid the map that lies here, Ottilie?", "-f", path, "-m", tiny, "--json").stdout)
    assert quoted["answers"][0]["citations"][0]["text"] == "The map lies\nhere.\n\nOttilie hid it."


def test_a_memory_file_of_another_model(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    from tests.helpers import make_random_checkpoint

    saved = tmp_path / "story.fam"
    run("read", story, "--save", saved, "--model", tiny)
    other = make_random_checkpoint(tmp_path / "other", seed=1)
    result = run("ask", "Who?", "--load", saved, "--model", other, "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
