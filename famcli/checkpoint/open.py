"""Open a checkpoint: a folder becomes a network, a tokenizer, and what identifies them.

Everything that a folder declares is checked before memory is taken for its weights; whatever is wrong is one
CheckpointError. Nothing is unpickled, and no file outside the folder is read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from famcli.checkpoint.adapters.adapter import ADAPTER_WEIGHTS, Adapter, Fitted, base_warnings, fit, read_adapter
from famcli.checkpoint.adapters.merge import load_updates
from famcli.checkpoint.checks import Fingerprints, check_folder, config_fingerprint
from famcli.checkpoint.device import DTYPES, select_device, select_dtype
from famcli.checkpoint.generation import read_generation
from famcli.checkpoint.loading import assign_weights
from famcli.checkpoint.locate import Located, resolve
from famcli.checkpoint.model import Model
from famcli.checkpoint.quantize import check_quantization
from famcli.checkpoint.sidecar import Sidecar, read_sidecar
from famcli.checkpoint.weights import PROMPT_NAME, StoredTensor, main_dtype, weights_fingerprint
from famcli.errors import UsageError
from famcli.nn import DecoderConfig, FamConfig, Network, make_network
from famcli.nn.lora import LowRank


def open_model(
    name: str | os.PathLike[str] | Located | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    adapter: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Model:
    """Open the checkpoint that `name` means (see `resolve`), ready to read on `device` and in `dtype`.

    `settings` are those of `FamConfig` that override the sidecar's; `quantize` ("int8", "int4") keeps the matrices in
    fewer bits, for reading only. `adapter`: the folder of a LoRA adapter, which is added to the weights; if famcli made
    it, its FamConfig and its memory prompt replace the checkpoint's. Raises CheckpointError when files are missing,
    damaged or do not fit together, TokenizerError for the tokenizer's, UsageError for an impossible device, type or
    override.
    """
    check_quantization(quantize)
    located = name if isinstance(name, Located) else resolve(name)
    added = None if adapter is None else read_adapter(Path(adapter))
    checked = check_folder(located.path, ignore_adapter=added is not None)
    decoder, shown = checked.config.decoder, located.name
    fitted: Fitted = {}
    warnings: tuple[str, ...] = ()
    if added is not None:
        fitted = fit(added, checked.config, checked.weights, located.name)
        warnings = base_warnings(added, checked.weights, located.name)
        shown = f"{located.name} with {added.folder}"
    home = added.folder if added is not None and added.sidecar is not None else checked.path
    sidecar = _overridden(read_sidecar(home, located.name), settings)
    stored = checked.weights_and_prompt(sidecar.fam, home)
    chosen = select_device(device)
    compute = select_dtype(dtype, chosen, DTYPES[main_dtype(stored)])
    # First, because the pages that hashing reads are given back before those that stay are taken.
    fingerprints = Fingerprints(
        weights=_fingerprint(stored, added),
        config=config_fingerprint(decoder, sidecar.fam),
        tokenizer=checked.tokenizer.fingerprint,
    )
    updates = {} if added is None else load_updates(added, fitted)
    return Model(
        network=load_network(decoder, sidecar.fam, stored, chosen, compute, quantize, updates),
        tokenizer=checked.tokenizer,
        sidecar=sidecar,
        path=checked.path,
        name=shown,
        fingerprints=fingerprints,
        chosen_by=located.chosen_by,
        generation=read_generation(checked.path, checked.tokenizer),
        adapter=added,
        warnings=warnings,
    )


def load_network(
    config: DecoderConfig,
    fam: FamConfig,
    stored: Mapping[str, StoredTensor],
    device: torch.device,
    dtype: torch.dtype,
    quantize: str = "none",
    updates: Mapping[str, LowRank] | None = None,
) -> Network:
    """The network with its checked weights `stored` in `dtype`, the memory prompt in float32.

    updates: an adapter's, by parameter.
    """
    # Tensors made in inference mode could never be trained, nor tell when they change.
    with torch.inference_mode(False):
        with torch.device("meta"):
            network = make_network(config, fam)
        names = [name for name, _ in network.named_parameters()]
        dtypes = {name: torch.float32 if name == PROMPT_NAME else dtype for name in names}
        assign_weights(network, stored, device, dtypes, quantize, updates)
    return network.eval()


def _fingerprint(stored: Mapping[str, StoredTensor], adapter: Adapter | None) -> str:
    """The fingerprint of the weights and of the adapter that is added to them."""
    weights = weights_fingerprint(stored)
    if adapter is None:
        return weights
    with (adapter.folder / ADAPTER_WEIGHTS).open("rb") as file:
        added = hashlib.file_digest(file, "sha256").hexdigest()
    scales = sorted((module, update.scale) for module, update in adapter.updates.items())
    return hashlib.sha256(f"{weights} {added} {scales}".encode()).hexdigest()


def _overridden(sidecar: Sidecar, settings: Mapping[str, Any]) -> Sidecar:
    try:
        return replace(sidecar, fam=replace(sidecar.fam, **settings))
    except ValueError as error:
        raise UsageError(f"the options do not fit this checkpoint: {error}") from error
