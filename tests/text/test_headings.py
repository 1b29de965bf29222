"""Headings are found where they are marked or stand alone."""

from __future__ import annotations

import numpy as np
import pytest

from famcli.text.headings import PLAIN, heading, is_contents, title_key
from famcli.text.sentences import SentenceSplitter


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
        (
            "### 1. Account Controls\n\nIt begins.\n\n## 2.1. What? Now\n\nIt goes on.",
            [("1. Account Controls", 3), ("2.1. What? Now", 2)],
        ),
        ("# One\n\n```sh\n# Install it\nmake\n```\n\nIt begins.", [("One", 1)]),
        ("", []),
    ],
)
def test_headings(text: str, expected: list[tuple[str, int]]) -> None:
    assert headings(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 Boats .......... 3\n2 Hulls .......... 9\n2.1 Wood .......... 12\n", True),
        ("Contents\n\n1. Boats . . . . . . 3 2. Hulls . . . . . . 9 3. Sails . . . . . . . 12\n", True),
        ("## Contents\n\n* [Boats](#boats)\n* [Hulls](#hulls)\n  * [Wood](#wood)\n", True),
        ("Contents\n\nBoats | What floats | 1\nHulls | What they are of | 2-9\nSails | Cloth | 10-15\n", True),
        ("- Boats and ships\n- Hulls\n- The sails\n", True),
        ("There are three kinds.\n\n* [Boats](#boats)\n* [Hulls](#hulls)\n* [Wood](#wood)\n", False),
        ("Boats | What floats | 1\nHulls | What they are of | 2\nSails | Cloth | 10\n", False),
        ("Take 3 eggs.\n\nBeat them for 5 minutes.\n\nServe at 7.\n", False),
        ("- Boats\n- Lamps\n- Keys\n", False),
    ],
)
def test_tables_of_contents_are_told(text: str, expected: bool) -> None:
    splitter = SentenceSplitter()
    sentences = splitter.feed(text, np.arange(len(text) + 1, dtype=np.int64)) + splitter.flush()
    titles = {title_key(one) for one in ("Boats and ships", "2. Hulls", "The Sails", "Masts")}
    assert is_contents(sentences, (), titles) is expected
