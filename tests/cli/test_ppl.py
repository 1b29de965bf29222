"""`famcli ppl`: figures of files and pipes in three forms, and what happens when it is cut short."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from famcli.cli.ppl import describe_difference
from famcli.nn import FamConfig
from famcli.tasks.perplexity.scores import Difference
from tests.helpers import make_random_checkpoint


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_text_says_figures_definition_and_what_was_read(run, tiny: Path, story: Path) -> None:
    result = run("ppl", story, "--model", tiny)
    assert result.exit_code == 0
    first, definition, counts = result.stdout.splitlines()
    size = story.stat().st_size
    assert first.startswith(f"{story}  perplexity ")
    assert first.endswith(f"{size:,} tokens  {size:,} bytes")
    assert "bits per byte: nll / ln 2" in definition
    assert len(definition) < 600
    assert counts.startswith(f"Read {size:,} bytes, {size:,} tokens, {(size + 1) // 128} full blocks in ")
    assert result.stderr == f"famcli: model {tiny} (folder, by --model) on cpu in float32\n"


def test_quiet_says_nothing_on_stderr(run, tiny: Path, story: Path) -> None:
    result = run("ppl", story, "--model", tiny, "--quiet")
    assert result.stderr == ""
    assert [line.split()[0] for line in result.stdout.splitlines()] == [str(story), "Read"]


def test_json_is_one_object_and_agrees_with_stdin(run, tiny: Path, story: Path) -> None:
    from_file = json.loads(run("ppl", story, "--model", tiny, "--json").stdout)
    from_pipe = json.loads(run("ppl", "--model", tiny, "--json", input=story.read_bytes()).stdout)
    assert from_file["partial"] is False
    assert from_file["total"][0]["bytes"] == story.stat().st_size
    assert from_pipe["total"][0]["nll"] == pytest.approx(from_file["total"][0]["nll"], rel=1e-5)
    assert from_pipe["files"][0]["source"]["name"] == "standard input"


def test_several_files_have_a_total(run, tiny: Path, story: Path) -> None:
    short = story.with_name("s.txt")
    short.write_text("A short one.\n")
    result = run("ppl", story, short, "--model", tiny, "--memory-mode", "compare")
    lines = result.stdout.splitlines()
    names = [line.split("  ")[0] for line in lines[:9]]
    assert names == [str(story)] * 3 + [str(short)] * 3 + ["total"] * 3
    figures = [line for line in lines[:9] if " perplexity " in line]
    assert len({len(line) for line in figures}) == 1
    for cell in ("memory ", " nats/token)", " bits/byte", " %", " tokens", " bytes"):
        assert len({line.index(cell) for line in figures}) == 1
    place = figures[0].index("memory ")
    assert [line[place:].startswith("on minus frozen  ") for line in lines[:9]] == [False, False, True] * 3


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (-0.5, 0.1, "The memory helps"),
        (0.5, 0.1, "The memory does not help"),
        (-0.19, 0.1, "No measurable difference"),
        (0.5, None, "cannot be told"),
    ],
)
def test_a_difference_is_explained(value: float, error: float | None, words: str) -> None:
    assert words in describe_difference(Difference(value, error, value))


def test_compare_says_what_the_memory_is_worth(run, tiny: Path, story: Path) -> None:
    result = run("ppl", story, "--model", tiny, "--memory-mode", "compare")
    sentence = result.stdout.splitlines()[3]
    assert sentence.startswith(("The memory ", "No measurable difference"))


def test_without_memory_there_is_nothing_to_compare(run, story: Path, tmp_path: Path) -> None:
    fam = FamConfig(block_size=128, memory_segments=1, fam_length=0)
    plain = make_random_checkpoint(tmp_path / "plain", fam=fam)
    result = run("ppl", story, "--model", plain, "--memory-mode", "compare")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no memory (fam_length is 0) to compare with" in " ".join(result.stderr.split())


def test_jsonl_reports_each_line_each_file_and_the_result(run, tiny: Path, story: Path) -> None:
    events = lines_of(run("ppl", story, "--model", tiny, "--jsonl", "--per", "line").stdout)
    units = [event for event in events if event["event"] == "unit"]
    assert [unit["line"] for unit in units] == list(range(1, 1 + story.read_text().count("\n")))
    assert units[2]["text"] == story.read_text().split("\n")[2]
    assert [event["event"] for event in events[len(units) :]] == ["file", "result"]
    total = sum(unit["scores"][0]["nll"] for unit in units)
    assert total == pytest.approx(events[-1]["total"][0]["nll"], rel=1e-6)


@pytest.mark.parametrize("per", ["block", "token"])
def test_blocks_and_tokens_in_text(run, tiny: Path, story: Path, per: str) -> None:
    lines = run("ppl", story, "--model", tiny, "--per", per).stdout.splitlines()
    size = story.stat().st_size
    units = [line for line in lines if line.startswith(("line ", "byte "))]
    assert len(units) == (math.ceil(size / 128) if per == "block" else size)


def test_alert_shows_only_the_lines_that_stand_out(run, tiny: Path, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("".join(f"GET /page/{i * i % 97}/index.html 200\n" for i in range(80)))
    every = lines_of(run("ppl", log, "--model", tiny, "--per", "line", "--jsonl").stdout)
    alerts = lines_of(run("ppl", log, "--model", tiny, "--alert", "1", "--jsonl").stdout)
    shown = [event["index"] for event in alerts if event["event"] == "unit"]
    assert 0 < len(shown) < len([event for event in every if event["event"] == "unit"])
    assert alerts[-1]["alerts"] == len(shown)
    text = run("ppl", log, "--model", tiny, "--alert", "1").stdout.splitlines()
    assert [line.split("  ")[0] for line in text[: len(shown)]] == [f"line {index + 1}" for index in shown]
    assert all("(limit " in line for line in text[: len(shown)])
    assert f"{len(shown)} lines stood out." in text


def test_contradictions_are_usage_errors(run, story: Path) -> None:
    for options in (["--alert", "4", "--per", "block"], ["--json", "--per", "line"], ["--alert", "-1"]):
        result = run("ppl", story, *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert len(result.stderr.splitlines()) == 1


def test_empty_input_fails_unless_there_is_other_text(run, tiny: Path, story: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    result = run("ppl", tmp_path / "empty.txt", "--model", tiny)
    assert result.exit_code == 1
    assert [line.split("  ")[-1] for line in result.stdout.splitlines()[:-1]] == ["nothing to score"]
    assert result.stderr.splitlines()[-2:] == [
        f"famcli: warning: nothing to read: {tmp_path / 'empty.txt'} is empty",
        "famcli: there was no text to work on; give one that is not empty",
    ]
    assert run("ppl", "--model", tiny, "--json", input="").exit_code == 1
    assert run("ppl", tmp_path / "empty.txt", story, "--model", tiny).exit_code == 0


def test_progress_begins_before_the_model_is_there(run, tiny: Path, story: Path) -> None:
    stderr = run("ppl", story, "-m", tiny, "--progress", "json").stderr.splitlines()
    events = [json.loads(line) for line in stderr if line.startswith("{")]
    assert [event["stage"] for event in events[:2]] == [f"loading {tiny}", str(story)]
    assert events[-1]["num_tokens"] == events[-1]["total_bytes"] == story.stat().st_size
    assert stderr.index(f"famcli: model {tiny} (folder, by --model) on cpu in float32") == 1


def test_a_line_is_reported_while_the_pipe_is_open(spawn, tiny: Path) -> None:
    process = spawn("ppl", "--per", "line", "--jsonl", "--model", tiny)
    try:
        process.stdin.write("one line\nand the beg")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"] == "one line"
        process.stdin.write("inning of another\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"] == "and the beginning of another"
    finally:
        process.stdin.close()
    assert [json.loads(line)["event"] for line in process.stdout] == ["file", "result"]
    assert process.wait(60) == 0


def test_interrupt_prints_the_figures_so_far(spawn, tiny: Path) -> None:
    process = spawn("ppl", "--per", "line", "--jsonl", "--model", tiny)
    process.stdin.write("one line\ntwo lines\n")
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    result = json.loads(stdout.splitlines()[-1])
    assert (result["event"], result["partial"], result["total"][0]["bytes"]) == ("result", True, 19)
    assert process.returncode == 130
    assert "Traceback" not in stderr


def test_interrupt_while_starting_is_silent(spawn, tiny: Path) -> None:
    process = spawn("ppl", "--progress", "json", "--model", tiny)
    assert json.loads(process.stderr.readline())["stage"] == f"loading {tiny}"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stdout + stderr


def test_a_closed_pipe_ends_it_in_silence(tiny: Path, story: Path, tmp_path: Path) -> None:
    big = tmp_path / "big.txt"
    big.write_text(story.read_text() * 20)
    command = f"{sys.executable} -m famcli ppl {big} --per token --quiet --model {tiny} | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=120)
    assert (len(done.stdout.splitlines()), done.stderr, done.returncode) == (1, "", 141)


def test_a_full_disk_is_one_line(spawn, tiny: Path, story: Path) -> None:
    with open("/dev/full", "w") as full:
        process = spawn("ppl", story, "--quiet", "--model", tiny, stdout=full)
    assert process.communicate(timeout=60)[1] == (
        "famcli: standard output cannot be written: no space left on device; what was done until then stays; free some "
        "space or write elsewhere\n"
    )
    assert process.returncode == 1


def test_bad_input_is_one_line_each(run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "book.pdf").write_bytes(b"%PDF-1.7\n...")
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "secret.txt").chmod(0)
    (tmp_path / "nul.bin").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "none").mkdir()
    expected = {"missing.txt": "does not exist", "none": "holds no document that can be read", "book.pdf": "PDF"}
    if os.geteuid():
        expected["secret.txt"] = "permission"
    for name, words in expected.items():
        result = run("ppl", tmp_path / name, "--model", tiny)
        assert (result.exit_code, result.stdout) == (1, "")
        assert len(result.stderr.splitlines()) == 1
        assert words in result.stderr
    assert run("ppl", tmp_path / "nul.bin", "--model", tiny).exit_code in (0, 1)


def test_a_bad_file_among_others_is_told_first_and_fails_in_the_end(run, tiny: Path, story: Path) -> None:
    result = run("ppl", story, "missing.txt", "--model", tiny, "--progress", "json")
    assert result.exit_code == 1
    assert str(story) in result.stdout
    assert result.stderr.startswith("famcli: missing.txt does not exist: check the path\n")
    result = run("ppl", "absent.txt", "missing.txt", "--model", tiny)
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line.split()[1] for line in result.stderr.splitlines()] == ["absent.txt", "missing.txt"]


def test_a_model_that_is_not_there(run, story: Path) -> None:
    result = run("ppl", story, "--model", "no/such-model", "--offline")
    assert result.exit_code == 1
    assert result.stderr.startswith("famcli: 'no/such-model' (--model) is no folder")
    result = run("ppl", story, "--model", "./no/such-model")
    assert result.exit_code == 1
    assert result.stderr == "famcli: there is no folder no/such-model (--model); `famcli models` lists what is there\n"


def test_a_named_pipe_is_opened_once(spawn, tiny: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = spawn("ppl", fifo, "--json", "--model", tiny)
    fifo.write_text("through a pipe with a name\n")
    assert json.loads(process.communicate(timeout=60)[0])["read"]["bytes"] == 27


def test_another_encoding(run, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("naïve café\n".encode("latin-1"))
    result = json.loads(run("ppl", path, "--encoding", "latin-1", "--model", tiny, "--json").stdout)
    assert (result["read"]["bytes"], result["read"]["sources"][0]["encoding"]) == (11, "iso8859-1")
    assert run("ppl", path, "--encoding", "nonsense", "--model", tiny).exit_code in (1, 2)
