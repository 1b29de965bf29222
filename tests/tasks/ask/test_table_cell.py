"""Which values of a table answer a question, and what the rest of its row does not answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from famcli.tasks.ask.answers import NOT_COUNTED, NOT_SURE, NOTHING_FOUND
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.ranking import THRESHOLD
from famcli.tasks.summarize.summarize import summarize
from tests.tasks.support import byte_model, write

TABLE = """Name,Capital,Currency,dialCode,ISO-alpha3 Code,ISO-alpha2 Code,Region Name,Sub-region Name,Notes
Arvonia,Lindholm,Crown,47,ARV,AR,North,Upper North,Its people fish for herring in the winter
Beltane,Osterby,Mark,31,BEL,BE,South,Lower South,The first railway was opened there in 1861
Caldera,Westmark,Penny,53,CAL,CA,West,Far West,"Mountains on all sides, and a lake in the middle"
"""


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the capital of Beltane?", "Name: Beltane; Capital: Osterby"),
        ("What is the currency of Caldera?", "Name: Caldera; Currency: Penny"),
        ("What is the three-letter code of Arvonia?", "Name: Arvonia; ISO-alpha3 Code: ARV"),
        ("What is the two-letter code of Arvonia?", "Name: Arvonia; ISO-alpha2 Code: AR"),
        ("What is the dialling code of Caldera?", "Name: Caldera; dialCode: 53"),
    ],
)
def test_the_value_that_is_asked_for_answers(question: str, answer: str, tmp_path: Path) -> None:
    path = write(tmp_path, TABLE, "countries.csv")
    (found,) = ask(byte_model(), question, [path]).answers
    assert (found.found, found.kind, found.text, found.cited) == (True, "extracted", answer, True)
    # Its place is that of the second one, in the text that was made of the table.
    assert found.span is not None
    assert found.span[1] - found.span[0] == len(answer.partition("; ")[2])
    assert found.location is not None
    assert found.location.kind == "row"


def test_several_columns_may_be_meant(tmp_path: Path) -> None:
    (found,) = ask(byte_model(), "Which region is Beltane in?", [write(tmp_path, TABLE, "countries.csv")]).answers
    assert found.text.startswith("Name: Beltane; ")
    assert {"Region Name: South", "Sub-region Name: Lower South"} == set(found.text.split("; ")[1:])


def test_a_row_without_such_a_column_is_no_answer(tmp_path: Path) -> None:
    (found,) = ask(
        byte_model(), "What is the population of Beltane?", [write(tmp_path, TABLE, "countries.csv")]
    ).answers
    assert not found.found
    assert found.kind in ("nearest", "none")
    assert found.text == NOT_SURE or not found.citations
    assert all(one.confidence <= found.confidence < THRESHOLD for one in found.citations)


def test_what_is_not_named_whole_has_no_row(tmp_path: Path) -> None:
    path = write(tmp_path, TABLE.replace("Beltane,", "New Beltane,"), "countries.csv")
    (found,) = ask(byte_model(), "What is the population of Beltane?", [path]).answers
    assert not found.found
    assert "Its row" not in (found.because or "")


def test_a_record_has_the_fields_that_stand_before_what_is_deeper_in_it(tmp_path: Path) -> None:
    cards = [
        {
            "keywords": [f"calm{at}", f"lamp{at}"],
            "meanings": {"light": [f"To walk alone at {at}"], "shadow": [f"To be afraid of crowds, {at} times"]},
            "name": name,
            "suit": "major",
        }
        for at, name in enumerate(("Fool", "Hermit", "Tower"))
    ]
    path = write(tmp_path, json.dumps({"cards": cards}, indent=1), "cards.json")
    (found,) = ask(byte_model(), "What are the keywords of the Hermit?", [path]).answers
    assert "Its row" not in (found.because or "")
    assert (found.found, found.text) == (True, "name: Hermit; keywords: calm1, lamp1")


def test_a_short_name_names_its_row(tmp_path: Path) -> None:
    table = TABLE.replace("Beltane,", "Beltane Inc.,")
    path = write(tmp_path, table, "companies.csv")
    asked = ["What is Beltane's currency?", "What is Beltane's revenue?", "How many of them are in the north?"]
    currency, revenue, count = ask(byte_model(), asked, [path]).answers
    assert currency.text == "Name: Beltane Inc.; Currency: Mark"
    assert (revenue.found, count.found) == (False, False)
    assert count.text in (NOT_COUNTED, NOTHING_FOUND)


def test_a_passage_of_several_rows_names_them_all(tmp_path: Path) -> None:
    rows = "id,message\n" + "".join(
        f"{n},The harbour of town {n} was closed by storm number {n}.\n" for n in range(1, 9)
    )
    (found,) = ask(byte_model(), "Which storm closed the harbour of town 3?", [write(tmp_path, rows, "t.csv")]).answers
    assert found.place(1).startswith("row 4 of rows 2 to ")


def test_what_a_value_tells_in_words_is_quoted_as_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path, TABLE, "countries.csv")
    (found,) = ask(byte_model(), "When was the railway of Beltane opened?", [path]).answers
    assert "1861" in found.text or found.kind == "nearest"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Where is Mill Ltd based?", "company: Mill Ltd; headquarters: Osterby"),
        ("How old is Mill Ltd?", "company: Mill Ltd; age: 30"),
        ("When was Ore Bank founded?", "company: Ore Bank; established: 1784"),
    ],
)
def test_columns_are_found_by_what_they_are_usually_called(question: str, answer: str, tmp_path: Path) -> None:
    table = (
        "company,headquarters,age,established,trade\nMill Ltd,Osterby,30,1995,flour\nOre Bank,Lindholm,241,1784,loans\n"
    )
    (found,) = ask(byte_model(), question, [write(tmp_path, table, "companies.csv")]).answers
    assert found.text == answer


def test_of_columns_without_names_only_codes_and_figures_are_told(tmp_path: Path) -> None:
    names = ("Arvonia", "Beltane", "Caldera", "Dorland", "Estmark", "Fenland", "Gotland", "Halland", "Istria")
    table = "".join(f'"{name}","{name[:2].upper()}","{name[:3].upper()}"\n' for name in names)
    path = write(tmp_path, table, "codes.dat")
    code, capital = ask(
        byte_model(), ["What is the code of Dorland?", "What is the capital of Dorland?"], [path]
    ).answers
    assert code.text == "column 1: Dorland; column 2: DO; column 3: DOR"
    assert not capital.found


def test_of_columns_without_names_what_has_a_shape_is_told_and_else_the_row(tmp_path: Path) -> None:
    names = ("Anna", "Bert", "Cora", "Dan", "Ed", "Frida", "Gus", "Hanne", "Ida")
    rows = [f"{one.lower()}elk,{one} Elk,{one}@mill.example,{1990 + at}" for at, one in enumerate(names)]
    path = write(tmp_path, "\n".join(rows), "people.csv")
    questions = ["What is the email address of Dan Elk?", "When did Dan Elk join?", "Who is danelk?"]
    mail, since, who = ask(byte_model(), questions, [path]).answers
    assert mail.text == "column 2: Dan Elk; column 3: Dan@mill.example"
    assert since.text == "column 2: Dan Elk; column 4: 1993"
    assert who.text == "column 1: danelk; column 2: Dan Elk; column 3: Dan@mill.example; column 4: 1993"


def test_comments_between_the_rows_are_no_rows(tmp_path: Path) -> None:
    names = "# Account, Name, Mail, Room"
    text = (
        f'# mill people\n#\n# MILLERS\n{names}\n"danelk","Dan Elk","dan@mill.example","4"\n'
        f'"cora","Cora Dahl","cora@mill.example",""\n#\n# BAKERS\n{names}\n"edfors","Ed Fors","ed@mill.example","7"\n'
        '"ida","Ida Juhl","ida@mill.example",""\n'
    )
    path = write(tmp_path, text, "PEOPLE")
    mail, who = ask(byte_model(), ["What is the mail of Ed Fors?", "Who is edfors?"], [path]).answers
    assert mail.text == "Name: Ed Fors; Mail: ed@mill.example"
    assert who.text == "Account: edfors; Name: Ed Fors; Mail: ed@mill.example; Room: 7"
    table = summarize(byte_model(), [path]).table
    assert table is not None
    assert (table.num_rows, [(one.name, one.num_filled) for one in table.columns]) == (
        4,
        [("Account", 4), ("Name", 4), ("Mail", 4), ("Room", 2)],
    )
