"""Project Gutenberg's frames: a book's own text is all that a summary quotes, whatever its header and footer look like.

The headers and footers are written after the forms that real files have had since 1991.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from famcli.tasks.summarize.summarize import Summarizer, summarize
from famcli.tasks.summarize.summary_result import SummarizeConfig
from famcli.tasks.task import run
from tests.reading.support import pipe
from tests.tasks.support import LARGE, byte_model, write

OWN = (
    "The keeper of the light counted every ship that passed.",
    "His daughter wrote the numbers down in a green book.",
)
FRAME = "These words about giving the file away belong to the frame and never to the book itself."
STARTS = (
    "*** START OF THE PROJECT GUTENBERG EBOOK THE LIGHT ***",
    "*** START OF THIS PROJECT GUTENBERG EBOOK THE LIGHT ***",
    "***START OF THE PROJECT GUTENBERG EBOOK THE LIGHT***",
    "*** START OF THE PROJECT GUTENBERG EBOOK, THE LIGHT ***",
    "*** START OF THE PROJECT GUTENBERG EBOOK 4217 ***",
    "*** START OF THE PROJECT GUTENBERG EBOOK THE LIGHT AND ALL\nTHAT HAPPENED THERE IN THE YEAR 1881 ***",
    "*** START OF PROJECT GUTENBERG EBOOK THE LIGHT ***",
    "*** start of the project gutenberg ebook the light ***",
    "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
    "*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.07.02.92*END*",
    "*** START OF THE PROJECT GUTENBERG ETEXT OF THE LIGHT ***",
    "** START OF THIS PROJECT GUTENBERG EBOOK THE LIGHT **",
)
ENDS = (
    "*** END OF THE PROJECT GUTENBERG EBOOK THE LIGHT ***",
    "*** END OF THIS PROJECT GUTENBERG EBOOK THE LIGHT ***",
    "***END OF THE PROJECT GUTENBERG EBOOK THE LIGHT***",
    "*** END OF THE PROJECT GUTENBERG EBOOK THE LIGHT AND ALL\nTHAT HAPPENED THERE ***",
    "End of the Project Gutenberg EBook of The Light, by A. Keeper",
    "End of Project Gutenberg's The Light, by A. Keeper",
    "End of The Project Gutenberg Etext of The Light",
    "End of this Project Gutenberg Etext of The Light",
    "",
)
HEADERS = (
    f"{FRAME}\n\nTitle: The Light\n\nAuthor: A. Keeper\n\nRelease date: January 1, 2001",
    "The Light",
    "The Light\n\nChapter I",
    f"THE LIGHT\n\nby A. Keeper\n\n{FRAME}\n\nCONTENTS\n\nI. The ship\n\nII. The book",
    f"\ufeff{FRAME}",
    "",
)
BODIES = (f"CHAPTER I\n\n{OWN[0]} {OWN[1]}", f"{OWN[0]}\n\n{OWN[1]}", f"I\n\n{OWN[0]}\n\nII\n\n{OWN[1]}")


def quotes(text: str, folder: Path, newline: str = "\n") -> list[str]:
    path = write(folder, text.replace("\n", newline))
    return [quote.text for quote in summarize(byte_model(LARGE), [path], SummarizeConfig()).sentences]


def book(number: int) -> str:
    """One of the combinations: every start, end, header and body comes up."""
    start, end = STARTS[number % len(STARTS)], ENDS[number % len(ENDS)]
    header, body = HEADERS[number % len(HEADERS)], BODIES[number % len(BODIES)]
    return "\n\n".join(part for part in (header, start, body, end, FRAME if end else "") if part) + "\n"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("number", range(36))
def test_only_the_book_is_quoted(number: int, newline: str, tmp_path: Path) -> None:
    assert quotes(book(number), tmp_path, newline) == list(OWN)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("start", STARTS)
def test_every_start_after_every_header(start: str, header: str, tmp_path: Path) -> None:
    assert quotes(f"{header}\n\n{start}\n\n{BODIES[0]}\n\n{ENDS[0]}\n\n{FRAME}\n", tmp_path) == list(OWN)


@pytest.mark.parametrize(("first", "second"), [(0, 5), (9, 1), (7, 3), (11, 4), (2, 18), (8, 0)])
def test_books_in_one_stream(first: int, second: int) -> None:
    other = ("An orchard wall kept the late frost from forty trees.", "Nobody in the village had planted pears before.")
    stream = book(first) + book(second).replace(OWN[0], other[0]).replace(OWN[1], other[1])
    found = [quote.text for quote in summarize(byte_model(LARGE), [pipe(stream.encode())]).sentences]
    if not ENDS[first % len(ENDS)]:  # what follows a book without a footer may be its own text
        found = [text for text in found if text != FRAME]
    assert found == [*OWN, *other]


@pytest.mark.parametrize("number", [0, 1, 3, 5, 9])
def test_cut_in_front_or_behind(number: int, tmp_path: Path) -> None:
    text = book(number)
    body = text.index(OWN[0])
    assert quotes(text[body:], tmp_path)[:2] == list(OWN)
    assert quotes(text[: text.index(OWN[1]) + len(OWN[1])] + "\n", tmp_path) == list(OWN)


def test_what_comes_long_before_a_mark_is_no_header(tmp_path: Path) -> None:
    before = "".join(f"Paragraph {n} tells of yet another boat in the bay.\n\n" for n in range(800))
    found = quotes(before + book(0), tmp_path)
    assert any(text.startswith("Paragraph") for text in found)


def test_the_title_of_a_book_is_said_in_its_header_and_not_who_made_the_file(tmp_path: Path) -> None:
    made = "Produced by A. Reader and the Online Distributed\nProofreading Team at http://www.example.org"
    titles = list[str | None]()
    for header in (HEADERS[0], FRAME):
        text = f"{header}\n\n{STARTS[1]}\n\n{made}\n\nTHE LAMP\n\n{BODIES[0]}\n\n{ENDS[0]}\n"
        task = Summarizer(byte_model(LARGE))
        run(task, [write(tmp_path, text)])
        titles.append(task._extraction.title_above)
    assert titles == ["The Light", "THE LAMP"]


def test_a_marked_book_without_text_is_empty(tmp_path: Path) -> None:
    assert quotes(f"{STARTS[0]}\n\n{ENDS[0]}\n", tmp_path) == []
    assert quotes(f"{FRAME}\n\n{STARTS[0]}\n", tmp_path) == []
