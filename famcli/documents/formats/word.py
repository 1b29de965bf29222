"""DOCX: headings, paragraphs, lists and tables in the order of the document, and its footnotes; cited by paragraph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from famcli.documents.converted import Part
from famcli.documents.formats.zipped import Archive
from famcli.documents.original import Original
from famcli.documents.source import Location
from famcli.errors import DocumentError

_BODY, _STYLES = "word/document.xml", "word/styles.xml"
_NOTES = ("word/footnotes.xml", "word/endnotes.xml")
# Deleted text, fields' codes, and what stands there once more for older programs.
_SKIPPED = frozenset(("del", "delText", "instrText", "Fallback", "moveFrom", "rPr", "sectPr", "tblPr", "trPr", "tcPr"))
_SIGNS = {"tab": " ", "br": "\n", "cr": "\n", "noBreakHyphen": "\u2011"}
_NAMED = re.compile(r"heading (\d)$", re.I)
LONG_CELL = 200  # characters of a cell that stands in paragraphs of its own


def is_docx(archive: Archive) -> bool:
    return any(name.startswith("word/document") for name in archive.names)


def read_docx(original: Original, archive: Archive) -> Iterator[Part]:
    """The text of the document, then its notes."""
    reader, has_text = _Reader(_heading_levels(archive)), False
    for part in (_body(archive), *(one for one in _NOTES if one in archive.names)):
        for text, location in reader.parts(archive, part):
            has_text = has_text or bool(text.strip())
            yield text, location
    if not has_text:
        raise DocumentError(f"{original.name} holds no text: is it a picture of one? Run text recognition on it")


@dataclass
class _Paragraph:
    text: list[str] = field(default_factory=list)
    level: int = 0  # of a heading
    is_item: bool = False


class _Reader:
    """Follows the elements of a document. levels: of the styles that are headings'."""

    def __init__(self, levels: dict[str, int]) -> None:
        self._levels, self._number, self._heading = levels, 0, ""

    def parts(self, archive: Archive, part: str) -> Iterator[Part]:
        open_ones, cells, row, skip, is_text = list[_Paragraph](), list[list[str]](), list[str](), 0, False
        for element in archive.elements(part):
            name = element.name
            if skip or name in _SKIPPED:
                # Inside what is left out only its end matters; elements of the same name may be nested.
                skip += (-1 if element.is_end else 1) if name in _SKIPPED else 0
            elif not name:
                if is_text and open_ones:
                    open_ones[-1].text.append(element.text)
            elif name == "t":
                is_text = not element.is_end
            elif name in _SIGNS and not element.is_end:
                if open_ones and element.attributes.get("type") not in ("page", "column"):
                    open_ones[-1].text.append(_SIGNS[name])
            elif name == "p":
                if not element.is_end:
                    open_ones.append(_Paragraph())
                elif open_ones:
                    yield from self._ended(open_ones.pop(), cells)
            elif name in ("pStyle", "outlineLvl", "numPr") and open_ones:
                self._format(open_ones[-1], name, element.attributes.get("val", ""))
            elif name == "tc":
                if not element.is_end:
                    cells.append([])
                elif cells:
                    row.append(" ".join(cells.pop()))
            elif name == "tr" and element.is_end and not cells:
                yield from self._row(row)
                row = []
            elif name == "tbl" and element.is_end and not cells:
                yield "\n", None

    def _format(self, paragraph: _Paragraph, name: str, value: str) -> None:
        if name == "numPr":
            paragraph.is_item = True
        elif name == "pStyle":
            paragraph.level = self._levels.get(value, paragraph.level)
        elif value.isdecimal() and int(value) < 6:
            paragraph.level = int(value) + 1

    def _ended(self, paragraph: _Paragraph, cells: list[list[str]]) -> Iterator[Part]:
        lines = [" ".join(line.split()) for line in "".join(paragraph.text).split("\n")]
        text = "\n".join(line for line in lines if line)
        if not text:
            return
        if cells:
            cells[-1].append(text)
            return
        self._number += 1
        if paragraph.level:
            self._heading = text = " ".join(text.split())
            yield f"\n{'#' * min(6, paragraph.level)} {text}\n\n", self._where()
        else:
            yield f"- {text}\n" if paragraph.is_item else f"{text}\n\n", self._where()

    def _row(self, row: list[str]) -> Iterator[Part]:
        if any(len(cell) > LONG_CELL for cell in row):
            yield "".join(f"{cell}\n\n" for cell in row if cell), self._where()
        elif any(row):
            yield " | ".join(" ".join(cell.split()) for cell in row) + "\n", self._where()

    def _where(self) -> Location:
        return Location("paragraph", f"{self._number:,}", f'"{self._heading}"' if self._heading else "")


def _body(archive: Archive) -> str:
    """Where the text is: the package may say another place than the usual one."""
    if _BODY not in archive.names and "_rels/.rels" in archive.names:
        for element in archive.elements("_rels/.rels"):
            if element.attributes.get("Type", "").endswith("/officeDocument"):
                return element.attributes.get("Target", _BODY).lstrip("/")
    return _BODY


def _heading_levels(archive: Archive) -> dict[str, int]:
    """The levels of the styles that are headings', by their ids; names are English in every edition."""
    levels, bases, style = dict[str, int](), dict[str, str](), ""
    if _STYLES not in archive.names:
        return levels
    for element in archive.elements(_STYLES):
        value = element.attributes.get("val", "")
        if element.is_end:
            continue
        if element.name == "style":
            style = element.attributes.get("styleId", "")
        elif element.name == "name" and style:
            if (named := _NAMED.match(value)) is not None:
                levels[style] = int(named[1])
            elif value.lower() == "title":
                levels[style] = 1
        elif element.name == "outlineLvl" and style and value.isdecimal() and int(value) < 6:
            levels.setdefault(style, int(value) + 1)
        elif element.name == "basedOn" and style:
            bases[style] = value
    for one in bases:
        base, steps = one, 0
        while base in bases and base not in levels and steps < 10:
            base, steps = bases[base], steps + 1
        if base in levels:
            levels.setdefault(one, levels[base])
    return levels
