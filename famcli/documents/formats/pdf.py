"""PDF: the text of each page, by pypdfium2, a page at a time.

Pages end with form feeds. Lines that stand at the top or bottom of neighbouring pages alike (titles, page numbers) are
left out, so that sentences go on from page to page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from famcli.documents.converted import Part
from famcli.documents.original import Original
from famcli.documents.source import Location
from famcli.errors import DocumentError

_PAGES_AT_ONCE = 200
_EDGE = 2  # lines at the top and the bottom of a page that may be repeated ones
_MOST_CHARACTERS = 1 << 20  # of a page
_FIGURES = re.compile(r"\d+|\b[ivxlc]+\b", re.I)
# A hyphen that PDFium has seen to divide a word at the end of its line.
_DIVIDED = re.compile("[\x02\ufffe]\\s*\n?(?=(\\S?))")
_PASSWORD = "password"


def read_pdf(original: Original) -> Iterator[Part]:
    """The pages in their order. Raises DocumentError for a damaged file, and one that needs a password."""
    try:
        import pypdfium2
    except ImportError as error:
        raise DocumentError(
            f"{original.name} is a PDF, which needs the package pypdfium2: pip install 'famcli[docs]'"
        ) from error
    file = original.file()
    try:
        document = pypdfium2.PdfDocument(file)
        num_pages = len(document)
        document.close()
    except pypdfium2.PdfiumError as error:
        if _PASSWORD in str(error).lower():
            raise DocumentError(
                f"{original.name} is protected by a password: save it without one, as qpdf can, and give that"
            ) from error
        raise DocumentError(f"{original.name} is a damaged PDF, or was cut short ({error}): fetch it again") from error
    yield from _joined(original, _pages(file, num_pages), num_pages)


def _pages(file: BinaryIO, num_pages: int) -> Iterator[list[str] | None]:
    """The lines of each page; None for a damaged one."""
    import pypdfium2

    # PDFium keeps what it has seen of a document, so that it is opened anew from time to time.
    for first in range(0, num_pages, _PAGES_AT_ONCE):
        file.seek(0)
        document = pypdfium2.PdfDocument(file)
        try:
            for number in range(first, min(first + _PAGES_AT_ONCE, num_pages)):
                yield _lines(document, number)
        finally:
            document.close()


def _joined(original: Original, pages: Iterator[list[str] | None], num_pages: int) -> Iterator[Part]:
    before, held = list[str](), list[list[str]]()
    empty, damaged = list[int](), list[int]()
    for number in range(num_pages + 1):
        # One page is held back, to see which of its lines the next one repeats.
        if number < num_pages:
            lines = next(pages)
            if lines is None:
                damaged.append(number + 1)
            elif not any(lines):
                empty.append(number + 1)
            held.append(lines or [])
            original.reached((number + 1) / num_pages)
        if number:
            page = held.pop(0)
            after = held[0] if held else []
            text = "\n".join(_without_edges(page, before, after))
            where = Location("page", f"{number:,}")
            yield (f"{text}\n" if text else ""), where
            if number < num_pages:
                yield "\f", None
            before = page
    if num_pages and len(empty) + len(damaged) == num_pages:
        raise DocumentError(
            f"{original.name} has no text on its {num_pages:,} page{'s' if num_pages > 1 else ''}; probably it was "
            "scanned: run text recognition on it (`ocrmypdf`), and give the result"
        )
    for left_out, what in ((empty, "hold no text, as scanned ones do"), (damaged, "are damaged and left out")):
        if left_out:
            original.note(f"{original.name}: {_numbers(left_out)} {what}")


def _lines(document: Any, number: int) -> list[str] | None:
    """The lines of a page, without blanks at their ends; None if it is damaged."""
    import pypdfium2

    try:
        page = document[number]
        try:
            text_page = page.get_textpage()
            try:
                text = text_page.get_text_range(0, min(text_page.count_chars(), _MOST_CHARACTERS))
            finally:
                text_page.close()
        finally:
            page.close()
    except (pypdfium2.PdfiumError, ValueError):
        return None
    # Before a capital it belongs to the word, as in names and in German.
    text = _DIVIDED.sub(
        lambda divided: "-" * divided[1].isupper(), text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    )
    return [" ".join(line.split()) for line in text.split("\n")]


def _without_edges(page: list[str], before: list[str], after: list[str]) -> list[str]:
    """A page without the lines at its top and bottom that a neighbour has too, and without its number."""
    others = [_edges(one) for one in (before, after)]
    first, last = 0, len(page)
    top, bottom = ({shape for edges in others for shape in edges[which]} for which in (0, 1))
    filled = [place for place, line in enumerate(page) if line]
    for place in filled[:_EDGE]:
        if not _is_repeated(page[place], top):
            break
        first = place + 1
    for place in filled[::-1][:_EDGE]:
        if place < first or not _is_repeated(page[place], bottom):
            break
        last = place
    return page[first:last]


def _is_repeated(line: str, shapes: set[str]) -> bool:
    shape = _shape(line)
    return shape in shapes and (shape == "#" or len(line) < 100)


def _edges(page: list[str]) -> tuple[set[str], set[str]]:
    filled = [line for line in page if line]
    return set(map(_shape, filled[:_EDGE])), set(map(_shape, filled[-_EDGE:]))


def _shape(line: str) -> str:
    """A line with its figures as one sign, which page numbers differ by."""
    return _FIGURES.sub("#", line.casefold())


def _numbers(pages: list[int]) -> str:
    """`page 3`, `pages 1, 2 and 7`, `pages 1 to 9 and 30 more`."""
    if len(pages) == 1:
        return f"page {pages[0]:,}"
    shown = [f"{number:,}" for number in pages[:5]]
    rest = len(pages) - len(shown)
    return f"pages {', '.join(shown)} and {rest:,} more" if rest else f"pages {', '.join(shown[:-1])} and {shown[-1]}"
