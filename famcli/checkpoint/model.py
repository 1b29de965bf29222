"""An opened checkpoint: everything needed to read a document with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from famcli.checkpoint.adapter import Adapter
from famcli.checkpoint.families.pretrained import CONFIG_FILE
from famcli.checkpoint.fingerprints import Fingerprints
from famcli.checkpoint.folder import Fields, read_json_object
from famcli.checkpoint.probes import Probes
from famcli.checkpoint.sidecar import Sidecar
from famcli.errors import UsageError
from famcli.nn import MemoryMode, Network
from famcli.nn.draft import Draft
from famcli.tokens.gguf_file import is_gguf, read_gguf
from famcli.tokens.tokenizer import Tokenizer

GENERATION_FILE = "generation_config.json"
_MAX_ID = 1 << 31


@dataclass(frozen=True)
class Model:
    """A checkpoint, opened.

    network: on its device. sidecar: `fam.json`, with overrides applied. path: its folder. name: how to show it.
    chosen_by: the setting that named it (see `Located`). end_ids: the tokens that end an answer. sampling: its own
    settings for drawing tokens (top_k, top_p, min_p). adapter: the one that was added to its weights. probes: say
    what its middle layers know of an answer. draft: guesses what it writes. warnings, notes: for its user, a line each.
    """

    network: Network
    tokenizer: Tokenizer
    sidecar: Sidecar
    path: Path
    name: str
    fingerprints: Fingerprints
    chosen_by: str = ""
    end_ids: frozenset[int] = frozenset()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    adapter: Adapter | None = None
    probes: Probes | None = None
    draft: Draft | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def default_memory_mode(self) -> MemoryMode:
        """`on`, or `none` while the memory is not trained: an untrained memory only disturbs."""
        return "on" if self.sidecar.memory_trained and self.sidecar.fam.remembers else "none"

    def check_memory_mode(self, mode: str | None) -> None:
        if not self.sidecar.fam.memory_is_separate and mode not in (None, "on"):
            raise UsageError(
                f"{self.name} sees nothing but its memory ({self.sidecar.fam.architecture}): memory mode "
                f"'{mode}' has no meaning; leave the memory mode out"
            )

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype


def read_sampling(folder: Path) -> dict[str, Any]:
    """The settings for drawing tokens that a folder's generation_config.json names. Raises CheckpointError."""
    path = folder / GENERATION_FILE
    if is_gguf(folder) or not path.is_file():
        return {}
    fields = Fields(path, read_json_object(path))
    found = {
        "top_k": fields.integer("top_k", 0, low=0, high=_MAX_ID),
        "top_p": fields.number("top_p", 1.0, low=1e-9, high=1.0),
        "min_p": fields.number("min_p", 0.0, low=0.0, high=1.0 - 1e-9),
    }
    return {name: value for name, value in found.items() if fields.values.get(name) is not None}


def read_end_ids(folder: Path, tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that end an answer: the tokenizer's, and those that the checkpoint names. Raises CheckpointError."""
    if is_gguf(folder):
        metadata = read_gguf(folder).metadata
        named = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
        found = [end for end in named if isinstance(end, int)]
    else:
        found = []
        for path in (folder / GENERATION_FILE, folder / CONFIG_FILE):
            fields = Fields(path, read_json_object(path) if path.is_file() else {})
            value: Any = fields.values.get("eos_token_id")
            listed = value if isinstance(value, list) else [] if value is None else [value]
            if any(type(each) is not int or not 0 <= each < _MAX_ID for each in listed):
                raise fields.wrong("eos_token_id", "must be a token's id, or a list of them")
            found += listed
    return frozenset(found if tokenizer.eos_id is None else [tokenizer.eos_id, *found])
