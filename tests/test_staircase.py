"""A folder imports only from floors below it: nothing runs back up the staircase."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "famcli"
FLOORS = (
    {"errors", "interrupts", "plain"},
    {"nn"},
    {"tokens"},
    {"documents"},
    {"text"},
    {"checkpoint"},
    {"reading"},
    {"tasks"},
    {"synthetic"},
    {"evaluation"},
    {"training"},
    {"cli"},
)
FLOOR_OF = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}


def imported_folders(file: Path) -> set[str]:
    """The folders of famcli that a file imports from, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {parts[1] for name in names if (parts := name.split("."))[0] == "famcli" and len(parts) > 1}


@pytest.mark.parametrize("folder", sorted({path.parent.name for path in PACKAGE.glob("*/__init__.py")}))
def test_nothing_runs_back_up(folder: str) -> None:
    for file in sorted((PACKAGE / folder).rglob("*.py")):
        for other in imported_folders(file) - {folder}:
            assert FLOOR_OF[other] < FLOOR_OF[folder], f"{file.relative_to(PACKAGE)} imports from {other}"
