"""Open a checkpoint: a folder becomes a network, a tokenizer, and what identifies them.

Everything that a folder declares is checked before memory is taken for its weights; whatever is wrong is one
CheckpointError. Nothing is unpickled, and no file outside the folder is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch

from famcli.checkpoint.checks import (
    Fingerprints,
    checked_tokenizer,
    checked_weights,
    config_fingerprint,
    refuse_adapter,
)
from famcli.checkpoint.device import DTYPES, select_device, select_dtype
from famcli.checkpoint.families import read_config
from famcli.checkpoint.folder import check_links, checkpoint_folder
from famcli.checkpoint.loading import assign_weights
from famcli.checkpoint.locate import Located, resolve
from famcli.checkpoint.model import Model
from famcli.checkpoint.sidecar import MAX_BLOCK_SIZE, MAX_SEGMENTS, Sidecar, read_sidecar
from famcli.checkpoint.weights import PROMPT_NAME, StoredTensor, main_dtype, weights_fingerprint
from famcli.errors import UsageError
from famcli.nn import Decoder, DecoderConfig, FamConfig


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
    compute = select_dtype(dtype, chosen, DTYPES[main_dtype(stored)])
    tokenizer = checked_tokenizer(folder, config.decoder)
    network = load_network(config.decoder, sidecar.fam, stored, chosen, compute)
    fingerprints = Fingerprints(
        weights=weights_fingerprint(stored),
        config=config_fingerprint(config.decoder, sidecar.fam),
        tokenizer=tokenizer.fingerprint,
    )
    return Model(network, tokenizer, sidecar, folder, located.name, fingerprints, located.chosen_by)


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
        return replace(sidecar, fam=replace(sidecar.fam, **cast(dict[str, Any], changes)))
    except ValueError as error:
        raise UsageError(f"the options do not fit this checkpoint: {error}") from error
