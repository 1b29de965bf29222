"""The default summary of pages with marks, front matter, lists and headings without text."""

from __future__ import annotations

from pathlib import Path

from famcli.tasks.summarize.summarize import summarize
from famcli.tasks.summarize.summary_format import format_summary
from famcli.tasks.summarize.summary_result import SummarizeConfig, parse_length
from tests.documents.made import epub
from tests.tasks.support import LARGE, byte_model


def shown(tmp_path: Path, text: str, length: str = "medium") -> list[str]:
    """The default summary of a page, as lines."""
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    result = summarize(byte_model(LARGE), [path], SummarizeConfig(length=parse_length(length)))
    for quote in result.sentences:
        assert path.read_bytes()[slice(*quote.span)].decode() == quote.text
    return [f"{mark}{line}" for mark, line in format_summary(result, "bullets")]


def test_a_contract_with_tags_is_read_by_its_sections(tmp_path: Path) -> None:
    names = {
        "Service": "may use the product during the time that was bought",
        "Payment": "pays all invoices within thirty days of their date",
        "Liability": "is not liable for damage that nobody could foresee",
        "Confidentiality": "keeps the secrets of the other party for five years",
    }
    sections = [
        f'{number}. <span class="header_2" id="{number}">{name}</span>\n'
        f'    1. <span class="header_3">First.</span> The <span class="link">Customer</span> {rule}.\n'
        for number, (name, rule) in enumerate(names.items(), 1)
    ]
    lines = shown(tmp_path, "# Cloud Agreement\n\n" + "\n".join(sections))
    assert not any("<" in line for line in lines)
    chosen = [name for number, name in enumerate(names, 1) if f"{number}. {name}" in [line.strip() for line in lines]]
    assert len(chosen) >= 2  # and the first, whose heading stands behind the title
    for name in chosen:
        assert any(line.endswith(f"First. The Customer {names[name]}.") for line in lines)


def test_front_matter_gives_the_title_alone(tmp_path: Path) -> None:
    parts = "\n".join(f"## Part {n}\n\nThe rule number {n} of the terms is that nobody may be late.\n" for n in "abc")
    lines = shown(tmp_path, f"---\ntitle: Event Terms\nredirect: /old/place\nversions:\n  fpt: '*'\n---\n\n{parts}")
    assert lines[:3] == ["Parts: Part a; Part b; Part c", "", "Event Terms \u00b7 Part a"]
    assert not any("redirect" in line or "fpt" in line for line in lines)


def test_a_short_list_is_quoted_with_what_announces_it(tmp_path: Path) -> None:
    items = "1. MAJOR version when you make changes that break others\n1. MINOR version when you add something\n"
    more = "\n".join(f"## Part {n}\n\nThe sentence of part {n} says that versions are numbers.\n" for n in "abc")
    lines = shown(tmp_path, f"# Versions\n\nGiven a version number, increment the:\n\n{items}\n{more}")
    assert next(line for line in lines if "increment" in line).partition(": ")[2] == (
        "Given a version number, increment the: 1. MAJOR version when you make changes that break others "
        "1. MINOR version when you add something"
    )
    long = "".join(f"- Item {n} of a list that has far too many words to be quoted whole here\n" for n in range(9))
    lines = shown(tmp_path, f"# Versions\n\nGiven a version number, increment the:\n\n{long}\n{more}")
    assert not any("increment the" in line for line in lines)
    bullets = "* Security team\n* Product team\n* Bug hunters of all kinds\n"
    lines = shown(tmp_path, f"# Teams\n\nThe teams that answer are:\n\n{bullets}\n{more}")
    assert any(
        line.endswith("The teams that answer are: Security team; Product team; Bug hunters of all kinds")
        for line in lines
    )


def test_of_headings_on_one_level_without_text_the_last_counts(tmp_path: Path) -> None:
    text = "# Plan\n\n## 1. Contact\n\n### 1.1 Name\n\nX\n\n### 1.2 Address\n\n"
    text += "The address of the team is not known to anybody.\n"
    more = "\n".join(f"## {n}. More\n\nThe part with number {n} says that everything is well.\n" for n in "23")
    titles = [line.strip() for line in shown(tmp_path, text + "\n" + more)]
    assert "Plan \u00b7 1. Contact \u00b7 1.2 Address" in titles


def test_copyright_is_a_subject_too(tmp_path: Path) -> None:
    text = "Welcome to the guide to the Digital Millennium Copyright Act and what it asks of you.\n"
    assert shown(tmp_path, text)[0].endswith(text.strip())
    assert (
        shown(tmp_path, "Copyright (c) 2020 by the people who wrote all of this text together.\n")[0].endswith(
            "text together."
        )
        is False
    )


def test_comments_are_no_text_and_a_greeting_opens_nothing(tmp_path: Path) -> None:
    rules = ["Nobody may be late for any of the dinners.", "All boats of the club are painted in bright blue."]
    rules.append("A letter is answered within one week of its date.")
    more = "\n".join(f"## Part {number}\n\n{rule}\n" for number, rule in enumerate(rules))
    text = (
        "# Terms\n\nThank you very much for using all of our products!\n\nWe build every product to help you work.\n\n"
    )
    text += (
        "<!-- Discuss what it means to endorse this. Say what the terms mean for each of us.\nAnd more of that. -->\n\n"
    )
    lines = shown(tmp_path, text + more, "4")
    assert not any("endorse" in line or "each of us" in line or "more of that" in line for line in lines)
    assert lines[1].endswith("We build every product to help you work.")


def test_minutes_with_few_decisions_say_what_was_spoken_of(tmp_path: Path) -> None:
    text = "# Meeting of the board\n\n## Present\n\n- Anna\n\n## Agenda\n"
    text += "\n### Boats\n\nThe board agreed to buy a new boat in May.\n"
    text += "\n### Harbour\n\nThe harbour needs a longer wall before the next winter comes.\n"
    text += "\n### Roads\n\nThe board decided that the road stays closed on Sundays.\n"
    text += "\n### Mills\n\nThe mill at the river turned for two hundred days of the year.\n"
    lines = shown(tmp_path, text)
    for kept in ("buy a new boat", "stays closed", "a longer wall", "two hundred days"):
        assert any(kept in line for line in lines), kept


def test_every_line_of_a_book_of_pages_has_its_chapter_and_line(tmp_path: Path) -> None:
    said = {"The lamp": "The lamp of the pier was lit again", "The boat": "The boat of the keeper lay at the pier"}
    pages = [(name, f"<h1>{name}</h1>" + f"<p>{text} on the first day of the year.</p>") for name, text in said.items()]
    path = tmp_path / "book.epub"
    path.write_bytes(epub(pages))
    result = summarize(byte_model(LARGE), [path], SummarizeConfig(kind="outline"))
    quoted = [mark.strip() for mark, text in format_summary(result, "outline") if text.endswith("of the year.")]
    assert quoted == [f'"{name}", line {one.line}:' for name, one in zip(said, result.sentences, strict=True)]
