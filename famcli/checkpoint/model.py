"""An opened checkpoint: everything needed to read a document with it, and what identifies it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from famcli.checkpoint.sidecar import Sidecar
from famcli.nn import Decoder, DecoderConfig, FamConfig, MemoryMode
from famcli.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Fingerprints:
    """Three sha256 in hex: of the weights as stored, of the shape and the way of reading, of the tokenizer.

    A memory file fits a model when all three agree.
    """

    weights: str
    config: str
    tokenizer: str


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


def config_fingerprint(config: DecoderConfig, fam: FamConfig) -> str:
    """sha256 of all numbers that decide what a state means, as canonical JSON."""
    values = {"decoder": asdict(config), "fam": asdict(fam)}
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
