"""Input that is made to harm: bombs, depths without end, headers that lie, codecs that are no charsets, odd folders.

Each case is written and opened in a process of its own, as the inputs of `fuzz` are and within the same bounds: it is
read, or refused in one line, within 20 seconds of work and 1 GB.
"""

# ruff: noqa: E501  (a table of cases, one on a line)

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from famcli.checkpoint.adapter import read_adapter
from famcli.checkpoint.chat_template import Message, open_chat_template
from famcli.checkpoint.inspect import inspect_checkpoint
from famcli.checkpoint.locate import list_models
from famcli.checkpoint.open import open_model
from famcli.documents.finding import find_documents
from famcli.documents.opening import open_source
from famcli.errors import FamcliError
from famcli.reading.memory_file import load_memory
from famcli.reading.memory_format import inspect_memory_file
from famcli.tasks.ask.ask import ask
from famcli.tasks.ask.reading_cache import ReadingCache
from famcli.tasks.summarize.summarize import summarize
from famcli.training.recipe.recipe import load_recipe
from tests.faults.children import Figures
from tests.faults.fuzz import Trial, _pdf, batch, pack, packed_seeds
from tests.helpers import make_random_checkpoint
from tests.tasks.support import LARGE, byte_model, prose

ZEROS = bytes(1 << 20)


def hostile(size: int, seed: int, folder: Path) -> Figures:
    """`size` in a hundred of the cases: all of them by 100 / `size` seeds in a row."""
    figures, every = Figures("hostile"), max(1, 100 // size)
    for name, case in list(all_cases().items())[seed % every :: every]:
        batch(name, _trial(case), 1, str(seed), folder, figures)
    return figures


def _trial(case: Callable[[Path], object]) -> Trial:
    return lambda draw, place: case(place)


def all_cases() -> dict[str, Callable[[Path], object]]:
    """Every case by its name: writes something into a folder and opens it."""
    found: dict[str, Callable[[Path], object]] = {}
    for name, make in DOCUMENTS.items():
        found[name] = lambda place, make=make: read_all(_written(place / "document", make()))  # type: ignore[misc]
    for name, header in HEADERS.items():
        found[f"weights, {name}"] = lambda place, header=header: _weights(place, header)  # type: ignore[misc]
    for name, make in GGUF.items():
        found[f"gguf, {name}"] = lambda place, make=make: _opened(_written(place / "model.gguf", make()))  # type: ignore[misc]
    for name, (file, content) in CHECKPOINTS.items():
        found[name] = lambda place, file=file, content=content: _checkpoint(place, file, content)  # type: ignore[misc]
    for name, template in TEMPLATES.items():
        found[f"template, {name}"] = lambda place, template=template: _template(place, template)  # type: ignore[misc]
    for name, changes in ADAPTERS.items():
        found[f"adapter, {name}"] = lambda place, changes=changes: _adapter(place, changes)  # type: ignore[misc]
    for name, text in RECIPES.items():
        found[f"recipe, {name}"] = lambda place, text=text: load_recipe(_written(place / "r.toml", text.encode()), [])  # type: ignore[misc]
    return found | {f"folder, {name}": case for name, case in FOLDERS.items()}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read_all(path: Path) -> None:
    """Read a document, and quote from it, as every command does."""
    with open_source(path) as source:
        first = next(iter(pieces := source.pieces()), None)
        for _ in pieces:
            pass
        encoding = source.encoding
        source.digest()
    if first is not None:
        with open_source(path, encoding=encoding) as again:
            again.text((first.start, first.up_to(first.start + 9).end))


# ------------------------------------------------------------------------------------------------- documents


def _odt(body: str) -> bytes:
    seeds = packed_seeds()["odt"]
    start = seeds["content.xml"].decode().partition("<text:h")[0]
    return pack(seeds | {"content.xml": f"{start}{body}</body>".encode()})


def _docx(body: str, **parts: str) -> bytes:
    seeds = packed_seeds()["docx"]
    document = seeds["word/document.xml"].partition(b"<w:body>")[0] + f"<w:body>{body}</w:body></w:document>".encode()
    return pack(seeds | {"word/document.xml": document} | {name: text.encode() for name, text in parts.items()})


def _epub(page: str, **parts: str) -> bytes:
    return pack(
        packed_seeds()["epub"] | {"a.xhtml": page.encode()} | {name: one.encode() for name, one in parts.items()}
    )


def _zip(parts: dict[str, bytes], times: int = 1) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            with file.open(name, "w", force_zip64=True) as part:
                for _ in range(times):
                    part.write(content)
    return stream.getvalue()


def _pdf_of(stream: bytes, filters: bytes = b"/FlateDecode", page: bytes = b"") -> bytes:
    data = _pdf("x")
    start, end = data.index(b"<< /Length"), data.index(b"endstream")
    new = b"<< /Length %d /Filter [%s] >>\nstream\n%s\n" % (len(stream), filters, stream)
    return data[:start] + new + data[end:].replace(b"/MediaBox [0 0 612 792]", b"/MediaBox [0 0 612 792]" + page)


def _mail(content_type: str, body: str, headers: str = "") -> bytes:
    return f"From: a@b.c\nTo: d@e.f\nSubject: x\n{headers}MIME-Version: 1.0\nContent-Type: {content_type}\n\n{body}".encode()


def _nested_mail(depth: int, kind: str = "mixed") -> bytes:
    opened = "".join(f'--b{n}\nContent-Type: multipart/{kind}; boundary="b{n + 1}"\n\n' for n in range(depth))
    return _mail('multipart/mixed; boundary="b0"', f"{opened}--b{depth}\n\nDeep.\n--b{depth}--\n")


def _forwarded(depth: int) -> bytes:
    return b"From: a@b.c\nTo: d@e.f\nSubject: x\nContent-Type: message/rfc822\n\n" * depth + b"Deep."


def _bomb(packer: Any, part: bytes = ZEROS, times: int = 300) -> bytes:
    """Much of one thing, packed."""
    return b"".join([*(packer.compress(part) for _ in range(times)), packer.flush()])


def _squeezed(times: int, pack_one: Callable[[bytes], bytes]) -> bytes:
    data = prose(20).encode()
    for _ in range(times):
        data = pack_one(data)
    return data


def _xz_with_dictionary(size_code: int) -> bytes:
    """An .xz whose filter asks for a dictionary of gigabytes, with the checksums of its header right."""
    flags = b"\x02\x00\x21\x01" + bytes([size_code]) + bytes(3)
    header = flags + struct.pack("<I", zlib.crc32(flags))
    return (
        b"\xfd7zXZ\0\0\4"
        + struct.pack("<I", zlib.crc32(b"\0\4"))
        + header
        + b"\x01"
        + struct.pack(">H", 3)
        + b"text" * 9
    )


def _alone_with_dictionary() -> bytes:
    return b"\x5d" + struct.pack("<I", 0xFFFFFFFF) + b"\xff" * 8 + b"\0" + bytes(64)


def _zstd_window() -> bytes:
    # A frame whose window is 2 GB, with one raw block of a few bytes.
    return b"\x28\xb5\x2f\xfd" + b"\x00" + b"\xa8" + struct.pack("<I", (4 << 3) | 1)[:3] + b"text"


_LAUGHS = "<!DOCTYPE x [" + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(10)) + "]>"
_CHARSETS = (
    "zip",
    "zlib_codec",
    "hex",
    "rot13",
    "idna",
    "punycode",
    "unicode_escape",
    "undefined",
    "mbcs",
    "\x1b]0;x",
    "a" * 9999,
)

DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "gzip bomb": lambda: _bomb(zlib.compressobj(1, zlib.DEFLATED, 31)),
    "gzip bomb of text": lambda: _bomb(zlib.compressobj(1, zlib.DEFLATED, 31), b"Word. " * 50_000, 400),
    "gzip in gzip": lambda: _squeezed(60, gzip.compress),
    "bzip2 bomb": lambda: _bomb(bz2.BZ2Compressor()),
    "xz bomb": lambda: _bomb(lzma.LZMACompressor(preset=1)),
    "xz that asks for 4 GB": lambda: _xz_with_dictionary(40),
    "xz that asks for 1.5 GB": lambda: _xz_with_dictionary(37),
    "lzma that asks for 4 GB": _alone_with_dictionary,
    "zstd bomb": lambda: _bomb(zstandard.ZstdCompressor().compressobj()),
    "zstd with a window of 2 GB": _zstd_window,
    "empty members of gzip": lambda: gzip.compress(b"") * 200_000,
    "zip bomb in a Word document": lambda: _zip({"[Content_Types].xml": b"<Types/>", "word/document.xml": ZEROS}, 700),
    "zip bomb in a book": lambda: _zip({"mimetype": b"application/epub+zip", "META-INF/container.xml": b" " * (1 << 20)}, 700),
    "entries of a zip": lambda: pack({f"{n}.txt": b"" for n in range(70_000)}),
    "zip of a path outside": lambda: pack({"../../etc/x.txt": prose(9).encode()}),
    "zip in zip": lambda: _squeezed(200, lambda data: pack({"a.txt": data})),
    "entities in a Word document": lambda: pack(packed_seeds()["docx"] | {"word/document.xml": (_LAUGHS + "<x>&l9;</x>").encode()}),
    "entities in a book": lambda: _epub(_LAUGHS + "<html><body><p>&l9;</p></body></html>"),
    "an entity of a file": lambda: _epub('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><html><body>&e;</body></html>'),
    "depth of an OpenDocument text": lambda: _odt("<text:p><text:list>" * 200_000),
    "cells in an OpenDocument text": lambda: _odt("<table:table-row>" + "<table:table-cell/>" * 300_000 + "</table:table-row>"),
    "entities in an OpenDocument text": lambda: pack(packed_seeds()["odt"] | {"content.xml": (_LAUGHS + "<x>&l9;</x>").encode()}),
    "depth of a Word document": lambda: _docx("<w:p><w:r>" * 200_000),
    "runs of a Word document": lambda: _docx("<w:p>" + "<w:r><w:t>a</w:t></w:r>" * 300_000 + "</w:p>"),
    "tables in a Word document": lambda: _docx("<w:tbl><w:tr>" + "<w:tc><w:p/></w:tc>" * 200_000 + "</w:tr></w:tbl>"),
    "an attribute of megabytes": lambda: _docx(f'<w:p w:x="{"y" * 30_000_000}"/>'),
    "depth of a book's page": lambda: _epub("<html><body>" + "<div>" * 300_000 + "deep"),
    "a book's spine of one page": lambda: _epub("<p>It was dark.</p>" * 9, **{"b.opf":
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" href="a.xhtml"/></manifest><spine>'
        + '<itemref idref="a"/>' * 100_000 + "</spine></package>"}),
    "a book's page outside": lambda: _epub("x", **{"b.opf": '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item '
        'id="a" href="../../../../etc/passwd"/></manifest><spine><itemref idref="a"/></spine></package>'}),
    "depth of a page": lambda: b"<html><body>" + b"<div><p><b><table><tr><td>" * 100_000 + b"deep",
    "lists in lists": lambda: b"<html><body>" + b"<ul><li>" * 200_000 + b"deep",
    "attributes of a tag": lambda: b"<html><body><p " + b"a=1 " * 500_000 + b">text</p>",
    "a tag without an end": lambda: b"<html><body><p>" + b"<" * 1_000_000,
    "open declarations": lambda: b"<html>" + b"<![CDATA[ <!x " * 200_000,
    "entities without an end": lambda: b"<html><p>" + b"&a" * 2_000_000 + b"</p>",
    "numbers of characters": lambda: b"<html><p>" + b"&#99999999999999999999;&#x110000;&#xD800;" * 100_000,
    "cells of a table": lambda: b"<html><table><tr>" + b"<td>1" * 300_000 + b"</table>",
    "a quote without an end": lambda: b"<html><p title='" + b"text > " * 500_000,
    "mail of 10,000 parts in parts": lambda: _nested_mail(10_000),
    "mail of alternatives in alternatives": lambda: _nested_mail(2_000, "alternative"),
    "mail in mail": lambda: _forwarded(10_000),
    "mail of 100,000 parts": lambda: _mail('multipart/mixed; boundary="b"', "--b\n\nPart.\n" * 100_000 + "--b--\n"),
    "mail with an empty boundary": lambda: _mail('multipart/mixed; boundary=""', "--\n\nPart.\n" * 1000),
    "mail without a boundary": lambda: _mail("multipart/mixed", "--b\n\nPart.\n" * 1000),
    "mail headers folded": lambda: _mail("text/plain", "Text.", "X: a\n" + " b\n" * 300_000),
    "mail headers of brackets": lambda: _mail("text/plain", "Text.", "Cc: " + "(<" * 200_000 + "\n"),
    "mail addresses": lambda: _mail("text/plain", "Text.", "Cc: " + "a@b.c, " * 200_000 + "\n"),
    "mail parameters": lambda: _mail("text/plain" + "".join(f"; name*{n}*=x" for n in range(30_000)), "Text."),
    "mail words": lambda: _mail("text/plain", "Text.", "Subject: " + "=?utf-8?b?////?= " * 100_000 + "\n"),
    "mail of equals signs": lambda: _mail("text/plain", "=" * 5_000_000, "Content-Transfer-Encoding: quoted-printable\n"),
    "mail of base64 that is none": lambda: _mail("text/plain", "A=" * 3_000_000, "Content-Transfer-Encoding: base64\n"),
    "mail of uuencode": lambda: _mail("text/plain", "begin 644 x\n" + "M" * 3_000_000, "Content-Transfer-Encoding: x-uuencode\n"),
    "mailbox of From lines": lambda: b"From a@b.c Mon Jan  1 10:00:00 2024\n" * 300_000,
    "dates of mail": lambda: _mail("text/plain", "Text.", "Date: " + "9" * 100_000 + " Jan 99999999999 99:99:99 +9999\n"),
    "a row of a million cells": lambda: b"a,b\n1,2\n3,4\n" + b"x," * 3_000_000 + b"\n",
    "a cell of megabytes": lambda: b'a,b\n1,"' + b"x" * 30_000_000 + b'"\n',
    "a column name of megabytes": lambda: b"a," + b"n" * 5_000_000 + b"\n" + b"1,2\n" * 5000,
    "depth of JSON": lambda: b'{"a":' * 500_000,
    "depth of JSON lists": lambda: b"[" * 2_000_000,
    "numbers of JSON": lambda: b'[{"a": ' + b"9" * 3_000_000 + b"}]",
    "many long numbers of JSON": lambda: b'[{"a": 1}' + b',{"a": %s}' % (b"9" * 5000) * 2000 + b"]",
    "a line of JSON": lambda: b'{"a": "' + b"x" * 60_000_000 + b'"}\n' * 2,
    "keys of JSON": lambda: b'[{"' + b'a": 1, "' * 500_000 + b'b": 2}]',
    "escapes of JSON": lambda: b'[{"a": "' + b"\\ud800" * 1_000_000 + b'"}]',
    "braces of RTF": lambda: b"{\\rtf1" + b"{\\b" * 500_000,
    "cues of subtitles": lambda: b"".join(b"%d\n99:99:99,999 --> 99999:99:99,999\n\n" % n for n in range(200_000)),
    "tags of subtitles": lambda: b"WEBVTT\n\n00:00.000 --> 00:01.000\n" + b"<c.a.b" * 1_000_000,
    "a line of megabytes": lambda: b"word " * 12_000_000,
    "combining marks": lambda: ("a" + "\u0301" * 3_000_000).encode(),
    "headings of Markdown": lambda: b"#" * 3_000_000 + b" x\n" + b"> " * 500_000 + b"- " * 500_000,
    "fences of code": lambda: b"```\n" * 500_000,
    "tables of Markdown": lambda: b"# T\n\n|" + b"a|" * 1_000_000 + b"\n|" + b"-|" * 1_000_000 + b"\n",
    "escapes of a terminal": lambda: b"\x1b]0;x\x07\x1b[2J" * 500_000,
    "UTF-16 of half pairs": lambda: b"\xff\xfe" + b"\x00\xd8" * 1_000_000,
    "ISO-2022 shifts": lambda: b"\x1b$B\x1b(B" * 1_000_000,
    "UTF-7": lambda: b"+AGE-" * 500_000,
    "bits without sense": lambda: bytes(range(128, 256)) * 40_000,
    "a PDF whose pages go round": lambda: _pdf("x").replace(b"/Kids [3 0 R]", b"/Kids [2 0 R 2 0 R 2 0 R]"),
    "a PDF of pages without end": lambda: _pdf("x").replace(b"/Count 1", b"/Count 2147483647"),
    "a PDF of one page many times": lambda: _pdf("x").replace(b"/Kids [3 0 R] /Count 1", b"/Kids [" + b"3 0 R " * 20_000 + b"] /Count 20000"),
    "a PDF bomb": lambda: _pdf_of(_bomb(zlib.compressobj(9))),
    "a PDF bomb in a bomb": lambda: _pdf_of(zlib.compress(_bomb(zlib.compressobj(9))), b"/FlateDecode /FlateDecode"),
    "a PDF of filters": lambda: _pdf_of(b"x", b"/ASCIIHexDecode " * 10_000),
    "a PDF of text operators": lambda: _pdf_of(zlib.compress(b"BT /F1 1 Tf " + b"(x) Tj " * 1_000_000 + b"ET")),
    "a PDF of saved states": lambda: _pdf_of(zlib.compress(b"q " * 2_000_000)),
    "a PDF of brackets": lambda: _pdf("x").replace(b"<< /Type /Catalog", b"[" * 300_000 + b"<< /Type /Catalog"),
    "a PDF of dictionaries": lambda: _pdf("x").replace(b"/Type /Catalog", b"/Type /Catalog /A " + b"<< /A " * 100_000),
    "a PDF of a page of miles": lambda: _pdf("x").replace(b"[0 0 612 792]", b"[-1e38 -1e38 1e38 1e38]"),
    **{f"mail in the charset {name[:14]!a}": lambda name=name: _mail(f'text/plain; charset="{name}"', "68656c6c6f " * 999)  # type: ignore[misc]
       for name in _CHARSETS},
    **{f"a page in the charset {name[:14]!a}": lambda name=name: f'<html><meta charset="{name}"><p>{prose(3)}'.encode()  # type: ignore[misc]
       for name in _CHARSETS},
    **{f"words in the charset {name[:14]!a}": lambda name=name: _mail("text/plain", "Text.", f"Subject: =?{name}?q?abc?= \n")  # type: ignore[misc]
       for name in _CHARSETS},
    "IDNA of length": lambda: _mail('text/plain; charset="idna"', "xn--" + "a" * 2_000_000),
    "punycode of length": lambda: _mail('text/plain; charset="punycode"', "a" * 300_000 + "-" + "9" * 300_000),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------- weights


