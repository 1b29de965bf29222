"""A document as HTML, in one pass: citations where they stand, and the heat of its words as their background."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SHOWN_WHOLE = 4_000_000
"""Source bytes up to which a document is shown as a whole; of a longer one, what surrounds its citations."""

AROUND = 4_000
"""Source bytes shown before and after each citation of a longer document."""

LEVELS = (0.5, 0.65, 0.78, 0.88, 0.95)
"""Shares of words below which there is no colour, the first colour, and so on."""

_WORD = re.compile(r"\S+\s*|\s+")
_HARMFUL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Text(Protocol):
    """A source that can be shown: see `record.RecordedText` and `record.FileText`."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def chunks(self) -> Iterator[tuple[str, NDArray[np.int64]]]: ...

    def hot(self) -> Iterator[NDArray[np.void]]: ...


@dataclass(frozen=True)
class Mark:
    """A cited place. number: from 1, as it is shown. span: source bytes."""

    number: int
    span: tuple[int, int]


def text_html(text: Text, marks: Sequence[Mark], thresholds: NDArray[np.float64]) -> Iterator[str]:
    """The document in pieces of HTML. Each mark has the id `c` + number; what is left out is said where it is."""
    marks = sorted(marks, key=lambda mark: mark.span)
    heat, shown = _HotTokens(text.hot()), _shown(text.size, marks)
    hidden = 0
    for chunk, offsets in text.chunks():
        for first, last, is_shown in _stretches(offsets, shown):
            if not is_shown:
                hidden += int(offsets[last] - offsets[first])
                continue
            if hidden:
                yield _left_out(hidden)
                hidden = 0
            part, places = chunk[first:last], offsets[first : last + 1]
            yield "".join(_part_html(part, places, marks, heat.of(places), thresholds))
    if hidden:
        yield _left_out(hidden)


def safe(text: str) -> str:
    """Text as HTML; control characters and marks that turn the writing direction are shown as U+FFFD."""
    return escape(_HARMFUL.sub("\ufffd", text))


class _HotTokens:
    """The heat of characters, asked for from the beginning to the end."""

    def __init__(self, rows: Iterator[NDArray[np.void]]) -> None:
        self._rows, self._held = rows, np.empty(0, np.dtype([("start", "<i8"), ("end", "<i8"), ("value", "<f4")]))

    def of(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """For characters at these source bytes [n + 1]: values [n], NaN where there are none."""
        held = self._held[self._held["end"] > places[0]]
        while not len(held) or held["end"][-1] < places[-1]:
            more = next(self._rows, None)
            if more is None:
                break
            held = np.concatenate((held, more[more["end"] > places[0]]))
        self._held = held
        if not len(held):
            return np.full(len(places) - 1, np.nan)
        index = np.minimum(np.searchsorted(held["end"], places[:-1], side="right"), len(held) - 1)
        inside = (held["start"][index] <= places[:-1]) & (places[:-1] < held["end"][index])
        return np.where(inside, held["value"][index].astype(np.float64), np.nan)


def _shown(size: int, marks: Sequence[Mark]) -> list[tuple[int, int]] | None:
    """Which source bytes are shown, as ranges that do not touch; None for all."""
    if size <= SHOWN_WHOLE:
        return None
    ranges: list[tuple[int, int]] = []
    for start, end in [(0, AROUND), *((mark.span[0] - AROUND, mark.span[1] + AROUND) for mark in marks)]:
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], end))
        else:
            ranges.append((start, end))
    return ranges


def _stretches(offsets: NDArray[np.int64], shown: list[tuple[int, int]] | None) -> Iterator[tuple[int, int, bool]]:
    """Stretches of the characters at `offsets`, each shown as a whole or not at all."""
    count = len(offsets) - 1
    if shown is None:
        yield 0, count, True
        return
    at = 0
    for start, end in shown:
        first = min(max(int(np.searchsorted(offsets[:-1], start)), at), count)
        last = min(max(int(np.searchsorted(offsets[:-1], end)), first), count)
        if first > at:
            yield at, first, False
        if last > first:
            yield first, last, True
        at = max(at, last)
    if at < count:
        yield at, count, False


def _part_html(
    text: str,
    places: NDArray[np.int64],
    marks: Sequence[Mark],
    heat: NDArray[np.float64],
    thresholds: NDArray[np.float64],
) -> Iterator[str]:
    """Runs of one look each: as hot as their words on average, cited or not."""
    levels = _levels(text, heat, thresholds)
    cited = np.zeros(len(text), bool)
    labels: dict[int, list[int]] = {}
    for mark in marks:
        first, last = np.searchsorted(places[:-1], mark.span)
        cited[first:last] = True
        if places[0] <= mark.span[0] < places[-1]:
            labels.setdefault(int(first), []).append(mark.number)
    look = levels * 2 + cited
    cuts = sorted({0, len(text), *labels, *(np.flatnonzero(np.diff(look)) + 1).tolist()})
    for first, last in pairwise(cuts):
        for number in labels.get(first, []):
            yield f'<a id="c{number}" class="n" href="#s{number}">{number}</a>'
        names = [f"h{levels[first]}"] * bool(levels[first]) + ["cited"] * bool(cited[first])
        words = safe(text[first:last])
        yield f'<span class="{" ".join(names)}">{words}</span>' if names else words


def _levels(text: str, heat: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    levels = np.zeros(len(text), np.int64)
    if not len(thresholds) or np.isnan(heat).all():
        return levels
    for word in _WORD.finditer(text):
        values = heat[word.start() : word.end()]
        values = values[~np.isnan(values)]
        if len(values):
            levels[word.start() : word.end()] = np.searchsorted(thresholds, values.mean())
    return levels


def _left_out(num_bytes: int) -> str:
    return f'<p class="gap">{num_bytes:,} bytes of the text are not shown here</p>'
