"""What a table says: how many rows it has, and what each of its columns holds. In bounded memory."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from famcli.documents.source import Piece
from famcli.tasks.summarize.summary_result import TableColumn, TableSummary

_MOST_COLUMNS, _MOST_VALUES = 64, 1000  # that are counted; of a column with more values some are shown
_MOST_CHARACTERS = 120  # of a value
_EXAMPLES = 6
# Zeros before other digits are those of a code.
_NUMBER = re.compile(r"[-+\u2212]?(?:0|[1-9]\d*|[1-9]\d{0,2}(?:,\d{3})+)(?:\.\d+)?")
_NAMELESS = re.compile(r"^column \d+:", re.MULTILINE)


@dataclass
class _Column:
    """What was seen of a column. values: None once there are too many different ones."""

    num_filled: int = 0
    num_numbers: int = 0
    lowest: float = float("inf")
    highest: float = float("-inf")
    total: float = 0.0
    values: Counter[str] | None = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, value: str) -> None:
        self.num_filled += 1
        if _NUMBER.fullmatch(value):
            number = float(value.replace(",", "").replace("\u2212", "-"))
            self.num_numbers += 1
            self.lowest, self.highest = min(self.lowest, number), max(self.highest, number)
            self.total += number
        value = value[:_MOST_CHARACTERS]
        if len(self.examples) < _EXAMPLES and value not in self.examples:
            self.examples.append(value)
        if self.values is not None:
            self.values[value] += 1
            if len(self.values) > _MOST_VALUES:
                self.values = None

    def summary(self, name: str) -> TableColumn:
        """Examples are the most frequent values, where these are counted."""
        numbers = self.num_filled == self.num_numbers > 0
        common = [] if self.values is None else self.values.most_common(_EXAMPLES)
        return TableColumn(
            name=name,
            num_filled=self.num_filled,
            num_different=None if self.values is None else len(self.values),
            lowest=self.lowest if numbers else None,
            highest=self.highest if numbers else None,
            mean=self.total / self.num_filled if numbers else None,
            values=tuple(value for value, _ in common) or tuple(self.examples),
            counts=tuple(count for _, count in common),
        )


def has_header(text: str) -> bool:
    """True if the first row of a table names its columns. text: what its rows became."""
    return _NAMELESS.search(text) is None


class TableDigest:
    """Reads the rows of a table as the text that they become: `name: value; name: value`, then prose by itself."""

    def __init__(self) -> None:
        self._num_rows = 0
        self._columns: dict[str, _Column] = {}

    def feed(self, piece: Piece) -> None:
        starts = np.searchsorted(piece.char_offsets(), [start for start, _ in piece.locations]).tolist()
        kinds = [location.kind for _, location in piece.locations]
        for start, end, kind in zip(starts, [*starts[1:], len(piece.text)], kinds, strict=True):
            if kind == "line":
                continue  # a comment
            self._num_rows += 1
            self._take(piece.text[start:end].partition("\n")[0])

    def summary(self) -> TableSummary:
        columns = tuple(column.summary(name) for name, column in self._columns.items())
        return TableSummary(self._num_rows, columns)

    def _take(self, row: str) -> None:
        fields: dict[str, str] = {}
        for part in row.split("; "):
            name, colon, value = part.partition(": ")
            if colon:
                fields[name] = value
            elif fields:
                # A value with a semicolon, or the names of columns whose values are prose.
                last = next(reversed(fields))
                fields[last] += "" if part.endswith(":") else f"; {part}"
        for name, value in fields.items():
            if name in self._columns or len(self._columns) < _MOST_COLUMNS:
                self._columns.setdefault(name, _Column()).add(value)