def _header(entries: object, data: int = 64) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def _entry(shape: list[Any], end: object = 64, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


HEADERS: dict[str, bytes] = {
    "a shape of many ones": _header({"a": _entry([1] * 200_000 + [16])}),
    "a shape of zero and much": _header({"a": _entry([0, 1 << 62, 1 << 62], 0)}),
    "a shape of fractions": _header({"a": _entry([16.0])}),
    "a shape of text": _header({"a": _entry(["16"])}),
    "a number of 5,000 digits": _header(
        b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 64]}}'
    ),
    "depth": _header(b'{"a": ' + b"[" * 500_000),
    "depth of metadata": _header(b'{"__metadata__": ' + b'{"a": ' * 200_000),
    "a million names": _header({f"t{n}": _entry([0], 0) for n in range(150_000)}),
    "a name of megabytes": _header({"a" * 5_000_000: _entry([16])}),
    "a name of escapes": _header({"\x1b]52;c;YQ==\x07\u202e\n": _entry([16])}),
    "one name twice": _header(b'{"a": {"dtype":"F32","shape":[16],"data_offsets":[0,64]}, "a": 1}'),
    "infinite numbers": _header(b'{"a": {"dtype":"F32","shape":[1e999],"data_offsets":[0,64]}}'),
    "a dtype that is a list": _header({"a": {"dtype": ["F32"], "shape": [16], "data_offsets": [0, 64]}}),
    "no offsets": _header({"a": {"dtype": "F32", "shape": [16]}}),
    "a list": _header([1]),
    "a surrogate": _header(b'{"\\ud800": {"dtype":"F32","shape":[16],"data_offsets":[0,64]}}'),
}


