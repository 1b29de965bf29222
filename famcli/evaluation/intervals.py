"""Confidence intervals of measured shares and means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The 97.5 % quantile of the standard normal distribution.
_Z_95 = 1.959963984540054
_RESAMPLES = 2000
Interval = tuple[float, float]


def wilson(right: int, total: int) -> Interval:
    """Wilson's 95 % score interval of a share of independent trials (JASA 22, 1927); (0, 1) if there are none."""
    if not total:
        return 0.0, 1.0
    share, extra = right / total, _Z_95 * _Z_95 / total
    middle = (share + extra / 2) / (1 + extra)
    half = _Z_95 / (1 + extra) * math.sqrt(share * (1 - share) / total + extra / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    sums: Sequence[float] | NDArray[np.float64], counts: Sequence[float] | NDArray[np.float64] | None = None
) -> Interval | None:
    """95 % percentile interval of sum(sums) / sum(counts), over groups drawn with replacement. counts: 1 if not given.

    Groups are the independent units: documents, or streams that were each asked several questions. None for fewer than
    two groups, from which no spread can be estimated.
    """
    values = np.asarray(sums, dtype=np.float64)
    weights = np.ones_like(values) if counts is None else np.asarray(counts, dtype=np.float64)
    if len(values) < 2:
        return None
    rng = np.random.default_rng(0)
    ratios = np.empty(_RESAMPLES)
    # A loop, not one [resamples, groups] draw: held-out corpora have many documents.
    for index in range(_RESAMPLES):
        drawn = rng.integers(0, len(values), len(values))
        ratios[index] = values[drawn].sum() / max(weights[drawn].sum(), 1e-12)
    low, high = np.quantile(ratios, ((1 - 0.95) / 2, (1 + 0.95) / 2))
    return float(low), float(high)
