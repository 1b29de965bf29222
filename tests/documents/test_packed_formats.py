"""PDF, EPUB, DOCX and ZIP files, good, damaged and hostile."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest

from famcli.documents import open_source
from famcli.errors import DocumentError
from tests.documents.made import ENCRYPTED, docx, epub, odt, paragraph, pdf, zipped
from tests.documents.test_converted import converted, text_of, write

PAGES = [
    ["The Harbour 1", "The board met on Tuesday and", "it decided to rent a beacon"],
    ["The Harbour 2", "from the port. It is a first step."],
    ["The Harbour 3"],
    ["The Harbour 4", "The engineer explained it."],
]
BODY = (
    paragraph("The harbour", '<w:pStyle w:val="Eigene"/>')
    + "<w:p><w:r><w:t>The board </w:t></w:r><w:ins><w:r><w:t>met</w:t></w:r></w:ins>"
    + "<w:del><w:r><w:delText>sat</w:delText></w:r></w:del><w:r><w:tab/><w:t>on Tuesday.</w:t><w:br/></w:r></w:p>"
    + paragraph("A beacon", "<w:numPr/>")
    + paragraph("A pier", "<w:numPr/>")
    + f"<w:tbl><w:tr><w:tc>{paragraph('Year')}</w:tc><w:tc>{paragraph('Lamps')}</w:tc></w:tr>"
    + f"<w:tr><w:tc>{paragraph('1999')}</w:tc><w:tc>{paragraph('4')}</w:tc></w:tr></w:tbl>"
    + paragraph("The end.")
)


def test_a_pdf_is_read_by_page(tmp_path: Path) -> None:
    path = write(tmp_path, pdf(PAGES))
    text, places, notes = converted(path)
    assert text == (
        "The board met on Tuesday and\nit decided to rent a beacon\n\ffrom the port. It is a first step.\n\f\f"
        "The engineer explained it.\n"
    )
    assert [place.label for place in places] == ["page 1", "page 2", "page 4"]
    assert not notes
    place = text.encode().index(b"engineer")
    with open_source(path) as source:
        assert source.text((place, place + 8)) == "engineer"
    assert text_of(open_source("-", stdin=io.BytesIO(pdf(PAGES)))) == text
    assert text_of(open_source(write(tmp_path, gzip.compress(pdf(PAGES))))) == text


def test_a_pdf_without_text_or_with_a_password_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DocumentError, match=r"no text on its 2 pages.*scanned"):
        converted(write(tmp_path, pdf([[], []])))
    assert "pages 2 and 3 hold no text" in converted(write(tmp_path, pdf([["Text."], [], []])))[2][0]
    with pytest.raises(DocumentError, match="protected by a password"):
        converted(write(tmp_path, pdf(PAGES, ENCRYPTED)))
    for damaged in (pdf(PAGES)[:200], b"%PDF-1.7\n" + bytes(1000)):
        with pytest.raises(DocumentError, match="damaged PDF"):
            converted(write(tmp_path, damaged))
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(DocumentError, match=r"pip install 'famcli\[docs\]'"):
        converted(write(tmp_path, pdf(PAGES)))


def test_an_epub_is_read_by_chapter(tmp_path: Path) -> None:
    book = epub(
        [
            ("", "<p>For Carl.</p>"),
            ("1. The pier", "<p>It was long.</p>"),
            ("2. Storm", "<h2>Storm</h2><p>It blew.</p>"),
        ]
    )
    text, places, _ = converted(write(tmp_path, book))
    assert text == (
        "# The Harbour\n\nBy Ann Example.\n\nFor Carl.\n\n# 1. The pier\n\nIt was long.\n\n## Storm\n\nIt blew.\n\n"
    )
    labels = ['section "The Harbour"', "section", "section", "section"]
    assert len(dict.fromkeys(places)) == len(labels)
    assert [place.value for place in dict.fromkeys(places)] == ["The Harbour", "ch0.xhtml", "1. The pier", "2. Storm"]
    assert places[-1].label == '"2. Storm"'


def test_a_docx_gives_headings_lists_and_tables(tmp_path: Path) -> None:
    notes = "<w:footnotes><w:footnote>" + paragraph("A footnote.") + "</w:footnote></w:footnotes>"
    text, places, _ = converted(write(tmp_path, docx(BODY, footnotes=notes)))
    assert text.strip() == (
        "# The harbour\n\nThe board met on Tuesday.\n\n- A beacon\n- A pier\nYear | Lamps\n1999 | 4\n\nThe end.\n\n"
        "A footnote."
    )
    assert places[1].label == 'paragraph 2 ("The harbour")'


ODT = """<office:text><text:tracked-changes><text:p>Gone.</text:p></text:tracked-changes>
<text:h text:outline-level="2">The <text:span>har</text:span>bour</text:h>
<text:p>The board<text:s text:c="3"/>met on<office:annotation><text:p>When?</text:p></office:annotation>
  Tuesday<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>A note.</text:p></text:note-body
></text:note>.</text:p><text:list><text:list-item><text:p>A beacon</text:p></text:list-item></text:list>
<table:table><table:table-row><table:table-cell><text:p>Year</text:p></table:table-cell>
<table:table-cell><text:p>Lamps</text:p></table:table-cell></table:table-row></table:table><text:p/>
<text:p>The<text:line-break/>end.</text:p></office:text>"""


def test_an_opendocument_text_gives_headings_lists_and_tables(tmp_path: Path) -> None:
    text, places, _ = converted(write(tmp_path, odt(ODT)))
    assert text.strip() == (
        "## The harbour\n\nA note.\n\nThe board met on Tuesday.\n\n- A beacon\nYear | Lamps\n\nThe\nend."
    )
    assert places[1].label == 'paragraph 2 ("The harbour")'


BOMB = '<!DOCTYPE w [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (docx(BODY)[:-100], "damaged ZIP file, or was cut short"),
        (docx(BODY).replace(b"word/document.xml", b"word/document.xmx"), "damaged"),
        (zipped({"word/document.xml": BOMB + "<w>&b;</w>"}), "declares entities"),
        (zipped({"word/document.xml": "<w><p></w>"}), r"word/document.xml is damaged"),
        (zipped({"word/document.xml": b" " * 300_000_000}), "no document is"),
        (docx(""), "holds no text"),
        (zipped({"META-INF/container.xml": "<container/>"}), "where its book begins"),
        (zipped({"a.txt": "One.", "b.txt": "Two."}), r"ZIP file of 2 files \(a.txt, b.txt\)"),
        (zipped({"xl/workbook.xml": "", "b": ""}), "Excel workbook"),
        (odt("<office:spreadsheet/>", "spreadsheet"), "OpenDocument spreadsheet or presentation: save it as PDF"),
        (odt("<office:text/>"), "holds no text"),
        (odt(ODT)[:-60], "damaged ZIP file, or was cut short"),
        (zipped({"a.zip": zipped({"b.txt": "One."})}), "in a ZIP file"),
        (zipped({}), r"ZIP file of 0 files \(none\)"),
    ],
)
def test_damaged_and_hostile_archives_are_told(tmp_path: Path, content: bytes, expected: str) -> None:
    with pytest.raises(DocumentError, match=expected):
        converted(write(tmp_path, content))


def test_the_only_document_of_an_archive_is_read(tmp_path: Path) -> None:
    text, places, _ = converted(write(tmp_path, zipped({"__MACOSX/x": "", "a.html": "<html><p>One.</p></html>"})))
    assert text == "One."
    assert places[0].line == 1
