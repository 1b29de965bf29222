"""Tables of text (CSV, TSV): one record for each row, told by the number of its row as a spreadsheet counts."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice

from famcli.documents.converted import Part
from famcli.documents.formats.records import Field, checked_records
from famcli.documents.original import Line, Original
from famcli.documents.source import Location
from famcli.errors import DocumentError

_DELIMITERS = "\t,;|"
_ROWS_TO_TELL = 64
_LARGEST_FIELD = 1 << 22  # characters; a quote that is never closed must not take all memory
_NAME = re.compile(
    r"[\"']?(?:[^\W\d]|#|\d+(?:st|nd|rd|th)? ?[^\W\d])[\w .,()\[\]/%#*'&:?!$\u20ac\u00a3\u00b0+=<>@-]{0,60}[\"']?$"
)
_YEAR = re.compile(r"(?:1[5-9]|20)\d\d$")
_SENTENCE = re.compile(r"(?:\S+\s+){4}.*[.!?]\s*$", re.S)


def looks_like_table(head: str) -> bool:
    """True for lines with the same number of columns each, which prose has not."""
    lines = head.splitlines()[: 4 * _ROWS_TO_TELL]
    # The last line of a sample is cut.
    if len(head) > 2000 and len(lines) > 2:
        lines.pop()
    return _delimiter(lines) is not None


def read_table(original: Original) -> Iterator[Part]:
    """The rows, each with its values by the names of its columns."""
    lines = original.lines()
    first = list(islice(lines, _ROWS_TO_TELL))
    delimiter = _delimiter([line.text for line in first]) or ("\t" if any("\t" in one.text for one in first) else ",")
    yield from checked_records(original, _rows(original, chain(first, lines), delimiter), "rows")


def _rows(original: Original, lines: Iterator[Line], delimiter: str) -> Iterator[tuple[list[Field], Location]]:
    csv.field_size_limit(_LARGEST_FIELD)
    taken = list[Line]()

    def texts() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line.text + "\n"

    rows, names, number = csv.reader(texts(), delimiter=delimiter), list[str](), 0
    while True:
        del taken[:]
        try:
            row = next(rows, None)
        except csv.Error as error:
            line = taken[0].number if taken else 1
            raise DocumentError(
                f"{original.name}: the row at line {line:,} cannot be read ({error}): is a quote never closed there?"
            ) from error
        if row is None:
            return
        number += 1
        if not any(value.strip() for value in row):
            continue
        if number == 1 and _is_header(row):
            names = [" ".join(name.split()) for name in row]
            continue
        fields = [
            (names[place] if place < len(names) else "" if len(row) == 1 else f"column {place + 1}", value)
            for place, value in enumerate(row)
        ]
        span = taken[0].start, taken[-1].end
        yield fields, Location("row", f"{number}", line=taken[0].number, span=span)


def _delimiter(lines: list[str]) -> str | None:
    """What separates the columns; None if the lines are no table."""
    texts = [line for line in lines if line.strip()]
    return next((one for one in _DELIMITERS if _is_table(texts, one)), None)


def _is_table(lines: list[str], delimiter: str) -> bool:
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, strict=False) if row]
    except csv.Error:
        return False
    rows = rows[:_ROWS_TO_TELL]
    if len(rows) < 2:
        return False
    (num_columns, num_usual), *_ = Counter(map(len, rows)).most_common(1)
    # Damaged rows are few; prose that has two commas in most lines is rare, and has blanks after them.
    if num_columns < 2 or num_usual < 0.9 * len(rows) or len(rows[0]) != num_columns:
        return False
    has_header = _is_header(rows[0])
    if len(rows) < (3 if num_columns < 4 or not has_header else 2) or (not has_header and num_columns < 4):
        return False
    if delimiter == "|" and all(line.lstrip().startswith("|") for line in lines):
        return False  # a table of Markdown, whose text is read as it is
    spaced = sum(value.startswith(" ") for row in rows for value in row[1:])
    num_separators = sum(len(row) - 1 for row in rows)
    return delimiter == "\t" or 5 * spaced <= num_separators or (has_header and _has_figures(rows[1:]))


def _is_header(row: list[str]) -> bool:
    """True for a first row of names: each different, short, and no sentence. Years that follow one another are names
    beside others."""
    names = [value.strip().lstrip("\ufeff") for value in row]
    given = [name for name in names if name]
    years = [name for name in given if _YEAR.match(name)]
    # A row of data may have a year or two.
    if len(years) < 3 or years not in (sorted(years), sorted(years, reverse=True)):
        years = []
    words = [name for name in given if name not in years]
    is_named = bool(words) and all(_NAME.match(name) and not _SENTENCE.match(name) for name in words)
    return len(given) >= max(1, len(names) - 1) and len(set(given)) == len(given) and is_named


def _has_figures(rows: list[list[str]]) -> bool:
    """True if a column holds nothing but figures, as tables with blanks after their commas have."""
    columns = zip(*(row for row in rows if len(row) == len(rows[0])), strict=False)
    return any(all(re.fullmatch(r"\s*[-+]?[\d.,]+%?\s*", value) for value in column) for column in columns)
