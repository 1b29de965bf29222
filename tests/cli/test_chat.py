"""`famcli chat`: a conversation over one reading, typed or through a pipe."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import time
from pathlib import Path

import pytest

MAP = "Where did Ottilie hide the treasure map?"
HIDDEN = "The keeper Ottilie hid the treasure map under a red stone near the lighthouse."


def test_a_conversation_through_a_pipe(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    notes, values = tmp_path / "notes.md", tmp_path / "notes.json"
    typed = f"{MAP}\n\n/source\nWho knows the zebra?\n/history\n/save {notes}\n/save {values}\n/quit\nnever asked\n"
    result = run("chat", story, "--model", tiny, input=typed)
    assert result.exit_code == 0
    assert result.stdout.count(HIDDEN) >= 3  # the answer, its citation, the citation in its place
    lines = result.stdout.splitlines()
    assert any(re.match(rf"{re.escape(str(story))}, line 61 of lines \d+ to \d+, bytes \d", line) for line in lines)
    assert [line for line in lines if line.startswith(" >> ")] == [f" >> {HIDDEN}"]
    assert any(line.startswith("  > ") for line in lines)
    assert "Not found in the document." in lines
    assert [f"1. {MAP}", "2. Who knows the zebra?"] == [line for line in lines if line[:2] in ("1.", "2.")]
    assert "never asked" not in result.stdout
    assert result.stderr.count(f"Read {story.stat().st_size:,} bytes") == 1
    assert notes.read_text().startswith(f"## {MAP}\n\n{HIDDEN}\n")
    assert f"({story}, line " in notes.read_text()
    saved = json.loads(values.read_text())
    assert [answer["question"] for answer in saved["answers"]] == [MAP, "Who knows the zebra?"]
    again = run("chat", story, "--model", tiny, input=f"{MAP}\n")
    assert HIDDEN in again.stdout
    assert "From an earlier reading" in again.stderr


def test_mistakes_are_told_and_it_goes_on(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    typed = f"/source\n/nonsense\n/save\n/save {story}\n/source 7\n{MAP}\n/source x\n/help\n"
    result = run("chat", story, "--model", tiny, input=typed)
    assert result.exit_code == 1
    assert result.stderr.endswith("6 lines of standard input could not be done\n")
    assert result.stderr.count("there is no answer with a citation yet") == 2
    assert "the last answer has 1 citation: /source 1 shows the first" in result.stderr
    assert "there is no command /nonsense" in result.stderr
    assert "name the file to write" in result.stderr
    assert f"{story}: file exists" in result.stderr
    assert HIDDEN in result.stdout
    assert "\n  /history " in result.stdout


def test_a_script_that_is_interrupted_ends(run, tiny: Path, story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("famcli.cli.chat._ask", interrupted)
    result = run("chat", story, "--model", tiny, input=f"{MAP}\n/help\n")
    assert result.exit_code == 130
    assert "/history" not in result.stdout


def test_a_home_that_is_not_there_is_a_mistake_like_others(run, tiny: Path, story: Path) -> None:
    result = run("chat", story, "--model", tiny, input="/save ~nobody_here/x.md\n/help\n")
    assert result.exit_code == 1
    assert "~nobody_here/x.md: no such file or directory; choose another name" in result.stderr
    assert "/history" in result.stdout


def test_what_is_not_sure_can_be_seen_in_its_place(run, tiny: Path, story: Path) -> None:
    typed = f"{MAP}\n/source\nWho sold the xylophone?\n/source\n"
    result = run("chat", story, "--model", tiny, "--threshold", 1, input=typed)
    assert result.stdout.count("Not sure; the nearest passage:") == 1
    assert re.search(r"confidence 0\.\d\d, quoted exactly:", result.stdout)
    assert result.stderr.count("the last answer cites nothing") == 1


def test_words_alone_are_commands(run, tiny: Path, story: Path) -> None:
    result = run("chat", story, "--model", tiny, input=f"help\n?\nHelp\nquit\n{MAP}\n")
    assert result.stdout.count("/history") == 3
    assert result.stdout.count("Q: ") == result.stdout.count("confidence") == 0
    assert run("chat", story, "--model", tiny, input=f"exit\n{MAP}\n").stdout == ""


def test_a_text_without_a_sentence_is_not_talked_about(run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    result = run("chat", tmp_path / "empty.txt", "--model", tiny, input=f"{MAP}\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("there was no text to work on; give one that is not empty\n")


def test_the_text_is_a_file(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    for options in ([], ["-"], [story, "--load", "x.fam"]):
        assert run("chat", *options, "--model", tiny, input="Who?\n").exit_code == 2
    assert run("chat", "--load", tmp_path / "absent.fam", "--model", tiny).exit_code == 1
    assert run("chat", tmp_path / "absent.txt", "--model", tiny).exit_code == 1
    saved = tmp_path / "story.fam"
    run("read", story, "--save", saved, "--model", tiny)
    assert HIDDEN in run("chat", "--load", saved, "--model", tiny, input=f"{MAP}\n").stdout


@pytest.mark.skipif(not hasattr(pty, "openpty"), reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("is_killed", "code"), [(False, 0), (True, 143)])
def test_on_a_terminal_it_prompts_and_ends_with_the_input(
    spawn, tiny: Path, story: Path, is_killed: bool, code: int
) -> None:
    main, secondary = pty.openpty()
    process = spawn("chat", story, "--model", tiny, "--quiet", stdin=secondary, stdout=secondary)
    os.close(secondary)
    shown = _until(main, "> ")
    os.write(main, f"{MAP}\n".encode())
    shown += _until(main, "> ", after="lighthouse")
    time.sleep(1)  # the prompt is shown a moment before it waits
    process.send_signal(signal.SIGINT)  # Ctrl-C at the prompt ends nothing
    time.sleep(0.3)
    if is_killed:
        process.terminate()
    else:
        os.write(main, b"\x04")
    assert process.wait(60) == code
    assert HIDDEN in " ".join(shown.split())
    assert "Traceback" not in shown + process.stderr.read()
    os.close(main)


def _until(handle: int, wanted: str, after: str = "", seconds: float = 120) -> str:
    shown, stop = "", time.monotonic() + seconds
    while time.monotonic() < stop:
        shown += os.read(handle, 4096).decode(errors="replace")
        if (after in shown and shown.rstrip("\x00").endswith(wanted)) or (after in shown and wanted in shown[-20:]):
            return shown
    raise AssertionError(f"{wanted!r} did not come: {shown}")
