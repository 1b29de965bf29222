"""Documents that are converted: told by content, one text however it comes, with places in the original."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard

from famcli.documents import Location, Source, open_source, text_digest
from famcli.errors import DocumentError, UsageError
from tests.documents.made import MANUALS

PAGE = b"""<!DOCTYPE html><html><head><title>Harbour</title><style>p { color: red; }</style></head><body>
<nav><ul><li><a href="/">Home</a></li></ul></nav>
<h1>The harbour</h1>
<p>The board met on Tuesday to discuss the lighthouse &amp; the pier.</p>
<p>The engineer explained that the old lamp
had failed <em>twice</em> in winter.</p>
<ul><li>Captains couldn&#8217;t see it.</li><li>It was rented.</li></ul>
<table><tr><th>Year</th><th>Lamps</th></tr><tr><td>1999</td><td>4</td></tr></table>
<script>var x = "The script is not a sentence.";</script>
<footer>Imprint</footer></body></html>"""
SRT = (
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\nThe board met\r\n<i>on Tuesday.</i>\r\n\r\n"
    "2\r\n00:00:03,000 --> 00:00:05,000\r\nIt rented a beacon.\r\n"
)
VTT = """WEBVTT - harbour

NOTE made by hand

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.500 align:start
<v Ann>The board met</v>

00:02.500 --> 00:05.000
The board met
on Tuesday &amp; rented a beacon.
"""
MAILBOX = b"""From ann@example.org Mon Mar  3 10:00:00 2025
From: =?utf-8?q?Ann_M=C3=BCller?= <ann@example.org>
Message-ID: <1@example.org>
Subject: Lighthouse
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

The board met on Tues=
day =E2=80=93 it decided.
>From here on nothing changed.

From bob@example.org Mon Mar  3 11:00:00 2025
From: bob@example.org
Subject: Re: Lighthouse
In-Reply-To: <1@example.org>

