"""What the README shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme import README, ROOT, agrees, examples, run

TEXT = README.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def test_every_command_prints_what_is_said(folder: Path) -> None:
    shown = examples(TEXT)
    assert len(shown) >= 6
    for example in shown:
        done = run(example.command, folder)
        assert done.returncode == 0, f"{example.command}: {done.stderr}"
        assert agrees(example.output, done.stdout), f"{example.command} printed:\n{done.stdout}"


def test_python_snippets_run(folder: Path) -> None:
    snippets = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert snippets
    for snippet in snippets:
        done = run(f"{sys.executable} - <<'END'\n{snippet}\nEND", folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_links_lead_somewhere() -> None:
    for page in (README, *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_make_knows_the_commands_of_the_readme() -> None:
    text = TEXT
    for example in examples(TEXT):  # what commands print is not the README's own text: a novel may "make clear"
        text = text.replace(example.output, "")
    targets = sorted(set(re.findall(r"\bmake ([a-z-]+)", text)))
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("said", "printed", "same"),
    [
        ("a 1.5 b", "a 2,000 b\n", True),
        ("begins...", "begins so\nand goes on", True),
        ("first\n...", "first\nsecond\n", True),
        ("first", "first\nsecond", False),
        ("x", "y", False),
    ],
)
def test_outputs_are_compared_without_their_numbers(said: str, printed: str, same: bool) -> None:
    assert agrees(said, printed) is same
