"""A summary as text: in lines with places, as a paragraph, as an outline, as Markdown, or as a report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from famcli.tasks.report.page import Cited, Item, Report
from famcli.tasks.summarize.summary_result import Quote, SummaryResult

TextFormat = Literal["bullets", "paragraph", "outline", "markdown"]
NOTHING = "The input has no sentence to quote."
_ITEM_MARK = re.compile(r"(?:[*+\u2022\u2043>-]|\(?\d{1,3}[.)]) (?=\S)")
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>#|"})


def format_summary(result: SummaryResult, form: TextFormat) -> Iterator[tuple[str, str]]:
    """The summary in lines, each in two parts: a place or a mark (may be empty), and the text.

    bullets: `line 12: A sentence.` paragraph: all sentences in a row, numbered, then their places. outline: headings
    with their sentences below them. markdown: the same in Markdown, with places behind the sentences.
    """
    if result.text is not None:
        yield from _written(result, form)
    elif not result.sentences:
        yield "", NOTHING
    elif form == "paragraph":
        yield from _paragraphs(result)
    elif form == "markdown":
        yield from _markdown(result)
    else:
        yield from _bullets(result, indented=form == "outline")


def place_of(quote: Quote, with_source: bool) -> str:
    """`line 12`, `page 3, line 120`, `book.txt, line 12`."""
    page = "" if quote.page is None else f"page {quote.page:,}, "
    place = f"{page}line {quote.line:,}"
    return f"{quote.source}, {place}" if with_source else place


def one_line(text: str) -> str:
    """A quote for display: line breaks and runs of blanks as one blank, without the mark of a list's item."""
    line = " ".join(text.split())
    mark = _ITEM_MARK.match(line)
    return line if mark is None else line[mark.end() :]


def report_of(result: SummaryResult, title: str, facts: tuple[str, ...]) -> Report:
    """The summary as a report: what was written or chosen, with citations of each sentence's place."""
    several = _several(result)
    places = tuple(Cited(q.source, q.span, place_of(q, several), one_line(q.text)) for q in result.sentences)
    items: list[Item] = []
    if result.text is not None:
        parts = [part.strip() for part in result.text.split("\n\n") if part.strip()]
        items += [Item(part) for part in parts]
        cited = result.cited or tuple(range(1, len(places) + 1))
        items += [Item("", cited, heading="Quotes", quotes=True)] if cited else []
    elif result.sections:
        for section in result.sections:
            headings = [section.title, *[None] * len(section.sentences)]
            items += [
                Item(places[number].text, (number + 1,), heading)
                for number, heading in zip(section.sentences, headings, strict=False)
            ]
    else:
        items += [Item(cited.text, (number,)) for number, cited in enumerate(places, start=1)]
    words = {"attention": "the memory's attention to each word", "surprise": "how surprising each word was"}
    return Report(title, facts, tuple(items) or (Item(NOTHING),), places, heat=words[result.signal])


def _several(result: SummaryResult) -> bool:
    return len(result.counts.sources) > 1


def _bullets(result: SummaryResult, indented: bool) -> Iterator[tuple[str, str]]:
    several = _several(result)
    levels = sorted({section.level for section in result.sections})
    indents = {level: 2 * number for number, level in enumerate(levels)} if indented else {}
    if not result.sections:
        for quote in result.sentences:
            yield f"{place_of(quote, several)}: ", one_line(quote.text)
    for number, section in enumerate(result.sections):
        if number and not indented:
            yield "", ""
        indent = " " * indents.get(section.level, 0)
        yield f"{indent}{section.title}", ""
        for quote in (result.sentences[index] for index in section.sentences):
            mark = "  " if indented else ""
            yield f"{indent}{mark}{place_of(quote, several)}: ", one_line(quote.text)


def _paragraphs(result: SummaryResult) -> Iterator[tuple[str, str]]:
    numbered = [f"{one_line(quote.text)} [{number}]" for number, quote in enumerate(result.sentences, start=1)]
    if not result.sections:
        yield "", " ".join(numbered)
        yield "", ""
    for section in result.sections:
        yield section.title, ""
        yield "", " ".join(numbered[index] for index in section.sentences)
        yield "", ""
    yield from _places(result, tuple(range(1, len(result.sentences) + 1)))


def _places(result: SummaryResult, numbers: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    several = _several(result)
    places = "; ".join(f"[{number}] {place_of(result.sentences[number - 1], several)}" for number in numbers)
    if places:
        yield "", places


def _markdown(result: SummaryResult) -> Iterator[tuple[str, str]]:
    several = _several(result)

    def bullet(quote: Quote) -> tuple[str, str]:
        return "- ", f"{one_line(quote.text).translate(_MARKDOWN)} *({place_of(quote, several).translate(_MARKDOWN)})*"

    if not result.sections:
        yield from map(bullet, result.sentences)
    for number, section in enumerate(result.sections):
        if number:
            yield "", ""
        yield f"{'#' * min(6, section.level + 1)} ", section.title.translate(_MARKDOWN)
        yield "", ""
        yield from (bullet(result.sentences[index]) for index in section.sentences)


def _written(result: SummaryResult, form: TextFormat) -> Iterator[tuple[str, str]]:
    assert result.text is not None
    for line in result.text.splitlines():
        yield "", line
    several, is_markdown = _several(result), form == "markdown"
    if result.cited:
        yield "", ""
    for number in result.cited:
        quote = result.sentences[number - 1]
        mark = f"[{number}] {place_of(quote, several)}: "
        text = one_line(quote.text)
        yield ("> " + mark.translate(_MARKDOWN), text.translate(_MARKDOWN)) if is_markdown else (mark, text)
