"""The report: one HTML file that needs nothing else, written as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from famcli.documents.writing import atomic_file, check_page
from famcli.errors import UsageError
from famcli.tasks.report.document_html import safe, text_html
from famcli.tasks.report.heat import LEVELS
from famcli.tasks.report.record import Recorder, ShownText


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
    """Write the report to `path`, as a whole or not at all. Raises UsageError where that is not possible.

    recorder: has the heat of the words of `texts`.
    """
    target = Path(path)
    check_page(target)
    thresholds = None if recorder is None else recorder.thresholds(LEVELS)
    try:
        with atomic_file(target) as beside, beside.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(report_html(report, texts, thresholds))
    except OSError as error:
        raise UsageError(f"cannot write the report to {target}: {error.strerror}; name another file") from error


def report_html(
    report: Report, texts: Sequence[ShownText], thresholds: NDArray[np.float64] | None = None
) -> Iterator[str]:
    """The page in parts, from top to bottom. thresholds: the least heat of each colour; none for no colours."""
    limits = np.empty(0) if thresholds is None else thresholds
    page = files("famcli.tasks.report").joinpath("page.html").read_text(encoding="utf-8")
    before, after = page.split("{body}")
    yield before.replace("{title}", safe(report.title))
    yield f"<header><h1>{safe(report.title)}</h1>"
    yield "".join(f"<p>{safe(fact)}</p>" for fact in report.facts)
    if report.heat is not None and len(limits):
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
        yield from text_html(text, marks, limits)
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
