"""Progress: throttled, bounded, with rates and times that follow from what was read."""

from __future__ import annotations

import io
import json
import re
from contextlib import closing
from typing import Any

import pytest

from famcli.cli.progress import Progress, Shown, describe_numbers, short_stage
from famcli.cli.render import describe_bytes, describe_seconds
from famcli.plain import plural


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_first_line_comes_at_once_and_the_rest_is_throttled() -> None:
    stream, clock = io.StringIO(), Clock()
    with closing(Progress("json", "loading", stream, clock)) as progress:
        assert [line["stage"] for line in shown(stream)] == ["loading"]
        progress.stage("reading", total_bytes=40_000)
        for _ in range(100):
            clock.now += 0.05
            progress.advance(num_bytes=200, num_tokens=50)
    lines = shown(stream)
    assert 5 <= len(lines) <= 9
    assert lines[-1] == {
        "event": "progress",
        "stage": "reading",
        "num_bytes": 20_000,
        "total_bytes": 40_000,
        "num_tokens": 5_000,
        "seconds": 5.0,
        "tokens_per_second": 1000.0,
        "eta_seconds": 5.0,
        "total_tokens": None,
        "memory_share": None,
        "so_far": None,
    }


def test_work_can_be_counted_in_tokens() -> None:
    stream, clock = io.StringIO(), Clock()
    with closing(Progress("json", "loading", stream, clock)) as progress:
        progress.stage("reading", total_tokens=1000)
        clock.now += 2
        progress.advance(num_bytes=0, num_tokens=200)
    last = shown(stream)[-1]
    assert (last["total_tokens"], last["num_tokens"], last["eta_seconds"]) == (1000, 200, 8.0)
    snapshot = Shown("reading", num_tokens=200, tokens_per_second=100.0, eta_seconds=8, total_tokens=1000)
    assert describe_numbers(snapshot) == "20 %  ETA 0:08  100 tokens/s  200 tokens"
    assert (snapshot.done, snapshot.total) == (200, 1000)


def test_what_the_memory_took_is_shown_until_something_newer_is_known() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress("json", "reading", stream, clock)
    for share in (0.5, 0.25, None):
        clock.now += 2
        progress.advance(num_bytes=200, num_tokens=50, memory_share=share)
    assert [one["memory_share"] for one in shown(stream)] == [None, 0.5, 0.25, 0.25]


def test_a_pipe_has_a_rate_but_no_end() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress("json", "reading", stream, clock)
    clock.now += 2
    progress.advance(num_bytes=200, num_tokens=50)
    last = shown(stream)[-1]
    assert (last["tokens_per_second"], last["eta_seconds"], last["total_bytes"]) == (25.0, None, None)


def test_the_rate_follows_a_change_of_speed_and_what_is_held_stays_small() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress("json", "reading", stream, clock)
    for seconds_per_step in [1.0] * 100 + [10.0] * 100:
        clock.now += seconds_per_step
        progress.advance(num_bytes=100, num_tokens=100)
    assert shown(stream)[-1]["tokens_per_second"] == pytest.approx(10)
    assert len(progress._recent) == 16


def test_none_shows_nothing_and_closing_twice_is_harmless() -> None:
    stream = io.StringIO()
    progress = Progress("none", "loading", stream)
    progress.stage("reading", 5)
    progress.advance(5, 1)
    progress.close()
    progress.close()
    assert stream.getvalue() == ""


def test_the_bar_shows_hostile_names_as_they_are() -> None:
    stream = io.StringIO()
    with closing(Progress("bar", "reading [red]\x1b]0;title\x07[/red]", stream)) as progress:
        progress.stage("reading [bold]", 10)
        progress.advance(10, 2)
    assert "\x1b]0" not in stream.getvalue()


def test_a_bar_fits_on_a_terminal_and_shows_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("TERM", "xterm")
    stream, clock = Terminal(), Clock()
    stage = f"/home/somebody/{'a/deep/folder/' * 5}the-man-who-was-thursday-a-nightmare.txt"
    with closing(Progress("bar", "loading", stream, clock)) as progress:
        progress.stage(stage, total_bytes=4_000_000)
        clock.now += 100
        progress.advance(num_bytes=1_000_000, num_tokens=300_000)
        progress._bar._live.refresh()
    line = stream.getvalue().replace("\x1b", "\n")
    assert "the-man-who-w\u2026htmare.txt" in line
    assert "25 %  ETA 5:00  1.0 MB/4.0 MB  3,000 tokens/s" in line
    assert "/home" not in line


def test_what_is_best_so_far_stands_below_the_bar_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    stream, clock = Terminal(), Clock()
    with closing(Progress("bar", "reading", stream, clock)) as progress:
        progress.so_far(f"line 7: The \x1b[31mlighthouse{' stood' * 30} there.")
        clock.now += 1
        progress.advance(num_bytes=10, num_tokens=2)
        progress._bar._live.refresh()
        assert "\nline 7: The \\x1b[31mlighthouse stood" in re.sub(r"\x1b\[\d*m|\r", "", stream.getvalue())
        assert "there." not in stream.getvalue()
        progress.stage("answering")
        held = len(stream.getvalue())
        progress._bar._live.refresh()
    assert "lighthouse" not in stream.getvalue()[held:]


@pytest.mark.parametrize(
    ("stage", "shown"),
    [
        ("notes.txt", "notes.txt"),
        ("/a b/c d/notes.txt", "notes.txt"),
        ("loading /models/tiny/", "loading tiny"),
        ("searching books/war-and-peace-volume-one.txt", "searching war-and-peace\u2026me-one.txt"),
        ("answering", "answering"),
    ],
)
def test_stages_are_short(stage: str, shown: str) -> None:
    assert short_stage(stage) == shown


def test_numbers_in_words() -> None:
    snapshot = Shown("reading", 1_234_567, 9_876_543, 345_678, 60, 1234.5, 12)
    assert describe_numbers(snapshot) == "12 %  ETA 0:12  1.2 MB/9.9 MB  1,234 tokens/s  345,678 tokens"
    assert describe_numbers(snapshot, 50) == "12 %  ETA 0:12  1.2 MB/9.9 MB  1,234 tokens/s"
    assert describe_numbers(snapshot, 5) == "12 %"
    assert describe_numbers(Shown("loading")) == ""
    assert describe_numbers(Shown("reading", num_tokens=5, memory_share=0.123)) == "0 B  5 tokens  memory takes 12 %"
    assert [describe_bytes(n) for n in (0, 999, 1000, 999_499, 999_500, 5 * 10**12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "999.5 kB",
        "1.0 MB",
        "5.0 TB",
    ]
    assert [describe_seconds(s) for s in (0, 59.6, 3600, 3661)] == ["0:00", "1:00", "1:00:00", "1:01:01"]
    assert [plural(1, "block"), plural(0, "block"), plural(1234, "token")] == ["1 block", "0 blocks", "1,234 tokens"]
