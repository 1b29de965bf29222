"""How hot each word of a text is: the memory's attention to its tokens, looked up by place and shown as colours."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

HEAT = np.dtype([("start", "<i8"), ("end", "<i8"), ("value", "<f4")])
"""A token's source bytes and its heat: any number, the more the hotter; NaN where it is unknown."""

LEVELS = (0.5, 0.65, 0.78, 0.88, 0.95)
"""Shares of tokens below which a word has no colour, the first colour, and so on."""

# How much attention a token gets depends on where in its block it stands, whatever it says: what is usual is therefore
# learned for each of these parts of a block.
_PROFILE_BINS = 32
_PRIOR_BLOCKS = 2.0  # blocks of even attention that the profile starts from
_FLOOR = 1e-3
_WORD = re.compile(r"\S+\s*|\s+")


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


def heat_of_characters(
    places: Iterator[NDArray[np.int64]], tokens: Iterator[NDArray[np.void]]
) -> Iterator[NDArray[np.float64]]:
    """The heat of the characters of each piece of a text [n], NaN where there is none.

    places: of each piece, the source bytes of its characters and of its end [n + 1]. tokens: rows of `HEAT`. Both in
    the order of the text.
    """
    held = np.empty(0, HEAT)
    for offsets in places:
        rows = [held[held["end"] > offsets[0]]]
        while not len(rows[-1]) or rows[-1]["end"][-1] < offsets[-1]:
            if (more := next(tokens, None)) is None:
                break
            rows.append(more)
        held = np.concatenate(rows)
        if not len(held):
            yield np.full(len(offsets) - 1, np.nan)
            continue
        index = np.minimum(np.searchsorted(held["end"], offsets[:-1], side="right"), len(held) - 1)
        inside = (held["start"][index] <= offsets[:-1]) & (offsets[:-1] < held["end"][index])
        yield np.where(inside, held["value"][index].astype(np.float64), np.nan)


def colour_levels(text: str, heat: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """The colour of each character of a text, 0 for none: all of a word have that of the word's mean heat."""
    levels = np.zeros(len(text), np.int64)
    if not len(thresholds) or np.isnan(heat).all():
        return levels
    for word in _WORD.finditer(text):
        values = heat[word.start() : word.end()]
        values = values[~np.isnan(values)]
        if len(values):
            levels[word.start() : word.end()] = np.searchsorted(thresholds, values.mean())
    return levels
