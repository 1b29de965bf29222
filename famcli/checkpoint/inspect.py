"""What a checkpoint folder holds, from its headers and JSON alone: no weight is loaded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from famcli.checkpoint.checks import (
    Fingerprints,
    checked_tokenizer,
    checked_weights,
    config_fingerprint,
    refuse_adapter,
)
from famcli.checkpoint.families.pretrained import read_config
from famcli.checkpoint.folder import beside, check_links, checkpoint_folder
from famcli.checkpoint.locate import Located, resolve
from famcli.checkpoint.quantize import memory_bytes
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar, read_sidecar
from famcli.checkpoint.weights import ITEM_BYTES, PROMPT_NAME, StoredTensor, main_dtype, weights_fingerprint
from famcli.nn.config import DecoderConfig, FamConfig
from famcli.nn.shapes import state_shapes


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint's facts.

    sidecar: None for a plain decoder that was not enabled. num_parameters: without the memory prompt, tied ones once.
    storage: float, or int8 or int4 for matrices that are turned back to bfloat16 on loading. dtypes: parameters stored
    in each type. files: name and bytes of each file. weights_bytes: of all stored weights and their scales.
    state_bytes: of the largest state of one stream (every segment there, one token short of a full block, keys and
    values in the stored type, memory on) and of a plain decoder None. memory_bytes: of the weights in memory, by the
    type or the `quantize` they are opened with. max_positions: tokens it was pretrained on.
    """

    path: Path
    name: str
    where: str
    family: str
    decoder: DecoderConfig
    max_positions: int
    sidecar: Sidecar | None
    num_parameters: int
    memory_parameters: int
    storage: str
    dtypes: dict[str, int]
    files: tuple[tuple[str, int], ...]
    weights_bytes: int
    state_bytes: int | None
    memory_bytes: Mapping[str, int]
    fingerprints: Fingerprints


def inspect_checkpoint(name: str | os.PathLike[str] | Located | None = None) -> CheckpointInfo:
    """The facts of the checkpoint that `name` means. Raises CheckpointError and TokenizerError as opening it would."""
    located = name if isinstance(name, Located) else resolve(name)
    folder = checkpoint_folder(located.path)
    check_links(folder)
    config = read_config(folder)
    refuse_adapter(folder)
    sidecar = read_sidecar(folder) if beside(folder, SIDECAR_FILE).exists() else None
    fam = sidecar.fam if sidecar else FamConfig(fam_length=0)
    stored = checked_weights(folder, config, fam)
    tokenizer = checked_tokenizer(folder, config.decoder)
    prompt = stored.get(PROMPT_NAME)
    weights = [tensor for key, tensor in stored.items() if key != PROMPT_NAME]
    return CheckpointInfo(
        path=folder,
        name=located.name,
        where=located.where,
        family=config.family.name,
        decoder=config.decoder,
        max_positions=config.max_positions,
        sidecar=sidecar,
        num_parameters=sum(prod(tensor.shape) for tensor in weights),
        memory_parameters=prod(prompt.shape) if prompt else 0,
        storage=config.storage,
        dtypes=_dtypes(weights),
        files=_files(folder),
        weights_bytes=sum(tensor.num_bytes + (tensor.scale.num_bytes if tensor.scale else 0) for tensor in weights),
        state_bytes=state_bytes(config.decoder, fam, main_dtype(stored)) if sidecar else None,
        memory_bytes=memory_bytes(config.decoder, fam),
        fingerprints=Fingerprints(
            weights_fingerprint(stored), config_fingerprint(config.decoder, fam), tokenizer.fingerprint
        ),
    )


def state_bytes(config: DecoderConfig, fam: FamConfig, dtype: str) -> int:
    """Bytes of the largest state of one stream, with keys and values in `dtype`; what is read does not change it."""
    meta = {"fill": fam.block_size - 1, "num_closed": fam.memory_segments + 1, "memory_mode": "on"}
    total = 0
    for name, shape in state_shapes(config, fam, meta).items():
        itemsize = 8 if name == "position" else 4 if name.endswith(".memory") else ITEM_BYTES[dtype]
        total += prod(shape) * itemsize
    return total


def _files(folder: Path) -> tuple[tuple[str, int], ...]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    return tuple((path.name, path.stat().st_size) for path in paths if path.is_file())


def _dtypes(weights: list[StoredTensor]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for tensor in weights:
        counts[tensor.dtype] += prod(tensor.shape)
    return dict(counts.most_common())
