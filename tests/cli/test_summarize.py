"""`famcli summarize`: verbatim lines with places, in three forms, whole or cut short."""

from __future__ import annotations

import json
import signal
from pathlib import Path


def test_every_line_is_a_quote_with_its_place(run, tiny: Path, story: Path) -> None:
    result = run("summarize", story, "--model", tiny, "-n", 4)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    source = story.read_text().splitlines()
    for line in lines[:4]:
        place, _, text = line.partition(": ")
        assert text in source[int(place.removeprefix("line ")) - 1]
    assert lines[4] == ""
    assert lines[5].startswith("4 of 121 sentences, by ")
    assert lines[6].startswith(f"Read {story.stat().st_size:,} bytes, ")


def test_json_has_spans_of_the_source(run, tiny: Path, story: Path) -> None:
    values = json.loads(run("summarize", story, "--model", tiny, "--json").stdout)
    assert 5 <= len(values["sentences"]) <= 12
    for sentence in values["sentences"]:
        start, end = sentence["span"]
        assert story.read_bytes()[start:end].decode() == sentence["text"]


def test_jsonl_has_a_line_for_each_sentence(run, tiny: Path, story: Path) -> None:
    lines = run("summarize", story, "--model", tiny, "--jsonl", "-n", "3").stdout.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["sentence"] * 3 + ["result"]


def test_several_files_are_one_text_or_each_its_own(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("A lonely sentence stands here by itself.\n")
    together = run("summarize", other, story, "--model", tiny, "-n", 3)
    assert f"{story}, line " in together.stdout
    alone = run("summarize", other, story, "--model", tiny, "-n", 3, "--each")
    assert [line for line in alone.stdout.splitlines() if line.startswith("== ")] == [f"== {other}", f"== {story}"]
    values = json.loads(run("summarize", other, story, "--model", tiny, "--each", "--json").stdout)
    assert [len(file["read"]["sources"]) for file in values["files"]] == [1, 1]


def test_an_empty_text_says_so(run, tiny: Path) -> None:
    result = run("summarize", "--model", tiny, input="")
    assert result.exit_code == 0
    first, blank, counts = result.stdout.splitlines()
    assert (first, blank) == ("The input has no sentence to quote.", "")
    assert counts.startswith("Read 0 bytes, 0 tokens, 0 full blocks in ")
    assert result.stderr.splitlines()[-1] == "famcli: warning: nothing to read: standard input is empty"
    blank_text = run("summarize", "--model", tiny, "--json", input=" \n\n")
    assert json.loads(blank_text.stdout)["warnings"] == ["standard input holds nothing but white space"]


def test_interrupt_prints_the_summary_so_far(spawn, until_tokens_are_read, tiny: Path, story: Path) -> None:
    process = spawn("summarize", "--model", tiny, "--progress", "json")

    def more() -> None:
        process.stdin.write(story.read_text()[:1000])
        process.stdin.flush()

    until_tokens_are_read(process, more)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout.startswith("line ")
    assert stdout.splitlines()[-1] == "Partial: interrupted before the end of the input."
    assert "Traceback" not in stderr
