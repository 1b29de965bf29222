"""The facts of a checkpoint, from its headers and JSON alone: no weight is loaded, nor torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from famcli.checkpoint.adapter import adapted_fingerprint, read_adapter
from famcli.checkpoint.fingerprints import Fingerprints, config_fingerprint
from famcli.checkpoint.folder import beside
from famcli.checkpoint.locate import Located, resolve
from famcli.checkpoint.quantize import GROUP_COLUMNS, QUANTIZATIONS, bits_of
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar, read_sidecar
from famcli.checkpoint.weights import check_folder, main_dtype
from famcli.nn.config import DecoderConfig, FamConfig
from famcli.nn.shapes import own_shapes, parameter_shapes, state_shapes


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint's facts.

    sidecar: None for a plain decoder that was not enabled. num_parameters: without the memory prompt, tied ones once.
    adapter: folder of the one that ships for it, whose sidecar replaces the checkpoint's.
    storage: float, or int8 or int4 for matrices that are dequantized to bfloat16 on loading. dtypes: parameters stored
    in each type. files: name and bytes of each file. weights_bytes: of all stored weights and their scales.
    state_bytes: of the largest state of one stream (all segments, one token short of a full block, keys and values in
    the stored type, memory on); None for a plain decoder. memory_bytes: of the weights in memory, by the type or the
    `quantize` they are opened with. max_positions: tokens it was pretrained on.
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
    adapter: Path | None
    fingerprints: Fingerprints


def inspect_checkpoint(name: str | os.PathLike[str] | Located | None = None) -> CheckpointInfo:
    """The facts of the checkpoint that `name` means. Raises CheckpointError and TokenizerError as opening it would."""
    located = name if isinstance(name, Located) else resolve(name)
    adapter = None if located.adapter is None else read_adapter(located.adapter)
    checked = check_folder(located.path, ignore_adapter=adapter is not None)
    folder, config = checked.path, checked.config
    # As it is opened: what the adapter says of reading replaces what the checkpoint says.
    home = folder if adapter is None or adapter.sidecar is None else adapter.folder
    sidecar = read_sidecar(home) if beside(home, SIDECAR_FILE).exists() else None
    fam = sidecar.fam if sidecar else FamConfig().without_memory
    stored = checked.all_weights(fam, home)
    paths = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    weights, own = list(checked.weights.values()), own_shapes(config.decoder, fam)
    shapes = parameter_shapes(config.decoder, fam)
    dtypes: Counter[str] = Counter()
    for tensor in weights:
        dtypes[tensor.dtype] += prod(tensor.shape)
    return CheckpointInfo(
        path=folder,
        name=located.name,
        where=located.where,
        family=config.family.name,
        decoder=config.decoder,
        max_positions=config.decoder.rope.max_position,
        sidecar=sidecar,
        num_parameters=sum(prod(shape) for name, shape in shapes.items() if name not in own),
        memory_parameters=sum(map(prod, own.values())),
        storage=config.storage,
        dtypes=dict(dtypes.most_common()),
        files=tuple((path.name, path.stat().st_size) for path in paths if path.is_file()),
        weights_bytes=sum(tensor.num_bytes + (tensor.scale.num_bytes if tensor.scale else 0) for tensor in weights),
        state_bytes=state_bytes(config.decoder, fam, main_dtype(stored)) if sidecar else None,
        memory_bytes=memory_bytes(config.decoder, fam),
        adapter=located.adapter,
        fingerprints=Fingerprints(
            adapted_fingerprint(stored, adapter), config_fingerprint(config.decoder, fam), checked.tokenizer.fingerprint
        ),
    )


def state_bytes(config: DecoderConfig, fam: FamConfig, dtype: str) -> int:
    """Bytes of the largest state of one stream, with keys and values in `dtype`; what is read does not change it."""
    total = 0
    for name, shape in state_shapes(config, fam).items():
        itemsize = 8 if name == "position" else 4 if name.endswith(".memory") else 4 if dtype == "float32" else 2
        total += prod(shape) * itemsize
    return total


def memory_bytes(config: DecoderConfig, fam: FamConfig) -> dict[str, int]:
    """Bytes of all weights in memory: in float32, in bfloat16, and quantized with the rest in bfloat16."""
    shapes = parameter_shapes(config, fam)
    count = sum(map(prod, shapes.values()))
    quantized = {to: sum(_bytes(name, shape, to) for name, shape in shapes.items()) for to in QUANTIZATIONS[1:]}
    return {"float32": 4 * count, "bfloat16": 2 * count, **quantized}


def _bytes(parameter: str, shape: tuple[int, ...], quantize: str) -> int:
    bits = bits_of(parameter, shape, quantize)
    if bits is None:
        return 2 * prod(shape)
    return prod(shape) * bits // 8 + 4 * (shape[0] if bits == 8 else prod(shape) // GROUP_COLUMNS)
