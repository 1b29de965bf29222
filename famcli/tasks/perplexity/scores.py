"""Figures of perplexity: sums that merge exactly, and an error bar in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from famcli.nn import MemoryMode


@dataclass(frozen=True)
class Score:
    """Figures over some tokens under one memory mode.

    num_tokens, num_bytes: scored tokens, and the source bytes they stand for. nll: their total negative
    log-likelihood in nats. num_correct: how many of them were the most likely token. standard_error: of nll per token
    (see `Batches`); None where it has no meaning.
    """

    memory_mode: MemoryMode
    num_tokens: int
    num_bytes: int
    nll: float
    num_correct: int
    standard_error: float | None = None

    @property
    def nll_per_token(self) -> float | None:
        """Mean negative log-likelihood in nats; None when nothing was scored."""
        return self.nll / self.num_tokens if self.num_tokens else None

    @property
    def perplexity(self) -> float | None:
        """exp(nll per token); infinite where that overflows."""
        mean = self.nll_per_token
        if mean is None:
            return None
        return math.exp(mean) if mean < 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Total nll in bits over scored source bytes; comparable between tokenizers."""
        return self.nll / math.log(2) / self.num_bytes if self.num_bytes else None

    @property
    def accuracy(self) -> float | None:
        """Share of scored tokens that were the most likely one (the PG-19 figure of arXiv 2404.09173)."""
        return self.num_correct / self.num_tokens if self.num_tokens else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, derived ones included."""
        return {
            "memory_mode": self.memory_mode,
            "tokens": self.num_tokens,
            "bytes": self.num_bytes,
            "nll": self.nll,
            "nll_per_token": self.nll_per_token,
            "standard_error": self.standard_error,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "accuracy": self.accuracy,
        }


@dataclass(frozen=True)
class Difference:
    """Memory on minus frozen, over the same tokens: negative where the memory helps.

    nll_per_token: in nats, with its standard error over paired blocks. bits_per_byte: the same in bits per byte.
    """

    nll_per_token: float
    standard_error: float | None
    bits_per_byte: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "nll_per_token": self.nll_per_token,
            "standard_error": self.standard_error,
            "bits_per_byte": self.bits_per_byte,
        }


class Batches:
    """A ratio sum(x) / sum(n) over batches that are taken as independent, and its standard error.

    The ratio estimator's error is sqrt(B / (B - 1) * sum((x_b - r n_b)^2)) / sum(n): batches may differ in size.
    """

    def __init__(self) -> None:
        self.count = 0
        self._x = self._n = self._xx = self._xn = self._nn = 0.0

    def add(self, x: float, n: int) -> None:
        """One more batch of n tokens with total x."""
        if n:
            self.count += 1
            self._x, self._n = self._x + x, self._n + n
            self._xx, self._xn, self._nn = self._xx + x * x, self._xn + x * n, self._nn + n * n

    def merge(self, other: Batches) -> None:
        """All batches of another one too."""
        self.count += other.count
        self._x, self._n = self._x + other._x, self._n + other._n
        self._xx, self._xn, self._nn = self._xx + other._xx, self._xn + other._xn, self._nn + other._nn

    @property
    def standard_error(self) -> float | None:
        """None below two batches."""
        if self.count < 2:
            return None
        r = self._x / self._n
        squares = max(0.0, self._xx - 2 * r * self._xn + r * r * self._nn)
        return math.sqrt(self.count / (self.count - 1) * squares) / self._n


class Tally:
    """Sums over tokens under one memory mode, and over blocks for the error bar."""

    def __init__(self, memory_mode: MemoryMode) -> None:
        self.memory_mode = memory_mode
        self.num_tokens = self.num_bytes = self.num_correct = 0
        self.nll = 0.0
        self._batches = Batches()
        self._open_nll, self._open_tokens = 0.0, 0

    def add(self, nll: NDArray[np.float64], correct: NDArray[np.bool_], num_bytes: NDArray[np.int64]) -> None:
        """Tokens [n] of the open block; those with NaN for nll are not scored, and neither are their bytes."""
        scored = ~np.isnan(nll)
        total, count = float(nll[scored].sum()), int(scored.sum())
        self.nll, self.num_tokens = self.nll + total, self.num_tokens + count
        self.num_bytes += int(num_bytes[scored].sum())
        self.num_correct += int(correct[scored].sum())
        self._open_nll, self._open_tokens = self._open_nll + total, self._open_tokens + count

    def close_block(self) -> tuple[float, int]:
        """The open block is one batch; returns its total and number of tokens."""
        batch = self._open_nll, self._open_tokens
        self._batches.add(*batch)
        self._open_nll, self._open_tokens = 0.0, 0
        return batch

    def merge(self, other: Tally) -> None:
        """What another one counted too; its open block must be closed."""
        self.nll += other.nll
        self.num_tokens += other.num_tokens
        self.num_bytes += other.num_bytes
        self.num_correct += other.num_correct
        self._batches.merge(other._batches)

    def score(self, with_error: bool = True) -> Score:
        """The figures so far."""
        error = self._batches.standard_error if with_error else None
        return Score(self.memory_mode, self.num_tokens, self.num_bytes, self.nll, self.num_correct, error)
