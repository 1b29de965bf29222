"""What a network wrote is looked up in what it was written from."""

from __future__ import annotations

import pytest

from famcli.tasks.grounding import Sources, claims, support

SOURCE = (
    "Gabriel Syme met the poet Gregory in Saffron Park on the 3rd of June, 1908. \u201cI am a poet of\norder,\u201d "
    "said he. The two men walked away, and Mr. Sunday paid \u00a32,000 for Le Th\u00e9\u00e2tre de l'Op\u00e9ra. "
    "The marquis ran."
)


@pytest.mark.parametrize(
    ("written", "missing"),
    [
        ("Syme met Gregory in 1908, on 3 June.", ()),
        ("Alice walked away with 12 men.", ("12", "Alice")),
        ("Overall, two men walked in London.", ("London",)),
        ("2 men walked away.", ()),
        ("The Marquis paid 2000 to the Opera.", ("Opera",)),  # another spelling is another word
        ("The Marquis paid for the Op\u00e9ra.", ()),
        ('He said "I am a poet of order" to the poet.', ()),
        ('He said "I am no poet at all" to the poet.', ("I am no poet at all",)),
        ("Mr. Sunday\u2019s money was paid in June 1909.", ("1909",)),
        ("Walking away, Syme met Sunday.", ()),
        ("Society explores modern themes of identity.", ("Society",)),
        ("The narrative explores modern themes.", ("narrative", "explores", "modern", "themes")),
    ],
)
def test_what_is_not_there_is_missing(written: str, missing: tuple[str, ...]) -> None:
    assert Sources([SOURCE]).missing(written) == missing


@pytest.mark.parametrize(
    ("written", "missing"),
    [
        ("The museum has two floors.", ()),
        ("There are twenty-one rooms.", ()),
        ("Twenty-one rooms are in the museum.", ()),
        ("It was built of 250 stones.", ()),
        ("34 people work there.", ()),
        ("It has 22 rooms.", ("22",)),
        ("Thirty-five people work there.", ("Thirty-five",)),
        ("It was built of 34 stones.", ("34",)),
    ],
)
def test_numbers_may_be_spelled_out(written: str, missing: tuple[str, ...]) -> None:
    text = "The museum has 2 floors and 21 rooms. It was built of two hundred and fifty stones. "
    assert Sources([text + "Thirty-four people work there."]).missing(written) == missing


RELEASES = (
    "httpget was first released in 1996 by a student in Stockholm. In 1997 it was given another name, because\n"
    "it could now read more than one protocol. Anna Berg drew the logo in 2016. Two servers were bought for "
    "1,500 crowns."
)


@pytest.mark.parametrize(
    ("written", "asked", "missing"),
    [
        ("httpget was first released in 1996.", "", ()),
        ("The first release of httpget was in 1997.", "", ("1997",)),
        ("1997", "When was httpget first released?", ("1997",)),
        ("In 1996.", "When was httpget first released?", ()),
        ("1,500 crowns", "What did the servers cost?", ()),
        ("Anna Berg", "Who drew the logo?", ()),
        ("In 1997 it got another name.", "What happened to httpget in 1997?", ()),
        ("Anna Berg released httpget first.", "", ()),  # names are not judged: a text goes on with pronouns
    ],
)
def test_a_number_must_stand_where_the_same_is_told(written: str, asked: str, missing: tuple[str, ...]) -> None:
    assert Sources([RELEASES], asked).missing(written) == missing


@pytest.mark.parametrize(
    ("written", "asked", "missing"),
    [
        ("2023", "When was 3.7.1 released?", ()),
        ("2022", "When was 3.7.1 released?", ("2022",)),
        ("2.29.4", "In which version was the parser mended?", ()),
        ("3.7.1", "In which version was the parser mended?", ("3.7.1",)),
    ],
)
def test_a_heading_tells_of_what_stands_below_it(written: str, asked: str, missing: tuple[str, ...]) -> None:
    text = (
        "### 3.7.1\n* Release Dec 27, 2023\n* Revert 5827\n\n### 2.29.4\n* Release Jul 6, 2022\n* Mended the parser\n"
    )
    assert Sources([text], asked).missing(written) == missing


@pytest.mark.parametrize(
    ("written", "missing"),
    [
        ("sad and lonely", ()),
        ("a sad Alice", ("Alice",)),
        ("for 12 hours", ("12",)),
        ("He felt sad, lonely and tired.", ("felt", "sad", "lonely", "tired")),
    ],
)
def test_a_phrase_that_answers_may_have_words_of_its_own(written: str, missing: tuple[str, ...]) -> None:
    assert Sources([SOURCE], "How did Gregory feel?").missing(written) == missing
    assert Sources([SOURCE]).missing("sad and lonely") == ("sad", "lonely")


def test_claims_are_names_numbers_and_quotations() -> None:
    found = [(one.kind, one.text) for one in claims('However, Anna Lee said "it will be over soon" 3 times. She left.')]
    assert found == [("quotation", "it will be over soon"), ("number", "3"), ("name", "Anna"), ("name", "Lee")]


def test_a_name_may_have_digits() -> None:
    sources = Sources(["NFIL3 and the 3D view were in B2B news."], "What was in the news?")
    assert sources.missing("NFIL3") == sources.missing("the 3D view") == ()
    assert sources.missing("NFIL4") == ("4", "NFIL4")


def test_a_short_line_that_stands_alone_tells_of_nothing_below_it() -> None:
    text = "### 1.6.0\n\nAdded a getter for boats\n\nOars were deprecated in 1.6.0.\n\n"
    text += "### 2.9.0\n\nThe red sails of the harbour boat were deprecated.\n"
    asked = "In which version were the red sails of the harbour boat deprecated?"
    assert Sources([text], asked).missing("1.6.0") == ("1.6.0",)


@pytest.mark.parametrize(
    "written",
    [
        "[help@37mills.com](mailto:help@37mills.com)",
        "You can write to [help@37mills.com](mailto:help@37mills.com)",
        "You can write to help@37mills.com.",
        "the 24 boats of Olga",
    ],
)
def test_what_is_marked_in_the_text_may_be_written_with_its_marks_or_without(written: str) -> None:
    text = "You can write to [help@37mills.com](mailto:help@37mills.com). It has the **24** [boats](b.md) of Olga."
    assert Sources([text], "How do I reach them?").missing(written) == ()
    assert Sources([text], "How do I reach them?").missing(written.replace("37", "38").replace("24", "25"))


@pytest.mark.parametrize(
    ("written", "missing"),
    [("Once a month", ()), ("every day", ()), ("annually", ()), ("once a week", ("once a week",))],
)
def test_how_often_may_be_said_in_other_words(written: str, missing: tuple[str, ...]) -> None:
    text = "The meeting went from two to monthly. The lamp is lit daily, and cleaned once a year."
    assert Sources([text], "How often is it?", is_value=True).missing(written) == missing


def test_support_is_the_share_of_content_words() -> None:
    assert support("Syme met the poet", SOURCE) == 1.0
    assert support("Zebras met nobody", SOURCE) == pytest.approx(1 / 3)
