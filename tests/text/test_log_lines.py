from __future__ import annotations

import pytest

from famcli.text.log_lines import GRAVE, MAX_TEMPLATES, MINOR, PLAIN, WORRYING, Templates, is_log, log_line

LINES = [
    ("Jun 14 15:16:01 combo sshd(pam_unix)[19939]: session opened", "Jun 14 15:16:01", PLAIN, "session opened"),
    ("Jul  2 04:15:43 mac-1 kernel[0]: error: no power", "Jul  2 04:15:43", GRAVE, "no power"),
    ("2015-07-29 17:41:44,747 - INFO  [Peer[id=1]/0:0:2181:Election@774] - Notification: 3200",
     "2015-07-29 17:41:44,747", PLAIN, "Notification: 3200"),
    ("2015-10-18 18:01:47,978 INFO [main] org.apache.MRAppMaster: Created it", "2015-10-18 18:01:47,978", PLAIN,
     "Created it"),
    ("17/06/09 20:10:40 WARN executor.Backend: Lost a signal", "17/06/09 20:10:40", WORRYING, "Lost a signal"),
    ("081109 203615 148 INFO dfs.DataNode$Packet: Packet 1 ends", "081109 203615", PLAIN, "Packet 1 ends"),
    ("03-17 16:13:38.811  1702  2395 D WindowManager: printing now", "03-17 16:13:38.811", MINOR, "printing now"),
    ("[Sun Dec 04 04:47:44 2005] [error] mod_jk child died", "Sun Dec 04 04:47:44 2005", GRAVE, "mod_jk child died"),
    ('10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 23', "10/Oct/2000:13:55:36 -0700", PLAIN,
     '"GET /a HTTP/1.0" 200 23'),
    ("E0612 10:11:12.131415   7 main.go:42] lost the lease", "E0612 10:11:12.131415", GRAVE, "lost the lease"),
    ("[    1.234567] usb 1-1: new device", "1.234567", PLAIN, "new device"),
    ("time=2024-01-02T03:04:05Z level=warning msg=slow", "2024-01-02T03:04:05Z", WORRYING, "level=warning msg=slow"),
    ("2024-01-02T03:04:05.678Z worker INFO the job failed", "2024-01-02T03:04:05.678Z", WORRYING, "the job failed"),
    ('10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /error-log/failed.html HTTP/1.0" 200 23 "-" "crash"',
     "10/Oct/2000:13:55:36 -0700", PLAIN, '"GET /error-log/failed.html HTTP/1.0" 200 23 "-" "crash"'),
    ('10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 404 23', "10/Oct/2000:13:55:36 -0700", WORRYING,
     '"GET /a HTTP/1.0" 404 23'),
    ('10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 503 -', "10/Oct/2000:13:55:36 -0700", GRAVE,
     '"GET /a HTTP/1.0" 503 -'),
    ("2025-06-24 14:36:25 install libgpg-error-dev:amd64 <none> 1.46-1", "2025-06-24 14:36:25", PLAIN,
     "install libgpg-error-dev:amd64 <none> 1.46-1"),
    ("2025-06-24 14:36:25 wrote /var/tmp/error.txt", "2025-06-24 14:36:25", PLAIN, "wrote /var/tmp/error.txt"),
    ("[INFO] Scanning for projects", None, PLAIN, "Scanning for projects"),
    ("ERROR: it is gone", None, GRAVE, "it is gone"),
    ("- 1117838570 2005.06.03 R02 2005-06-03-15.42.50.675872 R02-M1 RAS KERNEL FATAL parity error",
     "2005-06-03-15.42.50.675872", GRAVE, "parity error"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "time", "severity", "message"), LINES)
def test_what_a_line_says(text: str, time: str | None, severity: int, message: str) -> None:
    found = log_line(text)
    assert found is not None
    assert (found.time, found.severity, found.message) == (time, severity, message)


@pytest.mark.parametrize(
    "text",
    ["An error is no level here.", "", "1. MINOR Xinfo VInfo", "It was 12:30:00 when he came.", "Information is all."],
)
def test_prose_is_no_line_of_a_log(text: str) -> None:
    assert log_line(text) is None


