from __future__ import annotations

from famcli.documents.source import Piece
from famcli.text.passages import MAX_CHARACTERS, Passage, PassageBuilder
from tests.tasks.support import prose


def passages_of(text: str, source: int = 0) -> list[Passage]:
    builder = PassageBuilder(source)
    builder.feed(Piece(text, 0, len(text.encode())))
    return builder.take(None)


def test_passages_are_verbatim_and_cover_the_text_once() -> None:
    text = prose(60) + "Caf\u00e9 \u201cend\u201d.\n"
    raw, found = text.encode(), passages_of(text)
    assert len(found) > 5
    assert all(raw[slice(*passage.span)].decode() == passage.text for passage in found)
    assert all(len(passage.text) <= MAX_CHARACTERS for passage in found)
    assert (
        "".join(p.text for p in found).split() == text.split()
        or " ".join(p.text for p in found).split() == text.split()
    )
    assert [p.line for p in found] == [1 + raw[: p.span[0]].count(b"\n") for p in found]


def test_passages_do_not_depend_on_how_the_text_arrives() -> None:
    text, builder = prose(40), PassageBuilder(0)
    found: list[Passage] = []
    for start in range(0, len(text), 37):
        part = text[start : start + 37]
        builder.feed(Piece(part, start, start + len(part)))
        found += builder.take(start + len(part) // 2)
    assert found + builder.take(None) == passages_of(text)


def test_a_passage_does_not_reach_across_a_wide_gap_nor_far_beyond_a_blank_line() -> None:
    assert len(passages_of("One is here." + " " * 99 + "Two is there.")) == 2
    first = "A sentence of some length stands here for once. " * 8
    assert len(passages_of(f"{first}\n\nAnother paragraph.")) == 2
    assert len(passages_of("Short heading\n\nAnother paragraph.")) == 1


def test_what_was_read_so_far_can_be_taken_before_the_end() -> None:
    builder = PassageBuilder(0)
    text = "The first one came. The second one went. The third one stayed. "
    builder.feed(Piece(text * 2, 0, 2 * len(text)))
    assert builder.take(45) == []
    (passage,) = builder.take(45, last=True)
    assert passage.text == "The first one came. The second one went."


def test_a_heading_begins_a_passage_and_stands_above_the_next_ones() -> None:
    long = "The keeper lights the lamp each evening before the boats come in. " * 12
    text = f"# Harbour\n\nIt is old.\n\n## Boats\n\n{long}\n\n### Masts\n\nThey have two.\n\n## Lamp\n\nIt burns oil.\n"
    found = passages_of(text)
    assert [one.headings for one in found[:3]] == [(), ("Harbour",), ("Harbour", "Boats")]
    assert [one.text.split("\n")[0] for one in found if one.text.startswith("#")] == [
        "# Harbour",
        "## Boats",
        "### Masts",
        "## Lamp",
    ]
    assert [one.headings for one in found[-2:]] == [("Harbour", "Boats"), ("Harbour",)]
