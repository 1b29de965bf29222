"""The alert rule for streams of lines: a line stands out when it is much harder to predict than lines were lately."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from famcli.errors import UsageError

WINDOW = 1000
MIN_LINES = 30
MIN_DEVIATION = 0.01
_NORMAL = 1.4826  # makes the median absolute deviation of a normal distribution its standard deviation


@dataclass(frozen=True)
class Alert:
    """A line that stands out: its bits per byte, the median and the limit it was held against."""

    bits_per_byte: float
    median: float
    limit: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"bits_per_byte": self.bits_per_byte, "median": self.median, "limit": self.limit}


class AlertRule:
    """Alerts on lines whose bits per byte exceed median + factor x 1.4826 x MAD of the last 1,000 lines before them.

    MAD is the median absolute deviation, taken as at least 0.01 bits per byte so that a log of equal lines does not
    alert on rounding. The first 30 lines never alert. Blank lines are neither judged nor remembered (see the caller).
    """

    def __init__(self, factor: float) -> None:
        if not 0 < factor < float("inf"):
            raise UsageError(f"--alert is {factor}, it must be a positive number of deviations")
        self.factor = factor
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def judge(self, bits_per_byte: float) -> Alert | None:
        """An alert if the next line stands out from those before it; the line is remembered either way."""
        alert = None
        if len(self._recent) >= MIN_LINES:
            recent = np.fromiter(self._recent, np.float64, len(self._recent))
            median = float(np.median(recent))
            deviation = max(float(np.median(np.abs(recent - median))), MIN_DEVIATION)
            limit = median + self.factor * _NORMAL * deviation
            if bits_per_byte > limit:
                alert = Alert(bits_per_byte, median, limit)
        self._recent.append(bits_per_byte)
        return alert
