"""Which source gives the next document: decided by counters alone, so there is no random state to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Mixture:
    """Draws sources so that the tokens read of each approach its weight as closely as whole documents allow.

    The source furthest behind gives the next document. Lanes that are reading count as `ahead` tokens further than
    they are, so that lanes which begin together spread over the sources.
    """

    def __init__(self, weights: Sequence[float], ahead: int) -> None:
        self._weights = np.array(weights, dtype=np.float64) / sum(weights)
        self._ahead = ahead
        self._drawn = [0] * len(weights)  # documents given out
        self._read = [0] * len(weights)  # tokens read of them

    def draw(self, busy: Sequence[int]) -> tuple[int, int]:
        """(source, number of its document) for a lane, where other lanes are reading the sources `busy`."""
        taken = np.array(self._read) + self._ahead * np.bincount(busy, minlength=len(self._read))
        behind = self._weights * (taken.sum() + self._ahead) - taken
        behind[self._weights == 0] = -np.inf
        source = int(behind.argmax())
        self._drawn[source] += 1
        return source, self._drawn[source] - 1

    def count(self, source: int, num_tokens: int) -> None:
        """`num_tokens` more of this source were read."""
        self._read[source] += num_tokens

    def to_json(self) -> dict[str, Any]:
        return {"drawn": list(self._drawn), "read": list(self._read)}

    def load_json(self, saved: Mapping[str, Any]) -> None:
        self._drawn, self._read = list(saved["drawn"]), list(saved["read"])
