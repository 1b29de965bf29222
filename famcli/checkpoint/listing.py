"""The checkpoints that can be asked for by name: family, size, and whether the memory is trained. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from famcli.checkpoint.families.pretrained import FAMILIES
from famcli.checkpoint.folder import beside
from famcli.checkpoint.gguf.tensors import ARCHITECTURES
from famcli.checkpoint.jsonfile import read_json_object, shown
from famcli.checkpoint.locate import cached_models, is_whole, shipped_models
from famcli.checkpoint.sidecar import SIDECAR_FILE, read_sidecar
from famcli.errors import FamcliError
from famcli.tokens.gguf_file import is_gguf, read_gguf


@dataclass(frozen=True)
class ListedModel:
    """A checkpoint that can be asked for by name.

    where: "ships with famcli" or "hub cache". num_bytes: of all its files. family: its `model_type`, or a GGUF file's
    architecture; None where that cannot be read. known: famcli opens that family. memory: "trained", "untrained", or
    None while it is a plain decoder that `famcli enable` has not seen. whole: weights and tokenizer are there.
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
        """Whether it can read streams."""
        return self.memory is not None


def list_models(environ: Mapping[str, str] | None = None) -> list[ListedModel]:
    """The checkpoints that ship, then those in the hub's cache."""
    environ = os.environ if environ is None else environ
    found = [listed(name, path, "ships with famcli") for name, path in sorted(shipped_models().items())]
    return found + [listed(name, path, "hub cache") for name, path in cached_models(environ)]


def listed(name: str, path: Path, where: str) -> ListedModel:
    """What there is to say of the checkpoint at `path`."""
    family = _family(path)
    known = family in (ARCHITECTURES if is_gguf(path) else FAMILIES)
    files = [path] if is_gguf(path) else [each for each in path.rglob("*") if each.is_file()]
    size = sum(each.stat().st_size for each in files)
    return ListedModel(name, path, where, size, family, known, _memory(path), is_whole(path))


def _family(path: Path) -> str | None:
    """A folder of others may hold anything: what cannot be read is listed all the same."""
    try:
        family = read_gguf(path).architecture if is_gguf(path) else read_json_object(path / "config.json")["model_type"]
    except (FamcliError, KeyError):
        return None
    return shown(family) if isinstance(family, str) and family else None


def _memory(path: Path) -> str | None:
    if not beside(path, SIDECAR_FILE).is_file():
        return None
    try:
        return "trained" if read_sidecar(path).memory_trained else "untrained"
    except FamcliError:
        return None
