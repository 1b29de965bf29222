"""Figures of perplexity: sums that merge exactly, and an error bar in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from famcli.nn import MemoryMode


@dataclass(frozen=True)
class Score:
    """Figures over some tokens under one memory mode; None where nothing was scored.

    num_tokens, num_bytes: scored tokens, and the source bytes they stand for. nll: their total negative log-likelihood
    in nats. standard_error: of nll_per_token (see `Batches`). perplexity: exp(nll_per_token), infinite where that
    overflows. bits_per_byte: nll in bits over source bytes, which is comparable between tokenizers. accuracy: the share
    of tokens that were the most likely one (the PG-19 figure of arXiv 2404.09173), num_correct how many they are.
    """

    memory_mode: MemoryMode
    num_tokens: int
    num_bytes: int
    nll: float
    nll_per_token: float | None
    standard_error: float | None
    perplexity: float | None
    bits_per_byte: float | None
    accuracy: float | None
    num_correct: int = field(metadata={"json": None})


@dataclass(frozen=True)
class Difference:
    """Memory on minus frozen, over the same tokens: negative where the memory helps.

    nll_per_token: in nats, with its standard error over paired blocks. bits_per_byte: the same in bits per byte.
    """

    nll_per_token: float
    standard_error: float | None
    bits_per_byte: float | None


class Batches:
    """A ratio sum(x) / sum(n) over batches that are taken as independent, and its standard error.

    The ratio estimator's error is sqrt(B / (B - 1) * sum((x_b - r n_b)^2)) / sum(n): batches may differ in size.
    """

    def __init__(self) -> None:
        self.count = 0
        # Sums of x, n, x^2, x n and n^2: all that the error needs, however many batches there are.
        self._sums = np.zeros(5)

    def add(self, x: float, n: int) -> None:
        """Add a batch of n tokens with total x."""
        if n:
            self.count += 1
            self._sums += (x, n, x * x, x * n, n * n)

    def merge(self, other: Batches) -> None:
        self.count += other.count
        self._sums += other._sums

    @property
    def standard_error(self) -> float | None:
        """None below two batches."""
        if self.count < 2:
            return None
        x, n, xx, xn, nn = self._sums.tolist()
        r = x / n
        squares = max(0.0, xx - 2 * r * xn + r * r * nn)
        return math.sqrt(self.count / (self.count - 1) * squares) / n


class Tally:
    """Sums over the same tokens under one memory mode or two, and over blocks for the error bars."""

    def __init__(self, memory_modes: tuple[MemoryMode, ...]) -> None:
        self.memory_modes = memory_modes
        self.num_tokens = self.num_bytes = self._open_tokens = 0
        self._nll, self._open_nll = np.zeros(len(memory_modes)), np.zeros(len(memory_modes))
        self._num_correct = np.zeros(len(memory_modes), np.int64)
        # Of each mode, and of the difference between two.
        self._batches, self._paired = [Batches() for _ in memory_modes], Batches()

    def add(self, nll: NDArray[np.float64], correct: NDArray[np.bool_], num_bytes: NDArray[np.int64]) -> None:
        """Add tokens of the open block: nll and correct [mode, n], num_bytes [n].

        Tokens with NaN are not scored, and their bytes are not counted.
        """
        scored = ~np.isnan(nll[0])
        totals = np.array([each[scored].sum() for each in nll])
        self._nll += totals
        self._open_nll += totals
        self._num_correct += correct[:, scored].sum(1)
        self.num_tokens += int(scored.sum())
        self._open_tokens += int(scored.sum())
        self.num_bytes += int(num_bytes[scored].sum())

    def close_block(self) -> None:
        """Count the open block as one batch. A block that a source ends in counts too, with fewer tokens."""
        sums = self._open_nll.tolist()
        for batches, nll in zip(self._batches, sums, strict=True):
            batches.add(nll, self._open_tokens)
        self._paired.add(sums[0] - sums[-1], self._open_tokens)
        self._open_nll, self._open_tokens = np.zeros(len(sums)), 0

    def merge(self, other: Tally) -> None:
        """Add the counts of `other`; its open block does not enter the standard error."""
        self.num_tokens += other.num_tokens
        self.num_bytes += other.num_bytes
        self._nll += other._nll
        self._num_correct += other._num_correct
        for own, others in zip((*self._batches, self._paired), (*other._batches, other._paired), strict=True):
            own.merge(others)

    def scores(self, with_error: bool = True) -> tuple[Score, ...]:
        return tuple(self._score(mode, with_error) for mode in range(len(self.memory_modes)))

    def difference(self) -> Difference | None:
        """Memory on minus frozen; None with one memory mode, or where nothing was scored."""
        if len(self._nll) < 2 or not self.num_tokens:
            return None
        nll = float(self._nll[0] - self._nll[1])
        return Difference(nll / self.num_tokens, self._paired.standard_error, self._bits_per_byte(nll))

    def _bits_per_byte(self, nll: float) -> float | None:
        return nll / math.log(2) / self.num_bytes if self.num_bytes else None

    def _score(self, mode: int, with_error: bool) -> Score:
        nll, num_correct, num_tokens = float(self._nll[mode]), int(self._num_correct[mode]), self.num_tokens
        mean = nll / num_tokens if num_tokens else None
        return Score(
            memory_mode=self.memory_modes[mode],
            num_tokens=num_tokens,
            num_bytes=self.num_bytes,
            nll=nll,
            nll_per_token=mean,
            standard_error=self._batches[mode].standard_error if with_error else None,
            # exp overflows beyond 709.
            perplexity=None if mean is None else math.exp(mean) if mean < 700 else math.inf,
            bits_per_byte=self._bits_per_byte(nll),
            accuracy=num_correct / num_tokens if num_tokens else None,
            num_correct=num_correct,
        )
