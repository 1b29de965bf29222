"""What is checked of a checkpoint's folder before its weights are loaded, and what identifies it. No torch.

Everything that a folder declares is compared; whatever is wrong is one CheckpointError.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from famcli.checkpoint.families.pretrained import CONFIG_FILE, PretrainedConfig, check_ropes
from famcli.checkpoint.weights import (
    PROMPT_NAME,
    StoredTensor,
    check_shape,
    check_weights,
    stored_prompt,
    stored_weights,
)
from famcli.errors import CheckpointError
from famcli.nn.config import DecoderConfig, FamConfig, later_switches
from famcli.nn.shapes import parameter_shapes
from famcli.tokens import open_tokenizer
from famcli.tokens.gguf_file import is_gguf
from famcli.tokens.tokenizer import Tokenizer

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

# Switches of ablations that ended. Their names stay in the fingerprint, or no older memory file would fit its model.
_ENDED = dict.fromkeys(("first_update_residual", "stop_segment_gradient", "prompt_with_first_block"), False)


@dataclass(frozen=True)
class Fingerprints:
    """Three sha256 in hex: of the weights as stored, of the shape and the way of reading, of the tokenizer.

    A memory file fits a model when all three agree.
    """

    weights: str
    config: str
    tokenizer: str


def config_fingerprint(config: DecoderConfig, fam: FamConfig) -> str:
    """sha256 of all numbers that decide what a state means, as canonical JSON.

    Switches at their defaults are left out, so that a new one changes no older fingerprint.
    """
    values = {"fam": fam.to_json() | _ENDED}
    resting = {each.name for each in fields(config) if each.kw_only} - set(later_switches(config))
    values["decoder"] = {key: value for key, value in asdict(config).items() if key not in resting}
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def checked_weights(folder: Path, config: PretrainedConfig, fam: FamConfig) -> dict[str, StoredTensor]:
    """What the weight files and the prompt's declare, once every name and shape is what the network wants."""
    try:
        shapes = parameter_shapes(config.decoder, replace(fam, fam_length=0))
    except (ValueError, ArithmeticError) as error:
        raise _impossible(folder, error) from error
    stored = stored_weights(folder, config)
    check_weights(stored, shapes, folder)
    return with_prompt({name: stored[name] for name in shapes}, folder, config, fam, folder)


def with_prompt(
    weights: Mapping[str, StoredTensor], folder: Path, config: PretrainedConfig, fam: FamConfig, prompt_folder: Path
) -> dict[str, StoredTensor]:
    """The checked `weights` of `folder` and, where `fam` has a memory, the prompt in `prompt_folder`."""
    try:
        check_ropes(config.decoder, fam.visible_tokens)
    except (ValueError, ArithmeticError) as error:
        raise _impossible(folder, error) from error
    if not fam.fam_length:
        return dict(weights)
    prompt = stored_prompt(prompt_folder)
    check_shape(prompt, (fam.fam_length, config.decoder.hidden_size))
    return {**weights, PROMPT_NAME: prompt}


def _impossible(folder: Path, error: Exception) -> CheckpointError:
    path = folder if is_gguf(folder) else folder / CONFIG_FILE
    return CheckpointError(f"{path}: no network can have these numbers ({error})")


def checked_tokenizer(folder: Path, config: DecoderConfig) -> Tokenizer:
    """The folder's tokenizer, once no id of it lies beyond the network's vocabulary."""
    tokenizer = open_tokenizer(folder)
    if tokenizer.vocab_size > config.vocab_size:
        size = "the number of rows of token_embd.weight" if is_gguf(folder) else "config.json's vocab_size"
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, {size} is {config.vocab_size}; one of them "
            "belongs to another checkpoint"
        )
    return tokenizer


def refuse_adapter(folder: Path) -> None:
    """Raise CheckpointError when the folder has a LoRA adapter: reading without it would silently be another model."""
    found = [name for name in _ADAPTER_FILES if (folder / name).exists()]
    if found:
        raise CheckpointError(
            f"{folder} has a LoRA adapter ({found[0]}) beside its weights; say which is meant: --adapter {folder}, or "
            "move the adapter into a folder of its own"
        )
