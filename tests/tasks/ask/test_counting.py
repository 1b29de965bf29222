"""What a summary counts is counted for a question too, by the same code, where the number is certain."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.tasks.ask.ask import Answer, ask
from famcli.tasks.summarize.summarize import summarize
from tests.tasks.support import byte_model, write

MINUTES = """# Mill committee meeting 2024-03-05

## Present

* Ann Bell @ann (chair)
* Bo "Bobby" Carr @bobby
* Cy van Dorn (guest from the harbour team)

### Agenda

* The roof
* The door

## Notes

The roof leaks. It was agreed to mend it. Dan will ask for an offer.
"""
CHANGES = (
    "CHANGES FROM 1.1 TO 1.2, 26 March 2013\n\n* Add a command that merges two tables.\n* Fix a crash in it.\n\n"
    "CHANGED FROM 1.0a TO 1.1\n\n* Add support for dates in tables.\n\n"
    "CHANGES FROM 0.9 TO 1.0a, 9 May 2011\n\n* Add the first three of the commands.\n"
)


def asked(question: str, text: str, folder: Path, name: str = "text.md") -> Answer:
    return ask(byte_model(), question, [write(folder, text, name)]).answers[0]


@pytest.mark.parametrize(
    "question", ["How many people attended?", "How many were present?", "How many people attended the mill meeting?"]
)
def test_those_present_are_counted_and_cited(question: str, tmp_path: Path) -> None:
    answer = asked(question, MINUTES, tmp_path)
    assert (answer.kind, answer.found, answer.cited) == ("counted", True, False)
    assert answer.text.startswith("3: Ann Bell @ann (chair), Bo ")
    (cited,) = answer.citations
    assert cited.verified
    assert cited.text.startswith("## Present")
    assert cited.text.endswith("harbour team)")
    facts = {fact.label: fact.text for fact in summarize(byte_model(), [tmp_path / "text.md"]).facts}
    assert facts["Present"] == answer.text


@pytest.mark.parametrize(
    ("question", "changed"),
    [
        # Some of them, lists of several meetings, names of several people or of none.
        ("How many people from the harbour attended?", MINUTES),
        ("How many were present?", MINUTES + "The wheel turns, and the miller sleeps. " * 99 + "\n\n" + MINUTES),
        ("How many were present?", MINUTES.replace("Cy van Dorn", "Several others")),
        ("How many were present?", MINUTES.replace("Cy van Dorn", "the four members")),
        ("How many were present?", MINUTES.replace("## Present", "## Friends")),
    ],
)
def test_what_is_not_certain_is_not_counted(question: str, changed: str, tmp_path: Path) -> None:
    assert asked(question, changed, tmp_path).kind != "counted"


def test_releases_are_counted(tmp_path: Path) -> None:
    answer = asked("How many releases are there?", CHANGES, tmp_path, "CHANGES")
    assert (answer.kind, answer.text) == ("counted", "3 releases, 1.0a (9 May 2011) to 1.2 (26 March 2013)")
    twice = asked("How many releases are there?", CHANGES + CHANGES, tmp_path, "changes-of-two")
    assert twice.kind != "counted"
    assert not twice.found


def chapters(*numbers: str) -> str:
    return "\n\n".join(f"CHAPTER {one}\n\nTHE MILL\n\n{'The miller walked up the hill. ' * 9}" for one in numbers)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (chapters("I", "II", "III", "IV"), 4),
        (chapters("One", "Two", "Three"), 3),
        # A table of contents has them all once more.
        ("CHAPTER I\n\nCHAPTER II\n\nCHAPTER III\n\nPREFACE\n\n" + chapters("I", "II", "III"), 3),
        (chapters("I", "II", "IV"), None),
        (chapters("I", "II", "I", "II"), None),
        (chapters("I", "II", "THE LAST"), None),
    ],
)
def test_chapters_are_counted_where_their_numbers_follow_one_another(
    text: str, number: int | None, tmp_path: Path
) -> None:
    answer = asked("How many chapters are there?", text, tmp_path)
    assert (answer.text if answer.kind == "counted" else None) == (number and f"{number} chapters")


def test_what_a_file_is_called_is_not_missing(tmp_path: Path) -> None:
    rows = "version,codename,release\n1.1,Buzz,1996-06-17\n3.1,Sarge,2005-06-06\n2.0,Hamm,1998-07-24\n"
    answer = asked("When was Debian Sarge released?", rows, tmp_path, "debian.csv")
    assert answer.missing == ()
    assert "2005-06-06" in answer.text
    assert asked("When was Gentoo Sarge released?", rows, tmp_path, "debian.csv").missing == ("Gentoo",)
