"""Tables of text (CSV, TSV): one record for each row, told by the number of its row as a spreadsheet counts."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
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
# What the values of a column may all be, which its name is not.
_SHAPES = tuple(
    re.compile(shape)
    for shape in (
        r"[-+(]?[$\u20ac\u00a3\u00a5]?\s?[-+]?(?:\d[\d.,']*|\.\d+)(?:[eE][-+]?\d+)?\s?%?\)?",
        r"\d{1,4}[-/.](?:\d{1,2}|[A-Za-z]{3})[-/.]\d{1,4}(?:[ T]\d.*)?|\d{1,2}:\d\d(?::\d\d)?[\d.,]*(?: [AaPp][Mm])?",
        r"https?://\S+",
        r"\S+@\S+\.\w+",
        r"[A-Z][a-z]+(?: [a-z]+){2,}",
    )
)
_CODE = re.compile(r"[A-Z\d_-]+")
# What each line of a log begins with; the kinds of its lines say more than columns without names.
_WRITTEN_AT = re.compile(r"\W?(?:\d[\d/.-]*[\sT:_-]+)?\d{1,2}:\d{1,2}:\d{1,2}(?:[.,:]\d+)?\W?")
_USUAL_NAMES = frozenset(
    ("id", "name", "code", "title", "type", "date", "year", "value", "label", "description", "text", "url", "email")
)
_MOST = 0.9  # the share of a column's values that are alike
_FEW, _ENOUGH = 3, 8  # rows that say something of a column, and that are a table without a name for any column


def looks_like_table(head: str) -> bool:
    """True for lines with the same number of columns each, which prose has not."""
    lines = head.splitlines()[: 4 * _ROWS_TO_TELL]
    # The last line of a sample is cut.
    if len(head) > 2000 and len(lines) > 2:
        lines.pop()
    return _delimiter(_without_comments(lines[_num_comments(lines) :])) is not None


def read_table(original: Original) -> Iterator[Part]:
    """The rows, each with its values by the names of its columns; before them the lines of comments above."""
    lines = original.lines()
    first = list(islice(lines, _ROWS_TO_TELL))
    num_above = 0
    while (number := _num_comments([line.text for line in first])) == len(first) and number:
        yield from _comments(first)
        num_above, first = num_above + number, list(islice(lines, _ROWS_TO_TELL))
    yield from _comments(first[:number])
    num_above, first = num_above + number, [*first[number:], *islice(lines, number)]
    texts = _without_comments([line.text for line in first])
    delimiter = _delimiter(texts) or ("\t" if any("\t" in text for text in texts) else ",")
    sample = _parsed(texts, delimiter) or []
    columns = (len(sample[0]) if sample else 0, _has_header(sample))
    rows = _rows(original, chain(first, lines), delimiter, columns, num_above)
    yield from checked_records(original, rows, "rows")


def _num_comments(lines: Sequence[str]) -> int:
    """How many of the first lines are comments. One right above a row may name the columns."""
    number = next((at for at, line in enumerate(lines) if not line.lstrip("\ufeff").startswith("#")), len(lines))
    if not number or number == len(lines):
        return number
    named, row = lines[number - 1], lines[number]
    same = any(one in row and named.count(one) == row.count(one) for one in _DELIMITERS)
    return number - same


def _without_comments(lines: Sequence[str]) -> list[str]:
    """The lines by which the columns are told: comments stand between rows too. The first one may name the columns."""
    rows = [line for line in lines[1:] if not line.startswith("#")]
    return [*lines[:1], *rows] if rows else [*lines]


def _comments(lines: Sequence[Line]) -> Iterator[Part]:
    """What comments say of the table, a paragraph for each line."""
    for line in lines:
        if text := " ".join(line.text.strip("\ufeff# \t").split()):
            yield f"{text}\n\n", _line(line)


def _comment(lines: Sequence[Line]) -> str | None:
    """What a row says that is one line of comment; None for any other."""
    return lines[0].text.strip("# \t") if len(lines) == 1 and lines[0].text.startswith("#") else None


def _line(line: Line) -> Location:
    return Location("line", f"{line.number}", line=line.number, span=(line.start, line.end))


def _rows(
    original: Original, lines: Iterator[Line], delimiter: str, columns: tuple[int, bool], num_above: int
) -> Iterator[tuple[list[Field], Location]]:
    """columns: how many there are, and whether the first row names them."""
    num_columns, has_header = columns
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
        if number == 1 and has_header:
            names = _names(row)
            continue
        if (said := _comment(taken)) is not None and (len(row) != num_columns or _names(row) == names):
            # The names of the columns once more are not said again.
            if said and len(row) != num_columns:
                yield [("", said)], _line(taken[0])
            continue
        fields = [
            (names[place] if place < len(names) else "" if len(row) == 1 else f"column {place + 1}", value)
            for place, value in enumerate(row)
        ]
        span = taken[0].start, taken[-1].end
        yield fields, Location("row", f"{num_above + number}", line=taken[0].number, span=span)


def _names(row: list[str]) -> list[str]:
    return [" ".join(name.split()).lstrip("#").strip() or name for name in row]


def _delimiter(lines: list[str]) -> str | None:
    """What separates the columns; None if the lines are no table."""
    texts = [line for line in lines if line.strip()]
    return next((one for one in _DELIMITERS if _is_table(texts, one)), None)


def _is_table(lines: list[str], delimiter: str) -> bool:
    rows = (_parsed(lines, delimiter) or [])[:_ROWS_TO_TELL]
    if len(rows) < 2:
        return False
    (num_columns, num_usual), *_ = Counter(map(len, rows)).most_common(1)
    if _are_cut_short(rows):
        return True
    # Damaged rows are few; prose that has two commas in most lines is rare, and has blanks after them.
    if num_columns < 2 or num_usual < 0.9 * len(rows) or len(rows[0]) != num_columns:
        return False
    has_header = _has_header(rows)
    if len(rows) < (3 if num_columns < 4 or not has_header else 2):
        return False
    if not has_header and _is_of_log(rows):
        return False
    is_sure = has_header or num_columns > 3 or (len(rows) >= _ENOUGH and any(map(_is_alike, zip(*rows, strict=False))))
    if not is_sure:
        return False
    if delimiter == "|" and all(line.lstrip().startswith("|") for line in lines):
        return False  # a table of Markdown, whose text is read as it is
    spaced = sum(value.startswith(" ") for row in rows for value in row[1:])
    num_separators = sum(len(row) - 1 for row in rows)
    return delimiter == "\t" or 5 * spaced <= num_separators or (has_header and _has_figures(rows[1:]))


def _are_cut_short(rows: list[list[str]]) -> bool:
    """True for rows below the names of columns that end before the last ones, whose values are empty."""
    names, below = rows[0], rows[1:]
    return (
        len(below) >= _FEW
        and len(names) >= _FEW
        and all(2 <= len(row) <= len(names) for row in below)
        and not any(value.startswith(" ") for row in rows for value in row)
        and _are_names(names)
        and _votes(names, below) > 0
    )


def _is_of_log(rows: list[list[str]]) -> bool:
    """True for rows that begin with a time and end with words."""
    return all(_WRITTEN_AT.fullmatch(row[0]) and re.search(r"[^\W\d]{2}", row[-1]) is not None for row in rows)


def _parsed(lines: list[str], delimiter: str) -> list[list[str]] | None:
    """The rows that are not empty; None where they cannot be read."""
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter, strict=False) if row]
    except csv.Error:
        return None


def _has_header(rows: list[list[str]]) -> bool:
    """True if the first row names the columns: its values are names, and not such as stand in the columns below."""
    if not rows:
        return False
    filled = {place for row in rows for place, value in enumerate(row) if value.strip()}
    # Spreadsheets write columns without anything in them too.
    names = [value for place, value in enumerate(rows[0]) if place in filled]
    return _are_names(names) and _votes(rows[0], rows[1:]) >= 0


def _are_names(row: list[str]) -> bool:
    """True for values that may be names of columns: each different, short, and no sentence. Years that follow one
    another are names beside others."""
    names = [value.strip().lstrip("\ufeff") for value in row]
    given = [name for name in names if name]
    years = _years(given)
    words = [name for name in given if name not in years]
    is_named = bool(words) and all(_NAME.match(name) and not _SENTENCE.match(name) for name in words)
    return len(given) >= max(1, len(names) - 1) and len(set(given)) == len(given) and is_named


def _years(names: list[str]) -> list[str]:
    """Three years or more in their order. A row of data may have a year or two."""
    years = [name for name in names if _YEAR.match(name)]
    return years if len(years) > 2 and years in (sorted(years), sorted(years, reverse=True)) else []


def _votes(first: list[str], rows: list[list[str]]) -> float:
    """Above 0 if the values of the first row are of other kinds than those below them, 0 if that cannot be told: a
    figure over figures, a code over codes, and what stands in its column once more are values."""
    names = [value.strip().lstrip("\ufeff") for value in first]
    years, votes = _years(names), 0.0
    for place, name in enumerate(names):
        values = [row[place].strip() for row in rows if place < len(row) <= len(first) and row[place].strip()]
        if not name or name in years or len(values) < _FEW:
            continue
        if name.lower() in _USUAL_NAMES:
            votes += 1
        elif name in values:
            votes -= 1
        else:
            votes += _vote(name, values)
    return votes


def _vote(name: str, values: list[str]) -> float:
    """1 if a column's values are of one kind and its name is not, -1 if it is too; a half for codes of one length."""
    for shape in _SHAPES:
        if sum(shape.fullmatch(value) is not None for value in values) >= _MOST * len(values):
            return -1 if shape.fullmatch(name) else 1
    length = _code_length(values)
    if not length:
        return 0
    return -0.5 if _CODE.fullmatch(name) and len(name) == length else 0.5


def _code_length(values: Sequence[str]) -> int:
    """The characters of each of a column's values where they are codes of one length; else 0."""
    lengths = Counter(len(value) for value in values if _CODE.fullmatch(value))
    length, count = lengths.most_common(1)[0] if lengths else (0, 0)
    return length if count >= _MOST * len(values) else 0


def _is_alike(values: Sequence[str]) -> bool:
    """True for a column whose values are of one kind that can be told."""
    return _code_length(values) > 0 or _vote("", [*values]) > 0


def _has_figures(rows: list[list[str]]) -> bool:
    """True if a column holds nothing but figures, as tables with blanks after their commas have."""
    columns = zip(*(row for row in rows if len(row) == len(rows[0])), strict=False)
    return any(all(re.fullmatch(r"\s*[-+]?[\d.,]+%?\s*", value) for value in column) for column in columns)
