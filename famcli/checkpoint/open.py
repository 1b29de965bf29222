"""Open a checkpoint: a folder becomes a network, a tokenizer, and what identifies them.

Everything that a folder declares is checked before memory is taken for its weights; whatever is wrong is one
CheckpointError. Nothing is unpickled, and no file outside the folder is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from famcli.checkpoint.device import select_device, select_dtype
from famcli.checkpoint.families import CONFIG_FILE, PretrainedConfig, read_config
from famcli.checkpoint.folder import check_links, checkpoint_folder
from famcli.checkpoint.locate import Located, resolve
from famcli.checkpoint.model import Fingerprints, Model, config_fingerprint
from famcli.checkpoint.sidecar import MAX_BLOCK_SIZE, MAX_SEGMENTS, Sidecar, read_sidecar
from famcli.checkpoint.weights import (
    PROMPT_NAME,
    StoredTensor,
    assign_weights,
    check_shape,
    check_weights,
    stored_prompt,
    stored_weights,
    weights_fingerprint,
)
from famcli.errors import CheckpointError, UsageError
from famcli.nn import Decoder, DecoderConfig, FamConfig
from famcli.tokens import open_tokenizer
from famcli.tokens.tokenizer import Tokenizer

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def open_model(
    name: str | os.PathLike[str] | Located | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    block_size: int | None = None,
    memory_segments: int | None = None,
    sink_tokens: int | None = None,
) -> Model:
    """Open the checkpoint that `name` means (see `resolve`), ready to read on `device` and in `dtype`.

    `block_size`, `memory_segments` and `sink_tokens` override the sidecar. Raises CheckpointError when files are
    missing, damaged or do not fit together, TokenizerError for the tokenizer's, UsageError for a device, a type or an
    override that cannot be.
    """
    located = name if isinstance(name, Located) else resolve(name)
    folder = checkpoint_folder(located.path)
    check_links(folder)
    sidecar = _overridden(read_sidecar(folder), block_size, memory_segments, sink_tokens)
    config = read_config(folder)
    refuse_adapter(folder)
    stored = checked_weights(folder, config, sidecar.fam)
    chosen = select_device(device)
    compute = select_dtype(dtype, chosen, main_dtype(stored))
    tokenizer = checked_tokenizer(folder, config.decoder)
    network = load_network(config.decoder, sidecar.fam, stored, chosen, compute)
    fingerprints = Fingerprints(
        weights=weights_fingerprint(stored),
        config=config_fingerprint(config.decoder, sidecar.fam),
        tokenizer=tokenizer.fingerprint,
    )
    return Model(network, tokenizer, sidecar, folder, located.name, fingerprints, located.chosen_by)


def checked_weights(folder: Path, config: PretrainedConfig, fam: FamConfig) -> dict[str, StoredTensor]:
    """What the weight files and the prompt's declare, once every name and shape is what the network wants."""
    try:
        shapes = network_shapes(config.decoder, fam)
    except (ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: no network can have these numbers ({error})") from error
    stored = stored_weights(folder, config.family)
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


def network_shapes(config: DecoderConfig, fam: FamConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by name, from a network that takes no memory."""
    return {name: tuple(parameter.shape) for name, parameter in _empty_network(config, fam).named_parameters()}


def load_network(
    config: DecoderConfig, fam: FamConfig, stored: Mapping[str, StoredTensor], device: torch.device, dtype: torch.dtype
) -> Decoder:
    """The network with its stored weights in `dtype`, the memory prompt in float32. `stored` was checked before."""
    # Tensors made in inference mode could never be trained, nor tell when they change.
    with torch.inference_mode(False):
        network = _empty_network(config, fam)
        names = [name for name, _ in network.named_parameters()]
        dtypes = {name: torch.float32 if name == PROMPT_NAME else dtype for name in names}
        assign_weights(network, stored, device, dtypes)
    return network.eval()


def main_dtype(stored: Mapping[str, StoredTensor]) -> torch.dtype:
    """The type most of the stored weights have, by bytes (the prompt's does not count)."""
    sizes: Counter[torch.dtype] = Counter()
    for name, tensor in stored.items():
        if name != PROMPT_NAME:
            sizes[tensor.dtype] += tensor.num_bytes
    return sizes.most_common(1)[0][0]


def refuse_adapter(folder: Path) -> None:
    """Raise CheckpointError when the folder has a LoRA adapter: reading without it would silently be another model."""
    found = [name for name in _ADAPTER_FILES if (folder / name).exists()]
    if found:
        raise CheckpointError(f"{folder} has a LoRA adapter ({found[0]}), which is not applied yet; merge it first")


def _empty_network(config: DecoderConfig, fam: FamConfig) -> Decoder:
    with torch.device("meta"):
        return Decoder(config, fam)


def _overridden(
    sidecar: Sidecar, block_size: int | None, memory_segments: int | None, sink_tokens: int | None
) -> Sidecar:
    given = {"block_size": block_size, "memory_segments": memory_segments, "sink_tokens": sink_tokens}
    changes = {key: value for key, value in given.items() if value is not None}
    limits = {"block_size": MAX_BLOCK_SIZE, "memory_segments": MAX_SEGMENTS, "sink_tokens": MAX_BLOCK_SIZE}
    for key, value in changes.items():
        if value > limits[key]:
            raise UsageError(f"{key} is {value}, more than the {limits[key]} that can be")
    try:
        return replace(sidecar, fam=replace(sidecar.fam, **changes))
    except ValueError as error:
        raise UsageError(f"the options do not fit this checkpoint: {error}") from error
