"""Find the checkpoint that a name means, and list those that have a name. No torch.

A name is looked up as a folder or a GGUF file, then in the hub's cache on this machine, then among the checkpoints that
ship and those that other packages carry. A hub name that is not found is fetched if the caller can (hub.py).
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from famcli.checkpoint.families.table import FAMILIES
from famcli.checkpoint.folder import ADAPTER_CONFIG, beside, read_json_object, shown
from famcli.checkpoint.gguf import GGUF_FAMILIES
from famcli.checkpoint.recommended import RECOMMENDED, Recommended, recommended
from famcli.checkpoint.sidecar import SIDECAR_FILE, read_sidecar
from famcli.errors import CheckpointError, FamcliError
from famcli.plain import shipped_folders, user_path
from famcli.tokens import holds_tokenizer
from famcli.tokens.gguf_file import gguf_parts, is_gguf, read_gguf

MODEL_VARIABLE = "FAMCLI_MODEL"
CACHE_VARIABLE = "FAMCLI_CACHE"
DEFAULT_MODEL = "fam-tiny"

Fetch = Callable[["HubName", Mapping[str, str]], object]
"""Fetches what a name of the hub means into its cache, or raises CheckpointError."""

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE = re.compile(r"[\w.-]+\.gguf", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Located:
    """A checkpoint's folder, or its GGUF file.

    name: how to show it. chosen_by: the setting that named it ("model", "FAMCLI_MODEL"), or "default". where: "folder",
    "GGUF file", "hub cache", "ships with famcli" or "package NAME". adapter: the folder of one that ships for it.
    """

    path: Path
    name: str
    chosen_by: str
    where: str
    adapter: Path | None = None


@dataclass(frozen=True)
class HubName:
    """`owner/name[/file.gguf][@revision]`: a repository of the hub, or one GGUF file in it."""

    repo: str
    file: str | None
    revision: str

    @classmethod
    def parse(cls, name: str) -> HubName | None:
        """None if `name` cannot be a name of the hub."""
        path, _, revision = name.partition("@")
        revision = revision or "main"
        leads_out = ".." in revision.split("/") or revision.startswith("/") or "\\" in revision
        repo, file = "/".join(path.split("/")[:2]), "/".join(path.split("/")[2:])
        if not _REPO.fullmatch(repo) or (file and not _FILE.fullmatch(file)) or leads_out:
            return None
        return cls(repo, file or None, revision)


def resolve(
    name: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    asked_by: str = "model",
    fetch: Fetch | None = None,
) -> Located:
    """The checkpoint that `name` means; without one the one that FAMCLI_MODEL names, else the one that ships.

    asked_by: the caller's word for the setting that gave the name, for messages. fetch: called for a name of the hub
    that is not in its cache, or not complete there. Raises CheckpointError, with the places that were searched.
    """
    environ = os.environ if environ is None else environ
    if name is not None:
        return _named(os.fspath(name), asked_by, environ, fetch)
    if environ.get(MODEL_VARIABLE):
        return _named(environ[MODEL_VARIABLE], MODEL_VARIABLE, environ, fetch)
    shipped = shipped_models()
    if not shipped:
        raise CheckpointError(
            f"no checkpoint ships with this famcli; name one, or set {MODEL_VARIABLE}", remedy={"model": "NAME"}
        )
    chosen = DEFAULT_MODEL if DEFAULT_MODEL in shipped else min(shipped)
    return Located(shipped[chosen], chosen, "default", "ships with famcli")


def shipped_models(file: str = "config.json") -> dict[str, Path]:
    """The checkpoints inside the wheel, or in `models/` of a source checkout, by name: what has this file."""
    return {
        folder.name: folder
        # The last one wins: what is inside the package.
        for root in reversed(shipped_folders("models"))
        for folder in root.iterdir()
        if (folder / file).is_file()
    }


def _named(name: str, chosen_by: str, environ: Mapping[str, str], fetch: Fetch | None) -> Located:
    if not name.strip():
        raise CheckpointError(f"{chosen_by} is empty; give a folder or a name that `famcli models` lists")
    folder = user_path(name)
    if (folder / "config.json").is_file():
        return Located(folder, name, chosen_by, "folder")
    if is_gguf(folder):
        return Located(gguf_parts(folder)[0], name, chosen_by, "GGUF file")
    wanted = HubName.parse(name)
    cached = None if wanted is None else cached_path(wanted, environ)
    if wanted and fetch and not folder.exists() and (cached is None or not is_complete(cached)):
        fetch(wanted, environ)
        cached = cached_path(wanted, environ)
    if cached is not None:
        if not is_complete(cached):
            raise CheckpointError(
                f"{name} is not complete in the hub's cache ({hub_cache(environ)}): it lacks weights or a tokenizer "
                f"that famcli reads; `famcli pull {name}` fetches what is missing, or says why there is none"
            )
        return Located(cached, name, chosen_by, "hub cache")
    shipped = shipped_models()
    if name in shipped:
        return Located(shipped[name], name, chosen_by, "ships with famcli")
    if (short := recommended(name)) is not None:
        return _recommended(short, name, chosen_by, environ)
    if folder.is_dir():
        raise CheckpointError(f"{folder} has no config.json; give the folder that holds a checkpoint's files")
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; give the folder that holds the checkpoint's files, or a GGUF file")
    if wanted is None and "/" in name:
        raise CheckpointError(f"there is no folder {folder} ({chosen_by}); `famcli models` lists what is there")
    carried = [one.name for one in RECOMMENDED if one.name and one.carried and one.carried.path() is not None]
    known = ", ".join((*sorted(shipped), *carried)) or "none"
    close = difflib.get_close_matches(name, [*shipped, *(one.name for one in RECOMMENDED if one.name)], n=1)
    remedy = f"fetch it with `famcli pull {name}`, or " if wanted else ""
    advice = f"did you mean {close[0]}?" if close else f"{remedy}see `famcli models`"
    raise CheckpointError(
        f"'{name}' ({chosen_by}) is no folder, is not in the hub's cache ({hub_cache(environ)}), and does not ship "
        f"with famcli (on this machine: {known}); {advice}"
    )


def _recommended(known: Recommended, name: str, chosen_by: str, environ: Mapping[str, str]) -> Located:
    """A short name: from the hub's cache, else from the package that carries it."""
    wanted = HubName.parse(known.repo)
    cached = None if wanted is None else cached_path(wanted, environ)
    adapter = shipped_models(ADAPTER_CONFIG).get(known.adapter or "")
    if cached is not None and is_complete(cached):
        return Located(cached, name, chosen_by, "hub cache", adapter)
    carried = known.carried
    if carried is not None and (path := carried.path()) is not None:
        return Located(path, name, chosen_by, f"package {carried.module}", adapter)
    install = "" if carried is None else f"`{carried.install}`, or "
    raise CheckpointError(f"'{name}' ({chosen_by}) is not on this machine yet: {install}`famcli pull {known.repo}`")


