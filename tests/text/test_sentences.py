from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sentence_splitters import CASES, boundaries, read_cases
from famcli.documents.source import Location
from famcli.text import sentences
from famcli.text.sentences import MAX_CHARACTERS, Sentence, SentenceSplitter


def split(text: str, sizes: list[int] | None = None) -> list[Sentence]:
    """`text` split, fed in pieces of these sizes (the last one repeats); offsets are those of its UTF-8 bytes."""
    offsets = np.concatenate(([0], np.cumsum([len(character.encode()) for character in text], dtype=np.int64)))
    splitter, found, at, turn = SentenceSplitter(), list[Sentence](), 0, 0
    while at < len(text):
        size = len(text) if sizes is None else sizes[min(turn, len(sizes) - 1)]
        found += splitter.feed(text[at : at + size], offsets[at : min(at + size, len(text)) + 1])
        at, turn = at + size, turn + 1
    return found + splitter.flush()


def texts(text: str) -> list[str]:
    return [sentence.text for sentence in split(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One here. Two there! Three? Four", ["One here.", "Two there!", "Three?", "Four"]),
        ("Mr. Smith met Dr. J. K. Brown. They ate.", ["Mr. Smith met Dr. J. K. Brown.", "They ate."]),
        ("He paid 3.50 at 5 p.m. and left... slowly. Then", ["He paid 3.50 at 5 p.m. and left... slowly.", "Then"]),
        ("\u201cStop!\u201d he said. \u201cWhy?\u201d", ["\u201cStop!\u201d he said.", "\u201cWhy?\u201d"]),
        ('"Go." She went.', ['"Go."', "She went."]),
        ("It was I. He knew.", ["It was I.", "He knew."]),
        ("CHAPTER I\n\nIt began\nlate. It ended.", ["CHAPTER I", "It began\nlate.", "It ended."]),
        ("History\nThe town is old.", ["History", "The town is old."]),
        (
            "He walked to the end of a very long line that\nWilliam drew.",
            ["He walked to the end of a very long line that\nWilliam drew."],
        ),
        ("Buy these:\n- milk\n- bread\n1. First\n", ["Buy these:", "- milk", "- bread", "1. First"]),
        (
            '1.1 "Services" means those in Schedule A.\n1.2 "Fees" means\nthose in clause 4.',
            ['1.1 "Services" means those in Schedule A.', '1.2 "Fees" means\nthose in clause 4.'],
        ),
        ("It fell to about\n4.5 Euro a share.", ["It fell to about\n4.5 Euro a share."]),
        ("[09:17] Dave: lol ok\n[09:20] Maria: can you\n", ["[09:17] Dave: lol ok", "[09:20] Maria: can you"]),
        (
            "12/03/24, 09:17 - dave: lol\n12/03/24, 09:20 - jo: ok",
            ["12/03/24, 09:17 - dave: lol", "12/03/24, 09:20 - jo: ok"],
        ),
        ("9:17 Dave: lol ok\n9:20 Maria: can you", ["9:17 Dave: lol ok", "9:20 Maria: can you"]),
        ("Die Runde begann um\n9:17 Uhr am Morgen.", ["Die Runde begann um\n9:17 Uhr am Morgen."]),
        ("今天很好。我们走吧!他说：「好。」再见", ["今天很好。", "我们走吧!他说：「好。」", "再见"]),
        ("see e.g. Brown et al. Smith", ["see e.g. Brown et al. Smith"]),
        ("a.b.c d.e", ["a.b.c d.e"]),
        (
            "The first day was long.Several came late?Nobody asked why.",
            ["The first day was long.", "Several came late?", "Nobody asked why."],
        ),
        (
            "It was long. A torch.Tensor or asyncio.Queue is made.",
            ["It was long.", "A torch.Tensor or asyncio.Queue is made."],
        ),
        ("See java.util.List and www.Example.Com now.", ["See java.util.List and www.Example.Com now."]),
        (
            "It held, see Smith v. Jones, 12 F. Supp. 2d 34 (S.D. Cal. 1999). The end.",
            ["It held, see Smith v. Jones, 12 F. Supp. 2d 34 (S.D. Cal. 1999).", "The end."],
        ),
        ("He was fed. Ann paid in art. Nobody saw.", ["He was fed.", "Ann paid in art.", "Nobody saw."]),
        (
            "He saw Jose\u0301. Then Pen\u0303a. Nobody else.",
            ["He saw Jose\u0301.", "Then Pen\u0303a.", "Nobody else."],
        ),
        ("  \n\n ", []),
        ("", []),
    ],
)
def test_splits(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_places_are_source_bytes_and_lines() -> None:
    text = "Ünder one.\r\nStill \u20ac two.\r\n\r\nThe third line is here. Last."
    raw = text.encode()
    found = split(text)
    assert [raw[s.start : s.end].decode() for s in found] == [s.text for s in found]
    assert [s.line for s in found] == [1, 2, 4, 4]
    rebuilt = "".join((s.gap or "") + s.text for s in found)
    assert rebuilt == text


def test_what_has_no_end_is_cut_at_white_space_and_not_whole() -> None:
    words = "word " * 1000
    found = split(words)
    assert all(len(s.text) <= MAX_CHARACTERS and not s.whole for s in found)
    assert " ".join(s.text for s in found).split() == words.split()
    assert [len(s.text) for s in split("x" * 2500)] == [1000, 1000, 500]


def test_a_long_sentence_does_not_spoil_the_next() -> None:
    found = split("word " * 300 + "end. A short one follows.")
    assert [s.whole for s in found] == [False, False, True]
    assert found[-1].text == "A short one follows."


def test_a_wide_gap_is_not_kept() -> None:
    first, second = split("One is here." + " " * 500 + "Two is there.")
    assert (first.gap, second.gap) == (None, None)
    assert second.text == "Two is there."


def test_only_finished_sentences_are_finished() -> None:
    assert [s.is_finished for s in split("HEADING\n\nIt ends here.\n\n\u201cSo does this!\u201d\n\nNot this")] == [
        False,
        True,
        True,
        False,
    ]


pieces = st.lists(
    st.sampled_from(
        [
            "a",
            "Bc",
            " ",
            "\n",
            ".",
            "!",
            "Mr",
            "\u201d",
            "1",
            "- ",
            "\r\n",
            "。",
            "\t",
            "x" * 12,
            "é",
            "    f(",
            "```",
            "===",
            ": ",
        ]
    ),
    max_size=60,
)


@given(pieces, st.lists(st.integers(1, 7), min_size=1, max_size=10), st.booleans())
def test_the_split_does_not_depend_on_the_pieces(parts: list[str], sizes: list[int], is_short: bool) -> None:
    text = "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "MAX_CHARACTERS", 20 if is_short else 1000)
        whole, piecewise = split(text), split(text, sizes)
    assert whole == piecewise
    assert "".join("".join(s.text for s in whole).split()) == "".join(text.split())


def test_a_megabyte_of_dots_or_blanks_takes_no_time() -> None:
    assert all(len(s.text) <= MAX_CHARACTERS for s in split("." * 300_000, [65536]))
    assert split(" " * 1_000_000, [65536]) == []
    assert len(split("a. " * 100_000, [65536])) <= 100_000


KNOWN_WRONG = {"Features", "She whispered"}
"""Short lower-case lines look like wrapped prose, and an end mark inside a quotation is taken for the end."""


def test_marked_cases() -> None:
    wrong = [
        case
        for case in read_cases(CASES)
        if boundaries([s.text for s in split(case.text)]) != boundaries(case.sentences)
    ]
    assert {next(word for word in KNOWN_WRONG if case.text.startswith(word)) for case in wrong} == KNOWN_WRONG


def test_marked_cases_do_not_depend_on_the_pieces() -> None:
    for case in read_cases(CASES):
        assert split(case.text) == split(case.text, [1]) == split(case.text, [7, 2, 30])


def test_a_fence_that_is_never_closed_does_not_swallow_the_text() -> None:
    found = texts("```\n" + "x = 1\n" * 500 + "It goes on here. And here.")
    assert found[-2:] == ["It goes on here.", "And here."]


def test_pages_end_with_form_feeds() -> None:
    assert [s.page for s in split("One is here. Two.\fThree is there.\n\n\f\fFour.")] == [1, 1, 2, 4]


def test_values_of_a_record_end_no_sentence() -> None:
    splitter = SentenceSplitter()
    text = "Date: 3; Adj. Close: 4. Vol. Five: 6\n\nIt rose. It fell.\n\nNo. Two: 5; St. Paul: 6\n\n"
    starts = [0, text.index("No. Two")]
    places = [(start, Location("row", str(number))) for number, start in enumerate(starts, 2)]
    found = splitter.feed(text, np.arange(len(text) + 1), places) + splitter.flush()
    assert [one.text for one in found] == [
        "Date: 3; Adj. Close: 4. Vol. Five: 6", "It rose.", "It fell.", "No. Two: 5; St. Paul: 6"
    ]  # fmt: skip


def test_empty_lines_of_a_quotation_part_its_sentences() -> None:
    text = "> Build it:\n>\n> ```sh\n> One. Two.\n> ```\n>\n>\n> Start it. It runs\n> by itself.\n\nNobody knows."
    found = split(text)
    assert [one.text for one in found if not one.is_code] == [
        "> Build it:", "> ```sh", "> Start it.", "It runs\n> by itself.", "Nobody knows."
    ]  # fmt: skip
    assert [one.line for one in found] == [1, 3, 4, 5, 8, 8, 11]
    assert found == split(text, [1]) == split(text, [7, 2, 30])
    assert [one.is_code for one in split("> ```\n> One. Two.\nThis is told. And this.")] == [False, True, False, False]


TABLE = """Attendees:

| Name     | Abbr. | Says |
| :------- | ----- | ---- |
| Ann Bell | A. B. | This is it. And more is said. |
| Bo Carr  | BC    | %s|
| Cy Dorn  | CD    | |

The table has ended. Next.

| not a table
| of any kind.
"""


@pytest.mark.parametrize("sizes", [None, [1], [7]])
def test_a_row_of_a_table_of_markdown_is_a_sentence(sizes: list[int] | None) -> None:
    found = split(TABLE % ("word " * 300), sizes)
    said = [one.text for one in found]
    first, _ = TABLE.split("\n| Bo")
    assert said[:4] == first.replace("\n\n", "\n").split("\n")
    # A long row is cut as any sentence is.
    assert [one.whole for one in found[4:6]] == [False, False]
    assert said[4].startswith("| Bo Carr")
    assert said[6:] == ["| Cy Dorn  | CD    | |", "The table has ended.", "Next.", "| not a table\n| of any kind."]
