"""Values under a name, lists below a heading, and what a text says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.documents.opening import open_source
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.labels import told
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.text.passages import PassageBuilder
from tests.tasks.support import byte_model, write

MINUTES = """# Harbour committee, meeting of 2024-03-05

- **Where**: the old customs house
- **Contact**:
  - Name: Ida Storm
  - Email: ida@harbour.example

## Present

* Ida Storm (chair)
* Olaf Berg
* Ruth Lind

## Agenda

1. The lamp on the pier
2. Dredging

## The lamp on the pier

* Olaf asked why the lamp is dark at night
  * the keeper waits for a new wick from the capital
  * Ruth will write to the ministry
* The next meeting is about the lamp of the southern pier.

## Dredging

The committee spoke about mud, and dates for the work were left open until the dredger is repaired.
"""
MAIL = b"""From: Anna Quist <anna@example.org>
To: Bert Holm <bert@example.org>
Subject: Supper on the island
Date: Tue, 12 Mar 2024 10:00:00 +0100

We bring bread and cheese. Bert has the boat, and Carl said that he would be there before us.
"""
RECORD = """{"name": "Lantern", "created": "2019-04-01T10:00:00Z", "modified": "2023-11-30T08:15:00Z", "license": "MIT",
 "description": "A program that lights the lamps of a harbour when it is dark.",
 "aliases": ["Lamp", "Light of the Pier", "Harbour Torch", "The Old Lantern", "Lighthouse Number Four"],
 "votes": {"ida": {"red lamp": 1, "green lamp": 0}, "olaf": {"red lamp": 0, "green lamp": 1}}}
"""
CONFIG = """# How the lamp is built.
project: lantern
maintainer: Ida Storm <ida@harbour.example>
license: MIT

archives:
  format: zip
