"""Bytes to characters in steps, with the number of bytes that each character took.

An invalid sequence becomes U+FFFD and is counted; its width is what it replaced. A carriage return without a newline
becomes one, of the same width.
"""

from __future__ import annotations

import codecs
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from famcli.documents.source import Offsets, code_points, utf8_widths

# Stands for an invalid sequence until the widths are known. No decoder yields a surrogate, and U+FFFD itself may be in
# the text.
_MARK = "\udfff"
_HANDLER = "famcli.mark-invalid"


class Decoded(NamedTuple):
    """`text` took the first `consumed` bytes; widths [len(text)] as in Piece."""

    text: str
    widths: Offsets | None
    consumed: int
    num_replaced: int


Decoder = Callable[[bytes, bool], Decoded]
"""Decodes what it can of the bytes; what is left comes again, with more behind it. The flag: nothing follows."""


def decoder_for(encoding: str) -> Decoder:
    """The decoder for a Python codec's normalised name."""
    one_byte = not is_stateful(encoding) and len(bytes(range(256)).decode(encoding, "replace")) == 256
    decode = partial(_decode_at_once, encoding) if encoding in _UNICODE or one_byte else _StepDecoder(encoding)
    return partial(_with_newlines, decode, "\r".encode(encoding))


def is_stateful(encoding: str) -> bool:
    """True if the meaning of a byte depends on escapes far before it, so that reading cannot start in the middle."""
    return encoding.startswith(("iso2022", "hz"))


_LONE_RETURN = re.compile(r"\r(?!\n)")


def _with_newlines(decode: Decoder, carriage_return: bytes, data: bytes, final: bool) -> Decoded:
    width = len(carriage_return)
    whole = len(data) // width * width
    if not final and data[:whole].endswith(carriage_return):
        # A newline may follow: what is left comes again.
        data = data[: whole - width]
    found = decode(data, final)
    return found._replace(text=_LONE_RETURN.sub("\n", found.text)) if "\r" in found.text else found


# An error handler has no other way to hand over what it saw; readers in several threads must not mix theirs.
_seen = threading.local()


def _mark_invalid(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    _seen.widths.append(error.end - error.start)
    return _MARK, error.end


codecs.register_error(_HANDLER, _mark_invalid)

_UNICODE = {
    "utf-8": codecs.utf_8_decode,
    "utf-16-le": codecs.utf_16_le_decode,
    "utf-16-be": codecs.utf_16_be_decode,
    "utf-32-le": codecs.utf_32_le_decode,
    "utf-32-be": codecs.utf_32_be_decode,
}


def _decode_at_once(encoding: str, data: bytes, final: bool) -> Decoded:
    """UTF-8, -16, -32, and encodings of one byte a character: the width follows from the code point."""
    _seen.widths = invalid = list[int]()
    if (decode := _UNICODE.get(encoding)) is not None:
        text, consumed = decode(data, _HANDLER, final)
    else:
        text, consumed = data.decode(encoding, _HANDLER), len(data)
    if encoding == "utf-8":
        if not invalid:
            return Decoded(text, None, consumed, 0)
        widths = utf8_widths(text)
    elif encoding.startswith("utf-16"):
        widths = 2 + 2 * (code_points(text) >= 0x10000).astype(np.int64)
    else:
        widths = np.full(len(text), 4 if encoding in _UNICODE else 1, dtype=np.int64)
    if invalid:
        widths[code_points(text) == ord(_MARK)] = invalid
        text = text.replace(_MARK, "\ufffd")
    return Decoded(text, widths, consumed, len(invalid))


class _StepDecoder:
    """Any other codec, byte by byte: a character is as wide as what was read when it comes out."""

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._num_fed = 0  # bytes at the head of the next data that the codec holds already

    def __call__(self, data: bytes, final: bool) -> Decoded:
        parts: list[str] = []
        widths: list[int] = []
        waiting = self._num_fed
        for place in range(self._num_fed, len(data)):
            out = self._decoder.decode(data[place : place + 1])
            waiting += 1
            if out:
                parts.append(out)
                widths += _share(waiting, len(out))
                waiting = 0
        if final and (out := self._decoder.decode(b"", True)):
            parts.append(out)
            widths += _share(waiting, len(out))
        if final:  # a closing escape sequence is no character
            waiting = 0
        self._num_fed = waiting
        text = "".join(parts)
        return Decoded(text, np.array(widths, dtype=np.int64), len(data) - waiting, text.count("\ufffd"))


def _share(num_bytes: int, num_characters: int) -> list[int]:
    """One byte for each character but the first, which takes the rest."""
    # Some codecs give out several characters at once, for a letter with its accent or after an escape sequence.
    rest = min(num_characters - 1, max(0, num_bytes - 1))
    return [num_bytes - rest] + [1] * rest + [0] * (num_characters - 1 - rest)