def _weights(place: Path, header: bytes) -> None:
    """As weights, as memory prompt, as memory file: all open the same layout."""
    checkpoint, refused = make_random_checkpoint(place / "model"), 0
    for name in ("model.safetensors", "fam.safetensors"):
        whole = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(header)
        refused += _is_refused(lambda: open_model(checkpoint)) + _is_refused(lambda: inspect_checkpoint(checkpoint))
        (checkpoint / name).write_bytes(whole)
    memory = _written(place / "x.fam", header)
    refused += _is_refused(lambda: inspect_memory_file(memory)) + _is_refused(
        lambda: load_memory(memory, byte_model(LARGE))
    )
    assert refused >= 5, f"{6 - refused} were taken"


def _is_refused(open_it: Callable[[], object]) -> bool:
    refused = None
    try:
        open_it()
    except FamcliError as error:
        refused = str(error)
    assert "\n" not in (refused or ""), f"several lines: {refused!r:.200}"
    assert len(refused or "") < 2000, f"a message of {len(refused or '')} characters"
    return refused is not None


def _opened(path: Path) -> None:
    refused = _is_refused(lambda: inspect_checkpoint(path)) + _is_refused(lambda: open_model(path))
    assert refused == 2, "it was taken"


def _text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def _gguf(
    pairs: bytes = b"", num_pairs: int = 0, tensors: bytes = b"", num_tensors: int = 0, version: int = 3
) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_pairs) + pairs + tensors + bytes(64)


