"""Write a checkpoint's folder anew with its matrices in int8 or int4: a half or a third of bfloat16, for any family.

Tensors keep the names and the order that the family gives them; they are read, quantized and written one file at a
time, so no more than a file of them is ever in memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from famcli.checkpoint import int4, int8
from famcli.checkpoint.checks import checked_tokenizer, checked_weights, refuse_adapter
from famcli.checkpoint.families.pretrained import CONFIG_FILE, STORAGES, read_config
from famcli.checkpoint.folder import beside, check_links, check_new_folder, checkpoint_folder
from famcli.checkpoint.gguf.tensors import config_values
from famcli.checkpoint.jsonfile import read_json_object
from famcli.checkpoint.quantize import bits_of
from famcli.checkpoint.save import save_tensors
from famcli.checkpoint.sidecar import SIDECAR_FILE
from famcli.checkpoint.weights import INDEX_FILE, PROMPT_FILE, SCALE_SUFFIX, StoredTensor, opened
from famcli.documents.atomic import atomic_files
from famcli.errors import CheckpointError
from famcli.nn.config import FamConfig
from famcli.tokens.gguf_file import is_gguf, read_gguf

SHARD_BYTES = 2 << 30
_ALONG = ("generation_config.json", "chat_template.jinja", "chat_template.json", "special_tokens_map.json")


def save_quantized(source: Path, target: Path, to: str = "int8", *, shard_bytes: int = SHARD_BYTES) -> Path:
    """Write the checkpoint in `source` (a folder or a GGUF file) to the new folder `target`, matrices in `to`.

    to: "int8" or "int4", which leaves embedding and head in int8 (see quantize.py). Tokenizer, chat template,
    generation settings, fam.json and the memory prompt go along. Raises CheckpointError when the source does not open,
    is quantized already, or has numbers that are not finite, or the target cannot be written; UsageError when it is
    there already.
    """
    folder = checkpoint_folder(source)
    check_new_folder(target)
    check_links(folder)
    refuse_adapter(folder)
    config = read_config(folder)
    if config.storage != "float":
        raise CheckpointError(f"{folder} is in {config.storage} already; quantize the checkpoint that it was made from")
    stored = checked_weights(folder, config, FamConfig(fam_length=0))
    tokenizer = checked_tokenizer(folder, config.decoder)
    try:
        with atomic_files(target) as made:
            _write_weights(made, stored, to, shard_bytes)
            tokenizer.save(made)
            _copy_along(folder, made)
            _write_json(made / CONFIG_FILE, _config(folder) | {"quantization_config": STORAGES[to]})
    except (OSError, SafetensorError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{target}: the checkpoint could not be written ({error}); free space, retry") from error
    return target


def _write_weights(folder: Path, stored: Mapping[str, StoredTensor], to: str, shard_bytes: int) -> None:
    shards = list(_shards(stored, to, shard_bytes))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = dict(pair for name, whole in names.items() for pair in _stored_as(name, *whole))
        save_tensors(folder / file, tensors)
        weight_map |= dict.fromkeys(tensors, file)
    if len(shards) > 1:
        _write_json(folder / INDEX_FILE, {"weight_map": weight_map})


def _shards(
    stored: Mapping[str, StoredTensor], to: str, shard_bytes: int
) -> Iterator[dict[str, tuple[StoredTensor, int | None]]]:
    """Stored tensors by name, each once with the bits it is kept in (None: as it is), file by file."""
    shard: dict[str, tuple[StoredTensor, int | None]] = {}
    size = 0
    seen: set[str] = set()
    for parameter, tensor in stored.items():
        if tensor.name in seen:
            continue
        seen.add(tensor.name)
        bits = bits_of(parameter, tensor.shape, to)
        rows = tensor.rows
        count = prod(tensor.shape) if rows is None else prod(tensor.shape) // rows.count * rows.total
        num_bytes = count if bits is not None else 4 * count
        if shard and size + num_bytes > shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[tensor.name] = (tensor, bits)
        size += num_bytes
    yield shard


def _stored_as(name: str, stored: StoredTensor, bits: int | None) -> Iterator[tuple[str, Tensor]]:
    with opened(stored.file, "pt") as file:
        tensor: Tensor = file.get_tensor(name)
    if bits is None:
        yield name, tensor
    elif bits == 8:
        values, scale = int8.quantize(tensor)
        yield from ((name, values), (name + SCALE_SUFFIX, scale))
    else:
        nibbles, scale, zero = int4.quantize(tensor)
        yield from ((name, nibbles), (name + SCALE_SUFFIX, torch.stack((scale, zero), dim=-1)))


def _config(folder: Path) -> dict[str, Any]:
    return config_values(folder) if is_gguf(folder) else read_json_object(folder / CONFIG_FILE)


def _copy_along(folder: Path, target: Path) -> None:
    for name in (SIDECAR_FILE, PROMPT_FILE):
        if beside(folder, name).is_file():
            shutil.copyfile(beside(folder, name), target / name)
    if is_gguf(folder):
        template = read_gguf(folder).value("tokenizer.chat_template", str, "")
        if template:
            (target / "chat_template.jinja").write_text(template, encoding="utf-8")
        return
    for name in _ALONG:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def _write_json(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