On Monday Ann wrote:
> The board met on Tuesday.
I agree with the plan.
--
Bob
"""
TABLE = """name,height,note
Everest,8849,The highest mountain there is on Earth.
K2,8611,"It is called
the savage mountain."
"""
LINES = '{"id": 1, "text": "The board met on Tuesday to talk."}\n{"id": 2, "text": "It rented a beacon in the port."}\n'


def write(folder: Path, content: bytes | str, name: str = "document") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def text_of(source: Source) -> str:
    with source:
        return "".join(piece.text for piece in source.pieces())


def converted(path: Path) -> tuple[str, list[Location], tuple[str, ...]]:
    """The text, the places in it, and the notes."""
    with open_source(path) as source:
        pieces = list(source.pieces())
    places = [location for piece in pieces for _, location in piece.locations]
    return "".join(piece.text for piece in pieces), places, tuple(source.notes)


# ---------------------------------------------------------------------------------------------------------- one text


@pytest.mark.parametrize("content", [PAGE, SRT, VTT, MAILBOX, TABLE, LINES, gzip.compress(MAILBOX)])
def test_a_document_has_one_text_however_it_comes(tmp_path: Path, content: bytes | str) -> None:
    path = write(tmp_path, content)
    with open_source(path) as source:
        pieces = list(source.pieces())
    text, data = "".join(piece.text for piece in pieces), b"".join(piece.raw for piece in pieces)
    assert text.encode() == data
    assert source.end == len(data)
    assert source.digest() == hashlib.sha256(data).hexdigest() == text_digest(path, len(data), source.format)
    assert source.bytes_read == source.size == path.stat().st_size
    # Through a pipe that gives a few bytes at a time, and packed.
    assert text_of(open_source("-", stdin=Trickle(path.read_bytes()))) == text  # type: ignore[arg-type]
    assert text_of(open_source(write(tmp_path, gzip.compress(path.read_bytes()), "packed"))) == text
    # From any place on, and quoted again.
    places = [len(text[:count].encode()) for count in range(0, len(text), 17)]
    for start in places:
        with open_source(path, start=start, format=source.format) as rest:
            assert "".join(piece.text for piece in rest.pieces()) == data[start:].decode()
            assert rest.digest() == hashlib.sha256(data[start:]).hexdigest()
    with open_source(path) as source:
        assert source.text((places[1], places[-1])) == data[places[1] : places[-1]].decode()


class Trickle(io.BytesIO):
    def read1(self, size: int | None = -1) -> bytes:
        return super().read1(min(size or 7, 7))


def test_a_changed_file_is_not_what_was_read(tmp_path: Path) -> None:
    path = write(tmp_path, LINES)
    with open_source(path) as source:
        text = "".join(piece.text for piece in source.pieces())
    known = source.digest()
    span = text.index("It rented"), len(text.rstrip())
    write(tmp_path, LINES + '{"id": 3, "text": "A third one came later on."}\n')
    assert text_digest(path, len(text), "json") == known, "it has only grown"
    write(tmp_path, LINES.replace("rented", "bought"))
    assert text_digest(path, len(text), "json") != known
    with open_source(path) as source:
        assert source.text(span) != text[slice(*span)]
    write(tmp_path, "plain text by now, " * 20)
    with pytest.raises(DocumentError, match="has changed"):
        text_digest(path, len(text), "json")


def test_what_is_asked_for_as_it_is_is_plain_text(tmp_path: Path) -> None:
    path = write(tmp_path, PAGE)
    assert text_of(open_source(path, encoding="as-is")) == PAGE.decode()
    assert text_of(open_source(path, as_is=True)) == PAGE.decode()
    assert text_of(open_source("-", encoding="as-is", stdin=io.BytesIO(PAGE))) == PAGE.decode()


def test_an_encoding_that_is_named_is_kept_with_the_format(tmp_path: Path) -> None:
    table = "имя;высота;примечание\nЭльбрус;5642;Самая высокая гора в Европе и России.\nКазбек;5034;Вторая\n"
    path = write(tmp_path, table.encode("koi8-r"))
    with open_source(path, encoding="koi8-r") as source:
        text = "".join(piece.text for piece in source.pieces())
        assert (source.format, source.encoding) == ("table koi8-r", "utf-8")
    assert text.startswith("имя: Эльбрус; высота: 5642; примечание:\n\nСамая высокая")
    assert text_digest(path, len(text.encode()), source.format) == source.digest()
    with open_source(path, format=source.format) as again:
        assert again.text((0, 20)) == text.encode()[:20].decode()
    with pytest.raises(UsageError, match="unknown encoding"):
        open_source(path, encoding="no-such")


@pytest.mark.parametrize(
    "text",
    [
        "From the pier one sees the reef, the harbour and the town.\nIt is old.\n",
        "[12:00] <ann> Hello.\n[12:01] <bob> Hello, Ann.\n",
        "{it is not JSON}\n",
        "<ann> said hello to everybody.\n",
        "Dear Ann, dear Bob,\nthe board, which met, decided.\nYours, Carl\n",
        "1\nis the number of the first chapter.\n",
        "2024-01-01 10:00:00,123 INFO started\n2024-01-01 10:00:01,456 INFO stopped\n2024-01-01 10:00:02,789 INFO\n",
        "Title: The Harbour\n\nOnce upon a time.\n",
        "# Heading\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "To: whom it may concern\nthis is a letter.\n",
    ],
)
def test_plain_text_stays_plain_text(tmp_path: Path, text: str) -> None:
    with open_source(write(tmp_path, text)) as source:
        assert source.format == "text"
        assert "".join(piece.text for piece in source.pieces()) == text


# ------------------------------------------------------------------------------------------------------------ formats


def test_html_gives_its_text_by_line(tmp_path: Path) -> None:
    text, places, notes = converted(write(tmp_path, PAGE))
    assert text == (
        "# The harbour\n\nThe board met on Tuesday to discuss the lighthouse & the pier.\n\n"
        "The engineer explained that the old lamp had failed twice in winter.\n\n"
        "- Captains couldn\u2019t see it.\n- It was rented.\n\nYear | Lamps\n1999 | 4"
    )
    assert not notes
    assert {place.kind for place in places} == {"line"}
    twice = next(place for place in places if place.line == 6 and place.span is not None)
    assert twice.span is not None
    assert PAGE[slice(*twice.span)].startswith(b"had failed ")


def test_html_reads_the_main_part_and_all_where_there_is_none_in_it(tmp_path: Path) -> None:
    side = "<div class='sidebar'>Side.</div><p>Before.</p>"
    page = f"<html><body>{side}<main><h1>Title</h1><div><p>Main text.</div></main><p>After.</body></html>"
    assert converted(write(tmp_path, page))[0] == "# Title\n\nMain text."
    page = f"<html><body>{side}<main></main><p>After.</body></html>"
    assert converted(write(tmp_path, page))[0] == "Before.\n\nAfter."
    text, _, notes = converted(write(tmp_path, "<html><script>x()</script><div hidden>Text</div></html>"))
    assert not text
    assert "no text outside of scripts" in notes[0]


def _article(word: str) -> str:
    """A page without a word of HTML that would say which part of it is the main one."""
    menu = "".join(f"<div><a href='/{n}'>Read all of our stories about subject number {n}</a></div>" for n in range(30))
    body = "".join(
        f"<p>The {word} board met on day {n} to discuss the repairs of the old pier, and the engineer said at length "
        "why the lamp had failed twice in the storms of that winter.</p>"
        for n in range(12)
    )
    said = "".join(f"<div><p>I think so too, and said it {n} times.</p><a href='#'>Reply</a></div>" for n in range(9))
    return (
        f"<html><head><title>Pier</title></head><body><div>{menu}</div><div><h2>The pier</h2>{body}<table><tr><td>1999"
        f"<td>4 lamps</table><p>So it was decided by all who were there.</p></div><div id='comments'>{said}</div>"
        f"<div>{menu}</div></body></html>"
    )


def test_what_only_its_class_calls_a_menu_is_read_where_it_is_the_page(tmp_path: Path) -> None:
    chapter = "".join(f"<h2>Part {n}</h2><p>What part {n} says of its matter, at some length.</p>" for n in range(40))
    menu = "".join(f'<li><a href="#{n}">Part {n}</a></li>' for n in range(10))
    page = f"<html><body><div class='navbar'><ul>{menu}</ul></div>"
    parts = f"<h1>A</h1><p>Short.</p><div class='toctree-wrapper'>{chapter}</div>"
    main = page + f"<div role='main'>{parts}</div></body></html>"
    assert "What part 39 says" in converted(write(tmp_path, main))[0]
    # A part that is called the main one, and is next to nothing of the page.
    teaser = page + f"<main><p>Subscribe now.</p></main><div>{chapter}</div></body></html>"
    assert "What part 39 says" in converted(write(tmp_path, teaser))[0]
    # Where there is a text beside it, a menu is a menu.
    usual = page + f"<main>{chapter}</main></body></html>"
    text = converted(write(tmp_path, usual))[0]
    assert "## Part 3\n" in text
    assert "- Part 3" not in text


def test_html_leaves_out_what_stands_around_the_main_text(tmp_path: Path) -> None:
    text, places, _ = converted(write(tmp_path, _article("harbour")))
    assert text.startswith("# Pier\n\n")
    assert "## The pier\n\nThe harbour board met on day 0" in text
    assert text.endswith("So it was decided by all who were there.")
    assert "1999 | 4 lamps" in text  # nothing in between is lost
    assert "Read all of our stories" not in text
    assert "I think so too" not in text
    assert {place.kind for place in places} == {"line"}


def test_html_is_read_whole_where_nothing_tells_the_main_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = _article("harbour")
    monkeypatch.setitem(sys.modules, "trafilatura", None)  # not installed
    assert "Read all of our stories" in converted(write(tmp_path, page))[0]

    def fails(*_: object, **__: object) -> str:
        raise RecursionError("too deep")

    monkeypatch.setitem(sys.modules, "trafilatura", SimpleNamespace(extract=fails))
    assert "Read all of our stories" in converted(write(tmp_path, page))[0]


def test_html_keeps_code_apart_and_survives_what_is_not_closed(tmp_path: Path) -> None:
    page = (
        "<html><p>Before.<pre><code>if (x):\n    run()\n</code></pre><p>After<br>it.<nav>menu<h1>Still here</h1><p>Text"
    )
    text = converted(write(tmp_path, page))[0]
    assert text == "Before.\n\n```\nif (x):\n    run()\n```\n\nAfter\nit.\n\n# Still here\n\nText"
    deep = "<html>" + "<div>" * 100_000 + "<p>Deep down." + "<!-- never closed " * 100
    assert "Deep down." in converted(write(tmp_path, deep))[0]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('<meta charset="windows-1251"><p>Привет, мир.</p><p>1</p><p>2</p>'.encode("cp1251"), "Привет, мир."),
        ("<html><p>Ärger über Öl</p></html>".encode("utf-16"), "Ärger über Öl"),
        (b'<?xml version="1.0"?><doc><t>One &lt; two.</t><![CDATA[Three.]]></doc>', "One < two."),
    ],
)
def test_html_is_read_in_its_encoding(tmp_path: Path, page: bytes, expected: str) -> None:
    assert expected in converted(write(tmp_path, page))[0]


@pytest.mark.parametrize(
    ("content", "expected", "times"),
    [
        (SRT, "The board met on Tuesday. It rented a beacon.\n", ["0:00:01", "0:00:03"]),
        (VTT, "Ann: The board met on Tuesday & rented a beacon.\n", ["0:00:01", "0:00:02"]),
    ],
)
def test_subtitles_are_sentences_with_times(tmp_path: Path, content: str, expected: str, times: list[str]) -> None:
    text, places, _ = converted(write(tmp_path, content))
    assert text.lstrip() == expected
    assert [place.value for place in places] == times


def test_mail_is_decoded_and_quotes_a_reply_once(tmp_path: Path) -> None:
    text, places, _ = converted(write(tmp_path, MAILBOX))
    assert text == (
        "# Lighthouse\n\nFrom: Ann Müller <ann@example.org>\nDate: Monday, 3 March 2025, 10:00\n\n"
        "The board met on Tuesday \u2013 it decided.\nFrom here on nothing changed.\n\n"
        "# Re: Lighthouse\n\nFrom: bob@example.org\nDate: Monday, 3 March 2025, 11:00\n\nI agree with the plan.\n\n"
    )
    assert [place.label for place in dict.fromkeys(places)] == [
        'message 1 (Ann Müller, 2025-03-03, "Lighthouse")',
        'message 2 (bob@example.org, 2025-03-03, "Re: Lighthouse")',
    ]
    first, second = (place.span for place in dict.fromkeys(places))
    assert first is not None
    assert second is not None
    assert (first[0], first[1], second[1]) == (0, second[0], len(MAILBOX))
    # Alone, the reply keeps what only it has of the other.
    alone = MAILBOX[second[0] :].partition(b"\n")[2]
    assert "The board met on Tuesday.\nI agree" in converted(write(tmp_path, alone))[0]


def test_a_mail_with_parts_gives_its_text_and_tells_of_its_files(tmp_path: Path) -> None:
    mail = """From: ann@example.org
