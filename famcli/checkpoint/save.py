"""Write a checkpoint folder that famcli opens, and (unless quantized) any Llama runtime as a plain decoder.

`save_checkpoint` writes a network; `save_quantized` writes the folder of any family anew with its matrices in int8 or
int4, a half or a third of bfloat16.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from famcli.checkpoint.checks import check_folder
from famcli.checkpoint.families.pretrained import CONFIG_FILE, STORAGES, llama_json
from famcli.checkpoint.folder import beside, check_new_folder
from famcli.checkpoint.generation import GENERATION_FILE
from famcli.checkpoint.gguf import config_values
from famcli.checkpoint.jsonfile import read_json_object
from famcli.checkpoint.quantize import bits_of, to_int4, to_int8
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar
from famcli.checkpoint.weights import (
    INDEX_FILE,
    PROMPT_FILE,
    PROMPT_NAME,
    SCALE_SUFFIX,
    WEIGHTS_FILE,
    StoredTensor,
    opened,
)
from famcli.documents.writing import atomic_files
from famcli.errors import CheckpointError, FamcliError
from famcli.nn import Network
from famcli.tokens.gguf_file import is_gguf, read_gguf
from famcli.tokens.tokenizer import Tokenizer

SHARD_BYTES = 2 << 30
_HEADER_BYTES = 160  # of one tensor's entry in a safetensors header, besides its name
_OTHER_FILES = (GENERATION_FILE, "chat_template.jinja", "chat_template.json", "special_tokens_map.json")


def save_checkpoint(
    folder: str | os.PathLike[str],
    network: Network,
    tokenizer: Tokenizer,
    sidecar: Sidecar,
    dtype: torch.dtype = torch.float32,
    *,
    storage: str = "float",
    shard_bytes: int | None = None,
) -> Path:
    """Write `network` (weights in `dtype`, the memory prompt in float32), its tokenizer and sidecar; return the folder.

    With `storage` "int8" matrices are kept as int8 with scales (see quantize.py), the rest in `dtype`. With
    `shard_bytes` the weights go into files of at most that size and an index; a tensor larger than that has a file to
    itself. Other files in the folder (a card, a recipe) stay. Raises CheckpointError when writing fails, or when
    weights to be quantized are not finite.
    """
    assert storage in ("float", "int8")
    target = Path(folder)
    tensors = {name: parameter.detach().cpu() for name, parameter in network.named_parameters()}
    prompt = tensors.pop(PROMPT_NAME, None)
    with writing(target, "checkpoint") as made:
        weights = {name: _as_stored(name, tensor, dtype, storage) for name, tensor in tensors.items()}
        sizes = {name: sum(map(_size, parts, parts.values())) for name, parts in weights.items()}
        _write_weights(made, _shards(sizes, shard_bytes), weights.__getitem__)
        if prompt is not None:
            save_prompt(made / PROMPT_FILE, prompt)
        special = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
        config = llama_json(network.config, str(dtype).removeprefix("torch."), storage)
        write_json(made / CONFIG_FILE, config | special)
        write_json(made / GENERATION_FILE, special)
        tokenizer.save(made)
        write_json(made / SIDECAR_FILE, sidecar.to_json())
        written = {path.name for path in made.iterdir()}
    _remove_old_weights(target, written)
    return target


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
    folder, storage = checked.path, checked.config.storage
    if storage != "float":
        raise CheckpointError(f"{folder} is in {storage} already; quantize the checkpoint that it was made from")
    # Several parameters can be rows of one stored tensor, which is written once.
    stored = {tensor.name: (parameter, tensor) for parameter, tensor in checked.weights.items()}
    sizes = {}
    for name, (parameter, tensor) in stored.items():
        count, rows = prod(tensor.shape), tensor.rows
        count = count if rows is None else count // rows.count * rows.total
        sizes[name] = count if bits_of(parameter, tensor.shape, to) is not None else 4 * count
    values = config_values(folder) if is_gguf(folder) else read_json_object(folder / CONFIG_FILE)
    with writing(target, "checkpoint") as made:
        _write_weights(made, _shards(sizes, shard_bytes), lambda name: _quantized(*stored[name], to))
        checked.tokenizer.save(made)
        _copy_others(folder, made)
        write_json(made / CONFIG_FILE, values | {"quantization_config": STORAGES[to]})
    return target


@contextmanager
def writing(folder: Path, what: str) -> Iterator[Path]:
    """Yields a folder to fill with files that move into `folder` at the end, those of JSON last.

    Raises CheckpointError, which names `what` could not be written.
    """
    try:
        with atomic_files(folder) as made:
            yield made
    except FamcliError:
        raise
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{folder}: the {what} could not be written ({error}); free space and retry") from error


def save_prompt(path: Path, prompt: Tensor) -> None:
    """Write the memory prompt [f, d] in float32."""
    save_tensors(path, {PROMPT_NAME: prompt.detach().cpu().float()})


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file with the permissions that other files get."""
    path.touch()
    mode = path.stat().st_mode  # safetensors makes files that only their owner reads
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    path.chmod(mode)


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write an indented JSON file."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_weights(
    folder: Path, shards: Sequence[Sequence[str]], tensors_of: Callable[[str], Mapping[str, Tensor]]
) -> None:
    """One file, or shards and their index, in the layout of the Hugging Face hub."""
    weight_map: dict[str, str] = {}
    total = 0
    for number, names in enumerate(shards, start=1):
        file = WEIGHTS_FILE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        # A matrix and its scale are one entry here, and so always in the same file.
        tensors = {key: tensor for name in names for key, tensor in tensors_of(name).items()}
        save_tensors(folder / file, tensors)
        weight_map |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(sizes: Mapping[str, int], limit: int | None) -> list[list[str]]:
    """The names in files of at most `limit` bytes each, in order."""
    shards: list[list[str]] = [[]]
    left = limit
    for name, size in sizes.items():
        if left is not None and limit is not None:
            if size > left and shards[-1]:
                shards.append([])
                left = limit
            left -= size
        shards[-1].append(name)
    return shards


