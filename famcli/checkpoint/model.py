"""An opened checkpoint: everything needed to read a document with it, and what identifies it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from famcli.checkpoint.checks import Fingerprints, config_fingerprint
from famcli.checkpoint.sidecar import Sidecar
from famcli.nn import Decoder, MemoryMode
from famcli.tokens.tokenizer import Tokenizer

__all__ = ["Fingerprints", "Model", "config_fingerprint"]


@dataclass(frozen=True)
class Model:
    """A checkpoint, opened.

    network: the decoder, on its device. sidecar: `fam.json`, with overrides applied. path: its folder. name: how to
    show it. chosen_by: the rule that picked it (see `Located`).
    """

    network: Decoder
    tokenizer: Tokenizer
    sidecar: Sidecar
    path: Path
    name: str
    fingerprints: Fingerprints
    chosen_by: str = ""

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
