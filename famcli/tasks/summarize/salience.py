"""How salient a sentence is: by the memory's attention to its tokens, or by how surprising they were.

Token values arrive block by block and sentences straddle blocks, so values wait until the sentence they belong to is
complete; what waits is no longer than the text read ahead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHRINKAGE = 16.0  # tokens


class Average:
    """The mean of all values so far, which single sentences are held against."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    @property
    def mean(self) -> float:
        """0 before there are any."""
        return self._sum / self._count if self._count else 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """More values [n]; NaN counts for nothing."""
        known = values[~np.isnan(values)]
        self._sum, self._count = self._sum + float(known.sum()), self._count + len(known)


class TokenValues:
    """Values of tokens by their source bytes, asked for sentence by sentence."""

    def __init__(self, average: Average) -> None:
        self._average = average
        self._starts = self._ends = np.empty(0, np.int64)
        self._values = np.empty(0, np.float64)

    @property
    def end(self) -> int:
        """The source byte up to which values are known."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def add(self, starts: NDArray[np.int64], ends: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """The next tokens [n]; NaN where a token has no value."""
        self._average.add(values)
        self._starts = np.concatenate((self._starts, starts))
        self._ends = np.concatenate((self._ends, ends))
        self._values = np.concatenate((self._values, values))

    def salience(self, start: int, end: int) -> float:
        """How far the tokens that reach into the source bytes [start, end) stand above the average.

        The difference of the means times n / (n + 16) for n tokens: means of few tokens vary more, and the best of
        many sentences would else always be a short one. 0 where no value is known.
        """
        first = np.searchsorted(self._ends, start, side="right")
        last = np.searchsorted(self._starts, end, side="left")
        values = self._values[first:last]
        values = values[~np.isnan(values)]
        n = len(values)
        return (float(values.mean()) - self._average.mean) * n / (n + _SHRINKAGE) if n else 0.0

    def forget(self, before: int) -> None:
        """Nothing before this source byte will be asked for, but the last token is kept for `end`."""
        first = min(int(np.searchsorted(self._ends, before, side="right")), max(len(self._ends) - 1, 0))
        self._starts, self._ends = self._starts[first:].copy(), self._ends[first:].copy()
        self._values = self._values[first:].copy()
