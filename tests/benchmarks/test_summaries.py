"""Summaries beside their peers: the sets, the peers, the scores, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality.summaries import differences, median_words, rouge, score_set
from benchmarks.quality.summary_sets import drawn, is_heldout, rankings, read_items
from famcli.errors import DocumentError
from tests.tasks.support import LARGE, byte_model, prose


def records(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_sets_are_split_as_the_corpus_says(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "a", "text": "t", "summary": ["s"], "split": "train"},
        {"id": "b", "text": "t", "summary": "s", "split": "dev"},
        {"id": "c", "text": "t", "summary": [], "split": "dev"},
        {"id": "d", "text": "t", "summary": ["s"], "split": "dev", "question": "Who came?"},
        {"id": "e", "text": "t", "summary": ["s"], "split": "dev", "question": "Summarize the whole meeting."},
    ]
    path = records(tmp_path / "set.jsonl", *rows)
    assert [item.id for item in read_items(path)] == ["b", "e"]
    assert [item.id for item in read_items(path, "train")] == ["a"]
    assert [item.id for item in read_items(path, "all")] == ["a", "b", "e"]
    assert [(item.id, item.question) for item in read_items(path, focused=True)] == [("d", "Who came?")]
    assert sum(is_heldout({"id": str(number)}) for number in range(2000)) == pytest.approx(203, abs=45)
    with pytest.raises(DocumentError, match="line 1 is not an object with `id`, `text` and `summary`"):
        read_items(records(tmp_path / "bad.jsonl", {"id": "a", "text": "t"}))


def test_a_draw_is_repeatable(tmp_path: Path) -> None:
    path = records(tmp_path / "s.jsonl", *({"id": str(n), "text": "t", "summary": "s"} for n in range(50)))
    items = read_items(path, "all")
    assert drawn(items, 5, 1) == drawn(items, 5, 1) != drawn(items, 5, 2)
    assert drawn(items, None, 1) == drawn(items, 99, 1) == items


def test_peers_rank_sentences() -> None:
    sentences = [
        "Nothing else in the village had a roof.",
        "The river rose and the river took the bridge.",
        "The bridge over the river was rebuilt by the village.",
        "A cat slept.",
    ]
    peers = rankings()
    assert peers["LEAD"](sentences) == [0, 1, 2, 3]
    for name in ("TextRank", "LexRank"):
        order = peers[name](sentences)
        assert sorted(order) == [0, 1, 2, 3]
        assert order[0] in (1, 2)
        assert peers[name]([]) == []


def test_rouge_takes_the_best_reference() -> None:
    judge = rouge()
    assert judge(["The dog barked."], "The dog barked.") == pytest.approx([1, 1, 1])
    assert judge(["Nothing alike here.", "The dog barked."], "The dogs barked.") == pytest.approx([1, 1, 1])
    assert judge(["One two three four."], "one two") == pytest.approx([2 / 3, 1 / 2, 2 / 3])


def test_systems_get_the_same_budget_and_are_compared_text_by_text(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": prose(40, n), "summary": prose(4, n)} for n in range(4)]
    items = read_items(records(tmp_path / "set.jsonl", *rows), "all")
    assert median_words(items) == pytest.approx(40, abs=15)
    model = byte_model(LARGE)
    found = list(score_set("set", items, 40, model, rankings()))
    assert [one.num_texts for one in found][-1] == 4
    last = found[-1]
    assert [system.name for system in last.systems] == ["famcli", "LEAD", "TextRank", "LexRank"]
    lead = last.systems[1]
    assert np.mean(lead.scores, 0)[0] > 0.9  # the references are the first sentences
    assert lead.quarters[0] == pytest.approx([1, 0, 0, 0])
    for system in last.systems:
        assert np.sum(system.quarters, 1) == pytest.approx(np.ones(4))
    gaps = differences([last])
    assert [gap["minus"] for gap in gaps] == ["LEAD", "TextRank", "LexRank"]
    expected = np.mean(last.systems[0].scores, 0)[0] - np.mean(lead.scores, 0)[0]
    assert gaps[0]["scores"]["rouge1"]["mean"] == pytest.approx(expected)
    low, high = gaps[0]["scores"]["rouge1"]["interval"]
    assert low <= expected <= high < 0
    assert json.dumps(last.to_json(), allow_nan=False)


def test_summaries_stand_beside_their_peers(run: Any, tiny: Path, story: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    rows = [
        {"id": str(n), "text": story.read_text()[: 900 + 300 * n], "summary": ["A map is hidden."]} for n in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ("summary", path, "--model", tiny, "--split", "all", "--words", 20)
    text = run(*arguments)
    assert text.exit_code == 0
    lines = text.stdout.splitlines()
    assert lines[0] == "set: 3 texts, 20 words"
    assert [line.split("  ")[1].split(",")[-1].strip() for line in lines[1:5]] == [
        "famcli",
        "LEAD",
        "TextRank",
        "LexRank",
    ]
    assert sum(" minus " in line for line in lines) == 3
    values = json.loads(run(*arguments, "--json").stdout)
    assert [gap["minus"] for gap in values["differences"]] == ["LEAD", "TextRank", "LexRank"]
    assert values["sets"][0]["texts"] == 3
    events = [json.loads(line)["event"] for line in run(*arguments, "--jsonl").stdout.splitlines()]
    assert events == ["set", "result"]
    empty = run("summary", path, "--model", tiny, "--split", "train", "--words", 20)
    assert "has no records" in empty.stderr or empty.exit_code == 0


def test_blind_summaries_are_judged_after_they_were_written(run: Any, story: Path, tmp_path: Path) -> None:
    texts, folder = [tmp_path / "one.md", tmp_path / "two.md"], tmp_path / "blind"
    for text in texts:
        text.write_text(story.read_text(), encoding="utf-8")
    assert run("blind", folder, *texts, "--seed", 3).exit_code == 0
    key = json.loads((folder / "key.json").read_text())
    assert {name: sorted(order) for name, order in key.items()} == {text.name: ["A", "B", "C"] for text in texts}
    for text in texts:
        shown = (folder / f"{text.name}.summaries.txt").read_text()
        assert not any(name in shown for name in ("famcli", "LexRank", "LEAD"))
    assert run("blind", folder).exit_code == 2
    marks = {name: {letter: [2, 3] if key[name][letter] == "famcli" else [1, 0] for letter in "ABC"} for name in key}
    (folder / "marks.json").write_text(json.dumps(marks), encoding="utf-8")
    rows = [line.replace("\u2502", " ").split() for line in run("blind", folder).stdout.splitlines()]
    assert ["famcli", "4", "6", "2"] in rows
    assert ["LEAD", "2", "0", "0"] in rows
