"""Standard streams that are closed or hold little, and names and questions that are no Unicode text."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

MAP = "Where did Ottilie hide the treasure map?"
NAME = os.fsdecode(b"na\xffme.txt")


def started(*arguments: object, streams: str = "", input: bytes = b"", **environment: str) -> tuple[str, str, int]:
    """A command as a process, its streams redirected as in a shell."""
    command = shlex.join([sys.executable, "-m", "famcli", *map(str, arguments)])
    done = subprocess.run(
        ["sh", "-c", f"{command} {streams}"], input=input, capture_output=True, env=os.environ | environment, timeout=60
    )
    return os.fsdecode(done.stdout), os.fsdecode(done.stderr), done.returncode


@pytest.mark.parametrize(
    ("arguments", "streams", "code"),
    [
        (["summarize", "story.txt"], ">&-", 1),
        (["summarize", "story.txt", "--json"], ">&-", 1),
        (["models"], ">&-", 1),
        (["summarize", "story.txt"], "2>&-", 0),
        (["summarize", "absent.txt"], "2>&-", 1),
        (["summarize"], "<&-", 1),
        (["ask", MAP], "<&-", 1),
        (["ask", "--file", "story.txt"], "<&-", 2),
        (["chat", "story.txt"], "<&-", 0),
        (["read", "story.txt", "--save", "story.fam"], "<&- >&- 2>&-", 1),
        (["--version"], ">&-", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_closed_stream_is_an_empty_one_and_a_closed_output_an_error(
    run, tiny: Path, story: Path, arguments: list[str], streams: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(story.parent)
    _, stderr, found = started(*arguments, streams=streams, FAMCLI_MODEL=str(tiny))
    assert (found, "bug" in stderr) == (code, False), stderr
    if streams == ">&-":
        assert stderr.endswith("standard output cannot be written: it is closed; what was done until then stays\n")
    if "read" in arguments:
        assert run("inspect", "story.fam").exit_code == 0


def test_a_warning_has_a_line_of_its_own_where_both_streams_are_one(tiny: Path, story: Path) -> None:
    arguments = ("summarize", story, "--mode", "write", "--model", tiny, "--progress", "none")
    stdout, _, code = started(*arguments, streams="2>&1", FAMCLI_MODEL=str(tiny))
    assert code == 0
    assert "famcli: warning: " in stdout
    assert all(line.startswith("famcli: ") for line in stdout.splitlines() if "famcli: " in line)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_what_an_encoding_cannot_hold_is_escaped(tiny: Path, story: Path, encoding: str) -> None:
    shown = "Ottilie hid “Les Misérables” and a 🗝 under a red stone near the lighthouse."
    story.write_text(f"{shown}\n", encoding="utf-8")
    environment = {"PYTHONIOENCODING": encoding, "FAMCLI_MODEL": str(tiny)}
    text, stderr, code = started("summarize", story, **environment)
    assert (code, "bug" in stderr) == (0, False)
    if encoding == "latin-1":
        assert "Ottilie hid \\u201cLes Mis\udce9rables\\u201d and a \\U0001f5dd under" in text
    values = os.fsencode(started("summarize", story, "--json", **environment)[0]).decode(encoding)
    assert json.loads(values)["sentences"][0]["text"] == shown


def test_names_that_are_no_unicode_are_names_like_others(
    run, tiny: Path, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(story.parent)
    monkeypatch.setenv("FAMCLI_MODEL", str(tiny))
    story.rename(NAME)
    (story.parent / "other.txt").write_text("Another one.\n")
    utf8 = {"PYTHONIOENCODING": "utf-8:strict"}
    saved = started("read", NAME, "--save", "story.fam", "--jsonl", **utf8)
    assert saved[2] == 0, saved[1]
    assert json.loads(saved[0].splitlines()[-1])["read"]["sources"][0]["name"] == NAME
    for arguments in (
        ["inspect", "story.fam", "--json"],
        ["ask", MAP, "--load", "story.fam", "--json"],
        ["ask", MAP, "--file", NAME, "--jsonl"],
        ["ask", MAP, "--file", NAME, "--file", "other.txt", "--question-first", "--html", "page.html"],
        ["summarize", NAME, "other.txt", "--format", "markdown", "--progress", "json"],
        ["summarize", NAME, "--html", os.fsdecode(b"pa\xffge.html")],
        ["ppl", NAME],
        ["readings"],
        ["read", NAME, "--save", "story.fam", "--append"],
    ):
        stdout, stderr, code = started(*arguments, **utf8)
        assert code == 0, stderr
        assert "na\\udcffme.txt" in stdout or arguments[0] == "read" or "--html" in arguments


@pytest.mark.parametrize("arguments", [["read", "story.txt", "--save", "x\udcff.fam"], ["inspect", "x\udcff.fam"]])
def test_a_memory_file_has_a_name_that_can_be_opened(
    run, tiny: Path, story: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(story.parent)
    _, stderr, code = started(*arguments, FAMCLI_MODEL=str(tiny))
    assert code == (2 if "read" in arguments else 1)
    assert "x\\udcff.fam: its name is not UTF-8, which memory files need: give it another one" in stderr


def test_a_checkpoint_with_such_a_name_is_not_called_damaged(tiny: Path, story: Path) -> None:
    folder = story.parent / os.fsdecode(b"ti\xffny")
    folder.symlink_to(tiny, target_is_directory=True)
    _, stderr, code = started("summarize", story, "--model", folder)
    assert (code, "name is not UTF-8" in stderr, "damaged" in stderr) == (1, True, False)


def test_invalid_bytes_that_are_typed_are_saved_as_replaced(tiny: Path, story: Path, tmp_path: Path) -> None:
    typed = b"Where did Ott\xffilie hide the map?\n/save %s/notes.md\n/save %s/notes.json\n"
    _, stderr, code = started("chat", story, input=typed.replace(b"%s", os.fsencode(tmp_path)), FAMCLI_MODEL=str(tiny))
    assert code == 0, stderr
    assert (tmp_path / "notes.md").read_text().startswith("## Where did Ott\ufffdilie hide the map?\n")
    assert json.loads((tmp_path / "notes.json").read_text())["answers"][0]["question"].startswith("Where did Ott\ufffd")


def test_a_question_with_an_invalid_byte_is_asked(tiny: Path, story: Path) -> None:
    asked = os.fsdecode(b"Where did Ottilie hide the treasure\xff map?")
    stdout, stderr, code = started("ask", asked, "-f", story, "--question-first", "--json", FAMCLI_MODEL=str(tiny))
    assert code == 0, stderr
    assert json.loads(stdout)["answers"][0]["question"] == asked
