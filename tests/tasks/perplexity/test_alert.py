from __future__ import annotations

import random

import numpy as np
import pytest

from famcli.errors import UsageError
from famcli.tasks.perplexity.units import LEARNED_LINES, MIN_DEVIATION, MIN_LINES, WINDOW, AlertRule


def test_the_first_lines_never_alert() -> None:
    rule = AlertRule(4)
    assert [rule.judge(value, "") for value in [1.0] * (MIN_LINES - 1) + [99.0]] == [None] * MIN_LINES
    assert rule.judge(99.0, "") is not None


def test_the_limit_is_median_plus_factor_times_scaled_deviation_of_the_lines_before() -> None:
    draw = random.Random(1)
    values = [draw.gauss(2.0, 0.5) for _ in range(2500)]
    rule = AlertRule(2.5)
    for number, value in enumerate(values):
        alert = rule.judge(value, "")
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
        assert rule.judge(1.5, "") is None
    assert rule.judge(1.5 + MIN_DEVIATION, "") is None
    assert rule.judge(1.7, "") is not None


def test_easy_lines_never_alert() -> None:
    rule = AlertRule(1)
    for _ in range(50):
        rule.judge(2.0, "")
    assert rule.judge(0.0, "") is None


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_the_factor_is_a_positive_number(factor: float) -> None:
    with pytest.raises(UsageError, match="alert is"):
        AlertRule(factor)


def test_a_log_alerts_on_lines_of_a_new_kind_once_it_is_known() -> None:
    rule = AlertRule(4)

    def line(number: int, message: str, bits: float = 1.0) -> bool:
        return (
            rule.judge(bits, f"2024-01-01 10:{number // 60 % 60:02}:{number % 60:02} INFO main: {message}") is not None
        )

    for number in range(LEARNED_LINES):
        assert not line(number, f"request {number} served in {number % 7} ms")
    assert not line(1, "request 4711 served in 3 ms", bits=50.0)  # however unlikely its numbers are
    assert line(2, "disk is full, giving up")
    assert not line(3, "disk is full, giving up")
    assert rule.num_alerts == 1
    assert rule.judge(50.0, "a line that is no log's").is_new_kind is False  # type: ignore[union-attr]


def test_the_first_lines_of_a_log_show_what_is_usual() -> None:
    rule = AlertRule(4)
    for _ in range(MIN_LINES):
        assert rule.judge(1.0, "2024-01-01 10:00:00 INFO main: served") is None
    assert rule.judge(9.0, "2024-01-01 10:00:00 INFO main: another kind") is None
