"""Running scripts as the command line is run, with its fixtures."""

from __future__ import annotations

from functools import partial

import pytest

from tests.cli.conftest import Run, _own_settings, run_app, story, tiny
from tests.training.conftest import recipe, toy
from tools.train_report import app

__all__ = ["_own_settings", "recipe", "story", "tiny", "toy"]


@pytest.fixture
def run() -> Run:
    """Run one of these scripts in process."""
    return partial(run_app, app)
