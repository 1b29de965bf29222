"""A document as HTML, in one pass: citations where they stand, and the heat of its words as their background."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise, tee

import numpy as np
from numpy.typing import NDArray

from famcli.documents.source import Piece
from famcli.tasks.report.heat import colour_levels, heat_of_characters
from famcli.tasks.report.record import ShownText

SHOWN_WHOLE = 4_000_000
"""Source bytes up to which a document is shown as a whole; of a longer one, what surrounds its citations."""

AROUND = 4_000
"""Source bytes shown before and after each citation of a longer document."""

Mark = tuple[int, tuple[int, int]]
"""A cited place: its number, from 1, and its source bytes."""

# What would move the cursor, ring a bell or turn the writing direction of the page around it.
_HARMFUL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CHUNK = 1 << 16  # characters


def safe(text: str) -> str:
    """Text as HTML; control characters and marks that turn the writing direction are shown as U+FFFD."""
    return escape(_HARMFUL.sub("\ufffd", text))


def text_html(text: ShownText, marks: Sequence[Mark], thresholds: NDArray[np.float64]) -> Iterator[str]:
    """The document in pieces of HTML. Each mark has the id `c` + number; what is left out is said where it is."""
    marks = sorted(marks, key=lambda mark: mark[1])
    # Text and heat are gone through side by side, so that neither is held as a whole.
    hidden = 0
    chunks, again = tee(_chunks(text.pieces()))
    heat = heat_of_characters((offsets for _, offsets in again), text.heat())
    for (chunk, offsets), values in zip(chunks, heat, strict=True):
        for first, last, is_shown in _stretches(text.size, marks, offsets):
            if not is_shown:
                hidden += int(offsets[last] - offsets[first])
                continue
            if hidden:
                yield _left_out(hidden)
                hidden = 0
            part, levels = chunk[first:last], colour_levels(chunk[first:last], values[first:last], thresholds)
            yield "".join(_part_html(part, offsets[first : last + 1], marks, levels))
    if hidden:
        yield _left_out(hidden)


def _chunks(pieces: Iterator[Piece]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """The text in parts, each with the source bytes of its characters and of its end [n + 1].

    A pipe may bring a few characters at a time: they are joined, so that words stay whole.
    """
    held, length = list[Piece](), 0
    for piece in pieces:
        held.append(piece)
        length += len(piece.text)
        if length >= _CHUNK:
            yield _joined(held)
            held, length = [], 0
    if held:
        yield _joined(held)


def _joined(pieces: list[Piece]) -> tuple[str, NDArray[np.int64]]:
    offsets = [piece.char_offsets()[:-1] for piece in pieces]
    return "".join(piece.text for piece in pieces), np.concatenate([*offsets, [pieces[-1].end]])


def _stretches(size: int, marks: Sequence[Mark], offsets: NDArray[np.int64]) -> Iterator[tuple[int, int, bool]]:
    """Stretches of the characters at `offsets`, each shown as a whole or not at all. size: of the whole document."""
    shown = np.full(len(offsets) - 1, size <= SHOWN_WHOLE)
    if size > SHOWN_WHOLE:
        for start, end in [(0, AROUND), *((start - AROUND, end + AROUND) for _, (start, end) in marks)]:
            first, last = np.searchsorted(offsets[:-1], (start, end))
            shown[first:last] = True
    for first, last in pairwise(sorted({0, len(shown), *(np.flatnonzero(np.diff(shown)) + 1).tolist()})):
        yield first, last, bool(shown[first])


def _part_html(
    text: str, offsets: NDArray[np.int64], marks: Sequence[Mark], levels: NDArray[np.int64]
) -> Iterator[str]:
    """Runs of characters with the same colour, cited or not."""
    cited = np.zeros(len(text), bool)
    labels: dict[int, list[int]] = {}
    for number, span in marks:
        first, last = np.searchsorted(offsets[:-1], span)
        cited[first:last] = True
        if offsets[0] <= span[0] < offsets[-1]:
            labels.setdefault(int(first), []).append(number)
    look = levels * 2 + cited
    cuts = sorted({0, len(text), *labels, *(np.flatnonzero(np.diff(look)) + 1).tolist()})
    for first, last in pairwise(cuts):
        for number in labels.get(first, []):
            yield f'<a id="c{number}" class="n" href="#s{number}">{number}</a>'
        names = [f"h{levels[first]}"] * bool(levels[first]) + ["cited"] * bool(cited[first])
        words = safe(text[first:last])
        yield f'<span class="{" ".join(names)}">{words}</span>' if names else words


def _left_out(num_bytes: int) -> str:
    return f'<p class="gap">{num_bytes:,} bytes of the text are not shown here</p>'
