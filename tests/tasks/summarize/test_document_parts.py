"""The parts of documents: they begin with headings, belong to their document, and stay bounded."""

from __future__ import annotations

from collections.abc import Sequence

from famcli.tasks.summarize.candidates import Candidate
from famcli.tasks.summarize.document_parts import MAX_PARTS, DocumentParts
from famcli.text.headings import PLAIN, Heading
from famcli.text.sentences import Sentence


def parts_of(*rows: tuple[str, int] | str) -> list[tuple[str | None, int, int]]:
    """Parts after headings (title, level) and sentences, as titles, levels and numbers of sentences."""
    return [(part.title, part.level, part.num_sentences) for part in parts_of_sources(rows).all()]


def parts_of_sources(*sources: Sequence[tuple[str, int] | str]) -> DocumentParts:
    """The same of several documents, which are called 0, 1 and so on."""
    parts, place = DocumentParts(), 0
    for number, rows in enumerate(sources):
        parts.begin_source(str(number), place)
        for row in rows:
            if isinstance(row, str):
                sentence = Sentence(f"{row} {place}", place, place + 1, place + 1, "\n\n", True)
                parts.add(Candidate(sentence, str(number), place, 1.0))
            else:
                parts.begin(Heading(*row), place + 1, place)
            place += 1
    return parts


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
    assert len(parts_of(*(row for number in range(200) for row in ((f"{number}", 1), "a")))) == 200
    many = parts_of(*(row for number in range(1100) for row in ((f"{number}", 1), "a")))
    assert MAX_PARTS // 2 <= len(many) <= MAX_PARTS
    assert sum(row[2] for row in many) == 1100
    assert many[0][0] == "0 \u2026 7"
    assert {row[2] for row in many[:-1]} == {8}, "as many chapters in the last parts as in the first"


def test_parts_of_several_documents_are_joined_only_where_nothing_else_makes_room() -> None:
    chapters = [row for number in range(3) for row in ((f"{number}", 2), "a", (f"{number}.1", 3), "b")]
    plain: list[tuple[str, int] | str] = [("Sea", PLAIN), "a", ("Land", PLAIN), "b"]
    for sources in ([["a"], [("One", 1), "b"]], [plain, [("One", 1), "c"]], [chapters] * 20, [["a"]] * MAX_PARTS):
        parts = parts_of_sources(*sources).all()
        assert len(parts) <= MAX_PARTS
        assert {part.source for part in parts} == set(map(str, range(len(sources))))
        assert all(one.source == part.source for part in parts for one in part.candidates)
        assert sum(part.num_sentences for part in parts) == sum(
            isinstance(row, str) for rows in sources for row in rows
        )
    assert [part.title for part in parts_of_sources(plain, [("One", 1), "c"]).all()] == ["Sea", "Land", "One"]
    many = parts_of_sources(*[[("One", 1), "a"]] * 300).all()
    assert len(many) <= MAX_PARTS
    assert sum(part.num_sentences for part in many) == 300


def test_a_document_begun_again_keeps_the_parts_of_those_before() -> None:
    parts = parts_of_sources([("One", 1), "a"], [("Header", 1), "b"])
    parts.begin_again(7)
    assert [(part.title, part.source) for part in parts.all()] == [("One", "0")]