Subject: Plan
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=no-such-charset

The plain text.
--inner
Content-Type: text/html

<p>The <b>same</b> in HTML.</p>
--inner--
--outer
Content-Type: application/pdf; name=plan.pdf
Content-Disposition: attachment; filename=plan.pdf
Content-Transfer-Encoding: base64

JVBERi0=
--outer--
"""
    text, _, notes = converted(write(tmp_path, mail))
    assert text.endswith("The plain text.\n\n")
    assert "1 attached file left out" in notes[0]
    only_html = mail.replace("text/plain; charset=no-such-charset\n\nThe plain text.", "text/plain\n\n")
    assert converted(write(tmp_path, only_html))[0].endswith("The same in HTML.\n\n")


def test_tables_give_records_by_row(tmp_path: Path) -> None:
    text, places, _ = converted(write(tmp_path, TABLE))
    assert text == (
        "name: Everest; height: 8849; note:\n\nThe highest mountain there is on Earth.\n\n"
        "name: K2; height: 8611; note:\n\nIt is called\nthe savage mountain.\n\n"
    )
    assert [(place.label, place.line) for place in places] == [("row 2", 2), ("row 3", 3)]
    assert places[1].span is not None
    assert TABLE.encode()[slice(*places[1].span)].startswith(b"K2,8611")
    tabs = TABLE.split("K2")[0].replace(",", "\t") + "K2\t8611\tx\n"
    assert "name: K2; height: 8611; note: x" in converted(write(tmp_path, tabs))[0]


def test_rows_may_leave_out_their_last_values(tmp_path: Path) -> None:
    rows = "1.1,Buzz,1996-06-17\n1.2,Rex,1996-12-12,1998-06-05\n2.0,Hamm,1998-07-24,2000-03-09,x\n,Sid,1993-08-16\n"
    text, places, _ = converted(write(tmp_path, "version,codename,release,eol,lts\n" + rows))
    assert text.startswith("version: 1.1; codename: Buzz; release: 1996-06-17\n\n")
    assert [place.label for place in places] == ["row 2", "row 3", "row 4", "row 5"]
    prose = "He came, saw, and won.\nIt was, they said, so.\nAnd then, at last, all went.\nNobody spoke, or sang.\n"
    assert converted(write(tmp_path, prose))[0] == prose


def test_comments_above_a_table_are_read_and_name_no_column(tmp_path: Path) -> None:
    rows = "rowid,method,year\n1,Transit,2006\n2,Imaging,2008\n3,Transit,2011\n"
    text, places, _ = converted(write(tmp_path, "# Found by the archive\n#\n# COLUMN year: Year of discovery\n" + rows))
    assert text.startswith(
        "Found by the archive\n\nCOLUMN year: Year of discovery\n\nrowid: 1; method: Transit; year: 2006\n\n"
    )
    assert [(place.label, place.line) for place in places][:3] == [("line 1", 1), ("line 3", 3), ("row 5", 5)]
    # A comment may be the names of the columns.
    named = converted(write(tmp_path, "# Made by hand\n#" + rows))[0]
    assert named.startswith("Made by hand\n\nrowid: 1; method: Transit; year: 2006\n\n")
    # One line is no table, however many comments are above it.
    assert "method: " not in converted(write(tmp_path, "# a\n# b\n1,2\n"))[0]


def test_values_of_several_words_stay_beside_the_name_of_their_column(tmp_path: Path) -> None:
    rows = [
        "name,seat,founded",
        'Ore Bank,"New York City, New York",1784',
        "Mill,Basel,1870",
        'Pier,"A port in the north, far away",1901',
    ]
    text, _, _ = converted(write(tmp_path, "\n".join(rows) + "\n"))
    assert text.startswith("name: Ore Bank; seat: New York City, New York; founded: 1784\n\nname: Mill; seat: Basel;")
    assert "seat: A port in the north, far away; founded: 1901" in text


@pytest.mark.parametrize(
    "header",
    [
        "name,current?,height (m),#,share %",
        "Country Name,Country Code,1960,1961,1962",
        "Name/Alias,Years since joining,1st place,Is it so?,Notes [1]",
    ],
)
def test_the_first_row_gives_the_names_of_columns_whatever_signs_they_have(header: str, tmp_path: Path) -> None:
    rows = [header] + [f"row {number},YES,{number},2.5,x" for number in range(6)]
    names = header.split(",")
    text, places, _ = converted(write(tmp_path, "\n".join(rows) + "\n"))
    assert text.startswith(f"{names[0]}: row 0; {names[1]}: YES; {names[2]}: 0; ")
    assert len(places) == 6


RSS = """<?xml version="1.0" encoding="utf-8"?><!-- of the port -->
<rss version="2.0"><channel><link>https://example.org</link><title>News of the port</title><language>en</language>
<image><title>Logo</title><url>https://example.org/logo.png</url></image>
<item><title>The lamp is lit</title><link>https://example.org/1</link><category>Story, News</category>
<description>The keeper lit the lamp.</description><guid>1</guid></item>
<item><title>XVI. The pier</title><dc:format>text/plain</dc:format><description>It stands.</description></item>
</channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>News of the port</title><id>7</id><link href="x"/>
<entry><title type="text">The lamp is lit</title><category term="x"/><summary>The keeper lit the lamp.</summary></entry>
<entry><title>XVI. The pier</title><content>It stands.</content></entry></feed>"""


@pytest.mark.parametrize("feed", [RSS, ATOM])
def test_a_feed_has_the_titles_of_its_items_as_headings_and_nothing_said_for_programs(
    feed: str, tmp_path: Path
) -> None:
    text, _, _ = converted(write(tmp_path, feed))
    assert text.split("\n\n") == [
        "# News of the port",
        "## The lamp is lit",
        "The keeper lit the lamp.",
        "## XVI. The pier",
        "It stands.",
    ]


def test_columns_without_anything_in_them_hide_no_names(tmp_path: Path) -> None:
    rows = ["name,,seat,founded,,", *(f"row {number},,Basel,18{number}0,," for number in range(6))]
    text, places, _ = converted(write(tmp_path, "\n".join(rows) + "\n"))
    assert text.startswith("name: row 0; seat: Basel; founded: 1800\n")
    assert len(places) == 6


def test_json_gives_records_by_path_or_line(tmp_path: Path) -> None:
    document = {
        "title": "Minutes",
        "people": ["Ann", "Bob"],
        "items": [{"n": 1, "text": "The board met on \ud800Tuesday to talk."}, {"n": 2, "done": True, "none": None}],
        "notes": ["It rented a beacon from the port.", "It is paid for until the spring."],
    }
    text, places, _ = converted(write(tmp_path, json.dumps(document, indent=1)))
    assert text == (
        "title: Minutes; people: Ann, Bob\n\nn: 1; text:\n\nThe board met on ?Tuesday to talk.\n\nn: 2; done: true\n\n"
        "It rented a beacon from the port.\n\nIt is paid for until the spring.\n\n"
    )
    assert [place.value for place in places] == ["1", ".items[0]", ".items[1]", ".notes[0]", ".notes[1]"]
    text, places, _ = converted(write(tmp_path, LINES))
    assert [place.label for place in places] == ["line 1", "line 2"]
    assert [place.span for place in places] == [
        (0, len(LINES.split("\n")[0])),
        (len(LINES.split("\n")[0]) + 1, len(LINES) - 1),
    ]


GOOD = '{"t": "The board met on Tuesday."},\n' * 3000


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"id": 1, "text": "The board met on Tues', "not closed"),
        ('[{"id": 1, "text": "The board met."}', "cut short"),
        (f'[{GOOD}{{"id": 1}},, {{}}]', "line 3,001 is not JSON"),
        (f'[{GOOD}{{"id": }}]', "line 3,001 is not JSON"),
        (f"[{GOOD}" + "[" * 100_000, "more than 500 levels"),
        (json.dumps([{"n": n, "x": n / 3} for n in range(60_000)]), "holds no prose.*n, x"),
        ("a,b,c\n" + "".join(f"{n},{n},{n}\n" for n in range(120_000)), "holds no prose.*a, b, c"),
        ("a,b,c\n" + "x,y,This is a note of five words.\n" * 3000 + '"' + "7,8,9\n" * 900_000, "quote never closed"),
    ],
)
def test_damaged_records_and_those_without_prose_are_told(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(DocumentError, match=expected):
        converted(write(tmp_path, content))


# --------------------------------------------------------------------------------------------------------- compressed


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_what_is_packed_is_read(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    plain = "Ärger on the pier.\r\nThe board met.\r\n" * 5000
    path = write(tmp_path, pack(plain.encode()), "text.packed")
    text, places, _ = converted(path)
    assert text == plain.replace("\r\n", "\n")
    assert places[-1].line == 10_000
    assert converted(write(tmp_path, pack(pack(PAGE))))[0] == converted(write(tmp_path, PAGE))[0]
    noise = random.Random(1).randbytes(200_000)
    for damaged in (pack(noise)[:-1000], pack(noise)[:100_000] + bytes(100_000)):
        with pytest.raises(DocumentError, match=r"damaged or was cut short|binary data"):
            converted(write(tmp_path, damaged))


def test_a_page_below_front_matter_is_a_page_and_markdown_below_it_is_none(tmp_path: Path) -> None:
    front = "---\ntitle: The caf\u00e9 by the pier\nslug: pier\n---\n"
    body = "<h1>The pier</h1>\n<p>It was built of oak\nin 1873.</p>\n<h2>The lamp</h2>\n<p>It burns oil.</p>\n"
    page = f"{front}\n{body}"
    text, places, _ = converted(write(tmp_path, page))
    assert text.split("\n\n") == ["# The pier", "It was built of oak in 1873.", "## The lamp", "It burns oil."]
    assert {place.line for place in places} == set(range(6, 11))
    assert b"The pier" in [page.encode()[slice(*place.span)] for place in places if place.span is not None]
    body = "<div>\n\n# The pier\n\nIt was built of oak.\n\n</div>\n\nIt is long.\n\n<br>\n<hr>\n\nIt creaks.\n"
    markdown = f"{front}\n{body}"
    assert converted(write(tmp_path, markdown, "page.md"))[0] == markdown


# ----------------------------------------------------------------------------------------------------------- programs

PYTHON = '''#!/usr/bin/env python
"""The harbour's lamp.

