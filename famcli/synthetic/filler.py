"""Filler: an endless stream of tokens of real text, for what is hidden to stand in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from famcli.tokens.tokenizer import Ids


class Filler:
    """Tokens of whole documents in random order, without end.

    tokens: those of all documents one after the other, a memory map for instance. offsets [documents + 1]: where each
    begins, and where the last one ends. The first document is drawn by its length and entered at a random place;
    those that follow are drawn alike and read from their start. Raises ValueError if there is no token.
    """

    def __init__(self, tokens: NDArray[np.integer], offsets: NDArray[np.int64], rng: np.random.Generator) -> None:
        self._tokens, self._offsets, self._rng = tokens, offsets, rng
        if not 0 <= offsets[0] < offsets[-1] <= len(tokens):
            raise ValueError("filler needs at least one document that is not empty")
        self._place, self._end = self._draw()

    def take(self, count: int) -> Ids:
        """The next `count` tokens [count] int32."""
        parts, left = [np.empty(0, np.int32)], count
        while left:
            part = np.asarray(self._tokens[self._place : min(self._end, self._place + left)], dtype=np.int32)
            parts.append(part)
            left -= len(part)
            self._place += len(part)
            if self._place == self._end:
                self._end = self._draw()[1]
                self._place = int(self._offsets[np.searchsorted(self._offsets, self._end) - 1])
        return np.concatenate(parts)

    def _draw(self) -> tuple[int, int]:
        """A random place, each token as likely as any other, and where its document ends."""
        place = int(self._rng.integers(self._offsets[0], self._offsets[-1]))
        return place, int(self._offsets[np.searchsorted(self._offsets, place, side="right")])
