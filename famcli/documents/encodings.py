"""Which encoding a text is in, judged by its first bytes; and which files are not text.

In this order: a byte-order mark; UTF-16 if every other byte looks like its high bytes or it makes letters of bytes with
NUL among them; ISO-2022 by its escapes; UTF-8 if the sample is valid or has at least as many good as bad multi-byte
sequences; a Latin encoding chosen by its languages' letters, if all bytes are letters or punctuation in cp1252; what
charset-normalizer finds; UTF-8 again with its invalid bytes replaced, unless they are so many that it is not text.
UTF-32 needs a byte-order mark or to be named. Some NUL bytes are ordinary.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable

from famcli.errors import DocumentError, UsageError

SAMPLE_BYTES = 1 << 18
MAGIC_BYTES = 10  # as many first bytes as a mark, or the beginning of a known format, takes

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WITHOUT_MARK = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8", "ascii": "utf-8"}
# Not encodings of files. UTF-7 is one, but its characters do not begin at bytes, so that spans would mean nothing.
_NOT_FOR_FILES = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem", "utf-7"}
_LONGEST_NAME = 40
WIDE_BYTES = 16  # the fewest that UTF-16 is recognised by
BEGINS_ESCAPED = re.compile(rb"\x1b\$(?:[@BA]|[()][A-Z])")
_CONTROLS = bytes(set(range(0x20)) - set(b"\0\t\n\v\f\r\x1a\x1b"))
_SOME_TENS = 32  # fewer invalid sequences are an accident, whatever their share
_SOME_LETTERS = 10  # above ASCII: with fewer, the alphabets say less than how common an encoding is
_TYPOGRAPHY = "‚„…‘’“”•–—€¡£§©«°·»¿½\u00a0"
# The letters of languages that Latin encodings share bytes for, by encoding. Of the 35 texts in tests/documents
# charset-normalizer alone gets 19 wrong (most of Western Europe becomes cp1250), its own tables of frequent letters in
# the place of these 10, one set of letters for each encoding instead of each language 12, and these none.
_WESTERN = (
    "àâæçèéêëîïôœùûüÿ",
    "äöüß",
    "áéíóúüñ",
    "áàâãçéêíóôõúü",
    "àèéìíîòóùú",
    "éèëïóöü",
    "æøåéòóô",
    "åäöéü",
    "áéíóúýðþæö",
    "áíóúýæðø",
    "àçèéíïòóúü",
    "äöõüšž",
)
_CENTRAL = ("áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţșț", "ąćęłńóśźż")
_BALTIC = ("ąčęėįšųūž", "āčēģīķļņšūž", "äöõüšž")
_TURKISH = ("çğıöşüâîû",)
_ALPHABETS = {"cp1252": _WESTERN, "cp1250": _CENTRAL, "iso8859-2": _CENTRAL, "cp1254": _TURKISH, "cp1257": _BALTIC}
_SLAVIC = {"cp1250": "cp1250", "iso8859_2": "iso8859-2"}  # names of charset-normalizer
_LEGACY = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "iso8859_2", "iso8859_5"),
    *("iso8859_7", "koi8_r", "koi8_u", "cp932", "euc_jp", "gb18030", "big5", "cp949", "cp866"),
]
_UNPACK = "unpack it and give the text inside"
_RECOGNIZE, _TRANSCRIBE = "run text recognition on it and give the text", "transcribe it and give the text"
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"),
)  # fmt: skip
# Enough of each that no text begins so.
_RECORDINGS = (
    *((b"ID3%c\0" % version, "an MP3 recording") for version in (2, 3, 4)),
    (b"\xff\xfb\x90", "an MP3 recording"), (b"OggS\0", "an Ogg recording"), (b"fLaC\0", "a FLAC recording"),
    (b"\x1aE\xdf\xa3", "a video"), *((b"\0\0\0%cftyp" % size, "a video") for size in (0x18, 0x1C, 0x20)),
)  # fmt: skip
# In these the length of the file stands between the two words.
_RIFF = {
    b"WAVE": ("a WAV recording", _TRANSCRIBE),
    b"AVI ": ("a video", _TRANSCRIBE),
    b"WEBP": ("a WebP image", _RECOGNIZE),
}
_MAGIC = (
    (b"%PDF-", "a PDF", "convert it with `pdftotext FILE -` (poppler) and give the text"),
    (
        b"PK\x03\x04",
        "a ZIP file, as EPUB and DOCX are",
        "convert it with `pandoc FILE -t plain --wrap=none` and give the text",
    ),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old Microsoft Office file",
        "save it as DOCX or PDF (`soffice --convert-to docx FILE`), and give that",
    ),
    (b"{\\rtf", "an RTF file", "save it as DOCX or PDF (`soffice --convert-to docx FILE`), and give that"),
    (b"\x1f\x8b\x08", "compressed with gzip", "unpack it, or pipe it in: `zcat FILE | famcli ...`"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it, or pipe it in: `zstdcat FILE | famcli ...`"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it, or pipe it in: `xzcat FILE | famcli ...`"),
    (b"BZh91AY&SY", "compressed with bzip2", "unpack it, or pipe it in: `bzcat FILE | famcli ...`"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    *((magic, f"a {name} image", _RECOGNIZE) for magic, name in _IMAGES),
    *((magic, what, _TRANSCRIBE) for magic, what in _RECORDINGS),
    (b"AT&TFORM", "a DjVu document", "convert it with `djvutxt FILE` and give the text"),
    (b"ITSF", "a CHM help file", "unpack it (`7z x FILE`), and give the folder of pages"),
    (b"%!PS", "a PostScript file", "convert it with `ps2pdf FILE`, and give the PDF"),
    (b"SQLite format 3\0", "an SQLite database", "export its tables as CSV (`sqlite3 -csv`), and give that"),
    (b"PAR1\x15", "a Parquet file", "export it as CSV, and give that"),
    *(
        (magic, "a program", "give a text")
        for magic in (b"\x7fELF", b"MZ\x90\0", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
    ),
)


def refuse_known_binaries(first: bytes, name: str) -> None:
    """Raise DocumentError, with the way to convert it, if `first` begins a format that is not plain text."""
    if begins_safetensors(first):
        raise DocumentError(
            f"{name} is a memory file or weights, not text: look at it with `famcli inspect FILE`, or load a memory "
            "file to ask it",
            remedy={"load": "FILE"},
        )
    riff = [_RIFF[first[8:12]]] if first[:4] == b"RIFF" and first[8:12] in _RIFF else []
    for what, hint in (*riff, *((what, hint) for magic, what, hint in _MAGIC if first.startswith(magic))):
        raise DocumentError(f"{name} is {what}, not text: {hint}")
    # A Palm database has its title first, and says what it is behind that.
    if first[60:68] in (b"BOOKMOBI", b"TEXtREAd"):
        raise DocumentError(
            f"{name} is a book for Kindle (Mobipocket), not text: convert it with Calibre (`ebook-convert FILE "
            "book.epub`), and give the EPUB"
        )
    if is_tar(first):
        raise DocumentError(f"{name} is a tar archive: unpack it (`tar xf`), and give the folder")


def is_tar(first: bytes) -> bool:
    """True if `first` begins a tar archive, whose first file may be text: its mark stands behind that one's name."""
    return first[257:262] == b"ustar"


