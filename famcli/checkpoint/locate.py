"""Which checkpoint a name means, without opening it: no torch, no network.

A name is looked up as a folder, then in the hub's cache on this machine, then among the checkpoints that ship.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from famcli.errors import CheckpointError

MODEL_VARIABLE = "FAMCLI_MODEL"
DEFAULT_MODEL = "fam-tiny"

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Located:
    """A checkpoint's folder.

    name: how to show it. chosen_by: who asked for it ("--model", "FAMCLI_MODEL", "default"). where: what the name
    turned out to be ("folder", "hub cache", "ships with famcli").
    """

    path: Path
    name: str
    chosen_by: str
    where: str


@dataclass(frozen=True)
class ListedModel:
    """A checkpoint that can be asked for by name. enabled: it has a `fam.json`, so it can read streams."""

    name: str
    path: Path
    where: str
    enabled: bool


def resolve(
    name: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None, *, asked_by: str = "--model"
) -> Located:
    """The checkpoint that `name` means, which `asked_by` gave; without one FAMCLI_MODEL, else the one that ships.

    Raises CheckpointError when there is none, with the places that were searched.
    """
    environ = os.environ if environ is None else environ
    if name is not None:
        return _named(os.fspath(name), asked_by, environ)
    if environ.get(MODEL_VARIABLE):
        return _named(environ[MODEL_VARIABLE], MODEL_VARIABLE, environ)
    shipped = shipped_models()
    if not shipped:
        raise CheckpointError(f"no checkpoint ships with this famcli; give one with --model or {MODEL_VARIABLE}")
    chosen = DEFAULT_MODEL if DEFAULT_MODEL in shipped else min(shipped)
    return Located(shipped[chosen], chosen, "default", "ships with famcli")


def list_models(environ: Mapping[str, str] | None = None) -> list[ListedModel]:
    """The checkpoints that ship, then those in the hub's cache that were enabled for streams or could be."""
    environ = os.environ if environ is None else environ
    found = [_listed(name, path, "ships with famcli") for name, path in sorted(shipped_models().items())]
    return found + [_listed(name, path, "hub cache") for name, path in _cached_models(environ)]


def shipped_models() -> dict[str, Path]:
    """The checkpoints inside the wheel, or in `models/` of a source checkout, by name."""
    package = Path(__file__).resolve().parents[1]
    roots = [package / "models"]
    if (package.parent / "pyproject.toml").is_file():
        roots.append(package.parent / "models")
    return {
        folder.name: folder
        for root in reversed(roots)
        if root.is_dir()
        for folder in root.iterdir()
        if (folder / "config.json").is_file()
    }


def _listed(name: str, path: Path, where: str) -> ListedModel:
    return ListedModel(name, path, where, enabled=(path / "fam.json").is_file())


def _named(name: str, chosen_by: str, environ: Mapping[str, str]) -> Located:
    if not name.strip():
        raise CheckpointError(f"{chosen_by} is empty; give a folder or a name that `famcli models` lists")
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return Located(folder, name, chosen_by, "folder")
    cached = _cached(name, environ)
    if cached is not None:
        return Located(cached, name, chosen_by, "hub cache")
    shipped = shipped_models()
    if name in shipped:
        return Located(shipped[name], name, chosen_by, "ships with famcli")
    if folder.is_dir():
        raise CheckpointError(f"{folder} has no config.json; give the folder that holds a checkpoint's files")
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; give the folder that holds the checkpoint's files")
    known = ", ".join(sorted(shipped)) or "none"
    raise CheckpointError(
        f"'{name}' ({chosen_by}) is no folder, is not in the hub's cache ({hub_cache(environ)}), and does not ship "
        f"with famcli (shipped: {known}); fetch it first, or see `famcli models`"
    )


def hub_cache(environ: Mapping[str, str]) -> Path:
    """The folder where Hugging Face's tools keep what they fetched, by the variables they obey."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(variable):
            return Path(environ[variable]).expanduser()
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser() / "hub"
    base = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def _cached(name: str, environ: Mapping[str, str]) -> Path | None:
    """The snapshot of `owner/name` or `owner/name@revision` in the hub's cache, if it is there.

    The cache's layout is public and stable, so it is read directly: no package is needed, and no network touched.
    """
    repo, _, revision = name.partition("@")
    if not _REPO.fullmatch(repo):
        return None
    return _snapshot(hub_cache(environ) / f"models--{repo.replace('/', '--')}", revision or "main")


def _snapshot(folder: Path, revision: str) -> Path | None:
    commit = revision
    if not _COMMIT.fullmatch(revision):
        if ".." in revision.split("/") or revision.startswith("/"):
            return None
        reference = folder / "refs" / revision
        if not reference.is_file():
            return None
        commit = reference.read_text("utf-8", errors="replace").strip()
    snapshot = folder / "snapshots" / commit
    usable = _COMMIT.fullmatch(commit) and (snapshot / "config.json").is_file()
    return snapshot if usable else None


def _cached_models(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    root = hub_cache(environ)
    for folder in sorted(root.glob("models--*--*")) if root.is_dir() else ():
        snapshot = _snapshot(folder, "main")
        if snapshot is not None:
            yield folder.name.removeprefix("models--").replace("--", "/", 1), snapshot