def is_complete(path: Path) -> bool:
    """True if the tokenizer and all weights of a cached folder are there.

    An interrupted download leaves some of the files, and tools that wanted the configuration alone leave only that.
    """
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if path.is_file() or not holds_tokenizer(path):
        return path.is_file()
    if single.is_file() or not index.is_file():
        return single.is_file()
    try:
        named = json.loads(index.read_bytes())["weight_map"].values()
        return all((path / name).is_file() for name in named)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        # What is wrong with the index is said when the checkpoint is opened.
        return True


def hub_cache(environ: Mapping[str, str]) -> Path:
    """The folder where Hugging Face's tools keep what they fetched, by our variable or those that they obey."""
    for variable in (CACHE_VARIABLE, "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(variable):
            return user_path(environ[variable])
    if environ.get("HF_HOME"):
        return user_path(environ["HF_HOME"]) / "hub"
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(base) / "huggingface" / "hub"


def cached_path(name: HubName, environ: Mapping[str, str]) -> Path | None:
    """The folder (or the GGUF file in it) that `name` means in the hub's cache, if it is there."""
    # The cache's layout is public and stable, and read directly: the core has no huggingface_hub, and importing it
    # would slow the start of every command.
    snapshot = _snapshot(hub_cache(environ) / f"models--{name.repo.replace('/', '--')}", name.revision)
    if snapshot is None:
        return None
    path = snapshot / (name.file or "config.json")
    return None if not path.is_file() else path if name.file else snapshot


def _snapshot(folder: Path, revision: str) -> Path | None:
    commit = revision
    if not _COMMIT.fullmatch(revision):
        reference = folder / "refs" / revision
        if not reference.is_file():
            return None
        commit = reference.read_text("utf-8", errors="replace").strip()
    snapshot = folder / "snapshots" / commit
    return snapshot if _COMMIT.fullmatch(commit) and snapshot.is_dir() else None


def cached_models(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """The names and paths of what the cache has: folders that hold a `config.json`, and GGUF files."""
    root = hub_cache(environ)
    for folder in sorted(root.glob("models--*--*")) if root.is_dir() else ():
        snapshot = _snapshot(folder, "main")
        if snapshot is None:
            continue
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        if (snapshot / "config.json").is_file():
            yield name, snapshot
        for path in sorted(snapshot.glob("*.gguf")):
            yield f"{name}/{path.name}", path


# ----------------------------------------------------------------------------------------------------------- listing


@dataclass(frozen=True)
class ListedModel:
    """A checkpoint that has a name.

    where: "ships with famcli", "hub cache" or "package NAME". num_bytes: of all its files. family: its `model_type`, or
    a GGUF file's architecture; None if that cannot be read. known: famcli opens that family. memory: "trained",
    "untrained", or None for a plain decoder, which reads without one. whole: weights and tokenizer are there.
    """

    name: str
    path: Path
    where: str
    num_bytes: int
    family: str | None
    known: bool
    memory: str | None
    whole: bool = True

    @property
    def enabled(self) -> bool:
        """True if it has a `fam.json`, of its own or in an adapter that ships for it."""
        return self.memory is not None


def list_models(environ: Mapping[str, str] | None = None) -> list[ListedModel]:
    """The checkpoints that ship, then those that packages carry, then those in the hub's cache."""
    environ = os.environ if environ is None else environ
    found = [listed(name, path, "ships with famcli") for name, path in sorted(shipped_models().items())]
    found += [
        listed(one.name, path, f"package {one.carried.module}", shipped_models(ADAPTER_CONFIG).get(one.adapter or ""))
        for one in RECOMMENDED
        if one.name and one.carried and (path := one.carried.path()) is not None
    ]
    return found + [listed(name, path, "hub cache") for name, path in cached_models(environ)]


def listed(name: str, path: Path, where: str, adapter: Path | None = None) -> ListedModel:
    """adapter: of the one that ships for it, which says how it is read."""
    family = _family(path)
    known = family in (GGUF_FAMILIES if is_gguf(path) else FAMILIES)
    files = (
        [part for part in gguf_parts(path) if part.is_file()]
        if is_gguf(path)
        else [each for each in path.rglob("*") if each.is_file()]
    )
    size = sum(each.stat().st_size for each in files)
    return ListedModel(name, path, where, size, family, known, memory_status(adapter or path), is_complete(path))


def _family(path: Path) -> str | None:
    # The cache may hold anything: what cannot be read is listed all the same.
    try:
        family = read_gguf(path).architecture if is_gguf(path) else read_json_object(path / "config.json")["model_type"]
    except (FamcliError, KeyError):
        return None
    return shown(family) if isinstance(family, str) and family else None


def memory_status(path: Path) -> str | None:
    """ "trained" or "untrained"; None for a checkpoint that was not enabled, or whose `fam.json` cannot be read."""
    if not beside(path, SIDECAR_FILE).is_file():
        return None
    try:
        return "trained" if read_sidecar(path).memory_trained else "untrained"
    except FamcliError:
        return None
