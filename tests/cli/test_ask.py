"""`famcli ask`: questions from the command line, answers with evidence, from texts and from memory files."""

from __future__ import annotations

import json
import re
import subprocess
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
    assert all(line.endswith(", quoted exactly:") for line in places)
    assert f"famcli: Read {story.stat().st_size:,} bytes in " in result.stderr


def test_the_line_that_is_shown_is_that_of_the_answer(run, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "lease.txt"
    path.write_text(
        "1. Rent\n\nThe tenant pays nine hundred euros a month.\n\n2. Map\n\n\fOttilie hid the map under a stone.\n\n"
        f"3. Roof\n\nThe owner repairs it.\n\n\fNobody{' and nobody' * 60} lives there.\n"
    )
    arguments = ["ask", "Where did Ottilie hide the map?", "--file", path, "--model", tiny]
    lines = run(*arguments).stdout.splitlines()
    assert lines[0] == "Ottilie hid the map under a stone."
    assert lines[1].startswith(f"  [1] {path}, page 2, line 7 of lines 5 to 7, confidence ")
    answer = json.loads(run(*arguments, "--json").stdout)["answers"][0]
    assert (answer["line"], answer["page"]) == (7, 2)
    assert (answer["citations"][0]["line"], answer["citations"][0]["page"]) == (5, 1)
    written = json.loads(run(*arguments, "--json", "--write", "--answer-tokens", 4).stdout)["answers"][0]
    assert (written["line"], written["page"]) == (None, None)


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
    for options in ([" ", "--file", story], ["Who?", "-q", "", "--file", story], ["Who?", "--questions", "-"]):
        assert run("ask", *options, "--model", tiny).exit_code == 2
    lone = ["--sources", tmp_path, "--file", story]
    for options in (["--load", "x.fam", "--question-first"], ["--top", 0], ["--threshold", 2], lone):
        assert run("ask", "Who?", *options).exit_code == 2
    assert run("ask", story, "--model", tiny, input="").exit_code == 2  # a text, and no question


def test_the_path_of_a_file_is_a_text(run, tiny: Path, story: Path) -> None:
    by_option = json.loads(run("ask", "Who?", "--file", story, "--model", tiny, "--json").stdout)
    by_path = json.loads(run("ask", "Who?", story, "--model", tiny, "--json").stdout)
    assert by_path["answers"] == by_option["answers"]
    as_question = json.loads(run("ask", "-q", story, "--file", story, "--model", tiny, "--json").stdout)
    assert [answer["question"] for answer in as_question["answers"]] == [str(story)]


def test_questions_from_options_and_files(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    listed = tmp_path / "questions.txt"
    listed.write_text("Who went to the harbour?\n\n  What did Elsa take along?\n")
    map_question = "Where did Ottilie hide the treasure map?"
    arguments = ["ask", map_question, "-q", "Who knows the zebra?", "--questions", listed, "-f", story, "-m", tiny]
    values = json.loads(run(*arguments, "--json").stdout)
    asked = [answer["question"] for answer in values["answers"]]
    assert asked == [
        map_question,
        "Who knows the zebra?",
        "Who went to the harbour?",
        "What did Elsa take along?",
    ]
    typed = run("ask", "--questions", "-", "-f", story, "-m", tiny, "--json", input="Who went to the harbour?\n")
    assert json.loads(typed.stdout)["answers"][0]["question"] == "Who went to the harbour?"
    listed.write_text("\n \n")
    result = run("ask", "--questions", listed, "-f", story, "-m", tiny)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no questions" in result.stderr
    assert run("ask", "--questions", tmp_path / "absent", "-f", story, "-m", tiny).exit_code == 1


def test_the_second_question_comes_from_the_earlier_reading(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    arguments = ["ask", "Where did Ottilie hide the treasure map?", "-f", story, "-m", tiny]
    first, second = run(*arguments), run(*arguments)
    assert [result.stderr.count("read before, so not again") for result in (first, second)] == [0, 1]
    assert second.stdout == first.stdout
    assert json.loads(run(*arguments, "--json").stdout)["cached"] is True
    for options in (["--readings", tmp_path / "elsewhere"], ["--readings-limit", 0]):
        assert json.loads(run(*arguments, "--json", *options).stdout)["cached"] is False


def test_the_cache_can_be_seen_and_cleared(
    run, tiny: Path, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("readings").stdout == f"0 readings, 0 B of 1.0 GB, in {tmp_path / 'readings'}\n"
    monkeypatch.chdir(tmp_path)
    run("ask", "Who?", "-f", story.name, "-m", tiny)
    shown = run("readings").stdout.splitlines()
    assert shown[0] == str(story)  # though it was called otherwise
    assert re.search(rf"kB read by {tiny}, memory on, 20\d\d-.* last asked 20\d\d-.*; takes ", shown[1])
    assert shown[2].startswith("1 reading, ")
    values = json.loads(run("readings", "--json").stdout)
    assert values["readings"][0]["num_bytes"] == story.stat().st_size
    assert values["size"] == values["readings"][0]["size"]
    events = [json.loads(line)["event"] for line in run("readings", "--jsonl").stdout.splitlines()]
    assert events == ["reading", "result"]
    assert run("readings", "--clear").stdout == f"Removed 1 reading from {tmp_path / 'readings'}.\n"
    assert json.loads(run("readings", "--json").stdout)["readings"] == []
    assert "nothing is kept" in run("readings", "--readings-limit", 0).stdout


def test_top_says_how_many_passages_are_cited(run, tiny: Path, story: Path) -> None:
    for top in (1, 2):
        arguments = ["ask", "Who went to the harbour in the spring?", "-f", story, "-m", tiny, "--threshold", 0]
        values = json.loads(run(*arguments, "--top", top, "--json").stdout)
        assert len(values["answers"][0]["citations"]) == top


def test_what_is_not_sure_enough_is_the_nearest_passage(run, tiny: Path, story: Path) -> None:
    unsure = run("ask", "Who went to the harbour?", "-f", story, "-m", tiny, "--threshold", 1)
    lines = unsure.stdout.splitlines()
    assert (unsure.exit_code, lines[0]) == (0, "Not sure; the nearest passage:")
    assert re.fullmatch(r"  \[1\] .*, line \d+, confidence 0\.\d\d, quoted exactly:", lines[1])
    piped = run("ask", "Who went to the harbour?", "-m", tiny, input=story.read_bytes()).stdout.splitlines()
    assert piped[1].endswith(", from what was piped:")
    absent = run("ask", "Who sold the xylophone?", "-f", story, "-m", tiny)
    assert (absent.exit_code, absent.stdout) == (1, "Not found in the document.\n")
    nothing = run("ask", "Who?", "-m", tiny, input=b"")
    assert len(nothing.stdout.splitlines()) == 1  # no passage, no confidence
    assert nothing.exit_code == 1
    assert nothing.stderr.endswith("there was no text to work on; give one that is not empty\n")


def test_an_empty_file_is_told_of_once_on_each_stream(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    for _ in range(2):  # read, then from the earlier reading
        result = run("ask", "Who?", "-f", empty, "-m", tiny)
        assert (result.exit_code, result.stdout.count("Nothing was read")) == (1, 1)
        assert result.stderr.count("nothing to read") == 1
    told = run("ask", "Who?", "-f", empty, "-f", story, "-m", tiny).stderr
    assert told.count(f"warning: nothing to read: {empty} is empty") == 1


def test_asking_a_memory_file(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    saved = tmp_path / "story.fam"
    assert run("read", story, "--save", saved, "--model", tiny).exit_code == 0
    result = run("ask", "Where did Ottilie hide the treasure map?", "--load", saved, "--model", tiny, "--json")
    answer = json.loads(result.stdout)["answers"][0]
    assert answer["cited"] is True
    assert answer["citations"][0]["checked_against"] == "source"
    size = story.stat().st_size
    told = run("ask", "Where did Ottilie hide the treasure map?", "--load", saved, "--model", tiny).stderr
    sizes = f"{size:,} bytes, {size:,} tokens, {(size + 1) // 128} full blocks"
    assert told.splitlines()[-1] == f"famcli: From {saved}: {sizes}."
    story.write_text("Everything was rewritten.\n")
    changed = run("ask", "Where did Ottilie hide the treasure map?", "--load", saved, "--model", tiny, "--json")
    assert changed.exit_code == 1
    assert json.loads(changed.stdout)["answers"][0]["cited"] is False
    assert "warning" in changed.stderr
    assert "was changed since it was read" in changed.stderr


def test_a_written_answer_is_no_citation(run, tiny: Path, story: Path) -> None:
    arguments = ["ask", "Where did Ottilie hide the treasure map?", "-f", story, "--model", tiny, "--write"]
    result = run(*arguments, "--answer-tokens", 20)
    lines = result.stdout.split("\n")
    # What random weights write is in no passage.
    assert re.fullmatch(r"  Written by the model, confidence 0\.\d\d, not all of it is in the passages\.", lines[1])
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


@pytest.mark.parametrize(
    ("quote", "shown"),
    [
        ("The map lay where\nOttilie had hidden it,\nunder a stone.", 1),
        ("The map was found by\nOttilie.", 1),
        ("10:00:01 INFO ready\n10:00:02 ERROR refused\n  File 'a.py', line 2\n    fetch()", 4),
        ("total 12\n- apples", 2),
        ("Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye", 3),
        ("\n", 0),
    ],
)
def test_wrapped_prose_is_joined_and_other_lines_stay(quote: str, shown: int) -> None:
    from famcli.cli.work import paragraphs

    lines = paragraphs(quote)
    assert len(lines) == shown
    if shown != 1:
        assert lines == [line for line in quote.splitlines() if line]


def test_settings_for_drawing_words_say_that_quotes_have_none(run, tiny: Path, story: Path) -> None:
    for command in (["ask", "Who?", "-f"], ["summarize"]):
        drawn = run(*command, story, "-m", tiny, "--temperature", 0.5, "--seed", 1)
        assert "quoted, so settings for drawing words have no effect: temperature, seed" in drawn.stderr
        assert "drawing words" not in run(*command, story, "-m", tiny).stderr


def test_a_memory_file_of_another_model(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    from tests.helpers import make_random_checkpoint

    saved = tmp_path / "story.fam"
    run("read", story, "--save", saved, "--model", tiny)
    other = make_random_checkpoint(tmp_path / "other", seed=1)
    result = run("ask", "Who?", "--load", saved, "--model", other, "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1


def test_a_report_shows_answers_beside_the_text(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    arguments = ["ask", "Where did Ottilie hide the treasure map?", "-q", "Who knows <b>?", "-m", tiny, "--html", page]
    hidden = "The keeper Ottilie hid the treasure map under a red stone near the lighthouse."
    # The second time too, although the cache has a reading: a page shows what the memory attends to.
    for options, input in ((["-f", story], None), (["-f", story], None), ([], story.read_bytes())):
        result = run(*arguments, *options, input=input)
        assert result.exit_code == 0
        assert f"the report is in {page}" in result.stderr
        written = page.read_text()
        assert written.count(hidden) >= 2  # in the answer, and in the text
        assert 'href="#c1"' in written
        assert 'id="c1"' in written
        assert "Who knows &lt;b&gt;?" in written
        assert "No heat map" not in written
        page.unlink()
    assert run(*arguments, "-f", story, "--each").exit_code == 2
    unnamed = run("ask", "Who?", "-f", story, "-m", tiny, "--html", "-")
    assert (unnamed.exit_code, unnamed.stdout) == (2, "")
    assert "give the name of a file" in unnamed.stderr


def test_a_closed_pipe_in_the_middle_of_the_answers_ends_it_in_silence(tiny: Path, story: Path, tmp_path: Path) -> None:
    listed = tmp_path / "questions.txt"
    listed.write_text("Where did Ottilie hide the treasure map?\n" * 100)  # more answers than a pipe holds
    command = f"{sys.executable} -m famcli ask --questions {listed} -f {story} --quiet --threshold 0 --model {tiny}"
    command = f"set -o pipefail; {command} --readings {tmp_path} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr, done.returncode) == ("Q1: Where did Ottilie hide the treasure map?\n", "", 141)


def test_ctrl_c_before_anything_was_read_is_told(run, tiny: Path, story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("famcli.checkpoint.open.open_model", interrupted)
    arguments = ["ask", "Where did Ottilie hide the treasure map?", "-f", story, "--model", tiny]
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (130, "")
    assert "interrupted before there was anything to show" in result.stderr
    assert run(*arguments, "--quiet").stderr == ""


def test_ctrl_c_in_the_middle_of_an_answer_quotes_instead(
    run, tiny: Path, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from famcli.reading.generating import GeneratedText

    def interrupted(*_: object, **__: object):
        yield GeneratedText(" It was ")
        raise KeyboardInterrupt

    monkeypatch.setattr("famcli.tasks.ask.answering.generate", interrupted)
    arguments = ["ask", "Where did Ottilie hide the treasure map?", "-f", story, "--model", tiny, "--write"]
    result = run(*arguments)
    assert result.exit_code == 130
    lines = result.stdout.splitlines()
    assert lines[:2] == ["It was ", "The keeper Ottilie hid the treasure map under a red stone near the lighthouse."]
    assert lines[-1].startswith("Partial: interrupted")
    assert "interrupted: quoting from what was read so far" in result.stderr
    values = json.loads(run(*arguments, "--json").stdout)
    assert (values["partial"], values["answers"][0]["kind"]) == (True, "extracted")


@pytest.mark.parametrize(
    ("text", "question", "found"),
    [
        ("東京は日本の首都です。大阪は商業の都市です。京都は古い都です。", "東京はどこですか。", "東京"),
        (
            "Der Schl\u00fcssel liegt unter dem Stein. Niemand wei\u00df davon. " * 3,
            "Wo liegt der Schl\u00fcssel?",
            "Stein",
        ),
        ("word " * 6000 + "the golden key " + "word " * 6000, "Where is the golden key?", "golden key"),
        ("a\x00b\x1b[31m the golden key lies here.\r\n" * 5, "Where is the golden key?", "golden key"),
    ],
)
def test_texts_of_every_kind(text: str, question: str, found: str, run, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    result = run("ask", question, "-f", path, "--model", tiny, "--json", "--threshold", 0)
    assert result.exit_code == 0
    answer = json.loads(result.stdout)["answers"][0]
    assert found in answer["text"]
    start, end = answer["span"]
    assert path.read_bytes()[start:end].decode() == answer["text"]


@pytest.mark.parametrize("path", ["novel10.txt", "./docs/none", "notes.md"])
def test_a_mistyped_path_is_no_question(run, tiny: Path, path: str) -> None:
    result = run("ask", "Who is it?", path, "--model", tiny, input="")
    assert result.exit_code == 1
    assert f"{path.removeprefix('./')} does not exist" in result.stderr


def test_a_question_without_quotes_is_told_of(run, tiny: Path, story: Path) -> None:
    result = run("ask", "Who", "is", "Anna", story, "--model", tiny)
    assert result.exit_code == 2
    assert 'in quotes: famcli ask "Who is Anna"' in result.stderr
    assert run("ask", "Why?", "Who is Anna?", story, "--model", tiny).exit_code == 0