def test_what_is_a_log() -> None:
    for text, *_ in LINES:
        assert is_log([f"{text} {number}" for number in range(20)]), text
    trace = ["2024-01-01 10:00:00 ERROR it broke", "java.lang.Error: x", *["\tat a.b(c.java:1)"] * 5]
    assert is_log(trace * 6)
    says = [
        "Hi there",
        "Did you see the game",
        "No, I was out with the dog",
        "Too bad",
        "It was the best one of the year",
    ]
    for form in ("[01.02.24, 10:0{n}:05] Anna: {text}", "2024-01-01 10:0{n}:00 <bert> {text}", "10:0{n} Anna: {text}",
                 "00:00:0{n} {text}", "[00:0{n}:00] Dr. Carl Weiss: {text}"):  # fmt: skip
        assert not is_log([form.format(n=n, text=text) for n, text in enumerate(says)]), form
    assert not is_log([f"2024-01-0{n} 10:00:00,{n}.5,7" for n in range(9)])
    assert not is_log(["Prose with a time (2024-01-01 10:00:00) in one line of it."] + ["And then more of it."] * 9)
    assert not is_log(["2024-01-01 10:00:00 INFO too few"] * 4)


def test_seconds_are_times_of_a_log_only_in_order_and_near_each_other() -> None:
    said = "the lamp was lit at the pier"
    times = [1700000000 + 60 * number for number in range(20)]
    for some in (times, times[::-1]):
        assert is_log([f"{time} {said}" for time in some])
    for some in ([*times[::3], *times[1::3], *times[2::3]] * 2, [1000000000 + 45000000 * n for n in range(20)]):
        assert not is_log([f"{time} {said}" for time in some])


def test_templates_tell_kinds_apart_and_are_bounded() -> None:
    templates = Templates()
    for number in range(20):
        templates.add(f"Failed password for user{number} from 10.0.0.{number} port {number}")
        templates.add(f"Accepted password for {'anna' if number % 2 else 'bert'} from 10.0.0.1")
        templates.add(f"nodes [{', '.join(f'n{i}' for i in range(number + 1))}] are up")
    assert [(one.text, one.count) for one in templates.all] == [
        ("Failed password for * from * port *", 20),
        ("Accepted password for * from *", 20),
        ("nodes * are up", 20),
    ]
    letters = "abcdefghijklmnopqrstuvwxyz"
    for number in range(2 * MAX_TEMPLATES):
        word = "".join(letters[number // 26**power % 26] for power in range(3))
        templates.add(f"{word} {word} {word}x")
    assert len(templates.all) == MAX_TEMPLATES + 1
    assert sum(one.count for one in templates.all) == 60 + 2 * MAX_TEMPLATES


def test_names_with_what_belongs_to_them_do_not_tell_lines_apart() -> None:
    templates = Templates()
    for name in ("dbus:amd64", "libc-bin:all", "example.org:443", "zlib1g:amd64", "g++-12:amd64"):
        for verb in ("unpacked", "installed", "removed"):
            templates.add(f"status {verb} {name} 1.2-3")
    assert sorted(one.count for one in templates.all) == [5, 5, 5]
    assert log_line("2025-06-24 14:37:44 install mime-info:amd64 1.2-1").message == "install mime-info:amd64 1.2-1"  # type: ignore[union-attr]


def test_what_a_program_did_is_a_log_where_only_some_lines_have_times() -> None:
    history = [
        f"{key} {value}"
        for day in range(10, 16)
        for key, value in (
            ("Start-Date:", f"2025-06-{day}  14:36:25"),
            ("Commandline:", "apt-get upgrade"),
            ("Install:", f"lamp{day}:amd64 (1.{day})"),
            ("End-Date:", f"2025-06-{day}  14:36:29"),
        )
    ]
    assert is_log(history)
    letters = ["Dear Ann,", "We met on 2025-06-10 14:00:00 again.", "Then it rained.", "Yours, Bob"] * 2
    poem = [f"{word} the lamp was lit at the pier" for word in ("When", "Then", "So", "Now", "And", "But", "Yet")] * 3
    assert not is_log(letters)
    assert not is_log(poem)
