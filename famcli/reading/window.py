"""The part of a source between what was reported and what was fed: for the lines of blocks, and to keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from famcli.documents.source import Piece, code_points


class TextWindow:
    """Bytes of text with their line numbers, forgotten from the front. `line`: the number of its first one."""

    def __init__(self, start: int = 0, line: int = 1) -> None:
        self._raw = b""
        self._offsets: NDArray[np.int64] = np.array([start], dtype=np.int64)
        self._line = line
        self._line_starts: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def add(self, piece: Piece, keep_from: int) -> None:
        """Append `piece`; nothing before source offset `keep_from` will be asked for again."""
        self._forget(keep_from)
        offsets = piece.char_offsets()
        starts = line_starts(piece.text, offsets)
        self._raw += piece.raw
        self._offsets = np.concatenate((self._offsets[:-1], offsets))
        self._line_starts = np.concatenate((self._line_starts, starts))

    @property
    def start(self) -> int:
        """The first source byte it holds: behind the byte-order mark, once that was seen."""
        return int(self._offsets[0])

    def tail(self, start: int) -> bytes:
        """The source bytes from `start` on."""
        return self._raw[start - self.start :]

    def line(self, offset: int) -> int:
        """The number of the line that source byte `offset` lies in."""
        return self._line + int(np.searchsorted(self._line_starts, offset, side="right"))

    def _forget(self, offset: int) -> None:
        first = int(np.searchsorted(self._offsets, offset))
        passed = int(np.searchsorted(self._line_starts, offset, side="right"))
        self._raw = self.tail(int(self._offsets[first]))
        self._offsets = self._offsets[first:].copy()
        self._line, self._line_starts = self._line + passed, self._line_starts[passed:].copy()


def line_starts(text: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Source offsets at which lines of `text` begin: behind each LF (so that CRLF counts once)."""
    if "\n" not in text:
        return np.empty(0, dtype=np.int64)
    starts: NDArray[np.int64] = offsets[1:][code_points(text) == 10]
    return starts
