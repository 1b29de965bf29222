"""Which format a document is in, told by its first bytes and not by its name; and how each is read."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from famcli.documents.converted import FormatReader, Part
from famcli.documents.encodings import byte_order_mark, is_tar
from famcli.documents.formats.epub import is_epub, read_epub
from famcli.documents.formats.json_values import looks_like_json, read_json
from famcli.documents.formats.mail import looks_like_mail, read_mail
from famcli.documents.formats.manual import looks_like_manual, read_manual
from famcli.documents.formats.opendocument import is_odt, read_odt
from famcli.documents.formats.pdf import read_pdf
from famcli.documents.formats.program import looks_like_program, read_program
from famcli.documents.formats.subtitles import looks_like_subtitles, read_subtitles
from famcli.documents.formats.tables import looks_like_table, read_table
from famcli.documents.formats.web import read_html
from famcli.documents.formats.web_elements import looks_like_html
from famcli.documents.formats.word import is_docx, read_docx
from famcli.documents.formats.zipped import Archive
from famcli.documents.original import Counted, Original
from famcli.errors import DocumentError

if TYPE_CHECKING:
    from lzma import LZMADecompressor

SAMPLE = 1 << 16
"""Bytes at the beginning of a file by which its format is told."""

_FEW = 32
_ENOUGH = 512  # bytes of a pipe that are waited for where the first ones may begin a format
# Tags; the number of a cue, and its times; the header of a mail; the macros of a manual page; a row of names without
# blanks between them.
_MAY_BEGIN = re.compile(
    r"""(?:$|<|W(?:E(?:B|$)|$)|\d+\s*(?:$|[\d:.,\s>-]*$)|From[ ]
      |(?:From|To|Date|Subject|Received|Message-ID|MIME-Version|Return-Path|Delivered-To|Reply-To|X-[\w-]+):
      |[.'](?:\\"|TH[ ]|Dd[ ])
      |["'\w][^\n.!?]*[,;\t](?:$|\S))""",
    re.X,
)


@dataclass(frozen=True)
class Format:
    """name: for results and memory files. read: makes the text."""

    name: str
    read: FormatReader


_TEXTS: tuple[tuple[Format, Callable[[str, bool], bool]], ...] = (
    (Format("html", read_html), lambda head, at_end: looks_like_html(head)),
    (Format("subtitles", read_subtitles), lambda head, at_end: looks_like_subtitles(head)),
    (Format("manual", read_manual), lambda head, at_end: looks_like_manual(head)),
    (Format("mail", read_mail), lambda head, at_end: looks_like_mail(head)),
    (Format("json", read_json), looks_like_json),
    (Format("table", read_table), lambda head, at_end: looks_like_table(head)),
    (Format("program", read_program), lambda head, at_end: looks_like_program(head)),
)


def tell_format(sample: bytes, at_end: bool, *, as_is: bool = False, named: str | None = None) -> Format | None:
    """The format of a document by its first bytes; None for plain text, and for what is no document at all.

    at_end: they are the whole document. as_is: formats that are text themselves are plain text. named: the encoding
    that the user gave; then PDF and ZIP are not looked for, as only text has one.
    """
    if (packing := _packing(sample)) is not None:
        return Format(packing, read_packed)
    if sample.startswith(b"%PDF-") and named is None:
        return Format("pdf", read_pdf)
    if sample.startswith((b"PK\x03\x04", b"PK\x05\x06")) and named is None:
        is_book, is_word = b"mimetypeapplication/epub+zip" in sample[:200], b"word/" in sample
        return Format("epub" if is_book else "docx" if is_word else "zip", read_zip)
    if as_is:
        return None
    mark = byte_order_mark(sample)
    encoding, skipped = mark if mark is not None else (named or "utf-8", 0)
    head = sample[skipped:].decode(encoding, "replace")
    if "\ufffd" in head[:-1]:
        # In any of the older encodings letters are letters then, though other ones.
        head = sample.decode("cp1252", "replace")
    if "\0" in head[:1000]:
        return None
    return next((one for one, looks in _TEXTS if looks(head, at_end)), None)


def may_begin_format(sample: bytes) -> bool:
    """True if more of a pipe should be waited for before its format is told: prose and logs must not wait."""
    head = sample.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if len(sample) >= _ENOUGH:
        return False
    if head[:1] in ("{", "["):
        return len(head) < _FEW or looks_like_json(head, False)
    return _MAY_BEGIN.match(head) is not None


def read_zip(original: Original) -> Iterator[Part]:
    """A book or a document in a ZIP file, or the only document of an archive."""
    archive = Archive(original)
    try:
        if is_epub(archive):
            yield from read_epub(original, archive)
        elif is_docx(archive):
            yield from read_docx(original, archive)
        elif is_odt(archive):
            yield from read_odt(original, archive)
        else:
            yield from _read_only_one(original, archive)
    finally:
        archive.close()


def _read_only_one(original: Original, archive: Archive) -> Iterator[Part]:
    office = next((what for part, what in _OFFICE.items() if part in archive.names), None)
    if office is not None:
        raise DocumentError(f"{original.name} is {office}: save it as PDF, DOCX or CSV, and give that")
    names = [name for name in archive.names if not name.startswith("__MACOSX/") and not name.endswith(".DS_Store")]
    if len(names) != 1:
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise DocumentError(
            f"{original.name} is a ZIP file of {len(names):,} files ({some or 'none'}): unpack it (`unzip`), and "
            "give the folder"
        )
    with archive.open(names[0]) as stream:
        first = _first(stream)
        if first.startswith(b"PK\x03\x04"):
            raise DocumentError(
                f"{original.name} is a ZIP file in a ZIP file: unpack it (`unzip`), and give what is in it"
            )
        yield from _read_told(original, stream, first)


_OFFICE = {
    "xl/workbook.xml": "an Excel workbook",
    "ppt/presentation.xml": "a PowerPoint presentation",
    "content.xml": "an OpenDocument spreadsheet or presentation",
}


# ------------------------------------------------------------------------------------------------------- compressed

_CHUNK = 1 << 16
# What a file may ask for: eight times what `xz -9` takes, and four times what `zstd --long` does.
_UNPACKING_BYTES = 1 << 29
_PACKED = ((b"\x1f\x8b\x08", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))
_MAX_LAYERS = 3


def _packing(sample: bytes) -> str | None:
    if sample.startswith(b"BZh") and sample[4:10] != b"1AY&SY":
        return None
    return next((name for magic, name in _PACKED if sample.startswith(magic)), None)


def read_packed(original: Original) -> Iterator[Part]:
    """What is packed by gzip, bzip2, xz or zstd, read as what it is; plain text by its lines."""
    stream, layers = original.raw(), 0
    first = _first(stream)
    while (packing := _packing(first)) is not None:
        layers += 1
        if layers > _MAX_LAYERS:
            raise DocumentError(f"{original.name} is packed more than {_MAX_LAYERS} times: unpack it")
        packed = cast(BinaryIO, Counted(stream, first))
        stream = cast(BinaryIO, io.BufferedReader(_Unpacked(packed, packing, original.name)))
        first = _first(stream)
    if is_tar(first):
        raise DocumentError(f"{original.name} is a tar archive: unpack it (`tar xf`), and give the folder")
    yield from _read_told(original, stream, first)


def _read_told(original: Original, stream: BinaryIO, first: bytes) -> Iterator[Part]:
    """What is inside, told by its first bytes, which were taken from the stream already."""
    told = tell_format(first, len(first) < SAMPLE)
    inner = original.through(cast(BinaryIO, Counted(stream, first)))
    yield from told.read(inner) if told is not None else _read_lines(inner)


def _first(stream: BinaryIO) -> bytes:
    """The first bytes of a packed stream, as many as there are up to the size of a sample."""
    first = b""
    while len(first) < SAMPLE and (data := stream.read(SAMPLE - len(first))):
        first += data
    return first


def _read_lines(original: Original) -> Iterator[Part]:
    for line in original.lines():
        yield line.text + "\n", line.location


class _Unpacked(io.RawIOBase):
    """The bytes inside a packed stream. Raises DocumentError where it is damaged or cut short."""

    def __init__(self, stream: BinaryIO, packing: str, name: str) -> None:
        self._name, self._packing = name, packing
        self._inner = _unpacker(stream, packing, name)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any writable buffer
        import lzma
        import zlib

        try:
            data = self._inner.read(len(buffer))
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise self._damaged(error) from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":  # of a library that may not be there
                raise
            raise self._damaged(error) from error
        buffer[: len(data)] = data
        return len(data)

    def _damaged(self, error: Exception) -> DocumentError:
        # How much memory it takes says the file, so it must not be believed.
        if "memory" in str(error).lower():
            needed = f"{self._name} asks for more than {_UNPACKING_BYTES >> 20} MB of memory to be unpacked"
            return DocumentError(f"{needed}: unpack it by itself, and give the file")
        return DocumentError(f"{self._name} is damaged or was cut short ({self._packing}: {error}): fetch it again")


class _Xz:
    """What `lzma.LZMAFile` reads, within a limit of memory, which that cannot be given."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._rest = stream, b""
        self._decoder, self._is_first, self._has_begun = _xz_decoder(), True, False

    def read(self, size: int) -> bytes:
        """At least one byte before the end, and at most `size`. Raises LZMAError, EOFError."""
        import lzma

        while not self._decoder.eof or self._goes_on():
            if self._decoder.needs_input and not self._rest:
                self._rest = self._stream.read(_CHUNK)
                if not self._rest:
                    raise EOFError("it ends too early")
            data, self._rest = self._rest, b""
            try:
                found = self._decoder.decompress(data, size)
            except lzma.LZMAError:
                if self._is_first or self._has_begun:
                    raise
                return b""  # what follows the last stream is none
            self._has_begun = True
            if found:
                return found
        return b""

    def _goes_on(self) -> bool:
        """Whether another stream follows the one that has ended, and what may fill the space between them."""
        rest = self._decoder.unused_data.lstrip(b"\0")
        while not rest:
            data = self._stream.read(_CHUNK)
            if not data:
                return False
            rest = data.lstrip(b"\0")
        self._rest, self._decoder, self._is_first, self._has_begun = rest, _xz_decoder(), False, False
        return True


def _xz_decoder() -> LZMADecompressor:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _UNPACKING_BYTES)


def _unpacker(stream: BinaryIO, packing: str, name: str) -> BinaryIO:
    if packing == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if packing == "bzip2":
        import bz2

        return cast(BinaryIO, bz2.BZ2File(stream))
    if packing == "xz":
        return cast(BinaryIO, _Xz(stream))
    try:
        import zstandard
    except ImportError as error:
        raise DocumentError(
            f"{name} is packed with zstd, which needs the package zstandard: pip install 'famcli[docs]'"
        ) from error
    unpacker = zstandard.ZstdDecompressor(max_window_size=_UNPACKING_BYTES)
    return cast(BinaryIO, unpacker.stream_reader(stream, read_across_frames=True))
