"""`famcli summarize`: verbatim lines with places, in three forms, whole or cut short."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import jsonschema
import pytest

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "summarize.json").read_text(encoding="utf-8"))


def test_every_line_is_a_quote_with_its_place(run, tiny: Path, story: Path) -> None:
    result = run("summarize", story, "--model", tiny, "-n", 4)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    source = story.read_text().splitlines()
    for line in lines[:4]:
        place, _, text = line.partition(": ")
        assert text in source[int(place.removeprefix("line ")) - 1]
    assert lines[4] == ""
    assert lines[5].startswith(f"4 of 121 sentences. Read {story.stat().st_size:,} bytes in ")
    assert len(lines) == 6


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
    assert result.exit_code == 1
    first, blank, counts = result.stdout.splitlines()
    assert (first, blank) == ("The input has no sentence to quote.", "")
    assert counts.startswith("Read 0 bytes in ")
    assert result.stderr.splitlines()[-1] == "famcli: there was no text to work on; give one that is not empty"
    assert result.stderr.splitlines()[-2] == "famcli: warning: nothing to read: standard input is empty"
    blank_text = run("summarize", "--model", tiny, "--json", input=" \n\n")
    assert blank_text.exit_code == 1
    assert json.loads(blank_text.stdout)["warnings"] == ["standard input holds nothing but white space"]


def test_a_text_without_anything_to_quote_says_so_once(run, tiny: Path) -> None:
    result = run("summarize", "--model", tiny, input="1 2 3 4\n")
    first, blank, counts = result.stdout.splitlines()
    assert (result.exit_code, first, blank) == (0, "The input has no sentence to quote.", "")
    assert counts.startswith("Read 8 bytes in ")


def test_files_of_which_nothing_was_chosen_are_named(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    other, empty = tmp_path / "chat.log", tmp_path / "empty.txt"
    other.write_text("09:15 anna: no\n")
    empty.touch()
    result = run("summarize", empty, other, story, "--model", tiny, "-n", 3)
    assert result.stderr.splitlines()[-2:] == [
        f"famcli: warning: nothing to read: {empty} is empty",
        f"famcli: nothing was chosen from {other}; --each summarizes each file by itself",
    ]
    for options in ([story], [other, story, "--each"]):
        assert "nothing was chosen" not in run("summarize", *options, "--model", tiny).stderr


def test_the_best_sentence_so_far_is_told_while_reading(spawn, until_tokens_are_read, tiny: Path, story: Path) -> None:
    process = spawn("summarize", "--model", tiny, "--progress", "json")

    def more() -> None:
        process.stdin.write(story.read_text())
        process.stdin.flush()

    until_tokens_are_read(process, more, tokens=False)
    process.stdin.close()
    told = [json.loads(line)["so_far"] for line in process.stderr if line.startswith("{")]
    assert process.wait(60) == 0
    place, _, text = told[-1].partition(": ")
    assert text in story.read_text()
    assert place.startswith("line ")


def test_interrupt_prints_the_summary_so_far(spawn, until_tokens_are_read, tiny: Path, story: Path) -> None:
    process = spawn("summarize", "--model", tiny, "--progress", "json")

    def more() -> None:
        process.stdin.write(story.read_text()[:1000])
        process.stdin.flush()

    until_tokens_are_read(process, more, tokens=False)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout.startswith("line ")
    assert stdout.splitlines()[-1] == "Partial: interrupted before the end of the input."
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--each"],
        ["--sections"],
        ["--focus", "the harbour"],
        ["--mode", "write", "-n", "10w"],
        ["--format", "json"],
    ],
)
def test_json_is_as_published(options: list[str], run, tiny: Path, story: Path) -> None:
    form = [] if "json" in options else ["--json"]
    result = run("summarize", story, "--model", tiny, *options, *form)
    assert result.exit_code == 0
    jsonschema.validate(json.loads(result.stdout), SCHEMA)


def test_json_of_pages_lines_and_nothing_is_as_published(run, tiny: Path, story: Path) -> None:
    pages = story.read_text().replace("\n\n", "\n\f\n")
    for text in (pages, "ERROR disk three is full\n\nWARN disk four is slow\n", "", "\ufeff \n"):
        values = json.loads(run("summarize", "--model", tiny, "--json", input=text).stdout)
        jsonschema.validate(values, SCHEMA)
        assert bool(values["sentences"]) == bool(text.strip("\ufeff \n"))
        assert all((quote["page"] is None) == ("\f" not in text) for quote in values["sentences"])
    check = jsonschema.Draft202012Validator(SCHEMA)
    assert check.is_valid(values)
    assert not check.is_valid(values | {"extra": 1})
    assert not check.is_valid({key: value for key, value in values.items() if key != "partial"})


def test_a_log(run, tiny: Path, tmp_path: Path) -> None:
    log = tmp_path / "app.txt"
    lines = [f"2024-01-01 10:00:{n:02} INFO store: wrote block {n} in {n * 7} ms" for n in range(50)]
    lines[20] = "2024-01-01 10:00:20 ERROR store: disk [three] is full"
    log.write_text("\n".join(lines) + "\n")
    result = run("summarize", log, "--model", tiny)
    assert result.stdout.splitlines()[:3] == [
        "50 lines, 2024-01-01 10:00:00 to 2024-01-01 10:00:49: 2 kinds of lines, 1 error, 0 warnings or failures.",
        f"line 21, once: {lines[20]}",
        f"line 1, 49 times to line 50: {lines[0]}",
    ]
    assert "--as prose" in result.stderr
    assert "2 of 2 kinds of lines. Read" in result.stdout
    for options in ([], ["--focus", "full"], ["--focus", "zebra"]):
        values = json.loads(run("summarize", log, "--model", tiny, "--json", *options).stdout)
        jsonschema.validate(values, SCHEMA)
        assert values["log"]["focus_lines"] == (1 if "full" in options else None)
    assert "of 1 kind:" in run("summarize", log, "--model", tiny, "--focus", "full").stdout
    marked = run("summarize", log, "--model", tiny, "--format", "markdown", "--as", "log").stdout.splitlines()
    assert marked[1].endswith("disk \\[three\\] is full *(line 21, once)*")
    page = tmp_path / "page.html"
    run("summarize", log, "--model", tiny, "--html", page)
    assert "disk [three] is full" in page.read_text()
    assert run("summarize", log, "--model", tiny, "--as", "prose").stdout.startswith("line ")


def test_a_list_is_shown_without_its_marks(run, tiny: Path, tmp_path: Path) -> None:
    text = tmp_path / "list.md"
    text.write_text(
        "- The first of the three boats was lost in the great storm.\n\n1. Nobody went out to look for it.\n"
    )
    lines = run("summarize", text, "--model", tiny, "-n", "2").stdout.splitlines()
    assert lines[0] == "line 1: The first of the three boats was lost in the great storm."
    quoted = json.loads(run("summarize", text, "--model", tiny, "--json").stdout)["sentences"][0]
    assert quoted["text"].startswith("- The first")
    assert quoted["span"][0] == 0


def test_formats(run, tiny: Path, tmp_path: Path) -> None:
    one = "The mill of the town was built before anybody can remember."
    two = "Only one narrow road leads over the hills to the coast."
    text = tmp_path / "town.md"
    text.write_text(f"# Water_works\n\n{one}\n\n## Roads\n\n{two}\n")
    arguments = ("summarize", text, "--model", tiny, "--quiet", "-n", "2")

    def lines(*options: str) -> list[str]:
        return run(*arguments, *options).stdout.splitlines()

    assert lines("--format", "outline")[:4] == [
        "Water_works",
        f"  line 3: {one}",
        "  Roads",
        f"    line 7: {two}",
    ]
    assert lines("--format", "markdown", "--sections")[:7] == [
        "## Water\\_works",
        "",
        f"- {one} *(line 3)*",
        "",
        "### Roads",
        "",
        f"- {two} *(line 7)*",
    ]
    assert lines("--format", "paragraph")[:3] == [f"{one} [1] {two} [2]", "", "[1] line 3; [2] line 7"]


def test_a_written_summary_is_warned_of_and_may_end_in_quotes(run, tiny: Path, story: Path) -> None:
    result = run("summarize", story, "--model", tiny, "--mode", "write", "-n", "5w")
    assert result.exit_code == 0
    assert "is not known to follow instructions" in result.stderr
    # A network that was never trained writes nothing that the text bears out: it is quoted.
    assert "is borne out by the text, so sentences of it are quoted instead" in result.stderr
    assert result.stdout.startswith("line ")
    events = run("summarize", story, "--model", tiny, "--mode", "write", "-n", "5w", "--jsonl").stdout.splitlines()
    kinds = [json.loads(line)["event"] for line in events]
    assert kinds == ["sentence", "result"]


def test_a_page_is_written_too(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = run("summarize", "-", "--model", tiny, "-n", 3, "--html", page, input=story.read_text())
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == f"famcli: the report is in {page}"
    assert page.read_text(encoding="utf-8").count('href="#c3"') >= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length", "tiny"], "'tiny' is no length"),
        (["-n", "0"], "'0' is no length"),
        (["--focus", " "], "the focus is empty"),
        (["--each", "--html", "x.html"], "--html is one page"),
        (["--html", "-"], "give the name of a file"),
        (["--format", "markdown", "--jsonl"], "--format markdown is a look of text, which --jsonl does not have"),
        (["--words", "5"], "No such option: --words (Possible options: --length)"),
        (["--thread", "5"], "No such option: --thread (Possible options: --threads)"),
        (["--html", "missing/x.html"], "cannot write missing/x.html: there is no folder"),
    ],
)
def test_options_that_make_no_sense(options: list[str], message: str, run, tiny: Path, story: Path) -> None:
    result = run("summarize", story, "--model", tiny, *options)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