def begins_safetensors(first: bytes) -> bool:
    """True if `first` begins a safetensors file (weights, a memory file): the length of a header, which is JSON."""
    return len(first) >= 10 and first[8:9] == b"{" and first[4:8] == b"\0\0\0\0"


def may_be_cut_short(first: bytes) -> bool:
    """True if these bytes could be the beginning of a longer byte-order mark or magic number."""
    known = [mark for mark, _ in _BOMS] + [magic for magic, _, _ in _MAGIC]
    if len(first) < 12 and first[:4] == b"RIFF"[: len(first)]:
        return True
    return any(len(first) < len(start) and start.startswith(first) for start in known)


def byte_order_mark(first: bytes) -> tuple[str, int] | None:
    """The encoding that a byte-order mark at the start names, and the mark's length."""
    for mark, encoding in _BOMS:
        if first.startswith(mark):
            return encoding, len(mark)
    return None


def named_encoding(encoding: str, first: bytes) -> tuple[str, int]:
    """The codec for an encoding that the user named, and the length of the mark to skip.

    ASCII is read as UTF-8, which contains it. Raises UsageError for a name that is not a text encoding.
    """
    name = declared_encoding(encoding)
    if name is None or name in _NOT_FOR_FILES:
        raise UsageError(f"unknown encoding {encoding!r}: use a name such as utf-8, utf-16, latin-1 or shift_jis")
    mark = byte_order_mark(first)
    if mark and (mark[0] == name or (name in _WITHOUT_MARK and mark[0].startswith(name.removesuffix("-sig")))):
        return mark
    return _WITHOUT_MARK.get(name, name), 0


