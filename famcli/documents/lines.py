"""Line numbers of byte offsets, while the text flows by."""

from __future__ import annotations

from collections import deque

import numpy as np

from famcli.documents.piece import Piece, code_points


class LineCounter:
    """Counts lines as pieces are fed and offsets asked for; holds only the line ends between the two.

    A line ends with a newline, so CRLF counts once; a carriage return alone ends none. `line`: the number of the line
    that the text begins in, from 1.
    """

    def __init__(self, line: int = 1) -> None:
        self._line = line
        self._ends: deque[np.ndarray[tuple[int], np.dtype[np.int64]]] = deque()  # offsets behind each newline

    def feed(self, piece: Piece) -> None:
        """Take note of the lines that end in `piece`; pieces must come in order."""
        if "\n" not in piece.text:
            return
        if piece.widths is None:
            raw = np.frombuffer(piece.text.encode(), dtype=np.uint8)
            ends = np.flatnonzero(raw == 10) + (piece.start + 1)
        else:
            ends = piece.char_offsets()[np.flatnonzero(code_points(piece.text) == 10) + 1]
        self._ends.append(ends.astype(np.int64))

    def line_at(self, offset: int) -> int:
        """The number of the line that holds the byte at `offset`. Offsets must be fed, and must not decrease."""
        while self._ends:
            ends = self._ends[0]
            passed = int(np.searchsorted(ends, offset, side="right"))
            self._line += passed
            if passed < len(ends):
                self._ends[0] = ends[passed:]
                break
            self._ends.popleft()
        return self._line
