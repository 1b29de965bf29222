"""A tiny enabled checkpoint, made once and copied for each test that wants to break it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers import make_random_checkpoint


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: an enabled checkpoint."""
    return make_random_checkpoint(tmp_path_factory.mktemp("pristine") / "tiny")


@pytest.fixture
def checkpoint(pristine: Path, tmp_path: Path) -> Path:
    """An enabled checkpoint of the test's own."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A decoder as fetched from a hub: no sidecar."""
    return make_random_checkpoint(tmp_path / "plain", fam=None)
