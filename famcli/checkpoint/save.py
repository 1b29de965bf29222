"""Write a checkpoint folder that famcli opens, and (unless stored in int8) any Llama runtime as a plain decoder.

All files are first written beside the folder and then moved in, so that a full disk or a kill leaves what was there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from famcli.checkpoint.families.pretrained import CONFIG_FILE, llama_json
from famcli.checkpoint.int8 import quantized
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar
from famcli.checkpoint.weights import INDEX_FILE, PROMPT_FILE, PROMPT_NAME, SCALE_SUFFIX, WEIGHTS_FILE
from famcli.documents.atomic import atomic_files
from famcli.errors import CheckpointError
from famcli.nn import Network
from famcli.tokens.tokenizer import Tokenizer

_HEADER_BYTES = 160  # of one tensor's entry in a safetensors header, besides its name


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

    With `storage` "int8" matrices are kept as int8 with scales (see int8.py), the rest in `dtype`. With `shard_bytes`
    the weights go into files of at most that size and an index; a tensor larger than that has a file to itself. Other
    files that are in the folder (a card, a recipe) stay. Raises CheckpointError when writing fails, or when weights
    that are no finite numbers were to become int8.
    """
    assert storage in ("float", "int8")
    target = Path(folder)
    try:
        with atomic_files(target) as made:
            weights, prompt = _prepared(network, dtype, storage)
            _write_weights(made, weights, shard_bytes)
            if prompt is not None:
                save_prompt(made / PROMPT_FILE, prompt)
            _write_json(made / CONFIG_FILE, _config_json(network, tokenizer, dtype, storage))
            _write_others(made, tokenizer, sidecar)
            names = {path.name for path in made.iterdir()}
        _remove_old_weights(target, names)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{target}: the checkpoint could not be written ({error}); free space and retry"
        ) from error
    return target


def _prepared(network: Network, dtype: torch.dtype, storage: str) -> tuple[dict[str, Tensor], Tensor | None]:
    """The weights by their stored names, as they are to lie on disk, and the memory prompt."""
    tensors = {name: parameter.detach().cpu() for name, parameter in network.named_parameters()}
    prompt = tensors.pop(PROMPT_NAME, None)
    weights = quantized(tensors) if storage == "int8" else tensors
    kept = {name for name in weights if weights[name].dtype == torch.int8 or name.endswith(SCALE_SUFFIX)}
    return {name: tensor if name in kept else tensor.to(dtype) for name, tensor in weights.items()}, prompt


def _write_weights(folder: Path, weights: Mapping[str, Tensor], shard_bytes: int | None) -> None:
    """One file, or shards of at most `shard_bytes` and their index, in the layout of the Hugging Face hub."""
    shards = _shards(weights, shard_bytes)
    if len(shards) == 1:
        save_tensors(folder / WEIGHTS_FILE, dict(weights))
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_tensors(folder / file, {name: weights[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    total = sum(tensor.nbytes for tensor in weights.values())
    _write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(weights: Mapping[str, Tensor], shard_bytes: int | None) -> list[list[str]]:
    """Names of the tensors of each shard, in order; an int8 matrix and its scale stay together."""
    shards: list[list[str]] = [[]]
    room = left = shard_bytes or sum(_size(name, tensor) for name, tensor in weights.items())
    for name in weights:
        if name.endswith(SCALE_SUFFIX):
            continue
        names = [each for each in (name, name + SCALE_SUFFIX) if each in weights]
        size = sum(_size(each, weights[each]) for each in names)
        if size > left and shards[-1]:
            shards.append([])
            left = room
        shards[-1] += names
        left -= size
    return shards


def _size(name: str, tensor: Tensor) -> int:
    """Bytes of a tensor in a file, its entry in the header counted generously."""
    return tensor.nbytes + len(name) + _HEADER_BYTES


def _config_json(network: Network, tokenizer: Tokenizer, dtype: torch.dtype, storage: str) -> dict[str, object]:
    return llama_json(network.config, str(dtype).removeprefix("torch."), storage) | _special_tokens(tokenizer)


def _special_tokens(tokenizer: Tokenizer) -> dict[str, object]:
    return {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}


def _write_others(folder: Path, tokenizer: Tokenizer, sidecar: Sidecar) -> None:
    _write_json(folder / "generation_config.json", _special_tokens(tokenizer))
    tokenizer.save(folder)
    (folder / SIDECAR_FILE).write_text(sidecar.dumps(), encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _remove_old_weights(folder: Path, written: set[str]) -> None:
    """Remove what an earlier checkpoint in the same folder had and this one has not, so that it is not read."""
    old = [folder / WEIGHTS_FILE, folder / INDEX_FILE, folder / PROMPT_FILE, *folder.glob("model-*-of-*.safetensors")]
    for path in old:
        if path.name not in written:
            path.unlink(missing_ok=True)


def save_prompt(path: Path, prompt: Tensor) -> None:
    """Write the memory prompt [f, d] in float32."""
    save_tensors(path, {PROMPT_NAME: prompt.detach().cpu().float()})


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file with the permissions that other files get."""
    path.touch()
    mode = path.stat().st_mode  # safetensors makes files that only their owner reads
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    path.chmod(mode)


def _write_json(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
