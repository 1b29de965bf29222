"""What kind of document a text is told to be, and the summaries of each kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from famcli.tasks.summarize.candidates import Budget
from famcli.tasks.summarize.document_kind import decision_weight, part_weight, says_what_it_is
from famcli.tasks.summarize.summarize import summarize
from famcli.tasks.summarize.summary_result import SummarizeConfig, SummaryResult
from tests.tasks.support import LARGE, byte_model, prose, write

README = """# gridmill

[![build](https://example.org/badge.svg)](https://example.org)

Gridmill is a command-line tool that grinds large tables into small ones without loading them.

## Features

Tables of any size are read row by row, so memory use stays below forty megabytes. Columns are typed by their first
thousand rows, and a row that does not fit is written to a file of its own.

1. Dates are recognised in eleven notations, which the option for dates names.

2. Sums are exact, because they are kept as whole numbers of the smallest unit.

## Installation

Download the archive for your system and put the program somewhere on your path. On Windows the installer does that
for you, and it also adds an entry to the menu.

## Requirements

Every table must have a header of unique names in its first row. A table without a header shall be given one by
the option for names.

## License

The program may be used by anybody under the terms of the licence in this folder.
"""
MINUTES = """# Minutes of the harbour committee, 3 March

Present: Anna Bell, Carl Dunn, Eva Frost
Apologies: Gus Hill

## Dredging

Carl reported that the channel has lost half a metre since autumn and that two ships had to wait for the tide.
There was a long discussion about the noise at night, and whether the school should be told in advance.

- AGREED: dredge the channel in May, at a cost of no more than 40,000 crowns.
- Action: Carl to write to the school by Friday.

## Lights

Eva showed pictures of the lamps on the northern mole, which are older than anybody on the committee could remember.
The motion to buy six new lamps was carried with one vote against.

## Any other business

The weather has been fine, and everybody hopes that it stays so until the regatta is over.
"""


def summary(tmp_path: Path, text: str, **config: object) -> SummaryResult:
    return summarize(byte_model(LARGE), [write(tmp_path, text)], SummarizeConfig(**config))  # type: ignore[arg-type]


def titles(result: SummaryResult) -> list[str]:
    return [section.title for section in result.sections]


def test_a_readme_says_what_it_is_and_what_matters(tmp_path: Path) -> None:
    result = summary(tmp_path, README)
    assert result.kind == "outline"
    assert result.sentences[0].text.startswith("Gridmill is a command-line tool")
    assert titles(result)[:2] == ["gridmill", "Features"]
    assert "Requirements" in titles(result)
    assert "License" not in titles(result)
    short = summary(tmp_path, README, length=Budget(4))
    assert set(titles(short)) == {"gridmill", "Features", "Requirements"}
    assert summary(tmp_path, README, length=Budget(3)).kind == "prose"
    numbers = [number for section in result.sections for number in section.sentences]
    assert numbers == list(range(len(result.sentences)))
    for section in result.sections:
        assert {result.sentences[number].section for number in section.sentences} == {section.title}


def test_numbered_items_are_no_parts_where_headings_have_marks(tmp_path: Path) -> None:
    assert not [title for title in titles(summary(tmp_path, README, sections=True)) if title[:1].isdigit()]


def test_minutes_say_what_was_decided(tmp_path: Path) -> None:
    result = summary(tmp_path, MINUTES)
    assert result.kind == "minutes"
    assert [quote.text for quote in result.sentences] == [
        "- AGREED: dredge the channel in May, at a cost of no more than 40,000 crowns.",
        "- Action: Carl to write to the school by Friday.",
        "The motion to buy six new lamps was carried with one vote against.",
    ]
    assert titles(result) == ["Minutes of the harbour committee, 3 March \u00b7 Dredging", "Lights"]


def test_what_is_below_side_headings_is_of_no_matter_either(tmp_path: Path) -> None:
    readme = README.replace("# gridmill\n", "<div>\n\n<h1>gridmill</h1>\n<p>\n\n## Table of Contents\n", 1)
    for system in ("Ubuntu", "Windows", "macOS"):
        readme = readme.replace("## Requirements", f"### On {system}\n\n{prose(2)}\n\n## Requirements")
    result = summary(tmp_path, readme + "\n## Partners\n\n### Gold\n\nThe people of the harbour pay for all of it.\n")
    told = {fact.label: fact.text for fact in result.facts}
    assert told["Title"] == "gridmill"
    assert not {"On Ubuntu", "On Windows", "Gold", "Table of Contents"} & {*titles(result)}
    image = "![gridmill](logo.png)\n\n### Why\n\n" + README.partition("# gridmill")[2]
    assert "Title" not in {fact.label for fact in summary(tmp_path, image).facts}


@pytest.mark.parametrize(
    "present",
    [
        "Present:\nAnna Bell (chair)\nCarl van Dunn\nEva Frost\n",
        "Members of the committee present:\nAnna Bell (chair)\nCarl van Dunn\nEva Frost\n",
        "## Present\n\nAnna Bell (chair)\nCarl van Dunn\nEva Frost\n",
        "Attendees\n\nAnna Bell (chair)\n\nCarl van Dunn\n\nEva Frost\n",
        "**Attendees:**\n\n| Name | From |\n|---|:-:|\n| Anna Bell (chair) | A |\n| Carl van Dunn | B |\n"
        "| Eva Frost | |\n",
        "Present: Anna Bell (chair),\nCarl van Dunn, Eva Frost\n",
    ],
)
def test_who_was_present_may_stand_one_a_line(present: str, tmp_path: Path) -> None:
    result = summary(tmp_path, MINUTES.replace("Present: Anna Bell, Carl Dunn, Eva Frost\n", present + "\n"))
    assert {fact.label: fact.text for fact in result.facts}["Present"] == (
        "3: Anna Bell (chair), Carl van Dunn, Eva Frost"
    )
    assert [title.rpartition(" \u00b7 ")[2] for title in titles(result)] == ["Dredging", "Lights"]


@pytest.mark.parametrize(
    "text",
    [
        prose(60),
        "# One\n\n" + prose(90, 1) + "\n\n# Two\n\n" + prose(90, 2) + "\n\n# Three\n\n" + prose(90, 3),
        "Anna: Welcome to the first meeting of all.\nBert: The agenda is what we agreed on.\n" * 20,
    ],
)
def test_what_is_no_structured_document_is_prose(text: str, tmp_path: Path) -> None:
    assert summary(tmp_path, text).kind in ("prose", "talk")


def test_every_kind_can_be_asked_for(tmp_path: Path) -> None:
    plain = summary(tmp_path, README, kind="prose")
    assert (plain.kind, plain.sections) == ("prose", ())
    assert summary(tmp_path, README, focus="sums").kind == "prose"
    assert summary(tmp_path, prose(60), kind="outline").kind == "outline"
    none = summary(tmp_path, prose(60), kind="minutes")
    assert (none.kind, none.sentences) == ("minutes", ())
    assert none.warnings == ("nothing in the text says that something was decided or is to be done",)


def test_several_documents_are_summarized_as_prose(tmp_path: Path) -> None:
    paths = [write(tmp_path, README, "a.md"), write(tmp_path, MINUTES, "b.md")]
    result = summarize(byte_model(LARGE), paths)
    assert (result.kind, result.sections) == ("prose", ())


@pytest.mark.parametrize(
    ("text", "title", "expected"),
    [
        ("This document describes the format of the files.", None, True),
        ("In this paper we measure how tides move sand.", None, True),
        ("The purpose of this agreement is to settle who owns what.", None, True),
        ("Gridmill is a tool for tables.", "gridmill", True),
        ("Gridmill (gm) is a tool for tables.", "The gridmill project", True),
        ("Gridmill aims to be a small tool for tables.", "gridmill", True),
        ("This is the Company's Intellectual Property Agreement.", None, True),
        ("Water is wet in all seasons.", "gridmill", False),
        ("Files are read row by row in this mode.", None, False),
    ],
)
def test_what_says_what_a_document_is(text: str, title: str | None, expected: bool) -> None:
    assert says_what_it_is(text, title) == expected


def test_titles_and_decisions_are_weighed() -> None:
    assert part_weight("Motivation") > part_weight("The sea") > part_weight("License")
    assert part_weight("What should I do if my own copy of it is older?") == 0
    assert (
        decision_weight("The motion was carried.") > decision_weight("Anna will ask.") > decision_weight("It rained.")
    )


def test_each_of_several_documents_gives_a_sentence_and_first_what_says_what_it_is(tmp_path: Path) -> None:
    long = write(tmp_path, prose(200), "long.txt")
    small = [write(tmp_path, prose(3, seed), f"small-{seed}.txt") for seed in range(1, 4)]
    model, paths = byte_model(LARGE), [small[0], long, *small[1:], write(tmp_path, README, "readme.md")]
    result = summarize(model, paths)
    assert {quote.source for quote in result.sentences} == set(map(str, paths))
    assert [quote.source for quote in result.sentences] == sorted(
        (quote.source for quote in result.sentences), key=lambda source: list(map(str, paths)).index(source)
    )
    (first,) = summarize(model, paths, SummarizeConfig(length=Budget(1))).sentences
    assert first.text.startswith("Gridmill is a command-line tool")
    about = summarize(model, paths, SummarizeConfig(focus="sums")).sentences
    assert {quote.source for quote in about} == {str(paths[-1])}


def facts(result: SummaryResult) -> dict[str, str]:
    return {fact.label: fact.text for fact in result.facts}


def test_a_story_says_who_appears_how_it_begins_and_how_it_ends(tmp_path: Path) -> None:
    people = "Martha Quill, a clockmaker of sixty, lived above the harbour of Lowick with her two cats and her debts."
    scenes = [
        f'On day {n} Martha carried the {thing} to the harbour and looked for Tom Barrel. "The {thing} is yours," said '
        f"Martha. Tom laughed and took the {thing} home to his mother in Lowick, where nobody asked him about it."
        for n, thing in enumerate(
            f"{one} {two}" for one in ("brass", "silver", "broken") for two in ("clock", "bell", "lamp")
        )
    ]
    chapters = "\n\n".join(
        f"CHAPTER {roman}. THE {word}\n\n{' '.join(scenes)}"
        for roman, word in zip(
            ("I", "II", "III", "IV", "V"), ("SHOP", "HARBOUR", "STORM", "LETTER", "LAST BELL"), strict=True
        )
    )
    end = "\n\nMartha Quill and Tom Barrel sailed away from Lowick at last, and the shop was sold to a baker."
    result = summary(tmp_path, f"THE CLOCKS OF LOWICK\n\nBy Ada Finch\n\n{people}\n\n{chapters}{end}\n")
    assert result.kind == "story"
    told = facts(result)
    assert told["Title"] == "THE CLOCKS OF LOWICK, by Ada Finch"
    assert sorted(re.sub(r" \(\d+ times\)", "", told["Who appears"]).split(", ")) == ["Martha Quill", "Tom Barrel"]
    assert "V. THE LAST BELL" in told["Chapters"]
    assert titles(result) == ["How it begins", "Who appears", "What happens", "How it ends"]
    assert result.sentences[0].text == people
    assert result.sentences[-1].text == end.strip()


def test_only_chapters_are_chapters_and_only_names_are_names(tmp_path: Path) -> None:
    said = '"O Pilot, it is late," said Martha. Martha took the letter to the Pilot, and the Pilot went home.'
    scene = " ".join([said] * 12)
    names = "THE SHOP", "THE STORM", "THE BELL", "THE END"
    chapters = "\n\n".join(
        f'{number}\n\n{name}\n\n{scene}\n\nCome to me at once.\n\n    "MARTHA QUILL."\n\n{scene}'
        for number, name in zip(("I", "II", "III", "IV"), names, strict=True)
    )
    front = f"Printed for all who read.\n\nMCMIX\n\n{scene}\n\nPREFACE\n\n{scene}"
    told = facts(summary(tmp_path, f"THE CLOCKS\n\n{front}\n\n{chapters}\n", kind="story"))
    assert told["Chapters"] == "; ".join(("PREFACE", *names))
    assert sorted(re.sub(r" \(\d+ times\)", "", told["Who appears"]).split(", ")) == ["Martha", "Pilot"]
    marked = "\n\n".join(f"### {name}\n\n{scene}" for name in ("Published March, 1909.", *names))
    told = facts(summary(tmp_path, f"# The clocks\n\n{marked}\n", kind="story"))
    assert told["Chapters"] == "; ".join(names)


CHANGES = """# Change log

## [Unreleased]

## [2.0.0] - 2024-05-01

- Fix a typo in the docs of the parser.
- Bump the linter to its newest version.
- **Breaking:** the option for colours was removed.
- Add a command that merges two tables.

## [1.1.0] - 2023-02-03

- Add support for dates.

## [1.0.0] - 2022-01-02

- The first release that anybody may use.
"""


@pytest.mark.parametrize("is_oldest_first", [False, True])
def test_a_list_of_changes_says_what_the_newest_release_changed(is_oldest_first: bool, tmp_path: Path) -> None:
    title, *releases = CHANGES.split("\n## ")
    text = "\n## ".join([title, *(reversed(releases) if is_oldest_first else releases)])
    result = summary(tmp_path, text, length=Budget(4))
    assert result.kind == "changes"
    assert facts(result) == {"Title": "Change log", "Changes": "3 releases, 1.0.0 (2022-01-02) to 2.0.0 (2024-05-01)"}
    assert titles(result) == ["2.0.0] - 2024-05-01", "1.1.0] - 2023-02-03", "1.0.0] - 2022-01-02"]
    newest = [result.sentences[number].text for number in result.sections[0].sentences]
    assert [word in text for word, text in zip(("removed", "merges"), newest, strict=True)] == [True, True]


def test_the_newest_releases_are_told_however_little_they_changed(tmp_path: Path) -> None:
    said = {"3.0.1": "* Release Dec 27, 2023\n* Fix the wheel of the mill", "3.0.0": "* Release Dec 26, 2023"}
    said |= {f"2.{n}.0": f"* Remove door number {n}, which breaks the old mill" for n in range(9, 0, -1)}
    like = {"2.7.0": " [See what has changed (it is the same as before)](https://example.org/7)"}
    text = "".join(f"### {version}{like.get(version, '')}\n\n{changed}\n\n" for version, changed in said.items())
    result = summary(tmp_path, f"Changelog\n=========\n\n{text}", length=Budget(4))
    assert facts(result)["Changes"] == "11 releases, 2.1.0 to 3.0.1 (Dec 27, 2023)"
    assert titles(result) == ["3.0.1", "3.0.0", "2.9.0", "2.8.0"]
    assert [quote.text for quote in result.sentences[:2]] == ["* Fix the wheel of the mill", "* Release Dec 26, 2023"]


def test_changes_of_debian_have_their_dates_and_no_names(tmp_path: Path) -> None:
    signed = " -- Anna Bell <anna@example.org>  Thu, 25 May 2023 17:54:35 +0200\n\n"
    text = "".join(
        f"mill (3.{n}) unstable; urgency=medium\n\n  [ Carl Dunn ]\n  * Add wheel number {n} to the mill.\n\n{signed}"
        for n in (9, 8, 7)
    )
    result = summary(tmp_path, text)
    assert facts(result) == {"Changes": "3 releases, 3.7 (25 May 2023) to 3.9 (25 May 2023)"}
    assert all("Add wheel" in quote.text for quote in result.sentences)


@pytest.mark.parametrize("form", ["CHANGES FROM 2.{0}c TO 2.{1}c{2}", "# Changelog for mill 2.{1}c{2}"])
def test_releases_whose_headings_differ_are_all_found(tmp_path: Path, form: str) -> None:
    """Of headings without marks those with a date look like another level."""
    text = "".join(
        f"{form.format(n, n + 1, ', 05 May 2017' if n % 3 else '')}\n\n* Add wheel number {n} to the mill.\n\n"
        for n in range(9, 0, -1)
    )
    path = tmp_path / "CHANGES"
    path.write_text(text)
    result = summarize(byte_model(LARGE), [path], SummarizeConfig())
    assert facts(result)["Changes"] == "9 releases, 2.2c (05 May 2017) to 2.10c"


def test_numbered_clauses_are_no_releases_but_parts(tmp_path: Path) -> None:
    rules = {
        "Sale of Goods": "The mill sells all of its flour to the baker each week of the year.",
        "Payment": "Invoices are due within thirty days, and interest is five per cent.",
        "Liability": "Neither party is liable for damage that nobody could foresee.",
        "Confidential Matters": "Recipes stay secret for ten years after they were first told.",
        "Termination": "Each side may end this with a written notice of three months.",
    }
    clauses = "\n\n".join(f"{n}.1 {name}. {rule}" for n, (name, rule) in enumerate(rules.items(), 1))
    result = summary(tmp_path, f"This agreement is between the mill and the baker.\n\n{clauses}\n")
    assert result.kind == "outline"
    assert any("Payment" in title for title in titles(result))


def test_the_changes_of_a_repository_are_no_talk(tmp_path: Path) -> None:
    log = "".join(
        f"commit {n:040x}\nAuthor: Ann Bell <ann@mill.example>\nDate:   2023-03-{n + 10} 21:59:32 +0800\n\n"
        f"    {('Tests', 'Build')[n % 2]}: Wheel number {n} turns again.\n\n"
        for n in range(18)
    )
    assert "Speakers" not in facts(summary(tmp_path, log))


def test_a_transcript_says_who_speaks(tmp_path: Path) -> None:
    talk = "".join(
        f"**Anna Bell:** Question number {n} is about the price of the mill in that year.\n\n"
        f"**Carl:** The answer to number {n} is that the mill was never for sale at all.\n\n"
        for n in range(12)
    )
    result = summary(tmp_path, talk)
    assert result.kind == "talk"
    assert facts(result) == {"Speakers": "Anna Bell (12 turns), Carl (12 turns)"}


def test_a_table_that_is_longer_than_a_sentence_names_all_who_were_there(tmp_path: Path) -> None:
    rows = "".join(f"| Anna{chr(97 + n)} Bell{chr(97 + n)}          | Mill of the North {n} |\n" for n in range(26)) * 2
    table = f"## Present\n\n| Name | Organization |\n|------|------|\n{rows}\n"
    found = facts(summary(tmp_path, MINUTES.replace("Present: Anna Bell, Carl Dunn, Eva Frost\n", table)))["Present"]
    assert found.startswith("26: Annaa Bella, Annab Bellb, ")
    assert "Ann and" not in found


def test_minutes_say_who_was_there(tmp_path: Path) -> None:
    assert facts(summary(tmp_path, MINUTES))["Present"] == "3: Anna Bell, Carl Dunn, Eva Frost"
    said = "The clerk Anna Bell and both directors were present at the meeting of the board."
    text = MINUTES.replace("Present: Anna Bell, Carl Dunn, Eva Frost\nApologies: Gus Hill\n", said + "\n")
    assert facts(summary(tmp_path, text))["Present"] == said


@pytest.mark.parametrize(
    ("above", "title"),
    [
        ("PEP: 213\nTitle: Grinding of Tables\nAuthor: Ann Bell", "Grinding of Tables"),
        ("> [!NOTE]\n> Read this first.\n\n# Grinding of tables", "Grinding of tables"),
        ("# Grinding: an art, by those who take part in it", "Grinding: an art, by those who take part in it"),
        ("# Grinding of tables\n\nBy A. Bell", "Grinding of tables, by A. Bell"),
    ],
)
def test_the_title_is_the_documents_own(above: str, title: str, tmp_path: Path) -> None:
    result = summary(tmp_path, f"{above}\n\n{README.partition('## Features')[2]}", kind="outline")
    assert {fact.label: fact.text for fact in result.facts}["Title"] == title
