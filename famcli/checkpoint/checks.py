"""A checkpoint's folder, checked before its weights are loaded, and the fingerprints that identify it. No torch.

The files of a folder are compared with one another here and nowhere else: the weights with the configuration, the
tokenizer with the vocabulary, the memory prompt with `fam.json`. Whatever is wrong is one CheckpointError.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from famcli.checkpoint.families.pretrained import CONFIG_FILE, PretrainedConfig, check_ropes, read_config
from famcli.checkpoint.folder import check_links, checkpoint_folder
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


@dataclass(frozen=True)
class CheckedFolder:
    """A checkpoint's folder, or its GGUF file, whose files fit together.

    weights: as the files declare them, by the network's parameters and without the memory prompt.
    """

    path: Path
    config: PretrainedConfig
    weights: Mapping[str, StoredTensor]
    tokenizer: Tokenizer

    def weights_and_prompt(self, fam: FamConfig, prompt_folder: Path | None = None) -> dict[str, StoredTensor]:
        """The weights and, if `fam` has a memory, the prompt in `prompt_folder` (default: in the same folder)."""
        check_visible(self.config, fam, self.path)
        if not fam.fam_length:
            return dict(self.weights)
        prompt = stored_prompt(prompt_folder or self.path)
        check_shape(prompt, (fam.fam_length, self.config.decoder.hidden_size))
        return {**self.weights, PROMPT_NAME: prompt}


def check_folder(path: str | os.PathLike[str], *, ignore_adapter: bool = False) -> CheckedFolder:
    """Read and check all that the folder (or GGUF file) of a checkpoint declares; no weight is loaded.

    Raises CheckpointError and TokenizerError. A LoRA adapter in the same folder is refused unless `ignore_adapter`.
    """
    folder = checkpoint_folder(path)
    # Before anything is opened: a link may lead to any file of the machine.
    check_links(folder)
    if not ignore_adapter:
        refuse_adapter(folder)
    config = read_config(folder)
    weights = checked_weights(folder, config)
    tokenizer = open_tokenizer(folder)
    if tokenizer.vocab_size > config.decoder.vocab_size:
        size = "the number of rows of token_embd.weight" if is_gguf(folder) else "config.json's vocab_size"
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, {size} is {config.decoder.vocab_size}; one of "
            "them belongs to another checkpoint"
        )
    return CheckedFolder(folder, config, weights, tokenizer)


def checked_weights(folder: Path, config: PretrainedConfig) -> dict[str, StoredTensor]:
    """The tensors that the weight files declare, once all names and shapes are those of the network's parameters."""
    try:
        shapes = parameter_shapes(config.decoder, FamConfig().without_memory)
    except (ValueError, ArithmeticError) as error:
        raise _impossible(folder, error) from error
    stored = stored_weights(folder, config)
    check_weights(stored, shapes, folder)
    return {name: stored[name] for name in shapes}


def check_visible(config: PretrainedConfig, fam: FamConfig, folder: Path) -> None:
    """Raise CheckpointError unless the rotary positions work out for the tokens that `fam` makes visible."""
    try:
        check_ropes(config.decoder, fam.visible_tokens)
    except (ValueError, ArithmeticError) as error:
        raise _impossible(folder, error) from error


def config_fingerprint(config: DecoderConfig, fam: FamConfig) -> str:
    """sha256 of all numbers that decide what a state means, as canonical JSON."""
    values = {"fam": fam.to_json() | _ENDED}
    # Switches at their defaults are left out, so that adding one changes no older fingerprint.
    resting = {each.name for each in fields(config) if each.kw_only} - set(later_switches(config))
    values["decoder"] = {key: value for key, value in asdict(config).items() if key not in resting}
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def refuse_adapter(folder: Path) -> None:
    """Raise CheckpointError when the folder has a LoRA adapter: reading without it would silently be another model."""
    found = [name for name in _ADAPTER_FILES if (folder / name).exists()]
    if found:
        raise CheckpointError(
            f"{folder} has a LoRA adapter ({found[0]}) beside its weights; say which is meant, or move the adapter "
            "into a folder of its own",
            remedy={"adapter": str(folder)},
        )


def _impossible(folder: Path, error: Exception) -> CheckpointError:
    path = folder if is_gguf(folder) else folder / CONFIG_FILE
    return CheckpointError(f"{path}: no network can have these numbers ({error})")
