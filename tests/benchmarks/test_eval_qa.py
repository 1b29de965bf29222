"""`benchmarks.quality qa`: tables, JSON, cost, and what is refused before any work is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality.eval_qa import parse_rules
from famcli.errors import UsageError
from tests.benchmarks.test_qa import records, write_set

pytest.importorskip("bm25s")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set.jsonl", records())


def test_figures_in_every_form(run: Any, tiny: Path, story: Path, questions: Path) -> None:
    arguments = ["qa", questions, "--filler", story, "--length", "2k", "--questions", 2, "--model", tiny]
    arguments += ["--styles", "sentence", "--memory-mode", "compare", "--absent", 0.3, "--seed", 1]
    values = json.loads(run(*arguments, "--json").stdout)
    assert (values["benchmark"], values["documents"], values["questions"], values["seed"]) == ("qa", 3, 6, 1)
    assert values["citations"] == values["verified"] > 0
    names = {tuple(one["name"]) for one in values["recall"]}
    assert {("famcli", "at 5"), ("words", "at 1"), ("bm25", "at 10")} <= names
    assert {tuple(one["name"][:3]) for one in values["answers"]} == {
        ("famcli", "sentence", "on"),
        ("famcli", "sentence", "frozen"),
        ("bm25", "sentence", "on"),
    }
    events = [
        json.loads(line) for line in run(*arguments, "--jsonl", "--documents", 2, "--most", 1).stdout.splitlines()
    ]
    assert [event["event"] for event in events] == ["document", "document", "result"]
    assert events[-1]["questions"] == 2
    shown = run(*arguments, "--network", "--where", "split=val").stdout
    assert "network" in shown
    assert "memory on minus frozen" in shown
    assert "Citations found verbatim in their place: " in shown
    assert "Asked 4 questions of " in shown


def test_what_asking_costs(run: Any, tiny: Path, story: Path, questions: Path) -> None:
    arguments = ["qa", questions, "--filler", story, "--length", "2k", "--model", tiny, "--cost", 1]
    values = json.loads(run(*arguments, "--json").stdout)
    assert [(cost["questions"], cost["again"]) for cost in values["costs"]] == [
        (0, False),
        (1, False),
        (6, False),
        (1, True),
    ]
    assert values["costs"][0]["clock_ratio"] == 1
    assert "reading alone" in run(*arguments).stdout


def test_rules() -> None:
    rules = parse_rules(["split=val,test", "kind=a"], "title:205-256")
    assert rules.where == (("split", ("val", "test")), ("kind", ("a",)))
    assert (rules.hash_field, rules.hash_from, rules.hash_below) == ("title", 205, 256)
    for where, hashed in ((["split"], None), ([], "title"), ([], "title:9-9"), ([], "title:0-999")):
        with pytest.raises(UsageError):
            parse_rules(where, hashed)


def test_what_makes_no_sense_is_refused(run: Any, tiny: Path, questions: Path, tmp_path: Path) -> None:
    for options in (["--styles", "poem"], ["--where", "x"], ["--filler", tmp_path / "absent"], ["--where", "split=no"]):
        result = run("qa", questions, "--model", tiny, *options)
        assert (result.exit_code, result.stdout) == (2, ""), options
    assert run("qa", tmp_path / "absent.jsonl", "--model", tiny).exit_code == 2
