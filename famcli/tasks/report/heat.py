"""How hot words are shown: the memory's attention to tokens, and the histogram that turns values into colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# How much attention a token gets depends on where in its block it stands, whatever it says: what is usual is therefore
# learned for each of these parts of a block.
_PROFILE_BINS = 32
_PRIOR_BLOCKS = 2.0  # blocks of even attention that the profile starts from
_FLOOR = 1e-3

_LOWEST, _HIGHEST, _HISTOGRAM_BINS = -12.0, 24.0, 720


class AttentionProfile:
    """The usual attention at each place in a block, so that block ends are not hot only because of where they are."""

    def __init__(self) -> None:
        self._sums = np.full(_PROFILE_BINS, _PRIOR_BLOCKS)
        self._weight = _PRIOR_BLOCKS

    def salience(self, attention: NDArray[np.float64], offset: int, block_size: int) -> NDArray[np.float64]:
        """Log of attention [n] over the usual attention at the same place; 0 is as usual.

        offset: place of the first token in its block. The usual is learned from the blocks so far, this one included.
        """
        density = attention * block_size
        bins = (np.arange(offset, offset + len(attention)) * _PROFILE_BINS) // block_size
        share = np.bincount(bins, minlength=_PROFILE_BINS) * (_PROFILE_BINS / block_size)
        sums = np.bincount(bins, weights=density, minlength=_PROFILE_BINS) * (_PROFILE_BINS / block_size)
        self._sums += sums
        self._weight += float(share.mean())
        usual = self._sums / self._weight
        return np.asarray(np.log(np.maximum(density / np.maximum(usual[bins], _FLOOR), _FLOOR)))


class Heat:
    """Which values are how common: a histogram, so that colours can be given by rank."""

    def __init__(self) -> None:
        self._counts = np.zeros(_HISTOGRAM_BINS, np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """More values; NaN counts for nothing."""
        known = values[~np.isnan(values)]
        self._counts += np.histogram(np.clip(known, _LOWEST, _HIGHEST), _HISTOGRAM_BINS, (_LOWEST, _HIGHEST))[0]

    def thresholds(self, shares: tuple[float, ...]) -> NDArray[np.float64]:
        """The values that these shares of all lie below; none where there are no values."""
        total = self._counts.sum()
        if not total:
            return np.empty(0)
        edges = np.linspace(_LOWEST, _HIGHEST, _HISTOGRAM_BINS + 1)[1:]
        places = np.searchsorted(np.cumsum(self._counts) / total, np.asarray(shares))
        return np.asarray(edges[np.minimum(places, _HISTOGRAM_BINS - 1)])
