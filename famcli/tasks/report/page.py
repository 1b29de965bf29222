"""The report: one HTML file that needs nothing else, written as a stream.

It shows the result and, in one pass over each document, the text around the citations, with the heat of its words as
their background.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import pairwise, tee
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from famcli.documents.source import Piece
from famcli.documents.writing import atomic_file, check_page
from famcli.errors import DocumentError
from famcli.tasks.report.record import HEAT, Recorder, ShownText

LEVELS = (0.5, 0.65, 0.78, 0.88, 0.95)
"""Shares of tokens below which a word has no colour, the first colour, and so on."""

SHOWN_WHOLE = 4_000_000
"""Source bytes up to which a document is shown as a whole; of a longer one, what surrounds its citations."""

AROUND = 4_000
"""Source bytes shown before and after each citation of a longer document."""

Mark = tuple[int, tuple[int, int]]
"""A cited place: its number, from 1, and its source bytes."""

# What would move the cursor, ring a bell or turn the writing direction of the page around it.
_HARMFUL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CHUNK = 1 << 16  # characters
_WORD = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True)
class Cited:
    """A place of a document that the result rests on.

    source: its name. span: source bytes. label: the place as a person would name it ("line 12"). text: what it holds.
    """

    source: str
    span: tuple[int, int]
    label: str
    text: str


@dataclass(frozen=True)
class Item:
    """A part of the result.

    cited: numbers of the places it rests on, from 1. heading: shown above it. quotes: show each place's text below it.
    """

    text: str
    cited: tuple[int, ...] = ()
    heading: str | None = None
    quotes: bool = False


@dataclass(frozen=True)
class Report:
    """What the page shows. facts: lines below the title. heat: what the background of words means; None for none."""

    title: str
    facts: tuple[str, ...]
    items: tuple[Item, ...]
    cited: tuple[Cited, ...]
    heat: str | None = None


def write_report(
    path: str | PathLike[str], report: Report, texts: Sequence[ShownText], recorder: Recorder | None = None
) -> None:
    """Write the report to `path`, as a whole or not at all, readable by its owner only: it holds the text.

    Raises UsageError where something else is there, DocumentError where it cannot be written.

    recorder: has the heat of the words of `texts`.
    """
    target = Path(path)
    check_page(target)
    thresholds = np.empty(0) if recorder is None else recorder.thresholds(LEVELS)
    try:
        with atomic_file(target, private=True) as beside, beside.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(report_html(report, texts, thresholds))
    except OSError as error:
        raise DocumentError(
            f"cannot write the report to {target}: {error.strerror}; make room, or name another file"
        ) from error


def report_html(report: Report, texts: Sequence[ShownText], thresholds: NDArray[np.float64]) -> Iterator[str]:
    """The page in parts, from top to bottom. thresholds: the least heat of each colour; empty for no colours."""
    page = files("famcli.tasks.report").joinpath("page.html").read_text(encoding="utf-8")
    before, after = page.split("{body}")
    yield before.replace("{title}", safe(report.title))
    yield f"<header><h1>{safe(report.title)}</h1>"
    yield "".join(f"<p>{safe(fact)}</p>" for fact in report.facts)
    if report.heat is not None and len(thresholds):
        scale = "".join(f'<i class="h{level}">&nbsp;</i>' for level in range(1, len(LEVELS) + 1))
        yield f'<p><label><input type="checkbox" id="heat" checked> {scale} {safe(report.heat)}</label></p>'
    yield "</header><main><section id='result' aria-label='Result'>"
    yield _strip(report, texts)
    for item in report.items:
        yield _item(item, report.cited)
    yield "</section><section id='text' aria-label='Text'>"
    waiting = dict(enumerate(report.cited, start=1))
    for text in texts:
        # A source may be given twice; its citations are marked where it is shown first.
        marks = [(number, cited.span) for number, cited in waiting.items() if cited.source == text.name]
        waiting = {number: cited for number, cited in waiting.items() if cited.source != text.name}
        yield f"<article><h2>{safe(text.name)}</h2><div class='doc' dir='auto'>"
        yield from text_html(text, marks, thresholds)
        yield "</div></article>"
    yield "</section></main>" + after


def _strip(report: Report, texts: Sequence[ShownText]) -> str:
    """Where in the documents the cited places are, from left to right."""
    before, total = dict[str, int](), 0
    for text in texts:
        before.setdefault(text.name, total)
        total += text.size
    if not total or not report.cited:
        return ""
    ticks = "".join(
        f'<a href="#c{number}" title="{safe(cited.label)}" '
        f'style="left:{100 * (before.get(cited.source, 0) + cited.span[0]) / total:.2f}%"></a>'
        for number, cited in enumerate(report.cited, start=1)
    )
    return f"<div class='strip' aria-label='Places in the text'>{ticks}</div>"


def _item(item: Item, places: Sequence[Cited]) -> str:
    parts = [f"<h3>{safe(item.heading)}</h3>"] if item.heading is not None else []
    links = "".join(
        f' <a class="n" id="s{number}" href="#c{number}" title="{safe(places[number - 1].label)}">{number}</a>'
        for number in item.cited
    )
    parts.append(f"<p class='item' dir='auto'>{safe(item.text)}{links}</p>")
    for number in item.cited if item.quotes else ():
        cited = places[number - 1]
        parts.append(
            f'<blockquote dir="auto">{safe(cited.text)} <a href="#c{number}">{safe(cited.label)}</a></blockquote>'
        )
    return "".join(parts)


# -------------------------------------------------------------------------------------------------------- one document


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
