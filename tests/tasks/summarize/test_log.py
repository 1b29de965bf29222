from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from famcli.documents.source import Piece
from famcli.tasks.summarize.log_digest import LogDigest
from famcli.tasks.summarize.summarize import Summarizer, summarize
from famcli.tasks.summarize.summary_result import SummarizeConfig
from famcli.tasks.task import Advance, run
from tests.reading.support import pipe
from tests.tasks.support import LARGE, byte_model, prose, write

ACCEPTED = "Accepted password for olaf from 10.9.8.7 port 49116 ssh2"
TRACE = "java.io.IOException: disk is gone\n\tat org.example.Store.put(Store.java:12)\n\n"


def sshd(num_lines: int = 1000, accepted: int = 955) -> str:
    """A log of failed logins with three lines that are like no other."""
    rng = np.random.default_rng(0)
    kinds = [
        "Failed password for invalid user {word} from {ip} port {port} ssh2",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={ip}",
        "Invalid user {word} from {ip}",
        "Received disconnect from {ip}: 11: Bye Bye [preauth]",
        "Connection closed by {ip} [preauth]",
        "error: Received disconnect from {ip}: 3: Auth fail [preauth]",
        "fatal: Write failed: Connection reset by {ip}",
        *(f"error: cannot read the key of type {name}" for name in ("rsa", "dsa", "ecdsa", "ed25519", "xmss", "none")),
    ]
    share = np.array([30, 25, 20, 15, 8, 1, 1, *[0.1] * 6])
    chosen, lines = rng.choice(len(kinds), num_lines, p=share / share.sum()), list[str]()
    for number, kind in enumerate(chosen):
        ip = ".".join(map(str, rng.integers(1, 255, 4)))
        text = kinds[kind].format(ip=ip, port=rng.integers(1024, 65535), word=rng.choice(["admin", "root", "guest"]))
        text = ACCEPTED if number == accepted else text
        time = f"{6 + number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}"
        lines.append(f"Dec 10 {time} host sshd[{24000 + number}]: {text}")
    return "\n".join(lines) + "\n"


def test_the_one_login_is_among_the_first_lines(tmp_path: Path) -> None:
    text = sshd()
    path = write(tmp_path, text)
    result = summarize(byte_model(LARGE), [path])
    assert (result.kind, result.counts.num_tokens) == ("log", 0)
    assert result.log is not None
    assert (result.log.num_lines, result.log.first_time, result.log.last_time) == (
        1000,
        "Dec 10 06:00:00",
        "Dec 10 06:16:39",
    )
    first = [quote.text for quote in result.sentences[:9]]
    assert [line for line in first if line.endswith(ACCEPTED)]
    assert [line for line in first if "fatal: Write failed" in line]
    assert result.log.num_errors == sum(" error: " in line or " fatal: " in line for line in text.splitlines())
    raw = path.read_bytes()
    for kind in result.log.kinds:
        quote = result.sentences[kind.sentence]
        assert raw[slice(*quote.span)].decode() == quote.text == text.splitlines()[quote.line - 1]
        assert kind.num_lines == 1 or kind.last_line > quote.line
    common = [kind for kind in result.log.kinds if kind.is_common]
    assert common[0].template == "Failed password for invalid user * from * port *"
    assert common[0].num_lines == sum("Failed password" in line for line in text.splitlines())


@pytest.mark.parametrize("sizes", [[1], [100, 3, 17], [1 << 16]])
def test_a_log_does_not_depend_on_how_it_comes(sizes: list[int]) -> None:
    raw = sshd(300, 20).replace("guest", "gäst").encode()
    whole = summarize(byte_model(LARGE), [pipe(raw, sizes=[len(raw)])])
    parts = summarize(byte_model(LARGE), [pipe(raw, sizes=sizes)])
    assert parts.sentences == whole.sentences
    assert parts.log == whole.log


@pytest.mark.parametrize(("focus", "needle"), [("ERROR", "error"), ("bye bye", "bye bye"), ("10.9.8.7", "10.9.8.7")])
def test_a_focus_finds_what_grep_finds(focus: str, needle: str, tmp_path: Path) -> None:
    text = sshd()
    result = summarize(byte_model(LARGE), [write(tmp_path, text)], SummarizeConfig(focus=focus))
    assert result.log is not None
    assert result.log.num_focus_lines == sum(needle in line.lower() for line in text.splitlines())
    assert sum(kind.num_lines for kind in result.log.kinds) == result.log.num_focus_lines
    assert all(needle in quote.text.lower() for quote in result.sentences)


def test_words_apart_are_found_where_the_phrase_is_not(tmp_path: Path) -> None:
    path = write(tmp_path, sshd())
    result = summarize(byte_model(LARGE), [path], SummarizeConfig(focus="port olaf"))
    assert result.log is not None
    assert result.log.num_focus_lines == 1
    missed = summarize(byte_model(LARGE), [path], SummarizeConfig(focus="zebra"))
    assert missed.log is not None
    assert missed.log.num_focus_lines is None
    assert missed.warnings == ("no line has the words of 'zebra', so this is the summary without a focus",)