It is switched here.
"""

import os  # for the environment

NAME = "# this is a string"


def switch(on: bool) -> None:
    """Switch the lamp."""
    # The reef lies
    # to the north.
    print("""no documentation""")
'''
C = """/* The harbour's lamp.
 * It is switched here.
 */
#include <stdio.h>
#define URL "http://example.org/* not a comment"

// The reef lies to the north.
static int lamp = 0; // off at first

// Tells whether the lamp is lit.
int is_lit(int number) {
    char *text = "// not a comment";
    return lamp;
}
"""
SHELL = """#!/bin/sh
# The lamp is switched on.
echo "# not a comment" ${#name}
exit 0 # at the end
"""


@pytest.mark.parametrize(
    ("content", "expected", "lines"),
    [
        (
            PYTHON,
            "The harbour's lamp.\n\nIt is switched here.\n\nfor the environment\n\n"
            "def switch(on: bool) -> None:\nSwitch the lamp.\n\n"
            "The reef lies\nto the north.\n\n",
            [2, 4, 7, 12, 13, 14, 15],
        ),
        (
            C,
            "The harbour's lamp.\nIt is switched here.\n\nThe reef lies to the north.\noff at first\n\n"
            "Tells whether the lamp is lit.\nint is_lit(int number)\n\n",
            [1, 2, 7, 8, 10, 11],
        ),
        (SHELL, "The lamp is switched on.\n\nat the end\n\n", [2, 4]),
    ],
)
def test_a_program_is_read_as_its_comments(tmp_path: Path, content: str, expected: str, lines: list[int]) -> None:
    text, places, notes = converted(write(tmp_path, content))
    assert text == expected
    assert [place.line for place in places] == lines
    assert not notes
    assert (
        "without comments" in converted(write(tmp_path, "import os\n\n\ndef f():\n    return os\n\n\nf()\nf()\n"))[2][0]
    )


# ------------------------------------------------------------------------------------- tables and records as they come


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        # Codes over codes, figures over figures, a value that comes again: no names.
        ([f'"Plane {n}","{chr(65 + n)}N{n}","N26{n}"' for n in range(9)], "column 1: Plane 0; column 2: AN0;"),
        (["00501,+40.9,HOLT,NY", *(f"0{n},+4{n}.9,TOWN{n},NY" for n in range(544, 552))], "column 1: 00501;"),
        (["Ann,tall,Basel", *(f"P{n},{'tall' if n % 2 else 'short'},Basel" for n in range(9))], "column 1: Ann"),
        # Names over figures, over dates and over codes.
        (["when,sold", *(f"2020-01-0{n},{n}" for n in range(1, 9))], "when: 2020-01-01; sold: 1"),
        (["State,ID", *(f"State {n},{chr(65 + n)}A" for n in range(8))], "State: State 0; ID: AA"),
        (["name,city", "Ann,Basel", "Bob,Genf", "Cy,Bern"], "name: Ann; city: Basel"),
    ],
)
def test_the_kinds_of_values_tell_whether_the_first_row_names_them(rows: list[str], first: str, tmp_path: Path) -> None:
    text, places, _ = converted(write(tmp_path, "\n".join(rows) + "\n"))
    assert text.startswith(first) or text.split("\n")[0].startswith(first)
    assert len(places) == len(rows) - (not first.startswith("column 1"))


def test_a_table_of_any_size_is_read_where_its_rows_have_names(tmp_path: Path) -> None:
    rows = "".join(f"Person {n},Town {n % 97},{n}\n" for n in range(60_000))
    text, places, notes = converted(write(tmp_path, "name,town,number\n" + rows))
    assert len(places) == 60_000
    assert "name: Person 59999; town: Town 53; number: 59999\n" in text
    assert "holds no prose" in notes[0]


def test_long_values_stand_each_below_its_own_name(tmp_path: Path) -> None:
    record = {"id": 3, "question": "How many lamps did she sell in all?", "answer": "She sold 48 and then 24 more."}
    text, _, _ = converted(write(tmp_path, json.dumps(record) + "\n" + json.dumps(record) + "\n"))
    assert text.startswith(
        "id: 3; question:\n\nHow many lamps did she sell in all?\n\nanswer:\n\nShe sold 48 and then 24 more.\n\n"
    )


def test_manual_pages_are_read_without_their_marks(tmp_path: Path) -> None:
    text, places, _ = converted(write(tmp_path, MANUALS["man"]))
    assert text.split("\n\n\n")[0] == "# LAMP(1)\n"[:-1]
    assert "## Name\n\nlamp - light a lamp" in text
    assert "- -q, --quiet: Say nothing. See lamp(5)." in text
    assert "- A point" in text
    assert "It's bright here." in text
    assert "    lamp -q\n" in text
    assert places[0].line == 2
    # What a terminal shows, once.
    status = text.split("## Exit status")[1]
    assert " ".join(status.split()) == "- 4: No oil, says C++. - Fill it. lamp --fill"
    assert "    lamp --fill\n" in status
    of_mdoc, _, _ = converted(write(tmp_path, MANUALS["mdoc"]))
    assert "lamp lights it." in of_mdoc
    assert "- -q: Say nothing." in of_mdoc


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"A_Book".ljust(60, b"\0") + b"BOOKMOBI\0\0", "ebook-convert"),
        (b"AT&TFORM\0\0\0\1DJVM", "djvutxt"),
        (b"ITSF\3\0\0\0", "7z x"),
        (b"%!PS-Adobe-3.0\n%%Title: x\n", "ps2pdf"),
    ],
)
def test_other_books_and_pages_are_refused_with_what_converts_them(data: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=told):
        converted(write(tmp_path, data))
