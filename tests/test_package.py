"""The package as others meet it: its Python API, its import time, what its wheel holds, and that the core suffices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import famcli

ROOT = Path(__file__).parents[1]
EXTRAS = ("tokenizers", "huggingface_hub", "transformers", "zstandard", "matplotlib", "hypothesis", "jinja2")


def test_importing_famcli_loads_nothing_slow() -> None:
    code = "import sys, famcli; print([m for m in ('torch', 'numpy', 'typer', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("name", famcli.__all__)
def test_the_api_resolves_when_it_is_used(name: str) -> None:
    assert name in dir(famcli)
    value = getattr(famcli, name)
    assert callable(value)
    assert value.__name__ == name
    assert value.__doc__


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = famcli.nonsense


def test_every_folder_is_packaged() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "famcli").rglob("__init__.py")}
    assert sorted(listed) == sorted(folders | {"famcli.models", "famcli.examples"})


def test_constraints_pin_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["hf"], *extras["train"], *extras["dev"]]
    names = {_name(requirement) for requirement in wanted} - {"famcli"}
    pinned = {_name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert names <= pinned


def _name(requirement: str) -> str:
    return requirement.replace("_", "-").lower().translate(str.maketrans("[<>=", "    ")).split()[0]


def test_the_wheel_holds_the_checkpoints(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("famcli", "models", "examples"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("famcli-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    shipped = {path.relative_to(ROOT) for path in (ROOT / "models").glob("*/*") if path.is_file()}
    assert shipped
    assert {f"famcli/{path.as_posix()}" for path in shipped} <= held
    files = {"famcli/py.typed", "famcli/tasks/report/page.html", "famcli/examples/the-man-who-was-thursday.txt"}
    assert files <= held
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    code = (
        "from famcli.checkpoint.locate import shipped_models as s; from famcli.evaluation.texts import example_book; "
        "print(*s().values(), example_book())"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=unpacked, capture_output=True, text=True, check=True)
    assert all(line.startswith(str(unpacked)) for line in found.stdout.split())


BARE = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {extras!r} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
from famcli.cli.main import main
main()
"""


@pytest.mark.parametrize("command", ["summarize", "ppl", "eval ppl"])
def test_the_core_alone_runs_the_checkpoint_that_ships(command: str, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text((ROOT / "examples" / "the-man-who-was-thursday.txt").read_text()[:6000])
    code = BARE.format(extras=EXTRAS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAMCLI_")}
    # The model is named once a day.
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    arguments = [sys.executable, "-c", code, *command.split(), book]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert "fam-tiny (ships with famcli)" in done.stderr
    assert done.stdout
