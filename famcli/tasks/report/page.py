"""The report: one HTML file that needs nothing else, written as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from famcli.documents.target import check_page, replacing
from famcli.errors import UsageError
from famcli.tasks.report.document_html import LEVELS, Mark, Text, safe, text_html
from famcli.tasks.report.heat import Heat


@dataclass(frozen=True)
class Cited:
    """A place of a document that the result rests on. source: its name. span: source bytes. label: as a person would
    name the place ("line 12"). text: what stands there."""

    source: str
    span: tuple[int, int]
    label: str
    text: str


@dataclass(frozen=True)
class Item:
    """A part of the result. heading: shown above it. text: shown as it is. cited: numbers of the places it rests on,
    from 1. quotes: whether each place's text is shown below it."""

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
    path: str | PathLike[str], report: Report, texts: Sequence[Text], histogram: Heat | None = None
) -> None:
    """Write the report to `path`, as a whole or not at all. Raises UsageError where that is not possible."""
    target = Path(path)
    check_page(target)
    try:
        with replacing(target) as beside:
            with beside.open("w", encoding="utf-8", newline="\n") as file:
                for part in report_html(report, texts, histogram):
                    file.write(part)
            beside.chmod(0o644)
    except OSError as error:
        raise UsageError(f"cannot write the report to {target}: {error.strerror}; name another file") from error


def report_html(report: Report, texts: Sequence[Text], histogram: Heat | None = None) -> Iterator[str]:
    """The page in parts, from top to bottom."""
    thresholds = np.empty(0) if histogram is None else histogram.thresholds(LEVELS)
    yield _HEAD.replace("{title}", safe(report.title)).replace("{style}", _STYLE)
    yield f"<header><h1>{safe(report.title)}</h1>"
    yield "".join(f"<p>{safe(fact)}</p>" for fact in report.facts)
    if report.heat is not None and len(thresholds):
        scale = "".join(f'<i class="h{level}">&nbsp;</i>' for level in range(1, len(LEVELS) + 1))
        yield f'<p><label><input type="checkbox" id="heat" checked> {scale} {safe(report.heat)}</label></p>'
    yield "</header><main><section id='result' aria-label='Result'>"
    yield from _strip(report, texts)
    for item in report.items:
        yield _item(item, report.cited)
    yield "</section><section id='text' aria-label='Text'>"
    taken: set[int] = set()
    for text in texts:
        marks = [
            Mark(number, cited.span)
            for number, cited in enumerate(report.cited, start=1)
            if cited.source == text.name and number not in taken
        ]
        taken |= {mark.number for mark in marks}
        yield f"<article><h2>{safe(text.name)}</h2><div class='doc' dir='auto'>"
        yield from text_html(text, marks, thresholds)
        yield "</div></article>"
    yield f"</section></main><script>{_SCRIPT}</script></body></html>\n"


def _strip(report: Report, texts: Sequence[Text]) -> Iterator[str]:
    """Where in the documents the cited places are, from left to right."""
    before, total = dict[str, int](), 0
    for text in texts:
        before.setdefault(text.name, total)
        total += text.size
    if total and report.cited:
        ticks = "".join(
            f'<a href="#c{number}" title="{safe(cited.label)}" '
            f'style="left:{100 * (before.get(cited.source, 0) + cited.span[0]) / total:.2f}%"></a>'
            for number, cited in enumerate(report.cited, start=1)
        )
        yield f"<div class='strip' aria-label='Places in the text'>{ticks}</div>"


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


_HEAD = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'"><title>{title}</title><style>{style}</style></head><body>
"""
_STYLE = """
:root{color-scheme:light dark;--heat:255,150,0;--line:#8884;--cited:#2a6df433}
body{margin:0;font:16px/1.55 Georgia,serif;display:flex;flex-direction:column;height:100vh}
header{padding:.6rem 1rem;border-bottom:1px solid var(--line);font-family:system-ui,sans-serif;font-size:.85rem}
header h1{font-size:1.1rem;margin:0 0 .2rem}header p{margin:.1rem 0;opacity:.8}header i{display:inline-block;width:1em}
main{flex:1;display:grid;grid-template-columns:minmax(18rem,2fr) 3fr;min-height:0}
main>section{overflow-y:auto;padding:1rem 1.4rem;scroll-behavior:smooth}#text{border-left:1px solid var(--line)}
h2,h3{font:600 .9rem system-ui,sans-serif;overflow-wrap:anywhere}.doc{white-space:pre-wrap;overflow-wrap:anywhere}
blockquote{margin:.4rem 0 .8rem;padding-left:.8rem;border-left:3px solid var(--line);font-size:.92em}
.n{font:600 .7rem system-ui,sans-serif;vertical-align:super;text-decoration:none;padding:0 .25em;border-radius:.6em;
background:#2a6df4;color:#fff;scroll-margin:30vh}.n:target{background:#d81b60;outline:3px solid #d81b6066}
.cited{text-decoration:underline 2px #2a6df4;text-underline-offset:3px}
.gap{opacity:.6;text-align:center;font-style:italic}
.strip{position:relative;height:.9rem;background:var(--line);border-radius:.4rem;margin-bottom:1rem}
.strip a{position:absolute;top:0;bottom:0;width:3px;background:#2a6df4}
.h1{background:rgba(var(--heat),.12)}.h2{background:rgba(var(--heat),.25)}.h3{background:rgba(var(--heat),.4)}
.h4{background:rgba(var(--heat),.6)}.h5{background:rgba(var(--heat),.85)}body.cold .doc span{background:none}
@media(max-width:50rem){body{height:auto}main{display:block}#text{border-left:0;border-top:1px solid var(--line)}}
@media print{body{height:auto}main{display:block}main>section{overflow:visible}}
"""
_SCRIPT = """
const box=document.getElementById("heat");
if(box)box.onchange=()=>document.body.classList.toggle("cold",!box.checked);
"""
