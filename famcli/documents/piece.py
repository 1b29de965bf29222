"""A piece of a document: some characters, and where each stood in the source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Piece:
    """Text that stood in the source bytes [start, end).

    widths: source bytes of each character, int64 [len(text)]; their sum is end - start. None where each character
    takes the bytes of its UTF-8 encoding. tentative: the text is here only because the input ended inside a character;
    more input would make it another. raw: the source bytes themselves, where they are known.
    """

    text: str
    start: int
    end: int
    widths: npt.NDArray[np.int64] | None = None
    tentative: bool = False
    raw: bytes = b""

    def char_offsets(self) -> npt.NDArray[np.int64]:
        """Source offset of every character, and of the end: int64 [len(text) + 1]."""
        if self.widths is None and self.end - self.start == len(self.text):
            return np.arange(self.start, self.end + 1, dtype=np.int64)  # one byte each
        widths = utf8_widths(self.text) if self.widths is None else self.widths
        offsets = np.empty(len(self.text) + 1, dtype=np.int64)
        offsets[0] = self.start
        np.cumsum(widths, out=offsets[1:])
        offsets[1:] += self.start
        return offsets


def utf8_widths(text: str) -> npt.NDArray[np.int64]:
    """Bytes that each character takes in UTF-8, int64 [len(text)]."""
    codes = code_points(text)
    return 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code point of each character, uint32 [len(text)]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
