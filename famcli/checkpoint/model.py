"""An opened checkpoint: everything needed to read a document with it, and its fingerprints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from famcli.checkpoint.adapters.adapter import Adapter
from famcli.checkpoint.checks import Fingerprints, config_fingerprint
from famcli.checkpoint.generation import GenerationDefaults
from famcli.checkpoint.sidecar import Sidecar
from famcli.nn import MemoryMode, Network
from famcli.tokens.tokenizer import Tokenizer

__all__ = ["Fingerprints", "Model", "config_fingerprint"]


@dataclass(frozen=True)
class Model:
    """A checkpoint, opened.

    network: on its device. sidecar: `fam.json`, with overrides applied. path: its folder. name: how to show it.
    chosen_by: the setting that named it (see `Located`). generation: its own settings for generating. adapter: the one
    that was added to its weights. warnings: for its user, a line each.
    """

    network: Network
    tokenizer: Tokenizer
    sidecar: Sidecar
    path: Path
    name: str
    fingerprints: Fingerprints
    chosen_by: str = ""
    generation: GenerationDefaults = field(default_factory=GenerationDefaults)
    adapter: Adapter | None = None
    warnings: tuple[str, ...] = ()

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end an answer: those that the checkpoint names, else the tokenizer's own."""
        own = () if self.tokenizer.eos_id is None else (self.tokenizer.eos_id,)
        return frozenset(self.generation.end_ids or own)

    @property
    def default_memory_mode(self) -> MemoryMode:
        """`on`, or `none` while the memory is not trained: an untrained memory only disturbs."""
        return "on" if self.sidecar.memory_trained and self.sidecar.fam.fam_length else "none"

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """The compute type."""
        return self.network.dtype
