"""Which encoding a document is in, judged by its first bytes; and which files are no text at all.

The decision: a byte-order mark; else UTF-8 if the sample is valid, or has no fewer good than bad multi-byte sequences;
else what charset-normalizer finds, with cp1252 preferred where it reads well; else UTF-8 again, its invalid bytes
replaced. UTF-16 and UTF-32 need a byte-order mark or to be named. NUL bytes are ordinary.
"""

from __future__ import annotations

import codecs

from famcli.errors import DocumentError

SAMPLE_BYTES = 1 << 18
MAGIC_BYTES = 10  # the longest first bytes that decide anything

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WITHOUT_MARK = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8", "ascii": "utf-8"}
# Of no use for files; in UTF-7 characters do not even begin at bytes.
_NOT_FOR_FILES = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem", "utf-7"}
_MUCH = 40  # bytes above ASCII: with fewer, statistics guess worse than the most common encoding
_TYPOGRAPHY = "‚„…‘’“”•–—€¡£§©«°·»¿½\u00a0"
_LIKE_WESTERN = ("cp1250", "iso8859_2", "cp1254")  # their texts read as letters in cp1252 as well
_LEGACY = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "iso8859_2", "iso8859_5"),
    *("iso8859_7", "koi8_r", "koi8_u", "cp932", "euc_jp", "gb18030", "big5", "cp949", "cp866"),
]
_UNPACK = "unpack it and give the text inside"
_MAGIC = (
    (b"%PDF-", "a PDF", "convert it with `pdftotext FILE -` (poppler) and give the text"),
    (
        b"PK\x03\x04",
        "a ZIP file, as EPUB and DOCX are",
        "convert it with `pandoc FILE -t plain --wrap=none` and give the text",
    ),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office file", "save it as plain text and give that"),
    (b"\x1f\x8b\x08", "compressed with gzip", "pipe it in: `zcat FILE | famcli ...`"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "pipe it in: `zstdcat FILE | famcli ...`"),
    (b"\xfd7zXZ\x00", "compressed with xz", "pipe it in: `xzcat FILE | famcli ...`"),
    (b"BZh91AY&SY", "compressed with bzip2", "pipe it in: `bzcat FILE | famcli ...`"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", "run text recognition on it and give the text"),
    (b"\xff\xd8\xff", "a JPEG image", "run text recognition on it and give the text"),
    (b"\x7fELF", "a program", "give a text"),
)


def refuse_known_binaries(first: bytes, name: str) -> None:
    """Raise DocumentError with the way to convert it if `first` begins a format that holds no plain text."""
    for magic, what, hint in _MAGIC:
        if first.startswith(magic):
            raise DocumentError(f"{name} is {what}, not text: {hint}")


def may_be_cut_short(first: bytes) -> bool:
    """Whether so few bytes could be the beginning of a longer byte-order mark or magic number."""
    known = [mark for mark, _ in _BOMS] + [magic for magic, _, _ in _MAGIC]
    return any(len(first) < len(start) and start.startswith(first) for start in known)


def byte_order_mark(first: bytes) -> tuple[str, int] | None:
    """The encoding that a byte-order mark at the start names, and the mark's length."""
    for mark, encoding in _BOMS:
        if first.startswith(mark):
            return encoding, len(mark)
    return None


def named_encoding(encoding: str, first: bytes) -> tuple[str, int]:
    """The codec for an encoding the user named, and the length of the mark to skip.

    Raises DocumentError for a name that is no text encoding.
    """
    try:
        b"a".decode(encoding, "replace")
        name = codecs.lookup(encoding).name.replace("_", "-")
    except (LookupError, ValueError):
        name = ""
    if not name or name in _NOT_FOR_FILES:
        raise DocumentError(f"unknown encoding {encoding!r}: use a name such as utf-8, utf-16, latin-1 or shift_jis")
    mark = byte_order_mark(first)
    if mark and (mark[0] == name or (name in _WITHOUT_MARK and mark[0].startswith(name.removesuffix("-sig")))):
        return mark
    return _WITHOUT_MARK.get(name, name), 0


def detect(sample: bytes, complete: bool) -> str:
    """The encoding of a text without byte-order mark that begins with `sample`.

    `complete`: nothing follows, so an unfinished character at the end is a bad one.
    """
    try:
        codecs.utf_8_decode(sample, "strict", complete)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    text, _ = codecs.utf_8_decode(sample, "replace", complete)
    num_good = sum(character > "\x7f" for character in text) - text.count("\ufffd")
    if num_good >= text.count("\ufffd"):
        return "utf-8"
    return _legacy(sample) or "utf-8"


def _legacy(sample: bytes) -> str | None:
    from charset_normalizer import from_bytes  # loads slowly, and is seldom needed

    lines = b"".join(line for line in sample.splitlines(keepends=True) if not line.isascii())[: 1 << 15]
    num_high = sum(byte >= 0x80 for byte in lines)
    western = 3 * num_high < len(lines) and _reads_as_western(lines)
    if western and num_high < _MUCH:
        return "cp1252"
    best = from_bytes(lines, cp_isolation=_LEGACY).best()
    if best is None:
        return "cp1252" if western else None
    if "cp1252" in {best.encoding, *best.could_be_from_charset} or (western and best.encoding not in _LIKE_WESTERN):
        return "cp1252"
    return codecs.lookup(best.encoding).name.replace("_", "-")


def _reads_as_western(sample: bytes) -> bool:
    """Whether all bytes above ASCII are letters or punctuation in cp1252."""
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return all(character.isalpha() or character in _TYPOGRAPHY for character in text if character > "\x7f")
