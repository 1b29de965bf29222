"""A checkpoint of any family in another storage, as a new folder.

`save_quantized` writes int8 or int4, a half or a third of bfloat16; `save_unpacked` makes a folder of a GGUF file.
"""

from __future__ import annotations

import shutil
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from famcli.checkpoint.chat_template import TEMPLATE_FILE, TEMPLATE_JSON
from famcli.checkpoint.device import DTYPES
from famcli.checkpoint.families.pretrained import CONFIG_FILE, STORAGES
from famcli.checkpoint.folder import beside, check_new_folder, read_json_object
from famcli.checkpoint.gguf import config_values
from famcli.checkpoint.model import GENERATION_FILE, read_end_ids
from famcli.checkpoint.quantize import bits_of
from famcli.checkpoint.save import in_bits, merge, shards, write_json, write_weights, writing
from famcli.checkpoint.sidecar import SIDECAR_FILE
from famcli.checkpoint.weights import (
    PROBES_FILE,
    PROMPT_FILE,
    CheckedFolder,
    StoredTensor,
    check_folder,
    main_dtype,
    opened,
)
from famcli.documents.writing import scratch_folder
from famcli.errors import CheckpointError
from famcli.tokens.gguf_file import is_gguf, read_gguf

SHARD_BYTES = 2 << 30
_OTHER_FILES = (GENERATION_FILE, TEMPLATE_FILE, TEMPLATE_JSON, "special_tokens_map.json")


def save_quantized(source: Path, target: Path, to: str = "int8", *, shard_bytes: int = SHARD_BYTES) -> Path:
    """Write the checkpoint in `source` (a folder or a GGUF file) to the new folder `target`, matrices in `to`.

    to: "int8" or "int4", which leaves embedding and head in int8 (see quantize.py). Tensors keep the names and the
    order that the family gives them. They are read, quantized and written one file at a time, so that no more than a
    file of them is ever in memory. Tokenizer, chat template, generation settings, fam.json and the memory prompt are
    copied. Raises CheckpointError when the source does not open, is quantized already, or has numbers that are not
    finite, or the target cannot be written; UsageError when it exists already.
    """
    check_new_folder(target)
    checked = check_folder(source)
    if checked.config.storage != "float":
        raise CheckpointError(
            f"{checked.path} is in {checked.config.storage} already; quantize the checkpoint that it was made from"
        )
    return _save_stored(checked, target, to, torch.float32, shard_bytes)


def save_unpacked(source: Path, target: Path, *, shard_bytes: int = SHARD_BYTES) -> Path:
    """Write the GGUF file `source` as a folder `target`: what any runtime of its family opens.

    Numbers that are quantized in the file become bfloat16; those in float32 or float16 stay so. Raises CheckpointError
    and UsageError as `save_quantized` does.
    """
    check_new_folder(target)
    checked = check_folder(source)
    return _save_stored(checked, target, "none", DTYPES[main_dtype(checked.weights)], shard_bytes)


def _save_stored(checked: CheckedFolder, target: Path, to: str, dtype: torch.dtype, shard_bytes: int) -> Path:
    """A checked checkpoint in a new folder: matrices in `to`, or (to: "none") all in `dtype`."""
    folder = checked.path
    # Several parameters can be rows of one stored tensor, which is written once.
    stored = {tensor.name: (parameter, tensor) for parameter, tensor in checked.weights.items()}
    sizes = {}
    for name, (parameter, tensor) in stored.items():
        count, rows = prod(tensor.shape), tensor.rows
        count = count if rows is None else count // rows.count * rows.total
        sizes[name] = count if bits_of(parameter, tensor.shape, to) is not None else 4 * count
    values = config_values(folder) if is_gguf(folder) else read_json_object(folder / CONFIG_FILE)
    with writing(target, "checkpoint", CONFIG_FILE) as staging:
        write_weights(staging, shards(sizes, shard_bytes), lambda name: _quantized(*stored[name], to, dtype))
        checked.tokenizer.save(staging)
        _copy_others(folder, staging)
        dtype_name = str(dtype).removeprefix("torch.")
        marked = {"torch_dtype": dtype_name} if to == "none" else {"quantization_config": STORAGES[to]}
        write_json(staging / CONFIG_FILE, {**values, **marked})
        ends = read_end_ids(folder, checked.tokenizer) if is_gguf(folder) else ()
        if ends:
            write_json(staging / GENERATION_FILE, {"eos_token_id": sorted(ends)})
    return target


def _quantized(parameter: str, stored: StoredTensor, to: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """A whole stored tensor, quantized if `parameter`, which it holds, is to be; in `dtype` where nothing is."""
    with opened(stored.file, "pt") as file:
        tensor: Tensor = file.get_tensor(stored.name)
    if to == "none":
        return {stored.name: tensor.to(dtype)}
    return in_bits(stored.name, tensor, bits_of(parameter, stored.shape, to))


def _copy_others(folder: Path, target: Path) -> None:
    for name in (SIDECAR_FILE, PROMPT_FILE, PROBES_FILE):
        if beside(folder, name).is_file():
            shutil.copyfile(beside(folder, name), target / name)
    if is_gguf(folder):
        template = read_gguf(folder).value("tokenizer.chat_template", str, "")
        if template:
            (target / TEMPLATE_FILE).write_text(template, encoding="utf-8")
        return
    for name in _OTHER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def merge_gguf(source: Path, adapter: Path, target: Path, name: str) -> tuple[str, ...]:
    """`save.merge` for a GGUF file, which is made a folder first: the result is one."""
    check_new_folder(target)
    with scratch_folder(target) as unpacked:
        return merge(save_unpacked(source, unpacked / "base"), adapter, target, name)