def _array(kind: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<IIQ", 9, kind, count) + data


def _tensor(dimensions: list[int], kind: int = 0, offset: int = 0, name: str | bytes = "token_embd.weight") -> bytes:
    shape = struct.pack(f"<{len(dimensions)}Q", *dimensions)
    return _text(name) + struct.pack("<I", len(dimensions)) + shape + struct.pack("<IQ", kind, offset)


_LLAMA = _text("general.architecture") + struct.pack("<I", 8) + _text("llama")
GGUF: dict[str, Callable[[], bytes]] = {
    "tensors without end": lambda: _gguf(num_tensors=1 << 63),
    "pairs without end": lambda: _gguf(num_pairs=(1 << 64) - 1),
    "a key of exabytes": lambda: _gguf(struct.pack("<Q", 1 << 62) + b"x", 1),
    "a key that is no text": lambda: _gguf(_text(b"\xff\xfe\x1b") + struct.pack("<II", 4, 1), 1),
    "an array without end": lambda: _gguf(_text("a") + _array(0, 1 << 62), 1),
    "an array of strings without end": lambda: _gguf(_text("tokenizer.ggml.tokens") + _array(8, 1 << 60), 1),
    "a million empty strings": lambda: _gguf(_LLAMA + _text("tokenizer.ggml.tokens") + _array(8, 3_000_000, bytes(24_000_000)), 2),
    "arrays in arrays": lambda: _gguf(_text("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 500_000, 1),
    "an array of unknown things": lambda: _gguf(_text("a") + _array(99, 5), 1),
    "an alignment of zero": lambda: _gguf(_LLAMA + _text("general.alignment") + struct.pack("<II", 4, 0), 2, _tensor([4]), 1),
    "an alignment of gigabytes": lambda: _gguf(_LLAMA + _text("general.alignment") + struct.pack("<II", 4, 1 << 31), 2, _tensor([4]), 1),
    "dimensions without end": lambda: _gguf(_LLAMA, 1, _text("a") + struct.pack("<I", 1 << 31), 1),
    "a shape that overflows": lambda: _gguf(_LLAMA, 1, _tensor([1 << 62, 1 << 62, 1 << 62, 1 << 62]), 1),
    "a shape of nothing": lambda: _gguf(_LLAMA, 1, _tensor([0, 1 << 62]), 1),
    "an offset behind the end": lambda: _gguf(_LLAMA, 1, _tensor([16], offset=1 << 60), 1),
    "an unknown type": lambda: _gguf(_LLAMA, 1, _tensor([16], kind=12345), 1),
    "one tensor many times": lambda: _gguf(_LLAMA, 1, _tensor([16]) * 100_000, 100_000),
    "an architecture of escapes": lambda: _gguf(_text("general.architecture") + struct.pack("<I", 8) + _text("\x1b]0;x\x07\n" * 9999), 1),
    "an architecture that is a number": lambda: _gguf(_text("general.architecture") + struct.pack("<II", 4, 7), 1),
    "layers without end": lambda: _gguf(_LLAMA + b"".join(
        _text(f"llama.{key}") + struct.pack("<II", 4, (1 << 32) - 1)
        for key in ("block_count", "embedding_length", "attention.head_count", "feed_forward_length", "context_length")), 6),
    "an old version": lambda: _gguf(version=1),
    "the other byte order": lambda: b"GGUF" + struct.pack(">IQQ", 3, 1, 1),
    "a part of ten thousand": lambda: _gguf(_LLAMA + _text("split.count") + struct.pack("<IH", 2, 65535), 2),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------- checkpoints

_DEEP, _DIGITS = b'{"a": ' * 200_000, b'{"hidden_size": ' + b"9" * 5000 + b"}"
CHECKPOINTS: dict[str, tuple[str, bytes]] = {
    f"{name} {what}": (file, content)
    for file, name in (
        *(("config.json", "config"), ("fam.json", "sidecar"), ("tokenizer.json", "tokenizer.json"), ("x", "index")),
        *(("generation_config.json", "generation"), ("tokenizer_config.json", "tokenizer's config")),
        *(("special_tokens_map.json", "special tokens"), ("added_tokens.json", "added tokens")),
    )
    for what, content in (
        *(("of depth", _DEEP), ("of digits", _DIGITS), ("of lists", b"[" * 1_000_000), ("of nothing", b"null")),
        *(
            ("of text", b'"x"'),
            ("that is infinite", b'{"hidden_size": 1e999, "vocab_size": NaN}'),
            ("of NUL", bytes(999)),
        ),
        *(("of surrogates", b'{"\\ud800": "\\udfff", "chat_template": "\\ud800", "architecture": "\\ud800"}'),),
        *(("of megabytes", b'{"a": "' + b"x" * 20_000_000 + b'"}'),),
    )
}


def _checkpoint(place: Path, file: str, content: bytes) -> None:
    """A checkpoint, one of whose files is this; it is refused, or the file is not needed."""
    folder = make_random_checkpoint(place / "model")
    if file == "tokenizer.json":
        (folder / "tokenizer.bytes").unlink()
    if file == "x":
        (folder / "model.safetensors").unlink()
        file = "model.safetensors.index.json"
    (folder / file).write_bytes(content)
    for attempt in (lambda: inspect_checkpoint(folder), lambda: open_model(folder)):
        if not _is_refused(attempt):
            model = open_model(folder)
            template = open_chat_template(folder, model.tokenizer)
            assert template is None
    list_models({"FAMCLI_CACHE": str(place)})


_BIG = "'a' * 99999999999"
TEMPLATES: dict[str, str] = {
    "a long string": "{{ " + _BIG + " }}",
    "a string doubled": "{% set x = 'a' %}{% for i in range(64) %}{% set x = x ~ x %}{% endfor %}{{ x }}",
    "a list doubled": "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "loops in loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}",
    "a range without end": "{% for i in range(10**18) %}{% endfor %}",
    "a range as a list": "{{ range(10**9) | list | length }}",
    "a number without end": "{{ 9 ** 9 ** 9 }}",
    "a shift": "{{ (1).__lshift__(10**12) }}",
    "a format of gigabytes": "{{ '%9999999999d' % 1 }}{{ '{:>9999999999}'.format(1) }}",
    "padding": "{{ 'a'.ljust(9999999999) }}{{ 'a' | center(9999999999) }}{{ 'a' | indent(9999999999) }}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(90) }}",
    "lorem ipsum": "{{ lipsum(n=10**6) }}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}{{ self.__init__.__globals__ }}",
    "attributes by name": "{{ messages | attr('__class__') }}{{ messages | map(attribute='__class__') | list }}",
    "a format that looks in": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "an include": "{% include '/etc/passwd' %}{% import '/etc/passwd' as x %}",
    "an exception of escapes": "{{ raise_exception('\x1b]52;c;YQ==\x07\n' * 9999) }}",
    "depth": "{% if 1 %}" * 20_000,
    "brackets": "{{ " + "(" * 100_000,
    "nots": "{{ " + "not " * 100_000 + "1 }}",
    "pluses": "{{ 1" + " + 1" * 100_000 + " }}",
    "dots": "{{ a" + ".b" * 50_000 + " }}",
    "a line of megabytes": "x" * 30_000_000,
    "a tag that nobody closes": "{{" * 500_000,
    "whitespace": "{%-" + " " * 2_000_000 + "-%}",
    "sorting": "{{ range(99999) | sort(attribute='a') | groupby('b') | list }}",
    "JSON of itself": "{% set x = [] %}{% set _ = x.append(x) %}{{ x | tojson }}{{ x }}",
    "words that wrap": "{{ ('a ' * 9999999) | wordwrap(1) | wordcount }}",
    "links": "{{ ('www.a.b ' * 999999) | urlize }}",
    "a date": "{{ strftime_now('%' * 999999) }}",
    "printf": "{{ '%s' * 999999 % messages }}{{ 'a' | format(*range(999999)) }}",
    "an unknown tag": "{% evil %}",
    "deletion": "{% set messages = 1 %}{{ messages.pop() }}{% generation %}",
}  # fmt: skip


def _template(place: Path, template: str) -> None:
    folder = make_random_checkpoint(place / "model")
    (folder / "chat_template.jinja").write_text(template)
    model = open_model(folder)
    found = open_chat_template(folder, model.tokenizer)
    if found is not None:
        text = found.encode([Message("user", "Who?")])
        assert len(text) < 1_000_000


ADAPTERS: dict[str, dict[str, object]] = {
    "a pattern without end": {
        "target_modules": "(a+)+$",
        "rank_pattern": {"(a+)+$": 4},
        "alpha_pattern": {"(.*)*=": 4},
    },
    "patterns": {"rank_pattern": {f"(x+x+)+y{n}": 4 for n in range(2000)}},
    "layers without end": {"layers_to_transform": list(range(300_000)), "layers_pattern": "(a+)+$"},
    "a layer beyond": {"layers_to_transform": [-1, 1 << 62]},
    "a rank without end": {"r": 1 << 62},
    "a rank of nothing": {"r": 0},
    "a rank that is true": {"r": True},
    "an infinite alpha": {"lora_alpha": 1e400},
    "targets of megabytes": {"target_modules": ["q_proj" * 1_000_000]},
    "targets of escapes": {"target_modules": ["\x1b]52;c;YQ==\x07\n"]},
    "targets that are numbers": {"target_modules": [1, None, {}]},
    "a base of escapes": {"base_model_name_or_path": "\x1b]52;c;YQ==\x07\n" * 9999},
    "a base outside": {"base_model_name_or_path": "/dev/zero"},
    "a kind of megabytes": {"peft_type": "L" * 5_000_000},
}


def _adapter(place: Path, changes: dict[str, object]) -> None:
    import torch
    from safetensors.torch import save_file

    base = make_random_checkpoint(place / "base", fam=None)
    folder = place / "adapter"
    folder.mkdir()
    plain = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "base_model_name_or_path": "x"}
    (folder / "adapter_config.json").write_text(json.dumps(plain | changes))
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    save_file(
        {f"{name}.lora_A.weight": torch.ones(4, 32), f"{name}.lora_B.weight": torch.ones(32, 4)},
        folder / "adapter_model.safetensors",
    )
    _is_refused(lambda: read_adapter(folder))
    _is_refused(lambda: open_model(base, adapter=folder))
    _is_refused(lambda: inspect_checkpoint(folder))


RECIPES: dict[str, str] = {
    "depth": "a = " + "[" * 100_000,
    "depth of tables": "a = " + "{b = " * 100_000,
    "dots": "a" + ".b" * 100_000 + " = 1",
    "headings": "".join(f"[a{'.b' * n}]\n" for n in range(1500)),
    "digits": "a = " + "9" * 100_000,
    "a key of megabytes": "a" * 5_000_000 + " = 1",
    "a value of megabytes": "name = '" + "a" * 5_000_000 + "'",
    "escapes": 'name = "\\u001b]52;c;YQ==\\u0007"\n["\\u001b]0;x\\u0007"]',
    "a name outside": 'name = "../../../x"',
    "infinite numbers": "[network]\nhidden_size = inf\nnum_layers = nan",
    "numbers without end": "[network]\nhidden_size = 9223372036854775807\nnum_layers = 9223372036854775807",
    "dates": "name = 2024-01-01T00:00:00Z\n[schedule]\nsteps = 00:00:00",
    "corpora without end": "name = 'x'\n" + "[[corpora]]\nname = 'a'\npath = '/dev/zero'\n" * 20_000,
}


# ------------------------------------------------------------------------------------------------- folders


def _folder(place: Path, fill: Callable[[Path], object], least: int = 1) -> None:
    """A folder with a story and with what `fill` puts there: the story is found, and is all that is read."""
    (place / "in").mkdir()
    (place / "out").mkdir()
    (place / "out" / "secret.txt").write_text("The secret is Ottilie. " * 9)
    (place / "in" / "story.txt").write_text(prose(9))
    fill(place / "in")
    for name in (str(place / "in"), f"{place}/in/**"):
        found, _ = find_documents(name)
        for one in found:
            with open_source(one) as source:
                text = "".join(piece.text for piece in source.pieces())
                assert "Ottilie" not in text or name.endswith("**"), f"{one} leads outside"
        assert len(found) >= least, found
        summarize(byte_model(LARGE), found[:3])


def _many(place: Path) -> None:
    for number in range(5000):
        (place / f"{number}.txt").write_text("x.")


def _deep(place: Path) -> None:
    here = place
    for _ in range(1500):
        here = here / "d"
        here.mkdir()


def _deep_folder(place: Path) -> None:
    try:
        _folder(place, _deep)
    finally:
        # Python's own way to remove folders calls itself for each level.
        subprocess.run(["rm", "-rf", place / "in"], check=True)


def _names(place: Path) -> None:
    for name in (
        b"a\nb.txt",
        b"\x1b]0;x\x07.txt",
        b"\xff\xfe.txt",
        b"-n.txt",
        b"--json",
        b"* [x].txt",
        "\u202etxt.exe".encode(),
        b" .txt",
    ):
        with open(os.path.join(os.fsencode(place), name), "w") as file:
            file.write(prose(3))


FOLDERS: dict[str, Callable[[Path], object]] = {
    "a link to itself": lambda place: _folder(place, lambda here: (here / "loop").symlink_to(here)),
    "links round": lambda place: _folder(place, lambda here: [(here / "a").symlink_to(here / "b"), (here / "b").symlink_to(here / "a")]),
    "a link to a file outside": lambda place: _folder(place, lambda here: (here / "l.txt").symlink_to("../out/secret.txt")),
    "a link to a folder outside": lambda place: _folder(place, lambda here: (here / "l").symlink_to("../out")),
    "a link to a device": lambda place: _folder(place, lambda here: (here / "zero.txt").symlink_to("/dev/zero")),
    "a link to a process": lambda place: _folder(place, lambda here: (here / "mem.txt").symlink_to("/proc/self/mem")),
    "a pipe": lambda place: _folder(place, lambda here: os.mkfifo(here / "pipe.txt")),
    "a file that may not be read": lambda place: _folder(place, lambda here: _written(here / "no.txt", b"x").chmod(0)),
    "many files": lambda place: _folder(place, _many),
    "depth": lambda place: _deep_folder(place),
    "names": lambda place: _folder(place, _names),
    "a folder named as a text": lambda place: _folder(place, lambda here: (here / "x.txt").mkdir()),
    "readings that lead outside": lambda place: _kept_outside(place),
}  # fmt: skip


def _kept_outside(place: Path) -> None:
    """A cache whose entries are links elsewhere is not followed, and clearing it removes nothing elsewhere."""
    text, outside, cache = place / "t.txt", place / "outside", ReadingCache(place / "readings")
    text.write_text(prose(9))
    first = ask(byte_model(LARGE), "Who?", [text], cache=cache)
    (entry,) = cache.entries()
    (cache.folder / entry.key).rename(outside)
    (cache.folder / entry.key).symlink_to(outside)
    before = sorted(outside.iterdir())
    again = ask(byte_model(LARGE), "Who?", [text], cache=cache)
    assert again.answers == first.answers
    cache.clear()
    assert sorted(outside.iterdir()) == before, "files elsewhere are gone"
