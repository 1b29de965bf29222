"""Lines as units of scoring: tokens that never reach across a line break, and where each line lies in the source."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_LINE_TEXT = 4096
"""Characters of a line's text that are kept to be shown."""

_LINE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True)
class Line:
    """number: from 1. start, end: source bytes, line break included. text: without its line break, as far as kept."""

    number: int
    start: int
    end: int
    text: str
    is_cut: bool


class LineCollector:
    """Turns pieces of text into lines as their newlines come. Holds what was not taken, and one unfinished line."""

    def __init__(self) -> None:
        self.waiting: deque[Line] = deque()
        self._number = 1
        self._start: int | None = None
        self._end = 0
        self._text = ""
        self._length = 0

    def feed(self, text: str, offsets: NDArray[np.int64]) -> None:
        """More text; `offsets` [len(text) + 1]: where each character lies in the source."""
        for match in _LINE.finditer(text):
            if self._start is None:
                self._start = int(offsets[match.start()])
            room = MAX_LINE_TEXT - len(self._text)
            self._text += match[0].rstrip("\r\n")[:room] if match[0].endswith("\n") else match[0][:room]
            self._length += len(match[0])
            self._end = int(offsets[match.end()])
            if match[0].endswith("\n"):
                self.flush()

    def flush(self) -> None:
        """The unfinished line, if any, ends here."""
        if self._start is not None:
            text = self._text.removesuffix("\r")
            is_cut = self._length > MAX_LINE_TEXT + 2
            self.waiting.append(Line(self._number, self._start, self._end, text, is_cut))
            self._number += 1
        self._start, self._text, self._length = None, "", 0