def _size(name: str, tensor: Tensor) -> int:
    """Bytes of a tensor in a file, its entry in the header counted generously."""
    return tensor.nbytes + len(name) + _HEADER_BYTES


def _as_stored(name: str, tensor: Tensor, dtype: torch.dtype, storage: str) -> dict[str, Tensor]:
    """A parameter as it is stored: in `dtype`, or as an int8 matrix and its scale."""
    if storage == "float" or tensor.dim() != 2:
        return {name: tensor.to(dtype)}
    values, scale = to_int8(tensor)
    return {name: values, name + SCALE_SUFFIX: scale}


def _quantized(parameter: str, stored: StoredTensor, to: str) -> dict[str, Tensor]:
    """A whole stored tensor, quantized if `parameter`, which lies in it, is to be."""
    with opened(stored.file, "pt") as file:
        tensor: Tensor = file.get_tensor(stored.name)
    bits = bits_of(parameter, stored.shape, to)
    if bits is None:
        return {stored.name: tensor}
    if bits == 8:
        values, scale = to_int8(tensor)
        return {stored.name: values, stored.name + SCALE_SUFFIX: scale}
    nibbles, scale, zero = to_int4(tensor)
    return {stored.name: nibbles, stored.name + SCALE_SUFFIX: torch.stack((scale, zero), dim=-1)}


def _copy_others(folder: Path, target: Path) -> None:
    for name in (SIDECAR_FILE, PROMPT_FILE):
        if beside(folder, name).is_file():
            shutil.copyfile(beside(folder, name), target / name)
    if is_gguf(folder):
        template = read_gguf(folder).value("tokenizer.chat_template", str, "")
        if template:
            (target / "chat_template.jinja").write_text(template, encoding="utf-8")
        return
    for name in _OTHER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def _remove_old_weights(folder: Path, written: set[str]) -> None:
    """Remove the weights of an earlier checkpoint in the same folder, so that they are not read."""
    old = [folder / WEIGHTS_FILE, folder / INDEX_FILE, folder / PROMPT_FILE, *folder.glob("model-*-of-*.safetensors")]
    for path in old:
        if path.name not in written:
            path.unlink(missing_ok=True)
