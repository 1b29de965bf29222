"""Where the characters of a text that comes in pieces stand in the original."""

from __future__ import annotations

import re
from bisect import bisect_right

from famcli.documents.source import Offsets, Piece


class Positions:
    """The line and the byte of each character of a text that comes in pieces, for as long as they are asked for."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, Offsets, list[int], int]] = []  # first character, offsets, line starts, line
        self._num_characters, self._line = 0, 1

    def add(self, piece: Piece) -> None:
        first, text = self._num_characters, piece.text
        starts = [first + found.end() for found in re.finditer("\n", text)]
        self._pieces.append((first, piece.char_offsets(), starts, self._line))
        self._num_characters, self._line = first + len(text), self._line + len(starts)

    def forget(self, before: int) -> None:
        """Nothing before this character will be asked for."""
        while len(self._pieces) > 1 and self._pieces[1][0] <= before:
            del self._pieces[0]

    def byte(self, character: int) -> int:
        first, offsets, _, _ = self._piece(character)
        return int(offsets[min(max(0, character - first), len(offsets) - 1)])

    def line(self, character: int) -> int:
        _, _, starts, line = self._piece(character)
        return line + bisect_right(starts, character)

    def _piece(self, character: int) -> tuple[int, Offsets, list[int], int]:
        return next((one for one in reversed(self._pieces) if one[0] <= character), self._pieces[0])
