"""What a report shows beside its result: documents and the heat of their words, kept on disk while they are read."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from famcli.documents.source import Piece
from famcli.reading.events import BlockEvent, Event, SourceStart, TextEvent

HEAT = np.dtype([("start", "<i8"), ("end", "<i8"), ("value", "<f4")])
"""A token's source bytes and its heat: any number, the more the hotter; NaN where it is unknown."""

# Heat is a log ratio or nats, and lies well inside; clipping the rest keeps the histogram small.
_LOWEST, _HIGHEST, _BINS = -12.0, 24.0, 720
_TEXT, _HEAT = 0, 1

# How much attention a token gets depends on its place in its block, whatever it says: the usual attention is therefore
# learned for each of these parts of a block.
_PROFILE_BINS = 32
_PRIOR_BLOCKS = 2.0  # blocks of even attention that the profile starts from
_FLOOR = 1e-3


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


@dataclass(frozen=True)
class ShownText:
    """A document that a report shows.

    size: its source bytes, as far as it was read. pieces: gives its text, in order. heat: gives rows of `HEAT`.
    """

    name: str
    size: int
    pieces: Callable[[], Iterator[Piece]]
    heat: Callable[[], Iterator[NDArray[np.void]]] = lambda: iter(())


class Recorder:
    """Keeps the text that is read and the heat of its tokens. Nothing of it stays in memory.

    A pipe comes only once, and a report is written after the reading. A context manager: its files are temporary.
    """

    def __init__(self) -> None:
        # One file of text and one of heat for all sources: with a file for each, a few hundred sources would need more
        # than a process may open. Values are written in the order of the sources.
        self._files = [tempfile.TemporaryFile() for _ in (_TEXT, _HEAT)]  # noqa: SIM115 (closed by `__exit__`)
        self._places: tuple[dict[int, int], dict[int, int]] = ({}, {})  # where the values of a source begin
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._histogram = np.zeros(_BINS, np.int64)
        self._profile = AttentionProfile()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            # On a full disk closing fails too, which matters to nobody any more.
            with suppress(OSError):
                file.close()

    @property
    def texts(self) -> list[ShownText]:
        return [
            ShownText(name, size, partial(self._kept, _TEXT, number), partial(self._kept, _HEAT, number))
            for number, (name, size) in enumerate(zip(self._names, self._sizes, strict=True))
        ]

    def record(self, event: Event, block_size: int) -> None:
        """Keep what an event of a `Reader` shows of the source that it is about.

        The heat of its tokens is the memory's attention to them, or with `score` how surprising they were.
        """
        if isinstance(event, SourceStart):
            self.begin(event.source.name)
        elif isinstance(event, TextEvent):
            self.see(event.piece)
        elif isinstance(event, BlockEvent):
            heat = None if event.nll is None else event.nll.numpy().astype(float)
            # Attention is known where a block closes: what a source has of a block that ends in the next source stays
            # without colour.
            if event.attention is not None:
                attention = event.attention.numpy().astype(float)
                heat = self._profile.salience(attention, block_size - event.num_tokens, block_size)
            if heat is not None:
                self.heat(len(self._names) - 1, event.token_starts, event.token_ends, heat)

    def begin(self, name: str) -> None:
        self._names.append(name)
        self._sizes.append(0)

    def see(self, piece: Piece) -> None:
        self._sizes[-1] = piece.end
        self._keep(_TEXT, len(self._names) - 1, replace(piece, raw=b""))

    def heat(
        self, source: int, starts: NDArray[np.int64], ends: NDArray[np.int64], values: NDArray[np.float64]
    ) -> None:
        """The next tokens of a source [n] and their heat, sources in their order; NaN where it is unknown."""
        known = values[~np.isnan(values)]
        self._histogram += np.histogram(np.clip(known, _LOWEST, _HIGHEST), _BINS, (_LOWEST, _HIGHEST))[0]
        rows = np.empty(len(starts), HEAT)
        rows["start"], rows["end"], rows["value"] = starts, ends, values
        self._keep(_HEAT, source, rows)

    def thresholds(self, shares: tuple[float, ...]) -> NDArray[np.float64]:
        """The values that these shares of all heat lie below, so that colours go by rank; none where there is none."""
        total = self._histogram.sum()
        if not total:
            return np.empty(0)
        edges = np.linspace(_LOWEST, _HIGHEST, _BINS + 1)[1:]
        places = np.searchsorted(np.cumsum(self._histogram) / total, np.asarray(shares))
        return np.asarray(edges[np.minimum(places, _BINS - 1)])

    def _keep(self, kind: int, source: int, value: Any) -> None:
        file = self._files[kind]
        self._places[kind].setdefault(source, file.seek(0, 2))
        # Pickles are safe here: nobody else can write these files.
        pickle.dump((source, value), file, pickle.HIGHEST_PROTOCOL)

    def _kept(self, kind: int, source: int) -> Iterator[Any]:
        file, place = self._files[kind], self._places[kind].get(source)
        end = file.seek(0, 2)
        while place is not None and place < end:
            file.seek(place)  # something else may have been read in between
            found, value = pickle.load(file)
            place = file.tell()
            if found != source:
                return
            yield value
