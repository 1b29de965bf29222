"""Running scripts as the command line is run, with its fixtures."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks.quality.__main__ import app
from tests.cli.conftest import Run, _own_settings, run_app, story, tiny

__all__ = ["_own_settings", "story", "tiny"]


@pytest.fixture
def run() -> Run:
    """Run one of these scripts in process."""
    return partial(run_app, app)
