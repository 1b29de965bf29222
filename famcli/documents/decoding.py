"""Bytes to characters in steps, with the number of source bytes that each character took.

Invalid sequences become U+FFFD and are counted; its width is what it replaced.
"""

from __future__ import annotations

import codecs
import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from famcli.documents.piece import code_points

Widths = npt.NDArray[np.int64]
_MARK = "\udfff"  # stands for an invalid sequence until the widths are known: no decoder yields it
_HANDLER = "famcli.mark-invalid"


@dataclass(frozen=True)
class Decoded:
    """`text` took the first `consumed` bytes; widths [len(text)] as in Piece."""

    text: str
    widths: Widths | None
    consumed: int
    num_replaced: int


class Decoder(Protocol):
    """Decodes what it can of `data`; the caller gives the rest again, with more behind it, the next time."""

    def decode(self, data: bytes, final: bool) -> Decoded: ...


def decoder_for(encoding: str) -> Decoder:
    """The decoder for a Python codec's normalised name."""
    if encoding in _UNICODE:
        return _UnicodeDecoder(encoding)
    if not is_stateful(encoding) and len(bytes(range(256)).decode(encoding, "replace")) == 256:
        return _CharmapDecoder(encoding)
    return _StepDecoder(encoding)


def is_stateful(encoding: str) -> bool:
    """Whether what a byte means depends on escapes far before it, so that reading cannot start in the middle."""
    return encoding.startswith(("iso2022", "hz"))


class _Invalid(threading.local):
    """The widths of the invalid sequences of the decoding that runs in this thread."""

    def __init__(self) -> None:
        self.widths: list[int] = []


_invalid = _Invalid()


def _mark_invalid(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    _invalid.widths.append(error.end - error.start)
    return _MARK, error.end


codecs.register_error(_HANDLER, _mark_invalid)

_UNICODE = {
    "utf-8": codecs.utf_8_decode,
    "utf-16-le": codecs.utf_16_le_decode,
    "utf-16-be": codecs.utf_16_be_decode,
    "utf-32-le": codecs.utf_32_le_decode,
    "utf-32-be": codecs.utf_32_be_decode,
}


class _UnicodeDecoder:
    """UTF-8, -16 and -32: a character's width follows from its code point."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._decode = _UNICODE[encoding]

    def decode(self, data: bytes, final: bool) -> Decoded:
        _invalid.widths.clear()
        text, consumed = self._decode(data, _HANDLER, final)
        invalid = _invalid.widths
        if not invalid and self._encoding == "utf-8":
            return Decoded(text, None, consumed, 0)
        codes = code_points(text)
        if self._encoding == "utf-8":
            widths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
        elif self._encoding.startswith("utf-16"):
            widths = 2 + 2 * (codes >= 0x10000).astype(np.int64)
        else:
            widths = np.full(len(text), 4, dtype=np.int64)
        if invalid:
            widths[codes == ord(_MARK)] = invalid
            text = text.replace(_MARK, "\ufffd")
        return Decoded(text, widths, consumed, len(invalid))


class _CharmapDecoder:
    """One byte, one character."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def decode(self, data: bytes, final: bool) -> Decoded:
        _invalid.widths.clear()
        text = data.decode(self._encoding, _HANDLER).replace(_MARK, "\ufffd")
        return Decoded(text, np.ones(len(text), dtype=np.int64), len(data), len(_invalid.widths))


class _StepDecoder:
    """Any other codec, byte by byte: what has been read when a character comes out is its width."""

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._num_fed = 0  # bytes at the head of the next data that the codec holds already

    def decode(self, data: bytes, final: bool) -> Decoded:
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
            waiting = 0
        if final:  # a closing escape sequence is no character
            waiting = 0
        self._num_fed = waiting
        text = "".join(parts)
        return Decoded(text, np.array(widths, dtype=np.int64), len(data) - waiting, text.count("\ufffd"))


def _share(num_bytes: int, num_characters: int) -> list[int]:
    """One byte for each character but the first, which takes the rest."""
    rest = min(num_characters - 1, max(0, num_bytes - 1))
    return [num_bytes - rest] + [1] * rest + [0] * (num_characters - 1 - rest)
