"""Headings are found where they are marked or stand alone, and their parts stay bounded."""

from __future__ import annotations

import numpy as np
import pytest

from famcli.tasks.summarize.candidates import Candidate
from famcli.tasks.summarize.parts import MAX_PARTS, Parts
from famcli.text.headings import PLAIN, Heading, heading
from famcli.text.sentences import Sentence, SentenceSplitter


def headings(text: str) -> list[tuple[str, int]]:
    splitter = SentenceSplitter()
    sentences = splitter.feed(text, np.arange(len(text) + 1, dtype=np.int64)) + splitter.flush()
    found = (heading(sentence) for sentence in sentences)
    return [(one.title, one.level) for one in found if one is not None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\n\nIt begins.\n\n### Two ###\nIt goes on.", [("One", 1), ("Two", 3)]),
        ("Title\n=====\nIt begins.\n\nPart\n----\nIt goes on.", [("Title", 1), ("Part", 2)]),
        ("CHAPTER I.\n\nTHE TWO POETS\n\nThe suburb lay there.", [("CHAPTER I.", 2), ("THE TWO POETS", 3)]),
        ("PART ONE\n\nChapter 2: The Sea\n\nIt was wide.", [("PART ONE", 1), ("Chapter 2: The Sea", 2)]),
        ("3.2 Results of the trial\nAll recovered.", [("3.2 Results of the trial", 3)]),
        ("IV\n\nHe woke up.", [("IV", 2)]),
        ("It ended.\n\nEconomic history\n\nThe town wove.", [("Economic history", PLAIN)]),
        ("He said nothing.\n\nNor did she.\n\nBut then, at last,\n\nThey spoke.", []),
        ("1. Introduction ........ 1\n2. Method ........ 9\n", []),
        ("第一章\u3000春天\n\n花开了。\n\n第二节 城市\n\n地铁很快。", [("第一章 春天", 2), ("第二节 城市", 3)]),
        (
            "Erstes Kapitel\n\nEs war Winter.\n\nKapitel 2\n\nEs schneite.",
            [("Erstes Kapitel", PLAIN), ("Kapitel 2", 2)],
        ),
        ("- an item\n- another one\n", []),
        ("The chapter of accidents that followed was long and nobody could say how it would end for them", []),
        ("", []),
    ],
)
def test_headings(text: str, expected: list[tuple[str, int]]) -> None:
    assert headings(text) == expected


def parts_of(*rows: tuple[str, int] | str) -> list[tuple[str | None, int, int]]:
    """Parts after headings (title, level) and sentences, as titles, levels and numbers of sentences."""
    parts = Parts()
    parts.begin_source("x", 0)
    for place, row in enumerate(rows):
        text = row if isinstance(row, str) else row[0]
        sentence = Sentence(text, place, place + 1, place + 1, "\n\n", True)
        if isinstance(row, str):
            parts.add(Candidate(sentence, "x", place, 1.0))
        else:
            parts.begin(Heading(*row), sentence, place)
    return [(part.title, part.level, part.num_sentences) for part in parts.all()]


def test_a_part_begins_with_its_heading() -> None:
    assert parts_of("a", ("One", 1), "b", "c", ("Two", 1), "d") == [(None, 0, 1), ("One", 1, 2), ("Two", 1, 1)]


def test_a_heading_above_another_is_joined_with_it() -> None:
    assert parts_of(("I", 2), ("THE SEA", 3), "a", ("II", 2), "b") == [("I \u00b7 THE SEA", 2, 1), ("II", 2, 1)]


def test_entries_of_a_table_of_contents_are_no_parts() -> None:
    assert parts_of(("I. Sea", 2), ("II. Land", 2), ("I. Sea", 2), "a") == [("I. Sea", 2, 1)]


def test_plain_lines_are_headings_only_where_there_are_no_others() -> None:
    assert parts_of(("Sea", PLAIN), "a", ("Land", PLAIN), "b") == [("Sea", PLAIN, 1), ("Land", PLAIN, 1)]
    mixed = parts_of(("Sea", PLAIN), "a", ("Land", PLAIN), "b", ("One", 1), "c", ("Sky", PLAIN), "d")
    assert [row[0] for row in mixed] == ["Sea", "One"]
    assert [row[2] for row in mixed] == [2, 2]


def test_a_title_stands_no_deeper_than_what_is_below_it() -> None:
    below = [("1. Rent", 2), "b", ("1.1 Due", 3), "c"]
    assert [row[1] for row in parts_of(("LEASE", 3), "a", *below)] == [2, 2, 3]
    assert [row[1] for row in parts_of(("Lease", PLAIN), "a", ("Rent", 1), "b", ("Due", 2), "c")] == [1, 1, 2]
    assert [row[1] for row in parts_of(("Lease", 1), "a", *below)] == [1, 2, 3]


def test_parts_are_bounded_and_none_is_lost() -> None:
    fine = [row for number in range(40) for row in ((f"{number}", 1), "a", (f"{number}.1", 2), "b")]
    kept = parts_of(*fine)
    assert [row[0] for row in kept] == [str(number) for number in range(40)]
    assert sum(row[2] for row in kept) == 80
    many = parts_of(*(row for number in range(300) for row in ((f"{number}", 1), "a")))
    assert len(many) <= MAX_PARTS
    assert sum(row[2] for row in many) == 300
    assert many[0][0].startswith("0 \u2026 ")  # type: ignore[union-attr]