"""


def answer_of(path: Path, question: str) -> str:
    (found,) = ask(byte_model(), question, [path]).answers
    assert found.found == (found.kind == "extracted")
    if found.found:
        assert found.cited
        assert found.text in found.citations[0].text
        assert found.citations[0].verified
    return " ".join(found.text.split()) if found.found else ""


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who attended?", "## Present * Ida Storm (chair) * Olaf Berg * Ruth Lind"),
        ("Who was present at the meeting?", "## Present * Ida Storm (chair) * Olaf Berg * Ruth Lind"),
        ("When was the meeting?", "# Harbour committee, meeting of 2024-03-05"),
        ("Where was the meeting held?", "- **Where**: the old customs house"),
        ("Who is the contact?", "- **Contact**: - Name: Ida Storm - Email: ida@harbour.example"),
        ("What is on the agenda?", "## Agenda 1. The lamp on the pier 2. Dredging"),
    ],
)
def test_minutes_tell_who_came_and_when(question: str, answer: str, tmp_path: Path) -> None:
    assert answer_of(write(tmp_path, MINUTES, "minutes.md"), question) == answer


@pytest.mark.parametrize(
    ("told", "question", "answer"),
    [
        ("The meeting closed at 9.05 pm.", "When did the meeting end?", "The meeting closed at 9.05 pm."),
        ("Ida thanked all. Meeting adjourned at 15:40.", "What time did it finish?", "Meeting adjourned at 15:40."),
        ("The session ended at nine.", "When was the meeting adjourned?", "The session ended at nine."),
        ("Called to order by Ida at 6:48 p.m.", "When did the meeting start?", "Called to order by Ida at 6:48 p.m."),
        ("By Ida R. Storm.", "Who wrote it?", "By Ida R. Storm."),
        ("Chair: Ida Storm", "Who chaired the meeting?", "Chair: Ida Storm"),
        ("Scribe: Ida Storm", "Who took the minutes?", "Scribe: Ida Storm"),
        ("Attendees:\nIda Storm\nOlaf Berg (chair)", "Who attended?", "Attendees: Ida Storm Olaf Berg (chair)"),
        ("Attendees\n\nIda Storm\n\nOlaf Berg", "Who attended?", "Attendees Ida Storm Olaf Berg"),
        ("Present: ida, olaf3, mkwst,\nruth", "Who attended?", "Present: ida, olaf3, mkwst, ruth"),
    ],
)
def test_minutes_say_one_thing_in_several_words(told: str, question: str, answer: str, tmp_path: Path) -> None:
    text = f"Minutes of the harbour committee\n\n{told}\n\nThe lamp was discussed, and will be lit in May.\n"
    assert answer_of(write(tmp_path, text, "minutes.txt"), question) == answer


def test_another_meeting_is_not_this_one(tmp_path: Path) -> None:
    path = write(tmp_path, MINUTES, "minutes.md")
    assert "2024-03-05" not in answer_of(path, "When is the next meeting?")
    assert "Ida" not in answer_of(path, "Who attended the last meeting?")


def test_what_is_listed_below_an_item_belongs_to_it(tmp_path: Path) -> None:
    found = answer_of(write(tmp_path, MINUTES, "minutes.md"), "Why is the lamp dark at night?")
    assert found.startswith("* Olaf asked why the lamp is dark at night * the keeper waits for a new wick")
    assert "The next meeting" not in found


def test_a_long_list_is_quoted_whole(tmp_path: Path) -> None:
    names = [f"* Person Number{number} of the harbour town, who came by boat" for number in range(30)]
    text = "# Minutes\n\n## Attendees\n\n" + "\n".join(names) + "\n\n## Notes\n\nNothing was said.\n"
    found = answer_of(write(tmp_path, text, "long.md"), "Who attended?")
    assert found == " ".join(["## Attendees", *names])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who sent the mail?", "From: Anna Quist <anna@example.org>"),
        ("To whom was it sent?", "To: Bert Holm <bert@example.org>"),
        ("When was it sent?", "Date: Tuesday, 12 March 2024, 10:00"),
        ("What is the subject of the mail?", "# Supper on the island"),
    ],
)
def test_mail_tells_its_sender_its_date_and_its_subject(question: str, answer: str, tmp_path: Path) -> None:
    path = tmp_path / "one.eml"
    path.write_bytes(MAIL)
    assert answer_of(path, question) == answer


def test_one_of_many_messages_is_not_meant_by_it(tmp_path: Path) -> None:
    path = tmp_path / "two.mbox"
    second = MAIL.replace(b"Anna Quist", b"Dora Falk").replace(b"Supper", b"Dinner")
    path.write_bytes(b"".join(b"From x@y Tue Mar 12 10:00:00 2024\n" + one + b"\n" for one in (MAIL, second)))
    (found,) = ask(byte_model(), "Who sent the mail?", [path]).answers
    assert not found.found or found.confidence < 0.9


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When was the entry created?", "created: 2019-04-01T10:00:00Z"),
        ("When was it last modified?", "modified: 2023-11-30T08:15:00Z"),
        ("Which license does it have?", "license: MIT"),
        ("What did olaf vote?", "red lamp: 0; green lamp: 1"),
    ],
)
def test_records_are_asked_by_their_keys(question: str, answer: str, tmp_path: Path) -> None:
    assert answer_of(write(tmp_path, RECORD, "lantern.json"), question) == answer


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("# Lamps\n\nTested by: Ida Storm\n\nThey burn all night.\n", "Who wrote the article?"),
        ("# Lamps\n\nALL LAMPS\n\nA list of lamps that burn, set in\n\nThey burn all night.\n", "What is the lamp?"),
        ("# Lamps\n\nDate: 2024-03-05\n\nThe lamp was repaired.\n", "When was the wick replaced?"),
        ("# Lamps\n\nAuthor: Ida Storm\n\nOlaf sent a letter.\n", "Who sent the wick to the keeper?"),
    ],
)
def test_a_name_that_is_not_asked_for_tells_nothing(text: str, question: str, tmp_path: Path) -> None:
    index, builder = PassageIndex(), PassageBuilder(0)
    with open_source(write(tmp_path, text, "lamps.md")) as source:
        for piece in source.pieces():
            builder.feed(piece)
    for passage in builder.take(None):
        index.add(passage)
    assert told(index, question) is None
    assert told(index, "What is the title?") is not None


def test_prose_below_a_key_is_its_value(tmp_path: Path) -> None:
    found = answer_of(write(tmp_path, RECORD, "lantern.json"), "What other names does it have?")
    assert "Harbour Torch" in found


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who is the maintainer of the project?", "maintainer: Ida Storm <ida@harbour.example>"),
        ("What is the license?", "license: MIT"),
        ("Under which license is it?", "license: MIT"),
    ],
)
def test_settings_are_quoted_line_by_line(question: str, answer: str, tmp_path: Path) -> None:
    assert answer_of(write(tmp_path, CONFIG, "build.yml"), question) == answer


@pytest.mark.parametrize("question", ["Who wrote the paper?", "Who are the authors?"])
def test_the_first_lines_name_the_author(question: str, tmp_path: Path) -> None:
    body = "The lamp was lit every night. Harbours need lamps. Keepers write down how often they burn.\n\n" * 9
    text = "On the Lamps of Harbours\n\nby Ida Storm\n\n" + body
    assert answer_of(write(tmp_path, text, "paper.txt"), question) == "by Ida Storm"
    assert not answer_of(write(tmp_path, "On the Lamps of Harbours\n\n" + body, "unsigned.txt"), question)
