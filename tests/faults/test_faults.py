"""A slice of each campaign, of seconds; `make test-faults` runs them at full size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.__main__ import CAMPAIGNS, table
from tests.faults.children import Figures

SLICES = {"kills": 3, "steps": 10, "power": 4, "disks": 12, "fuzz": 110, "hostile": 5, "signals": 12, "writers": 5}


@pytest.mark.parametrize("name", list(CAMPAIGNS))
def test_a_slice_of_each_campaign_finds_nothing(name: str, tmp_path: Path) -> None:
    campaign: Callable[[int, int, Path], Figures] = CAMPAIGNS[name][0]
    figures = campaign(SLICES[name], 7, tmp_path)
    assert figures.failures == []
    assert figures.trials >= SLICES[name]


def test_the_figures_are_a_table() -> None:
    shown = table({"kills": {"trials": 1000, "failures": [], "counts": {"killed": 990}}})
    assert shown.endswith("| kills | 1,000 | 0 | killed 990 |\n")
