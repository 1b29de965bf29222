"""Damaged documents of every format: one line that says what is wrong, or what can be read; never another error."""

from __future__ import annotations

import gzip
import random
import time
from pathlib import Path

import pytest

from famcli.documents import open_source
from famcli.errors import DocumentError
from tests.documents.made import MANUALS, docx, epub, paragraph, pdf
from tests.documents.test_converted import LINES, MAILBOX, PAGE, PYTHON, SRT, TABLE, VTT, C, write
from tests.documents.test_packed_formats import BODY, PAGES

WHOLE = {
    "html": PAGE,
    "srt": SRT.encode(),
    "vtt": VTT.encode(),
    "mail": MAILBOX,
    "table": TABLE.encode(),
    "json": LINES.encode(),
    "python": PYTHON.encode(),
    "c": C.encode(),
    "pdf": pdf(PAGES),
    "epub": epub([("One", "<p>It was long.</p>"), ("Two", "<h1>Two</h1><p>It blew.</p>")]),
    "docx": docx(BODY),
    "manual": MANUALS["man"].encode(),
    "gzip": gzip.compress(PAGE),
}


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Cut, with bytes changed, left out or put in; NUL bytes among them."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(data) or 1)
        match chance.randrange(5):
            case 0:
                data[place : place + 1] = bytes(
                    [chance.choice([0, 0x0A, 0x22, 0x3C, 0x7B, 0xFF, chance.randrange(256)])]
                )
            case 1:
                del data[place : place + chance.randint(1, 40)]
            case 2:
                data[place:place] = data[chance.randrange(len(data) or 1) :][: chance.randint(1, 80)]
            case 3:
                data[place:place] = bytes(chance.randint(1, 20))
            case _:
                del data[max(1, place) :]
    return bytes(data)


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_damage_is_told_in_one_line(tmp_path: Path, kind: str) -> None:
    chance = random.Random(kind)
    for _ in range(40):
        path = write(tmp_path, damaged(WHOLE[kind], chance))
        try:
            with open_source(path) as source:
                pieces = list(source.pieces())
            if source.is_converted:
                text = "".join(piece.text for piece in pieces)
                assert b"".join(piece.raw for piece in pieces).decode() == text
        except DocumentError as error:
            message = str(error)
        else:
            message = ""
        assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("nested elements", b"<html>" + b"<div><ul><li>" * 50_000),
        ("comments without an end", b"<html>" + b"<!-- " * 300_000),
        ("tags without an end", b"<html>" + b"<a href='" * 60_000),
        ("entities", b"<html><p>" + b"&amp;" * 500_000),
        ("a script without an end", b"<html><script>" + b"var x = '<p>';\n" * 300_000),
        ("parts in parts", b"From: a@b\nSubject: x\nDate: x\nContent-Type: multipart/mixed; boundary=b\n\n"
         + b"--b\nContent-Type: multipart/mixed; boundary=b\n\n" * 3000),
        ("a header without an end", b"From: a@b\nSubject: " + b"x y " * 500_000 + b"\n\nText"),
        ("encoded words", b"From: a@b\nSubject: " + b"=?utf-8?q?a?= " * 100_000 + b"\n\nText"),
        ("quotes in a table", b"a,b,c\n" + b'1,2,"""' * 200_000),
        ("brackets", b'{"a": ' * 300_000),
        ("cues", b"WEBVTT\n\n" + b"00:00.000 --> 00:01.000\n<v " * 100_000),
        ("NUL bytes", b"<html><p>" + bytes(2_000_000)),
        ("braces", b"int main(void) {\n" + b"{ /* " * 20_000),
        ("brackets of Python", b"import os\nimport sys\n" + b"x = ((((\n" * 100_000),
    ],
)  # fmt: skip
def test_hostile_documents_take_neither_time_nor_memory(tmp_path: Path, kind: str, content: bytes) -> None:
    began = time.process_time()
    try:
        with open_source(write(tmp_path, content)) as source:
            for _ in source.pieces():
                pass
    except DocumentError:
        pass
    assert time.process_time() - began < 20, kind


def test_a_word_document_of_many_tables_in_tables(tmp_path: Path) -> None:
    body = "<w:tbl><w:tr><w:tc>" * 5000 + paragraph("Deep.") + "</w:tc></w:tr></w:tbl>" * 5000
    with open_source(write(tmp_path, docx(body))) as source:
        assert "Deep." in "".join(piece.text for piece in source.pieces())
