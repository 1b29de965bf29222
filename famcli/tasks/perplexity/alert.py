"""The alert rule: which lines stand out from the lines before them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from famcli.errors import UsageError

WINDOW = 1000
MIN_LINES = 30
MIN_DEVIATION = 0.01
# Makes the median absolute deviation of a normal distribution its standard deviation.
_NORMAL = 1.4826


@dataclass(frozen=True)
class Alert:
    """A line that stands out: its bits per byte, and the median and the limit of the lines before it."""

    bits_per_byte: float
    median: float
    limit: float


class AlertRule:
    """Alerts on lines whose bits per byte exceed median + factor x 1.4826 x MAD of the last 1,000 lines before them.

    MAD is the median absolute deviation, taken as at least 0.01 bits per byte so that a log of equal lines does not
    alert on rounding. The first 30 lines never alert. The caller leaves blank lines out. num_alerts: alerts so far.
    """

    def __init__(self, factor: float) -> None:
        if not 0 < factor < float("inf"):
            raise UsageError(f"alert is {factor:g}, it must be a positive number of deviations")
        self.factor = factor
        self.num_alerts = 0
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
                self.num_alerts += 1
        self._recent.append(bits_per_byte)
        return alert
