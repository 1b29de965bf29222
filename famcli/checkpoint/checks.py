"""What is checked of a checkpoint's folder before its weights are loaded, and what identifies it. No torch.

Everything that a folder declares is compared; whatever is wrong is one CheckpointError.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from famcli.checkpoint.families import CONFIG_FILE, PretrainedConfig
from famcli.checkpoint.weights import (
    PROMPT_NAME,
    StoredTensor,
    check_shape,
    check_weights,
    stored_prompt,
    stored_weights,
)
from famcli.errors import CheckpointError
from famcli.nn.config import DecoderConfig, FamConfig
from famcli.nn.frequencies import inverse_frequencies
from famcli.nn.shapes import parameter_shapes
from famcli.tokens import open_tokenizer
from famcli.tokens.tokenizer import Tokenizer

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class Fingerprints:
    """Three sha256 in hex: of the weights as stored, of the shape and the way of reading, of the tokenizer.

    A memory file fits a model when all three agree.
    """

    weights: str
    config: str
    tokenizer: str


def config_fingerprint(config: DecoderConfig, fam: FamConfig) -> str:
    """sha256 of all numbers that decide what a state means, as canonical JSON."""
    values = {"decoder": asdict(config), "fam": asdict(fam)}
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def checked_weights(folder: Path, config: PretrainedConfig, fam: FamConfig) -> dict[str, StoredTensor]:
    """What the weight files and the prompt's declare, once every name and shape is what the network wants."""
    try:
        shapes = parameter_shapes(config.decoder, fam)
        visible = (fam.memory_segments + 1) * fam.block_size
        inverse_frequencies(config.decoder.rope, config.decoder.head_dim, visible)
    except (ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: no network can have these numbers ({error})") from error
    stored = stored_weights(folder, config.family, config.storage)
    prompt = shapes.pop(PROMPT_NAME, None)
    check_weights(stored, shapes, folder)
    stored = {name: stored[name] for name in shapes}
    if prompt is not None:
        stored[PROMPT_NAME] = stored_prompt(folder)
        check_shape(stored[PROMPT_NAME], prompt)
    return stored


def checked_tokenizer(folder: Path, config: DecoderConfig) -> Tokenizer:
    """The folder's tokenizer, once no id of it lies beyond the network's vocabulary."""
    tokenizer = open_tokenizer(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, config.json's vocab_size is "
            f"{config.vocab_size}; one of them belongs to another checkpoint"
        )
    return tokenizer


def refuse_adapter(folder: Path) -> None:
    """Raise CheckpointError when the folder has a LoRA adapter: reading without it would silently be another model."""
    found = [name for name in _ADAPTER_FILES if (folder / name).exists()]
    if found:
        raise CheckpointError(f"{folder} has a LoRA adapter ({found[0]}), which is not applied yet; merge it first")
