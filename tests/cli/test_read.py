"""`famcli read`: memory files that survive interruptions, full disks and growing texts."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest


def test_read_says_what_was_read_and_saved(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    saved = tmp_path / "story.fam"
    result = run("read", story, "--save", saved, "--model", tiny)
    assert result.exit_code == 0
    read, holds = result.stdout.splitlines()
    size = story.stat().st_size
    sizes = f"{size:,} bytes, {size:,} tokens, {(size + 1) // 128} full blocks"
    assert sizes in read
    assert sizes in holds
    assert sizes in run("inspect", saved).stdout
    assert read.startswith(f"Read {size:,} bytes, ")
    assert f"holds {size:,} bytes, {size:,} tokens" in holds
    assert saved.stat().st_mode & 0o077 == 0
    facts = json.loads(run("inspect", saved, "--json").stdout)
    assert (facts["kind"], facts["memory_kind"], facts["num_bytes"]) == ("memory file", "full", size)
    assert f"{story}, utf-8\n" in run("inspect", saved).stdout


def test_without_save_it_only_counts(run, tiny: Path, story: Path) -> None:
    result = run("read", story, "--model", tiny, "--json")
    assert "nothing was kept of what was read: to keep it, name a memory file with --save" in result.stderr
    values = json.loads(result.stdout)
    assert values["saved"] is None
    assert values["read"]["bytes"] == story.stat().st_size


def test_a_grown_text_is_read_on(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    saved, whole = tmp_path / "story.fam", tmp_path / "whole.fam"
    text = story.read_bytes()
    story.write_bytes(text[:1000])
    run("read", story, "--save", saved, "--model", tiny)
    story.write_bytes(text)
    result = run("read", story, "--save", saved, "--append", "--model", tiny, "--json")
    assert json.loads(result.stdout)["read"]["bytes"] == len(text) - 1000
    run("read", story, "--save", whole, "--model", tiny)
    facts = [json.loads(run("inspect", path, "--json").stdout) for path in (saved, whole)]
    assert facts[0] | {"path": "", "file_size": 0} == facts[1] | {"path": "", "file_size": 0}
    story.write_bytes(b"X" + text[1:])
    changed = run("read", story, "--save", saved, "--append", "--model", tiny)
    assert changed.exit_code == 1
    assert "it was changed, not continued" in changed.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--append"], "--append has no meaning without --save"),
        (["--kind", "memory"], "--kind has no meaning without --save"),
        (["--save", "there.fam"], "there.fam is there already and is no memory file, so it is not replaced"),
        (["--save", "there.fam", "--force"], "there.fam is there already and is no memory file, so it is not replaced"),
        (["--save", "/dev/null", "--force"], "/dev/null is a device or a pipe"),
        (["--save", "there.fam", "--append", "--force"], "choose one"),
        (["--save", "new.fam", "--append"], "nothing to append to"),
    ],
)
def test_contradictions_are_usage_errors(
    run, story: Path, options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.fam").write_bytes(b"precious")
    result = run("read", story, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert Path("there.fam").read_bytes() == b"precious"


def test_a_memory_file_is_replaced_by_force_alone_and_the_text_never(
    run, tiny: Path, story: Path, tmp_path: Path
) -> None:
    saved, text = tmp_path / "story.fam", story.read_bytes()
    for options, code, words in (
        ([saved], 0, ""),
        ([saved], 2, "exists: append to it, or replace it (--append or --force)"),
        ([saved, "--force"], 0, ""),
        ([story, "--force"], 2, "is a text that is read, and would be lost: name another file"),
    ):
        result = run("read", story, "--model", tiny, "--save", *options)
        assert result.exit_code == code
        assert words in result.stderr
    assert story.read_bytes() == text


def test_kind_memory_is_smaller(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    sizes = []
    for kind in ("full", "memory"):
        run("read", story, "--save", tmp_path / kind, "--kind", kind, "--model", tiny)
        sizes.append((tmp_path / kind).stat().st_size)
    assert sizes[1] < sizes[0]
    result = run("read", story, "--save", tmp_path / "memory", "--append", "--kind", "full", "--model", tiny)
    assert (result.exit_code, (tmp_path / "memory").stat().st_size) == (2, sizes[1])
    assert "is of kind 'memory'" in result.stderr


def test_a_pipe_with_a_name_is_a_pipe(run, tiny: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=["Through a pipe with a name.\n"])
    writer.start()
    result = run("read", tmp_path / "pipe", "--save", tmp_path / "x.fam", "--model", tiny)
    writer.join()
    assert "a pipe cannot be read again" in result.stderr
    told = run("ask", "What?", "--load", tmp_path / "x.fam", "--model", tiny).stderr
    assert "pipe can be quoted: " in told
    assert "which cannot be read again" in told


def test_what_will_not_be_opened_again_unasked_is_told_when_it_is_saved(run, tiny: Path, tmp_path: Path) -> None:
    for folder in ("texts", "kept"):
        (tmp_path / folder).mkdir()
    text = tmp_path / "texts" / "a.txt"
    text.write_text("The lamp is lit at dusk.\n")
    told = run("read", text, "--save", tmp_path / "kept" / "a.fam", "--model", tiny).stderr
    assert f"--sources {tmp_path / 'texts'}" in told
    assert "--sources" not in run("read", text, "--save", tmp_path / "a.fam", "--model", tiny).stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_saves_and_says_how_to_go_on(
    run, spawn, until_tokens_are_read, tiny: Path, story: Path, tmp_path: Path, signum: int, code: int
) -> None:
    saved, num_given = tmp_path / "pipe.fam", 0
    process = spawn("read", "--save", saved, "--model", tiny, "--progress", "json", "--json")

    def more() -> None:
        nonlocal num_given
        process.stdin.write(story.read_text()[:400])
        process.stdin.flush()
        num_given += 400

    until_tokens_are_read(process, more)
    process.send_signal(signum)
    stdout, stderr = process.communicate(timeout=60)
    result = json.loads(stdout)
    assert (process.returncode, result["partial"]) == (code, True)
    assert 127 <= result["saved"]["bytes"] == result["read"]["bytes"] == result["read"]["tokens"]
    assert result["saved"]["bytes"] + result["saved"]["unread"] <= num_given
    assert "go on by piping the rest into: famcli read - --save" in stderr
    assert "Traceback" not in stderr
    rest = run("read", "--save", saved, "--append", "--model", tiny, "--json", input="The rest of it.\n")
    assert "a pipe cannot be read again: nothing of the text that it continues will be quoted" in rest.stderr
    values = json.loads(rest.stdout)
    assert values["read"]["bytes"] == result["saved"]["unread"] + 16
    assert values["total"]["bytes"] == result["saved"]["bytes"] + values["read"]["bytes"]
    assert values["total"]["tokens"] == result["saved"]["tokens"] + values["read"]["tokens"]


def test_going_on_keeps_what_decides_how_a_text_is_read(
    spawn, until_tokens_are_read, tiny: Path, tmp_path: Path
) -> None:
    given = ["--model", tiny, "--quantize", "int8", "--dtype", "float32", "--encoding", "latin-1"]
    log = tmp_path / "app.log"
    log.write_text("first line\n")
    process = spawn("read", log, "--follow", "--save", tmp_path / "log.fam", *given, "--progress", "json")

    def more() -> None:
        with log.open("a") as file:
            file.write("another line\n" * 30)

    until_tokens_are_read(process, more)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert f"--append --follow {' '.join(map(str, given))}\n" in stderr


def test_a_file_that_went_on_through_a_pipe_is_not_read_twice(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    saved = tmp_path / "story.fam"
    assert run("read", story, "--save", saved, "--model", tiny).exit_code == 0
    assert run("read", "--save", saved, "--append", "--model", tiny, input="And more.\n").exit_code == 0
    before = saved.read_bytes()
    again = run("read", story, "--save", saved, "--append", "--model", tiny)
    assert again.exit_code == 1
    assert "was read already and went on through a pipe: pipe what is new" in again.stderr
    assert saved.read_bytes() == before


def _until_it_waits(process: subprocess.Popen[str], log: Path) -> None:
    """Return once a process has read a file to its end, and sleeps until more is there: Linux says both."""
    own, until = Path(f"/proc/{process.pid}"), time.monotonic() + 60
    if not (own / "syscall").exists():
        time.sleep(5)
        return
    sleeping = {"x86_64": ("35", "230")}.get(platform.machine(), ("101", "115"))  # nanosleep, clock_nanosleep
    while time.monotonic() < until:
        opened = [handle.name for handle in (own / "fd").iterdir() if os.readlink(handle) == str(log)]
        reached = [(own / "fdinfo" / name).read_text().split()[1] for name in opened]
        if str(log.stat().st_size) in reached and (own / "syscall").read_text().split()[0] in sleeping:
            return
        time.sleep(0.01)
    raise AssertionError("it does not wait for more")


def test_follow_reads_what_is_appended_until_interrupted(
    run, spawn, until_tokens_are_read, tiny: Path, tmp_path: Path
) -> None:
    log, saved = tmp_path / "app.log", tmp_path / "log.fam"
    log.write_text("first line\n")
    process = spawn("read", log, "--follow", "--save", saved, "--model", tiny, "--progress", "json", "--json")

    def more() -> None:
        with log.open("a") as file:
            file.write("another line\n" * 30)

    until_tokens_are_read(process, more)
    _until_it_waits(process, log)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    result, size = json.loads(stdout), log.stat().st_size
    assert (process.returncode, result["partial"]) == (0, False)
    assert result["read"]["bytes"] == result["saved"]["bytes"] == size
    assert result["saved"]["unread"] == 0
    assert f"stopped following; all that was there is read and saved: go on with: famcli read {log} --save" in stderr
    assert "--append --follow" in stderr
    more()
    rest = json.loads(run("read", log, "--save", saved, "--append", "--model", tiny, "--json").stdout)
    assert rest["read"]["bytes"] == log.stat().st_size - size == rest["total"]["bytes"] - size


def test_a_place_that_cannot_be_written_is_one_line(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    result = run("read", story, "--save", "/proc/story.fam", "--model", tiny, "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert run("read", story, "--save", tmp_path / "no" / "where.fam", "--model", tiny).exit_code == 2
