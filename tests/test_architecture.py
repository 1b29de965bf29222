"""docs/architecture.md and CONTRIBUTING.md name files and functions that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page: str) -> None:
    named = re.findall(
        r"`((?:famcli|tests|docs|tools|benchmarks)/[\w/.-]*)`", (ROOT / page).read_text(encoding="utf-8")
    )
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_name_that_is_placed_in_a_file_stands_there() -> None:
    page = " ".join((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split())
    placed = re.findall(r"`(\w+)(?:\.\w+)?` in(?: the table of)? `(famcli/[\w/]+\.py)`", page)
    assert len(placed) >= 8
    for name, file in placed:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^(?:class|def) {name}\b|^{name}\b.*=", text, re.M), f"{name} does not stand in {file}"


def test_every_name_is_somewhere_in_the_package() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "famcli").rglob("*.py"))
    names = set(re.findall(r"`(?:\w+\.)?([A-Za-z_]\w{3,})`", page)) - {"famcli", "transformers", "full"}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", code)] == []
