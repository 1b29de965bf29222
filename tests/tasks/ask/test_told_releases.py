"""A release is found by the heading that has its version, in whatever words its date is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.tasks.ask.ask import ask
from tests.tasks.support import byte_model, write

BY_LINES = """CHANGES FROM 1.8 TO 1.9, 20 February 2014

* NOTE: this release changes the protocol of 1.8, so the server of 1.8 is restarted.

CHANGES FROM 1.7 TO 1.8, 26 March 2013

* Layouts cannot be undone any more.
* Add a command that merges two windows.

CHANGES FROM 1.6 TO 1.7

* Fix a crash of the server.
"""
MARKED = """# Changelog

## v1.9.0 / 2014-02-20

- Released soon after 1.8.0, to mend it.

## v1.8.0

Released on 2013-03-26.

- Layouts cannot be undone any more.

## v1.7.0

- Fix a crash of the server.
"""


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        ("When was mill 1.8 released?", BY_LINES, "CHANGES FROM 1.7 TO 1.8, 26 March 2013"),
        ("On what date did version 1.9 come out?", BY_LINES, "CHANGES FROM 1.8 TO 1.9, 20 February 2014"),
        ("When was 1.9.0 released?", MARKED, "## v1.9.0 / 2014-02-20"),
        ("When was 1.8.0 released?", MARKED, "## v1.8.0\n\nReleased on 2013-03-26."),
        (
            "What changed in 1.8?",
            BY_LINES,
            "CHANGES FROM 1.7 TO 1.8, 26 March 2013\n\n* Layouts cannot be undone any more.\n"
            "* Add a command that merges two windows.",
        ),
        ("What did version 1.7.0 fix?", MARKED, "## v1.7.0\n\n- Fix a crash of the server."),
        ("What is new in mill 1.7.0?", MARKED, "## v1.7.0\n\n- Fix a crash of the server."),
    ],
)
def test_a_release_is_told_by_its_heading(question: str, text: str, answer: str, tmp_path: Path) -> None:
    path = write(tmp_path, text, "CHANGES")
    # The name of what was released stands in no text.
    (found,) = ask(byte_model(), question.replace("mill ", ""), [path]).answers
    assert (found.found, found.text) == (True, answer)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("When was 1.7 released?", BY_LINES),
        ("When was 1.7.0 released?", MARKED),
    ],
)
def test_what_has_no_date_is_no_answer(question: str, text: str, tmp_path: Path) -> None:
    (found,) = ask(byte_model(), question, [write(tmp_path, text, "CHANGES")]).answers
    assert not found.text.startswith(("CHANGES FROM", "## v"))
