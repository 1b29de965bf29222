"""A summary as text (lines with places, a paragraph, an outline, Markdown) or as a report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Literal

from famcli.plain import plural
from famcli.tasks.report.page import Cited, Item, Report
from famcli.tasks.summarize.summary_result import (
    Fact,
    LogSummary,
    Quote,
    SummaryResult,
    TableColumn,
    TableSummary,
    WrittenSummary,
)
from famcli.text.markup import QUOTED, without_marks

TextFormat = Literal["bullets", "paragraph", "outline", "markdown"]
_FIRST_YEAR, _LAST_YEAR = 1000, 2100
NOTHING = "The input has no sentence to quote."
# A list item's own mark would stand in the middle of a line here; the quote's text in the result keeps it.
_ITEM_MARK = re.compile(r"(?:>[> ]*|[*+\u2022\u2043-] |\(?\d{1,3}[.)] )(?=\S)")
_QUOTED = re.compile(rf"^{QUOTED.pattern}", re.MULTILINE)
_BULLET = re.compile(r"(\S)[ \t]*\n\s*[*+\u2022\u2043-][ \t]+(?=\S)")
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>#|"})


def format_summary(result: SummaryResult, form: TextFormat) -> Iterator[tuple[str, str]]:
    """The summary in lines, each in two parts: a place or a mark (may be empty), and the text.

    bullets: `line 12: A sentence.` paragraph: all sentences in a row, numbered, then their places. outline: headings
    with their sentences below them. markdown: the same in Markdown, with places behind the sentences.
    """
    if form != "paragraph":
        yield from format_facts(_new_facts(result), form)
    if result.log is not None:
        yield from _log(result, result.log, form)
        num_text = len(result.sentences) - len(result.log.kinds)
        if not num_text:
            return
        yield "", ""
        result = replace(result, sentences=result.sentences[:num_text])
    if result.table is not None:
        yield from (("", line) for line in _table(result.table))
        if not result.sentences:
            return
        yield "", ""
    if result.written is not None:
        yield from _written(result, result.written, form)
    elif not result.sentences:
        yield "", NOTHING
    elif form == "paragraph":
        yield from _paragraphs(result)
    elif form == "markdown":
        yield from _markdown(result)
    else:
        yield from _bullets(result, indented=form == "outline" or result.kind not in ("prose", "log", "table"))


def report_of(result: SummaryResult, title: str, facts: tuple[str, ...], heat: str) -> Report:
    """The summary as a report: what was written or chosen, each sentence with its place. heat: what colours mean."""
    cited = tuple(Cited(q.source, q.span, _place(result, q), _one_line(q.text)) for q in result.sentences)
    return Report(title, facts, tuple(_items(result, cited)) or (Item(NOTHING),), cited, heat=heat)


def _items(result: SummaryResult, cited: tuple[Cited, ...]) -> Iterator[Item]:
    yield from (Item(fact.text, heading=fact.label) for fact in result.facts)
    if result.written is not None:
        paragraphs = map(str.strip, result.written.text.split("\n\n"))
        yield from (Item(paragraph) for paragraph in paragraphs if paragraph)
        if numbers := tuple(range(1, len(cited) + 1)):
            yield Item("", numbers, heading="Quotes", quotes=True)
        return
    if result.table is not None:
        yield from (Item(line) for line in _table(result.table))
    # A section's title stands above its first sentence.
    titles = {section.sentences[0]: section.title for section in result.sections}
    for number, one in enumerate(cited, start=1):
        yield Item(one.text, (number,), titles.get(number - 1))


def _place(result: SummaryResult, quote: Quote) -> str:
    """`line 12`, `page 3, line 120`, `"A chapter", line 120`; with several sources `book.txt, line 12`."""
    page = "" if quote.page is None else f"page {quote.page:,}, "
    location, place = quote.location, f"{page}line {quote.line:,}"
    if location is not None:
        # A chapter is long: its lines are those of the text that was made of the document.
        place = f"{location.label}, {place}" if location.kind == "section" else location.label
    return f"{quote.source}, {place}" if len(result.counts.sources) > 1 else place


def _one_line(text: str) -> str:
    """A quote for display: line breaks and runs of blanks as one blank, without the mark of a list's item and what
    `without_marks` removes."""
    unquoted = _QUOTED.sub("", without_marks(text))
    line = " ".join(_BULLET.sub(_between_items, unquoted).split())
    mark = _ITEM_MARK.match(line)
    return line if mark is None else line[mark.end() :]


def _between_items(found: re.Match[str]) -> str:
    return f"{found[1]} " if found[1] in ".:;,!?" else f"{found[1]}; "


def _bullets(result: SummaryResult, indented: bool) -> Iterator[tuple[str, str]]:
    levels = sorted({section.level for section in result.sections})
    indents = {level: "  " * depth if indented else "" for depth, level in enumerate(levels)}
    mark = "  " if indented else ""
    if not result.sections:
        for quote in result.sentences:
            yield f"{_place(result, quote)}: ", _one_line(quote.text)
    for number, section in enumerate(result.sections):
        if number and not indented:
            yield "", ""
        indent = indents[section.level]
        yield f"{indent}{section.title}", ""
        for quote in (result.sentences[index] for index in section.sentences):
            yield f"{indent}{mark}{_place(result, quote)}: ", _one_line(quote.text)


def _paragraphs(result: SummaryResult) -> Iterator[tuple[str, str]]:
    numbered = [f"{_one_line(quote.text)} [{number}]" for number, quote in enumerate(result.sentences, start=1)]
    everything = ("", tuple(range(len(numbered))))
    sections = [(section.title, section.sentences) for section in result.sections] or [everything]
    for title, indices in sections:
        if title:
            yield title, ""
        yield "", " ".join(numbered[index] for index in indices)
        yield "", ""
    yield "", "; ".join(f"[{n}] {_place(result, quote)}" for n, quote in enumerate(result.sentences, start=1))


def _markdown(result: SummaryResult) -> Iterator[tuple[str, str]]:
    def bullets(quotes: Iterable[Quote]) -> Iterator[tuple[str, str]]:
        for quote in quotes:
            place = _place(result, quote).translate(_MARKDOWN)
            yield "- ", f"{_one_line(quote.text).translate(_MARKDOWN)} *({place})*"

    if not result.sections:
        yield from bullets(result.sentences)
    for number, section in enumerate(result.sections):
        if number:
            yield "", ""
        yield f"{'#' * min(6, section.level + 1)} ", section.title.translate(_MARKDOWN)
        yield "", ""
        yield from bullets(result.sentences[index] for index in section.sentences)


def format_facts(facts: Iterable[Fact], form: TextFormat) -> Iterator[tuple[str, str]]:
    """What the document is, a line each, and an empty one below."""
    shown = tuple(facts)
    for fact in shown:
        if form == "markdown":
            yield f"**{fact.label}:** ", fact.text.translate(_MARKDOWN)
        else:
            yield f"{fact.label}: ", fact.text
        if form == "markdown" or fact is shown[-1]:
            yield "", ""


def _new_facts(result: SummaryResult) -> Iterator[Fact]:
    """All but those whose every word is a heading below them: a title, and the names of a few parts."""
    below = "\n".join(section.title for section in result.sections)
    return (fact for fact in result.facts if not all(part in below for part in fact.text.split("; ")))


def _log(result: SummaryResult, log: LogSummary, form: TextFormat) -> Iterator[tuple[str, str]]:
    """What a log holds in a line, then its kinds of lines: each by its first line."""
    span = "" if log.first_time is None else f", {log.first_time} to {log.last_time}"
    kinds = f"{plural(log.num_kinds, 'kind')} of lines"
    grave = f"{plural(log.num_errors, 'error')}, {plural(log.num_warnings, 'warning or failure')}"
    yield "", f"{plural(log.num_lines, 'line')}{span}: {kinds}, {grave}."
    if log.num_focus_lines is not None:
        about = plural(log.num_focus_lines, "line")
        yield "", f"{about} about '{result.focus}', of {plural(log.num_focus_kinds, 'kind')}:"
    for before, kind in pairwise((None, *log.kinds)):
        assert kind is not None
        if kind.is_common and before is not None and not before.is_common:
            yield "The most common:", ""
        times = "once" if kind.num_lines == 1 else f"{kind.num_lines:,} times to line {kind.last_line:,}"
        quote = result.sentences[kind.sentence]
        place, text = f"{_place(result, quote)}, {times}", _one_line(quote.text)
        if form == "markdown":
            yield "- ", f"{text.translate(_MARKDOWN)} *({place.translate(_MARKDOWN)})*"
        else:
            yield f"{place}: ", text


def _table(table: TableSummary) -> Iterator[str]:
    """How many rows there are, then a line for each column; those that are the same in all rows are in one line."""
    same = [one for one in table.columns if one.num_different == 1 and one.num_filled == table.num_rows > 1]
    yield f"{plural(table.num_rows, 'row')} of {plural(len(table.columns), 'column')}."
    if same:
        yield "The same in all rows: " + "; ".join(f"{one.name} {one.values[0]}" for one in same) + "."
    yield from (f"{one.name}: {_column(one, table.num_rows)}." for one in table.columns if one not in same)


def _column(column: TableColumn, num_rows: int) -> str:
    filled = "" if column.num_filled == num_rows else f" (in {plural(column.num_filled, 'row')})"
    if column.num_different == 1 and filled:
        return f"{column.values[0]}{filled}"
    if column.num_different is not None and column.num_different <= len(column.values):
        return _frequencies(column, len(column.values)) + filled
    if column.lowest is not None and column.highest is not None and column.mean is not None:
        low, high = column.lowest, column.highest
        # Years are written without a comma.
        comma = "" if _FIRST_YEAR <= low <= high <= _LAST_YEAR and low == int(low) and high == int(high) else ","
        return f"{low:{comma}.10g} to {high:{comma}.10g}, mean {column.mean:{comma}.6g}{filled}"
    if column.num_different is None:
        return f"very many different values, such as {', '.join(column.values[:3])}{filled}"
    if column.num_different == column.num_filled:
        return f"all different, such as {', '.join(column.values[:3])}{filled}"
    return f"{column.num_different:,} different values, most often {_frequencies(column, 4)}{filled}"


def _frequencies(column: TableColumn, most: int) -> str:
    """`yes in 32 rows, no in 12`."""
    pairs = list(zip(column.values, column.counts, strict=True))[:most]
    return ", ".join(
        f"{value} in {plural(count, 'row') if index == 0 else f'{count:,}'}"
        for index, (value, count) in enumerate(pairs)
    )


def _written(result: SummaryResult, written: WrittenSummary, form: TextFormat) -> Iterator[tuple[str, str]]:
    yield from (("", line) for line in written.text.splitlines())
    if result.sentences:
        yield "", ""
    for number, quote in enumerate(result.sentences, start=1):
        mark, text = f"[{number}] {_place(result, quote)}: ", _one_line(quote.text)
        if form == "markdown":
            mark, text = "> " + mark.translate(_MARKDOWN), text.translate(_MARKDOWN)
        yield mark, text
