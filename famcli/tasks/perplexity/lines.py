"""Lines as units of scoring: where each lies in the source, and which stand out."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from famcli.errors import UsageError

WINDOW = 1000
MIN_LINES = 30
MIN_DEVIATION = 0.01
# Makes the median absolute deviation of a normal distribution its standard deviation.
_NORMAL = 1.4826


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
            # A line may be as long as the file; only its beginning is kept.
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


@dataclass(frozen=True)
class Alert:
    """A line that stands out: its bits per byte, the median and the limit it was held against."""

    bits_per_byte: float
    median: float
    limit: float


class AlertRule:
    """Alerts on lines whose bits per byte exceed median + factor x 1.4826 x MAD of the last 1,000 lines before them.

    MAD is the median absolute deviation, taken as at least 0.01 bits per byte so that a log of equal lines does not
    alert on rounding. The first 30 lines never alert. Blank lines are neither judged nor remembered (see the caller).
    """

    def __init__(self, factor: float) -> None:
        if not 0 < factor < float("inf"):
            raise UsageError(f"alert is {factor:g}, it must be a positive number of deviations")
        self.factor = factor
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def judge(self, bits_per_byte: float) -> Alert | None:
        """An alert if the next line stands out from those before it; the line is remembered either way."""
        alert = None
        # The line itself is left out of its own median, so that a burst of odd lines is seen from the first on.
        if len(self._recent) >= MIN_LINES:
            recent = np.fromiter(self._recent, np.float64, len(self._recent))
            median = float(np.median(recent))
            deviation = max(float(np.median(np.abs(recent - median))), MIN_DEVIATION)
            limit = median + self.factor * _NORMAL * deviation
            if bits_per_byte > limit:
                alert = Alert(bits_per_byte, median, limit)
        self._recent.append(bits_per_byte)
        return alert
