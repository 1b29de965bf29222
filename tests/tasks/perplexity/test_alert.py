from __future__ import annotations

import random

import numpy as np
import pytest

from famcli.errors import UsageError
from famcli.tasks.perplexity.units import MIN_DEVIATION, MIN_LINES, WINDOW, AlertRule


def test_the_first_lines_never_alert() -> None:
    rule = AlertRule(4)
    assert [rule.judge(value) for value in [1.0] * (MIN_LINES - 1) + [99.0]] == [None] * MIN_LINES
    assert rule.judge(99.0) is not None


def test_the_limit_is_median_plus_factor_times_scaled_deviation_of_the_lines_before() -> None:
    draw = random.Random(1)
    values = [draw.gauss(2.0, 0.5) for _ in range(2500)]
    rule = AlertRule(2.5)
    for number, value in enumerate(values):
        alert = rule.judge(value)
        recent = np.array(values[max(0, number - WINDOW) : number])
        if number < MIN_LINES:
            assert alert is None
            continue
        limit = np.median(recent) + 2.5 * 1.4826 * np.median(np.abs(recent - np.median(recent)))
        assert (alert is not None) == (value > limit)
        if alert is not None:
            assert alert.limit == pytest.approx(limit)
            assert alert.bits_per_byte == value


def test_equal_lines_do_not_alert_on_rounding() -> None:
    rule = AlertRule(4)
    for _ in range(100):
        assert rule.judge(1.5) is None
    assert rule.judge(1.5 + MIN_DEVIATION) is None
    assert rule.judge(1.7) is not None


def test_easy_lines_never_alert() -> None:
    rule = AlertRule(1)
    for _ in range(50):
        rule.judge(2.0)
    assert rule.judge(0.0) is None


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_the_factor_is_a_positive_number(factor: float) -> None:
    with pytest.raises(UsageError, match="alert is"):
        AlertRule(factor)
