"""Intervals: known values, and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from famcli.evaluation.intervals import bootstrap, wilson


def test_wilson_gives_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    for right, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson(right, total) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(20, 20)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


def test_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap(values)  # type: ignore[misc]
    error = values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.03)
    assert bootstrap(values) == (low, high)  # the seed is fixed
    assert bootstrap([1.0]) is None


def test_bootstrap_of_a_share_draws_whole_streams() -> None:
    streams = [0.0, 4.0] * 10  # streams are all right or all wrong: 20 trials, not 80
    low, high = bootstrap(streams, [4.0] * 20)  # type: ignore[misc]
    independent = wilson(40, 80)
    assert high - low > 1.7 * (independent[1] - independent[0])
