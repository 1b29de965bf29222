"""Documents: text and places from files and pipes, whatever the bytes and however they arrive."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from famcli.documents import Piece, Source, hash_prefix, open_source
from famcli.documents.encodings import detect
from famcli.errors import DocumentError, UsageError

GERMAN = "Die Straße war für größere Fahrzeuge gesperrt, während Bürger müde lächelten.\n"
RUSSIAN = "Все люди рождаются свободными и равными в своем достоинстве и правах.\n"
JAPANESE = "これは日本語の文章です。東京は大きい都市です。人間は自由です。\n"


def with_newlines(text: str) -> str:
    """`text` with a newline in the place of every carriage return that no newline follows."""
    return re.sub(r"\r(?!\n)", "\n", text)


SAMPLES = {"latin-1": "Größe äéß\r\n", "euc_kr": "모든 인간은 a\n", "hz": "中国 abc 北京\n"}
PARTS = [
    b"a",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xf0\x9f",
    b"\xef\xbf\xbd",
    b"\x80",
]
mixed = st.lists(
    st.one_of(st.sampled_from(PARTS), st.text(max_size=4).map(str.encode), st.binary(max_size=3)), max_size=20
).map(b"".join)


class Trickle(io.RawIOBase):
    """A pipe that gives its bytes in the portions it is told."""

    def __init__(self, content: bytes, portions: list[int]) -> None:
        self._portions = []
        for size in portions:
            self._portions.append(content[:size])
            content = content[size:]
        self._portions = [part for part in [*self._portions, content] if part]

    def readable(self) -> bool:
        return True

    def read1(self, _: int) -> bytes:
        return self._portions.pop(0) if self._portions else b""


def read(document: Source) -> tuple[str, list[Piece]]:
    """The whole text, and the pieces, which must follow one another and cover what was read."""
    pieces = list(document.pieces())
    end = pieces[0].start if pieces else 0
    for piece in pieces:
        assert piece.start == end
        offsets = piece.char_offsets()
        assert (offsets[0], offsets[-1], len(offsets)) == (piece.start, piece.end, len(piece.text) + 1)
        assert (np.diff(offsets) >= 0).all()
        assert piece.text
        end = piece.end
    return "".join(piece.text for piece in pieces), pieces


def piped(content: bytes, portions: list[int] | None = None, **options: object) -> Source:
    return open_source("-", stdin=Trickle(content, portions or []), **options)


def offsets_of(pieces: list[Piece]) -> list[int]:
    return [offset for piece in pieces for offset in piece.char_offsets()[:-1].tolist()]


@given(content=mixed, portions=st.lists(st.integers(1, 9), max_size=8))
def test_utf8_is_what_python_decodes_however_it_arrives(content: bytes, portions: list[int]) -> None:
    content = b"." + content  # so that it begins no known format
    whole, at_once = read(piped(content, encoding="utf-8"))
    document = piped(content, portions, encoding="utf-8")
    text, pieces = read(document)
    expected = with_newlines(content.decode("utf-8", "replace"))
    assert text == whole == expected
    assert offsets_of(pieces) == offsets_of(at_once)
    assert document.bytes_read == len(content)
    assert b"".join(piece.raw for piece in pieces) == content
    assert document.digest() == hashlib.sha256(content).hexdigest()
    assert document.num_replaced == expected.count("\ufffd") - content.count(b"\xef\xbf\xbd")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@given(text=st.text(max_size=30), portions=st.lists(st.integers(1, 9), max_size=8))
def test_a_byte_order_mark_settles_the_encoding_and_is_no_text(encoding: str, text: str, portions: list[int]) -> None:
    content = ("\ufeff" + text).encode(encoding)
    if encoding == "utf-16-le" and text.startswith("\0"):
        return  # looks like UTF-32, to everyone
    document = piped(content, portions)
    assert read(document)[0] == with_newlines(text)
    assert (document.encoding, document.num_replaced, document.bytes_read) == (encoding, 0, len(content))


@pytest.mark.parametrize("encoding", ["utf-16-le", "latin-1", "shift_jis", "gb18030", "euc_kr", "iso2022_jp", "hz"])
@given(data=st.data())
def test_reading_goes_on_at_any_character(encoding: str, data: st.DataObject, tmp_path_factory) -> None:
    name = SAMPLES.get(encoding, "これは abc 日本。\n")
    content = (name * 3).encode(encoding)
    path = tmp_path_factory.mktemp("resume") / "text"
    path.write_bytes(content)
    with open_source(path, encoding=encoding) as document:
        text, pieces = read(document)
        assert text == name * 3
    offsets = offsets_of(pieces)
    place = data.draw(st.integers(0, len(text) - 1))
    with open_source(path, encoding=encoding, start=offsets[place]) as document:
        rest, pieces = read(document)
        assert (rest, offsets_of(pieces)) == (text[place:], offsets[place:])
        assert document.bytes_read == len(content) - offsets[place]
    last = data.draw(st.integers(place, len(text) - 1))
    with open_source(path, encoding=encoding) as document:
        assert document.text((offsets[place], offsets[last])) == text[place:last]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((GERMAN, "cp1252"), (GERMAN * 9, "cp1252"), ("He said \u201chello\u201d \u2014 caf\u00e9.\n", "cp1252")),
        *((RUSSIAN * 3, "cp1251"), (RUSSIAN * 3, "koi8-r"), (JAPANESE * 3, "cp932"), (JAPANESE * 3, "euc-jp")),
    ],
)
def test_legacy_encodings_are_detected(tmp_path: Path, text: str, encoding: str) -> None:
    content = text.encode(encoding)
    path = tmp_path / "text"
    path.write_bytes(content)
    for document in (open_source(path), piped(content)):
        with document:
            assert read(document)[0] == text
            assert document.encoding.replace("_", "-") == encoding
            assert document.num_replaced == 0


SENTENCES = {
    "cp1252": (
        "Où est le café de la gare ? À côté, la forêt brûle et le garçon rêve.\n",
        "El niño comió una piña en la montaña; mañana será otro día, ¿verdad?\n",
        "A manhã está fria, e não há ninguém na praça; são três da tarde.\n",
        "Rødgrød med fløde på åen, også æbler og køer på øen.\n",
        "Þetta er góður maður og við ætlum að fara á fjöllin í dag.\n",
        "García, Müller, Gödel, Núñez, Pérez, Schrödinger, Jiménez, Möbius, Hölder and Muñoz wrote this.\n",
        "Õhtul läks mees üle jõe, et näha oma sõpra; öö oli külm ja kõrge mägi oli sünge.\n",
        "Copyright © Foo® Bar™. The value is 5 ± 2 and 7 ± 3.\n",
    ),
    "cp1250": (
        "Příliš žluťoučký kůň úpěl ďábelské ódy, když řeka tekla k městu.\n",
        "Árvíztűrő tükörfúrógép, és a hősnő megőrült a fényes őszi erdőben.\n",
        "Zażółć gęślą jaźń, a wąż śpi pod łóżkiem w Łodzi.\n",
    ),
    "iso8859-2": ("Příliš žluťoučký kůň úpěl ďábelské ódy, když řeka tekla k městu.\n",),
    "cp1254": ("Pijamalı hasta yağız şoföre çabucak güvendi; ağaç gölgesinde.\n",),
    "cp1257": ("Įlinkdama fechtuotojo špaga sublykčiojo, žąsys švilpė prie ežero, o žmonės šoko.\n",),
}


@pytest.mark.parametrize("repeats", [1, 20])
@pytest.mark.parametrize(("encoding", "text"), [(name, text) for name, texts in SENTENCES.items() for text in texts])
def test_languages_tell_encodings_of_the_same_bytes_apart(encoding: str, text: str, repeats: int) -> None:
    content = (text * repeats).encode(encoding)
    assert content.decode(detect(content, True, "text")) == text * repeats


def test_utf8_with_a_few_bad_bytes_stays_utf8(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(GERMAN.encode() + b"\xff" + GERMAN.encode())
    with open_source(path) as document:
        text, pieces = read(document)
    assert text == GERMAN + "\ufffd" + GERMAN
    assert (document.encoding, document.num_replaced) == ("utf-8", 1)
    assert pieces[-1].end == path.stat().st_size == document.size


NOISE = np.random.default_rng(0).bytes(5000)
BINARY = {
    "noise": NOISE,
    "floats": np.random.default_rng(0).standard_normal(2000).astype("<f4").tobytes(),
    "sound": (3000 * np.sin(np.arange(4000) / 9)).astype("<i2").tobytes(),
    "every byte": bytes(range(128, 256)) * 40 + bytes(range(256)),
    "noise after a title": b"A title\n" * 50 + NOISE,
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_data_is_refused_unless_the_encoding_is_named(tmp_path: Path, name: str) -> None:
    content = BINARY[name]
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=r"data is binary data.*name the encoding") as caught:
        open_source(path)
    assert caught.value.remedy == {"encoding": "NAME"}
    with pytest.raises(DocumentError, match=r"standard input is binary data.*name the encoding"):
        read(piped(content, [100]) if name != "noise after a title" else piped(content))
    for encoding in ("utf-8", "latin-1"):
        with open_source(path, encoding=encoding) as document:
            text, _ = read(document)
            assert text == with_newlines(content.decode(encoding, "replace"))
            assert document.num_replaced == text.count("\ufffd")
            assert (document.num_replaced > 500) == (encoding == "utf-8")
            assert document.bytes_read == len(content)


@given(st.binary(max_size=24), st.integers(3, 9))
def test_a_little_noise_in_a_text_is_replaced_and_counted(noise: bytes, place: int) -> None:
    words = (GERMAN * 9).encode()
    document = piped(words[:place] + noise + words[place:], encoding=None)
    text, _ = read(document)
    assert document.encoding == "utf-8"
    assert text == with_newlines((words[:place] + noise + words[place:]).decode("utf-8", "replace"))


@pytest.mark.parametrize("content", [b"one\0two\0three\0" * 30, b"abc\0" * 99, bytes(100)])
def test_nul_bytes_are_ordinary_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    for document in (open_source(path), piped(content)):
        with document:
            assert read(document)[0] == with_newlines(content.decode("utf-8", "replace"))


@pytest.mark.parametrize("text", [GERMAN, RUSSIAN, "hello, world", "\u201cQuoted\u201d \u2014 he said.\r\n"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(tmp_path: Path, text: str, encoding: str) -> None:
    content = text.encode(encoding)
    path = tmp_path / "text"
    path.write_bytes(content)
    for document in (open_source(path), piped(content), piped(content, [4, 20, 3])):
        with document:
            assert read(document)[0] == text
            assert (document.encoding, document.num_replaced, document.bytes_read) == (encoding, 0, len(content))


def test_memory_files_and_weights_are_refused_with_what_reads_them(tmp_path: Path) -> None:
    content = (80).to_bytes(8, "little") + b'{"__metadata__":{}}' + b" " * 61 + NOISE
    path = tmp_path / "book.fam"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=r"famcli inspect FILE.*load a memory file to ask it") as caught:
        open_source(path)
    assert caught.value.remedy == {"load": "FILE"}
    with pytest.raises(DocumentError, match="load a memory file to ask it"):
        piped(content)
    with open_source(path, encoding="latin-1") as document:
        assert document.encoding == "iso8859-1"


@given(head=st.text(st.characters(max_codepoint=127), max_size=9), portions=st.lists(st.integers(1, 3), max_size=8))
def test_a_pipe_settles_at_its_first_character_beyond_ascii(head: str, portions: list[int]) -> None:
    document = piped((head + "é and ☃").encode(), portions)
    assert read(document)[0] == with_newlines(head + "é and ☃")
    assert document.encoding == "utf-8"


def test_an_unfinished_character_at_the_end_comes_apart() -> None:
    document = piped(b"abc\xe2\x98", encoding="utf-8")
    pieces = list(document.pieces())
    assert [(piece.text, piece.start, piece.end, piece.tentative) for piece in pieces] == [
        ("abc", 0, 3, False),
        ("\ufffd", 3, 5, True),
    ]
    assert document.num_replaced == 1


def test_newlines_and_nul_stay_as_they_are() -> None:
    assert read(piped(b"a\r\nb\rc\n\0d"))[0] == "a\r\nb\nc\n\0d"


def test_empty_inputs(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "mark").write_bytes(codecs.BOM_UTF8)
    for document in (open_source(tmp_path / "empty"), open_source(tmp_path / "mark"), piped(b"")):
        with document:
            assert read(document) == ("", [])
    assert document.digest() == hashlib.sha256(b"").hexdigest()


def test_a_pipe_gives_what_has_arrived() -> None:
    source, sink = os.pipe()
    with os.fdopen(source, "rb") as stdin, os.fdopen(sink, "wb", buffering=0) as writer:
        writer.write(b"first line\n")
        pieces = open_source("-", stdin=stdin).pieces()
        assert next(pieces).text == "first line\n"  # would wait for ever if it wanted more
        threading.Timer(0.05, lambda: (writer.write("zweite größe\n".encode()), writer.close())).start()
        assert "".join(piece.text for piece in pieces) == "zweite größe\n"


def test_large_files_come_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_text("wörter und mehr\n" * 40_000, encoding="utf-8")
    with open_source(path) as document:
        text, pieces = read(document)
    assert text == "wörter und mehr\n" * 40_000
    assert max(piece.end - piece.start for piece in pieces) <= 1 << 17


def test_the_rest_of_a_pipe_keeps_its_place() -> None:
    document = open_source("-", stdin=io.BytesIO("é rest".encode()), start=7, encoding="utf-8")
    _, pieces = read(document)
    assert (pieces[0].start, pieces[-1].end, document.start, document.bytes_read) == (7, 14, 7, 7)


def test_hash_prefix(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"hello world")
    assert hash_prefix(path, 5) == hashlib.sha256(b"hello").hexdigest()
    with pytest.raises(DocumentError, match="shorter"):
        hash_prefix(path, 12)
    with pytest.raises(DocumentError, match="moved"):
        hash_prefix(tmp_path / "other", 1)


def test_quotes_are_cut_from_the_source(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("a\r\nnaïve \ufffd".encode() + b"\xff.")
    source = open_source(path)
    source.close()
    assert source.text((3, 9)) == "naïve"
    assert source.text((10, 14)) == "\ufffd\ufffd"
    with pytest.raises(DocumentError, match="changed"):
        source.text((10, 99))
    path.unlink()
    with pytest.raises(DocumentError, match="moved"):
        source.text((0, 1))


def test_a_quote_is_cut_from_a_file_that_is_still_there(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\ufeffone\r\ntwo\fthree\né".encode("utf-16-le"))
    with open_source(path) as source:
        _, pieces = read(source)
        offsets = offsets_of(pieces)
        assert source.text((offsets[5], offsets[8])) == "two"
    with pytest.raises(DocumentError, match="is a pipe, which cannot be read again"):
        piped(b"text").text((0, 1))
    path.unlink()
    with pytest.raises(DocumentError, match=r"cannot quote from .*; has it moved"):
        source.text((2, 4))


def test_a_tar_archive_of_texts_is_refused(tmp_path: Path) -> None:
    content = b"a.txt".ljust(257, b"\0") + b"ustar\x0000" + b"The text of the first file.\n" * 20
    (tmp_path / "file").write_bytes(content)
    for opening in (lambda: open_source(tmp_path / "file"), lambda: piped(content, [512])):
        with pytest.raises(DocumentError, match=r"tar archive.*tar xf"):
            opening()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1...", "old Microsoft Office.*save"),
        (b"7z\xbc\xaf\x27\x1c", "7z.*unpack"),
        (b"ID3\x03\0\0\0\0\x0f\x76TIT2", "MP3 recording.*transcribe"),
        (b"RIFF\x24\x08\0\0WAVEfmt ", "WAV recording.*transcribe"),
        (b"SQLite format 3\0\x10\0", "SQLite database.*CSV"),
        (b"\x89PNG\r\n\x1a\n...", "PNG"),
    ],
)
def test_known_binaries_are_refused_with_the_way_to_convert(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=what):
        open_source(path)
    with pytest.raises(DocumentError, match=what):
        piped(content, [1, 1, 1])


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="does not exist"):
        open_source(tmp_path / "missing")
    with pytest.raises(DocumentError, match=r"is a directory: name the files in it$"):
        open_source(tmp_path)
    with pytest.raises(DocumentError, match="cannot open"):
        open_source("nul\0byte")
    (tmp_path / "text").write_bytes(b"12345")
    with pytest.raises(DocumentError, match="byte 6"):
        open_source(tmp_path / "text", start=6)
    for name in ("klingon", "rot13", "idna", "hex", "utf-7", ""):
        with pytest.raises(UsageError, match="unknown encoding"):
            open_source(tmp_path / "text", encoding=name)


def test_a_document_is_named_by_its_plain_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "text").touch()
    (tmp_path / "a" / "text").touch()
    for path, name in (("./a/../text", "text"), ("link/../text", "link/../text"), (tmp_path / "text", None)):
        with open_source(path) as document:
            assert document.name == (name or str(path))


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DocumentError, match="Permission denied"):
        open_source(tmp_path / "text")


def test_a_disk_that_fails_while_reading() -> None:
    class Broken(io.RawIOBase):
        def read1(self, _: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(DocumentError, match="Input/output error"):
        open_source("-", stdin=Broken())


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16-le", "utf-16-be", "shift_jis"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_lone_carriage_return_is_a_newline_of_the_same_width(encoding: str, size: int) -> None:
    text = "ONE\r\rtwo\r\nthree\r\r\nfour\n\rfive\r"
    content = text.encode(encoding)
    document = piped(content, [size] * len(content), encoding=encoding)
    pieces = list(document.pieces())
    assert "".join(piece.text for piece in pieces) == "ONE\n\ntwo\r\nthree\n\r\nfour\n\nfive\n"
    assert pieces[-1].end == len(content)
    assert b"".join(piece.raw for piece in pieces) == content


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_iso_2022_is_told_by_its_escapes(size: int) -> None:
    text = "Title: \u6751\u306e\u5546\u4eba\u305f\u3061\u306f\u5ddd\u306e\u307b\u3068\u308a\u3067\u3002\n"
    document = piped(text.encode("iso2022_jp"), [size] * 1000)
    assert read(document)[0] == text
    assert (document.encoding, document.is_guessed) == ("iso2022-jp", True)
    colours = piped(b"\x1b[31mred\x1b[0m costs \x1b $5", [size] * 100)
    assert read(colours)[0].startswith("\x1b[31mred")
    assert not colours.is_guessed


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text",
    [
        "\u4eca\u5929\u5f88\u597d\u3002\u6211\u4eec\u8d70\u5427\n" * 4,
        "A harbour board met.\n" * 3,
        "\u0906\u091c \u0935\u0939 \u0906\u092f\u093e\n" * 4,
    ],
)
def test_utf_16_is_told_without_its_mark(encoding: str, text: str) -> None:
    document = piped(text.encode(encoding))
    assert read(document)[0] == text
    assert document.encoding == encoding


def test_the_end_of_an_empty_terminal_is_read_once() -> None:
    class Terminal(io.RawIOBase):
        """Gives the end of input once, and then waits for ever."""

        ended = False

        def read1(self, size: int = -1) -> bytes:
            assert not self.ended, "read again after its end"
            self.ended = True
            return b""

    with open_source("-", stdin=Terminal()) as source:
        assert list(source.pieces()) == []
