"""An opened checkpoint: everything needed to read a document with it, and its own settings for generating."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from famcli.checkpoint.adapter import Adapter
from famcli.checkpoint.folder import Fields, read_json_object
from famcli.checkpoint.sidecar import Sidecar
from famcli.checkpoint.weights import Fingerprints
from famcli.errors import UsageError
from famcli.nn import MemoryMode, Network
from famcli.tokens.gguf_file import is_gguf, read_gguf
from famcli.tokens.tokenizer import Tokenizer

GENERATION_FILE = "generation_config.json"
_MAX_ID = 1 << 31


@dataclass(frozen=True)
class GenerationDefaults:
    """Defaults for the fields of `reading.GenerationConfig` of the same names. end_ids: the tokens that end an answer.

    temperature is 0 (the most likely token) unless the checkpoint asks for sampling.
    """

    end_ids: tuple[int, ...] = ()
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Model:
    """A checkpoint, opened.

    network: on its device. sidecar: `fam.json`, with overrides applied. path: its folder. name: how to show it.
    chosen_by: the setting that named it (see `Located`). generation: its own settings for generating. adapter: the one
    that was added to its weights. warnings, notes: for its user, a line each.
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
    notes: tuple[str, ...] = ()

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end an answer: those that the checkpoint names, else the tokenizer's own."""
        own = () if self.tokenizer.eos_id is None else (self.tokenizer.eos_id,)
        return frozenset(self.generation.end_ids or own)

    @property
    def default_memory_mode(self) -> MemoryMode:
        """`on`, or `none` while the memory is not trained: an untrained memory only disturbs."""
        return "on" if self.sidecar.memory_trained and self.sidecar.fam.remembers else "none"

    def check_memory_mode(self, mode: str | None) -> None:
        """Raise UsageError for a mode that means nothing for this network."""
        if self.sidecar.fam.architecture == "feedback" and mode not in (None, "on"):
            raise UsageError(
                f"{self.name} is a Feedback Transformer, which sees nothing but its memory: memory mode '{mode}' has "
                "no meaning; leave the memory mode out"
            )

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """The compute type."""
        return self.network.dtype


def read_generation(folder: Path, tokenizer: Tokenizer) -> GenerationDefaults:
    """The settings of the checkpoint in `folder`; the tokenizer's eos always ends an answer. Raises CheckpointError."""
    if is_gguf(folder):
        metadata = read_gguf(folder).metadata
        own = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
        return GenerationDefaults(_ends(tokenizer, [end for end in own if isinstance(end, int)]))
    path = folder / GENERATION_FILE
    fields = Fields(path, read_json_object(path) if path.is_file() else {})
    ends = _ends(tokenizer, _listed_ends(fields))
    penalty = fields.number("repetition_penalty", 1.0, low=1e-6, high=1e6)
    # Many checkpoints carry a temperature that only counts when sampling is asked for, as with transformers.
    if not fields.boolean("do_sample", False):
        return GenerationDefaults(ends, repetition_penalty=penalty)
    return GenerationDefaults(
        end_ids=ends,
        temperature=fields.number("temperature", 1.0, low=0.0, high=1e6),
        top_k=fields.integer("top_k", 50, low=0, high=_MAX_ID),
        top_p=fields.number("top_p", 1.0, low=1e-9, high=1.0),
        min_p=fields.number("min_p", 0.0, low=0.0, high=1.0 - 1e-9),
        repetition_penalty=penalty,
    )


def _listed_ends(fields: Fields) -> list[int]:
    value: Any = fields.values.get("eos_token_id")
    found = value if isinstance(value, list) else [] if value is None else [value]
    if any(type(each) is not int or not 0 <= each < _MAX_ID for each in found):
        raise fields.wrong("eos_token_id", "must be a token's id, or a list of them")
    return found


def _ends(tokenizer: Tokenizer, found: list[int]) -> tuple[int, ...]:
    own = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    return tuple(dict.fromkeys([*own, *found]))