def test_a_stack_trace_belongs_to_its_line(tmp_path: Path) -> None:
    lines = [f"2024-01-01 10:00:{number:02} INFO store.Main: wrote block {number}" for number in range(50)]
    text = "\n".join(lines[:30]) + "\n2024-01-01 10:00:30 INFO store.Main: giving up\n" + TRACE + "\n".join(lines[31:])
    result = summarize(byte_model(LARGE), [write(tmp_path, text)])
    assert result.log is not None
    assert (result.log.num_kinds, result.log.num_errors) == (2, 1)
    assert result.log.num_lines == text.count("\n") + 1 - text.count("\n\n")
    assert result.sentences[0].text.endswith("giving up")
    found = summarize(byte_model(LARGE), [write(tmp_path, text)], SummarizeConfig(focus="disk is gone"))
    assert found.sentences[0].text == "java.io.IOException: disk is gone"


def test_lines_of_one_form_count_by_their_own_severity(tmp_path: Path) -> None:
    # The same words but one: what one line says makes no error of the others.
    names = ("anna", "ben", "cleo")
    lines = [f"2024-01-02 03:04:{at:02} worker finished job of {names[at % 3]}" for at in range(40)]
    lines[17] = "2024-01-02 03:04:17 worker finished job of error"
    lines[30:31] = [lines[30], "Traceback (most recent call last):", "ValueError: no"]
    result = summarize(byte_model(LARGE), [write(tmp_path, "\n".join(lines) + "\n")])
    assert result.log is not None
    assert (result.log.num_errors, result.log.num_warnings) == (2, 0)
    grave = [result.sentences[kind.sentence].text for kind in result.log.kinds if kind.severity == "error"]
    assert lines[17] in grave
    counts = [kind.num_lines for kind in result.log.kinds]
    assert sum(counts) == result.log.num_lines - 2


def test_a_log_beside_a_text(tmp_path: Path) -> None:
    paths = [write(tmp_path, prose(30), "a.txt"), write(tmp_path, sshd(100, 50), "b.log")]
    for order in (paths, paths[::-1]):
        result = summarize(byte_model(LARGE), order)
        assert result.kind == "prose"
        assert result.log is not None
        of_log = {kind.sentence for kind in result.log.kinds}
        for number, quote in enumerate(result.sentences):
            assert quote.source.endswith("b.log") == (number in of_log)
        assert len(result.sentences) > len(of_log)
        assert result.counts.num_bytes == sum(path.stat().st_size for path in paths)


def test_what_it_is_read_as_can_be_chosen(tmp_path: Path) -> None:
    log, text = write(tmp_path, sshd(100, 50), "a"), write(tmp_path, prose(30), "b")
    as_text = summarize(byte_model(LARGE), [log], SummarizeConfig(kind="prose"))
    assert (as_text.kind, as_text.log) == ("prose", None)
    as_log = summarize(byte_model(LARGE), [text], SummarizeConfig(kind="log"))
    assert as_log.kind == "log"
    assert as_log.log is not None
    assert as_log.log.num_lines == sum(bool(line.strip()) for line in text.read_text().splitlines())


def test_an_interrupted_log_is_summarized_so_far(tmp_path: Path) -> None:
    task = Summarizer(byte_model(LARGE))
    for event in task.events([pipe(sshd(3000).encode(), sizes=[50_000])]):
        if isinstance(event, Advance):
            break
    result = task.result()
    assert result.partial
    assert result.log is not None
    assert 100 < result.log.num_lines < 3000
    assert run(Summarizer(byte_model(LARGE)), [write(tmp_path, sshd(3000))]).log != result.log


def test_a_line_without_end_is_cut() -> None:
    digest, text = LogDigest(), "2024-01-01 10:00:00 INFO " + "a " * 100_000
    digest.begin_source("x")
    for at in range(0, len(text), 1000):
        digest.feed(Piece(text[at : at + 1000], at, at + len(text[at : at + 1000])))
    digest.end_source()
    summary, quotes = digest.summary(5)
    assert summary.num_lines > 1
    assert {quote.line for quote in quotes} == {1}


def test_a_record_of_a_log_is_one_line_at_its_own_place(tmp_path: Path) -> None:
    """JSON lines are converted to several lines each; what is counted and cited is the original's."""
    said = ["request served" if number != 33 else "the disk is full" for number in range(400)]
    lines = [
        json.dumps(
            {"time": f"2026-11-29T10:{n // 60:02}:{n % 60:02}Z", "level": "error" if n == 33 else "info", "m": m}
        )
        for n, m in enumerate(one * 9 for one in said)
    ]
    result = summarize(byte_model(LARGE), [write(tmp_path, "\n".join(lines) + "\n", "app.jsonl")])
    assert result.log is not None
    assert (result.log.num_lines, result.log.num_errors) == (400, 1)
    (error,) = (quote for quote in result.sentences if "disk" in quote.text)
    assert error.line == 34
    assert error.location is not None
    assert error.location.line == 34
    assert max(kind.last_line for kind in result.log.kinds) == 400


def test_lines_that_begin_with_a_time_are_no_table_whatever_parts_them(tmp_path: Path) -> None:
    lines = [f"20171223-22:15:{n % 60}:{n}|Step_LSC|300023|onExtend:{n} 14 0 4" for n in range(300)]
    result = summarize(byte_model(LARGE), [write(tmp_path, "\n".join(lines) + "\n", "health.log")])
    assert (result.kind, result.log is not None and result.log.num_lines) == ("log", 300)
    assert result.sentences[0].text in lines
    figures = "\n".join(f"12:{n % 60:02}:00|{n}|{n * 7}|{n * 3.5}" for n in range(300))
    assert summarize(byte_model(LARGE), [write(tmp_path, figures, "figures.csv")]).kind == "table"
