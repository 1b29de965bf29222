"""OpenDocument texts (.odt): headings, paragraphs, lists and tables in the order of the document; cited by paragraph.

Elements and attributes: OpenDocument 1.3, part 3, sections 5, 6 and 9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from famcli.documents.converted import Part
from famcli.documents.formats.word import LONG_CELL
from famcli.documents.formats.zipped import Archive, Element
from famcli.documents.original import Original
from famcli.documents.source import Location
from famcli.errors import DocumentError

_CONTENT, _KIND = "content.xml", "mimetype"
_TEXT = b"application/vnd.oasis.opendocument.text"
# Deleted text, comments, marks of notes, and what is only drawn.
_SKIPPED = frozenset(("tracked-changes", "annotation", "note-citation", "forms", "desc", "title", "object-ole"))
_BLANKS = re.compile(r"\s+")
_MOST_BLANKS = 80  # that one element may stand for


def is_odt(archive: Archive) -> bool:
    names = archive.names
    return _CONTENT in names and _KIND in names and archive.read(_KIND, 1 << 10).startswith(_TEXT)


def read_odt(original: Original, archive: Archive) -> Iterator[Part]:
    """The text of the document, each note where its mark stands."""
    has_text = False
    for text, location in _parts(archive):
        has_text = has_text or bool(text.strip())
        yield text, location
    if not has_text:
        raise DocumentError(f"{original.name} holds no text: is it a picture of one? Run text recognition on it")


def _parts(archive: Archive) -> Iterator[Part]:
    # Paragraphs lie in one another where a note or a frame stands in one: each has its level and its text.
    paragraphs, cells, row = list[tuple[int, list[str]]](), list[list[str]](), list[str]()
    skip, depth, number, title = 0, 0, 0, ""
    for element in archive.elements(_CONTENT):
        name = element.name
        if skip or name in _SKIPPED:
            skip += (-1 if element.is_end else 1) if name in _SKIPPED else 0
        elif name in ("p", "h") and not element.is_end:
            paragraphs.append((_number(element, "outline-level", 1) if name == "h" else 0, []))
        elif name in ("p", "h"):
            level, pieces = paragraphs.pop()
            if not (text := _cleaned(pieces)):
                continue
            if cells:
                cells[-1].append(text)
                continue
            number += 1
            title = " ".join(text.split()) if level else title
            yield _marked(text, level, depth), _where(number, title)
        elif name == "g":
            # A drawing: the words in its shapes are one paragraph.
            if not element.is_end:
                cells.append([])
            elif cells and (text := "; ".join(" ".join(one.split()) for one in cells.pop())):
                if cells:
                    cells[-1].append(text)
                else:
                    number += 1
                    yield f"{text}\n\n", _where(number, title)
        elif paragraphs and not element.is_end:
            paragraphs[-1][1].append(_said(element))
        elif name == "list":
            depth += -1 if element.is_end else 1
        elif name == "table-cell":
            if not element.is_end:
                cells.append([])
            elif cells:
                row.append(" ".join(" ".join(cells.pop()).split()))
        elif name == "table-row" and element.is_end and not cells:
            is_long = any(len(cell) > LONG_CELL for cell in row)
            text = "".join(f"{cell}\n\n" for cell in row if cell) if is_long else " | ".join(row).rstrip(" |") + "\n"
            yield text if any(row) else "", _where(number, title)
            row = []
        elif name == "table" and element.is_end and not cells:
            yield "\n", None


def _said(element: Element) -> str:
    """What an element inside a paragraph stands for."""
    if element.name == "s":
        return " " * min(_MOST_BLANKS, _number(element, "c", 1))
    # White space in the file is a blank.
    return {"": _BLANKS.sub(" ", element.text), "tab": " ", "line-break": "\n"}.get(element.name, "")


def _marked(text: str, level: int, depth: int) -> str:
    if level:
        return f"\n{'#' * min(6, level)} {' '.join(text.split())}\n\n"
    return f"- {text}\n" if depth else f"{text}\n\n"


def _cleaned(pieces: list[str]) -> str:
    lines = (" ".join(line.split()) for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line)


def _number(element: Element, name: str, otherwise: int) -> int:
    value = element.attributes.get(name, "")
    return max(1, int(value)) if value.isdecimal() and len(value) < 6 else otherwise


def _where(number: int, title: str) -> Location:
    return Location("paragraph", f"{max(1, number):,}", f'"{title}"' if title else "")