def declared_encoding(name: str) -> str | None:
    """The codec for an encoding that a document says it is in; None for what is no encoding of texts.

    Some of Python's codecs are none, and take hours for a few megabytes.
    """
    try:
        b"a".decode(name[:_LONGEST_NAME], "replace")
        found = codecs.lookup(name[:_LONGEST_NAME]).name.replace("_", "-")
    except (LookupError, ValueError):
        return None
    return None if found in _NOT_FOR_FILES - {"utf-7"} else found


def may_be_wide(first: bytes) -> bool:
    """True if the first bytes have control characters, as UTF-16 has and other texts seldom do."""
    return len(first[:WIDE_BYTES].translate(None, _CONTROLS + b"\0")) < len(first[:WIDE_BYTES])


def wide_encoding(sample: bytes) -> str | None:
    """UTF-16 without a byte-order mark, by its high bytes: nearly all are at most 0x20, and some are NUL.

    This holds for the scripts of Europe and the Near East, whose spaces and digits have a NUL. No other text has
    control bytes at every other place and no NUL between.
    """
    if len(sample) < WIDE_BYTES or b"\0" not in sample:
        return None
    sample = sample[: len(sample) // 2 * 2]
    for encoding, high, low in (("utf-16-le", sample[1::2], sample[::2]), ("utf-16-be", sample[::2], sample[1::2])):
        num_high = len(high) - len(high.translate(None, bytes(range(0x21))))
        num_low = len(low) - len(low.translate(None, _CONTROLS))
        if high.count(0) and 10 * num_high >= 9 * len(high) and not low.count(0) and 4 * num_low <= len(low):
            try:
                codecs.lookup(encoding).incrementaldecoder().decode(sample)
            except UnicodeDecodeError:
                continue
            return encoding
    return _wide_by_letters(sample)


def escaped_encoding(sample: bytes, complete: bool = False) -> str | None:
    """ISO-2022, whose characters are ASCII bytes between escapes, as in Japanese and Korean mail."""
    if not sample.isascii() or not BEGINS_ESCAPED.search(sample):
        return None
    for encoding in ("iso2022-jp", "iso2022-kr", "iso2022-jp-2004", "iso2022-jp-ext"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(sample, complete)
        except UnicodeDecodeError:
            continue
        return encoding
    return None


def _wide_by_letters(sample: bytes) -> str | None:
    """UTF-16 of scripts whose high bytes are not small, such as Chinese: nearly all is letters in one byte order."""
    num_ascii = len(sample) - len(sample.translate(None, bytes(range(0x20, 0x7F))))
    # Pairs of ASCII letters are Chinese ones too.
    if len(sample) < 4 * WIDE_BYTES or b"\0" not in sample or 3 * num_ascii > 2 * len(sample):
        return None
    shares = dict[str, float]()
    for encoding in ("utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(sample)
        except UnicodeDecodeError:
            continue
        # Read in the wrong order, a line break or a space is no character at all.
        known = sum(one in "\r\n\t" or unicodedata.category(one) not in ("Cc", "Cn", "Co") for one in text)
        letters = sum(unicodedata.category(one)[0] in "LM" for one in text)
        if known >= 0.999 * len(text) and 2 * letters >= len(text) and any(blank in text for blank in " \n"):
            shares[encoding] = letters / len(text)
    return max(shares, key=lambda encoding: shares[encoding], default=None)


def detect(sample: bytes, complete: bool, name: str, num_before: int = 0) -> str:
    """The encoding of a text without byte-order mark that begins with `sample`, or has its first other byte in it.

    complete: nothing follows, so an unfinished character at the end is invalid. num_before: ASCII characters before
    the sample. Raises DocumentError for what is not text: more than a fifth of the sequences are invalid as UTF-8, and
    no other encoding fits.
    """
    if not num_before and (wide := wide_encoding(sample)) is not None:
        return wide
    if (escaped := escaped_encoding(sample, complete)) is not None:
        return escaped
    try:
        codecs.utf_8_decode(sample, "strict", complete)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    text, _ = codecs.utf_8_decode(sample, "replace", complete)
    num_bad = text.count("\ufffd") - sample.count("\ufffd".encode())
    num_good = sum(character > "\x7f" for character in text) - num_bad
    if num_good >= num_bad:
        return "utf-8"
    num_controls = len(sample) - len(sample.translate(None, _CONTROLS + b"\0"))
    # charset-normalizer finds encodings for binary data too, but none of its encodings is full of control characters.
    legacy = _legacy(sample) if 50 * num_controls < len(sample) or num_controls < 4 else None
    if legacy is None and num_bad >= _SOME_TENS and 5 * num_bad > num_before + len(text):
        raise DocumentError(
            f"{name} is binary data, or text in an encoding that cannot be told: name the encoding to read it",
            remedy={"encoding": "NAME"},
        )
    return legacy or "utf-8"


def _legacy(sample: bytes) -> str | None:
    lines = b"".join(line for line in sample.splitlines(keepends=True) if not line.isascii())[: 1 << 15]
    num_high = sum(byte >= 0x80 for byte in lines)
    if 3 * num_high < len(lines) and _reads_as_western(lines):
        return _likeliest(lines, _ALPHABETS) if num_high >= _SOME_LETTERS else "cp1252"
    if not any(map(str.isalpha, lines.decode("cp1252", "ignore").translate(dict.fromkeys(range(0x80))))):
        return "cp1252"  # symbols alone
    from charset_normalizer import from_bytes  # loads slowly, and is seldom needed

    best = from_bytes(lines, cp_isolation=_LEGACY).best()
    if best is None:
        return None
    if "cp1252" in {best.encoding, *best.could_be_from_charset}:
        return "cp1252"
    if best.encoding in _SLAVIC:
        return _likeliest(lines, _SLAVIC.values())
    return codecs.lookup(best.encoding).name.replace("_", "-")


def _likeliest(sample: bytes, encodings: Iterable[str]) -> str:
    """The encoding in which most letters are of one language; cp1252, the most common, if others have hardly more."""
    return max(encodings, key=lambda encoding: _spelled(sample, encoding) * (1.1 if encoding == "cp1252" else 1))


def _spelled(sample: bytes, encoding: str) -> int:
    """How many letters above ASCII are in the alphabet of one language: the encoding's language that has most of them.

    A letter that is not in it counts against it, if cp1252 reads that byte as another letter.
    """
    high = sample.translate(None, bytes(range(0x80)))
    letters, usual = ([*high.decode(name, "replace")] for name in (encoding, "cp1252"))
    other = [letter for letter, common in zip(letters, usual, strict=True) if letter != common]
    return max(
        sum(letter.lower() in alphabet for letter in letters) - sum(letter.lower() not in alphabet for letter in other)
        for alphabet in _ALPHABETS[encoding]
    )


def _reads_as_western(sample: bytes) -> bool:
    """True if all bytes above ASCII are letters or punctuation in cp1252."""
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return all(character.isalpha() or character in _TYPOGRAPHY for character in text if character > "\x7f")
