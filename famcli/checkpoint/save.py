"""Write checkpoint folders and adapters.

`save_checkpoint` writes a network that famcli and (unless quantized) any Llama runtime opens. `rewrite` changes the
numbers of a checkpoint and keeps the names, types and files of its tensors, one file at a time; `merge` does so with a
LoRA adapter, which `save_adapter` writes in PEFT's layout.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from famcli.checkpoint.adapter import Adapter, Fitted, base_warnings, fit, read_adapter
from famcli.checkpoint.families.pretrained import CONFIG_FILE, PretrainedConfig, llama_json, read_config
from famcli.checkpoint.families.table import Rows
from famcli.checkpoint.fingerprints import weights_fingerprint
from famcli.checkpoint.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_links, check_new_folder, checkpoint_folder
from famcli.checkpoint.model import GENERATION_FILE
from famcli.checkpoint.quantize import bits_of, to_int4, to_int8
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar
from famcli.checkpoint.weights import (
    INDEX_FILE,
    PROBES_FILE,
    PROMPT_FILE,
    SCALE_SUFFIX,
    WEIGHTS_FILE,
    StoredTensor,
    check_folder,
    opened,
    stored_own,
    weight_files,
)
from famcli.documents.writing import atomic_files
from famcli.errors import CheckpointError, FamcliError
from famcli.nn import Network
from famcli.nn.lora import LoraConfig, LowRank
from famcli.nn.shapes import own_shapes
from famcli.tokens.gguf_file import is_gguf
from famcli.tokens.tokenizer import Tokenizer

# Of one tensor's entry in a safetensors header, besides its name.
_HEADER_BYTES = 160
# Weights in any form, and code; all other files are copied along.
_NOT_COPIED = {".safetensors", ".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".py"}


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
    # Under each of its names: a matrix that all layers share is written for each, as in any decoder. As a copy then,
    # because safetensors refuses tensors that share storage.
    named = network.named_parameters(remove_duplicate=False)
    tensors = {name: parameter.detach().cpu() for name, parameter in named}
    copied = network.fam.shares_projections
    own = {name: tensors.pop(name).float() for name in own_shapes(network.config, network.fam)}
    # Weights of an earlier checkpoint in the same folder would be read.
    old = (WEIGHTS_FILE, INDEX_FILE, PROMPT_FILE, PROBES_FILE, "model-*-of-*.safetensors")
    with writing(target, "checkpoint", CONFIG_FILE, old) as staging:
        weights = {}
        for name, tensor in tensors.items():
            bits = bits_of(name, tuple(tensor.shape), "none" if storage == "float" else storage)
            weights[name] = in_bits(name, tensor.to(dtype, copy=copied) if bits is None else tensor, bits)
        # The entry of each tensor in the header is counted generously.
        sizes = {
            name: sum(tensor.nbytes + len(key) + _HEADER_BYTES for key, tensor in parts.items())
            for name, parts in weights.items()
        }
        write_weights(staging, shards(sizes, shard_bytes), weights.__getitem__)
        if own:
            save_tensors(staging / PROMPT_FILE, own)
        special = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
        config = llama_json(network.config, str(dtype).removeprefix("torch."), storage)
        write_json(staging / CONFIG_FILE, config | special)
        write_json(staging / GENERATION_FILE, special)
        tokenizer.save(staging)
        write_json(staging / SIDECAR_FILE, sidecar.to_json())
    return target


@contextmanager
def writing(folder: Path, what: str, last: str, replaced: Iterable[str] = ()) -> Iterator[Path]:
    """`atomic_files`. Raises CheckpointError, which names `what` could not be written."""
    try:
        with atomic_files(folder, (last,), replaced) as staging:
            yield staging
    except FamcliError:
        raise
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{folder}: the {what} could not be written ({error}); free space and retry") from error


def save_sidecar(
    folder: Path,
    sidecar: Sidecar,
    own: Mapping[str, Tensor],
    names: tuple[str, str] = (PROMPT_FILE, SIDECAR_FILE),
) -> None:
    """Write `fam.json` and, if there are any, the parameters that a pretrained decoder does not have, in float32."""
    if own:
        save_tensors(folder / names[0], {name: value.detach().cpu().float() for name, value in own.items()})
    write_json(folder / names[1], sidecar.to_json())


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file with the permissions that other files get."""
    path.touch()
    # safetensors makes files that only their owner can read.
    mode = path.stat().st_mode
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    path.chmod(mode)


def write_json(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_weights(
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


def shards(sizes: Mapping[str, int], limit: int | None) -> list[list[str]]:
    """The names in files of at most `limit` bytes each, in order."""
    shards, used = list[list[str]]([[]]), 0
    for name, size in sizes.items():
        if limit is not None and used + size > limit and shards[-1]:
            shards.append([])
            used = 0
        used += size
        shards[-1].append(name)
    return shards


def in_bits(name: str, tensor: Tensor, bits: int | None) -> dict[str, Tensor]:
    """The stored tensors of one matrix in 8 or 4 bits, with its scale; the tensor alone if `bits` is None."""
    if bits is None:
        return {name: tensor}
    if bits == 8:
        values, scale = to_int8(tensor)
        return {name: values, name + SCALE_SUFFIX: scale}
    nibbles, scale, zero = to_int4(tensor)
    return {name: nibbles, name + SCALE_SUFFIX: torch.stack((scale, zero), dim=-1)}


Change = Callable[[str, Tensor], Tensor | None]
"""Gives a parameter's new numbers, from its name and its stored numbers; None leaves it as it is."""


def load_updates(adapter: Adapter, fitted: Fitted) -> dict[str, LowRank]:
    """The updates by the network's parameters, float32, on the CPU. Raises CheckpointError if they are not finite."""
    updates: dict[str, LowRank] = {}
    with opened(adapter.folder / ADAPTER_WEIGHTS, "pt") as file:
        for parameter, (update, rows) in fitted.items():
            a, b = (file.get_tensor(half.name).float() for half in (update.a, update.b))
            if not (bool(a.isfinite().all()) and bool(b.isfinite().all())):
                raise CheckpointError(f"{adapter.folder}: the update of '{parameter}' is not finite; fetch it again")
            updates[parameter] = LowRank(a, b[_row_numbers(rows, b.shape[0])], update.scale)
    return updates


def save_adapter(
    folder: Path,
    updates: Mapping[str, LowRank],
    lora: LoraConfig,
    stored: Mapping[str, StoredTensor],
    *,
    base: str,
    sidecar: Sidecar,
    own: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write the updates (by parameter) of a checkpoint with the weights `stored` to `folder`, and return that.

    Where the checkpoint keeps several parameters in one matrix, their updates become one of the sum of their ranks.
    `fam.json`, with the fingerprint of `stored`, and the memory's `own` parameters go beside PEFT's files. Raises
    CheckpointError when writing fails. dtype: of the stored updates.
    """
    tensors, ranks = _stored_updates(updates, stored)
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    sidecar = replace(sidecar, base_weights=weights_fingerprint(stored))
    config = _config(lora, base, ranks, stored)
    with writing(folder, "adapter", ADAPTER_CONFIG, [PROMPT_FILE, PROBES_FILE]) as staging:
        save_tensors(staging / ADAPTER_WEIGHTS, tensors)
        save_sidecar(staging, sidecar, own)
        write_json(staging / ADAPTER_CONFIG, config)
    return folder


def _stored_updates(
    updates: Mapping[str, LowRank], stored: Mapping[str, StoredTensor]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """A and B under PEFT's names, and the rank of each module.

    Several updates of one module are joined: the A one below the other, each B in its rows and its own columns.
    """
    modules: dict[str, list[tuple[Rows | None, LowRank]]] = {}
    for parameter, update in updates.items():
        declared = stored[parameter]
        modules.setdefault(declared.name.removesuffix(".weight"), []).append((declared.rows, update))
    tensors, ranks = {}, {}
    for module, parts in modules.items():
        rank = sum(update.a.shape[0] for _, update in parts)
        num_rows = max(update.b.shape[0] if rows is None else rows.total for rows, update in parts)
        b, column = torch.zeros(num_rows, rank), 0
        for rows, update in parts:
            width = update.b.shape[1]
            b[_row_numbers(rows, num_rows), column : column + width] = update.b
            column += width
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.cat([update.a for _, update in parts])
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
        ranks[module] = rank
    return tensors, ranks


def _config(
    lora: LoraConfig, base: str, ranks: Mapping[str, int], stored: Mapping[str, StoredTensor]
) -> dict[str, object]:
    """`adapter_config.json`. Modules of another rank get an alpha that keeps their scale."""
    ends = sorted({module.rpartition(".")[2] for module in ranks})
    matrices = {tensor.name.removesuffix(".weight") for tensor in stored.values() if len(tensor.shape) == 2}
    named = {module for module in matrices if module.rpartition(".")[2] in ends}
    others = {module: rank for module, rank in sorted(ranks.items()) if rank != lora.rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": ends if named == set(ranks) else sorted(ranks),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "rank_pattern": others,
        "alpha_pattern": {module: lora.scale * rank for module, rank in others.items()},
    }


def _row_numbers(rows: Rows | None, total: int) -> Tensor:
    """The indices of the rows of a module's B that belong to one parameter."""
    numbers = torch.arange(total)
    return numbers if rows is None else rows.of(numbers).flatten()


def merge(source: Path, adapter_folder: Path, target: Path, name: str | None = None) -> tuple[str, ...]:
    """Add the adapter to the checkpoint in `source`, shown as `name`, write the new folder `target`; return warnings.

    If famcli made the adapter, its FamConfig, its memory prompt and its probes go along. Raises CheckpointError when
    one of the two does not open, they do not fit, or the target cannot be written, UsageError when it exists already.
    """
    check_new_folder(target)
    folder, _ = _base(source)
    checked = check_folder(folder, ignore_adapter=True)
    adapter = read_adapter(adapter_folder)
    updates = load_updates(adapter, fit(adapter, checked.config, checked.weights, name or source))
    sidecar = adapter.sidecar and replace(adapter.sidecar, base_weights=None)
    own: dict[str, Tensor] = {}
    if sidecar is not None and (shapes := own_shapes(checked.config.decoder, sidecar.fam)):
        for parameter, tensor in stored_own(adapter.folder, shapes).items():
            with opened(tensor.file, "pt") as file:
                own[parameter] = file.get_tensor(parameter)

    def change(parameter: str, weight: Tensor) -> Tensor | None:
        return updates[parameter].added_to(weight, weight.dtype) if parameter in updates else None

    warnings = base_warnings(adapter, checked.weights, name or source)
    rewrite(folder, target, change, sidecar, own)
    if (adapter.folder / PROBES_FILE).exists():
        shutil.copyfile(adapter.folder / PROBES_FILE, target / PROBES_FILE)
    return warnings


def replacing(weights: Mapping[str, Tensor]) -> Change:
    """The change that replaces the stored numbers by `weights` (by parameter), in their types."""
    return lambda parameter, weight: weights[parameter].to(weight.dtype) if parameter in weights else None


def rewrite(source: Path, target: Path, change: Change, sidecar: Sidecar | None, own: Mapping[str, Tensor]) -> Path:
    """Write the checkpoint in `source` to the folder `target` with `change` made to its weights; return the target.

    Files of the same name there are replaced. sidecar: its `fam.json`, with its `own` parameters; without one the
    source's own are copied, if there are any. Raises CheckpointError.
    """
    folder, config = _base(source)
    with writing(target, "checkpoint", CONFIG_FILE) as staging:
        for path in weight_files(folder):
            save_tensors(staging / path.name, _changed(path, config, change))
        _copy_all_but_weights(folder, staging, sidecar is None)
        if sidecar is not None:
            save_sidecar(staging, sidecar, own)
    return target


def _base(path: Path) -> tuple[Path, PretrainedConfig]:
    """The folder and the configuration of a checkpoint that can be written anew. Raises CheckpointError."""
    folder = checkpoint_folder(path)
    if is_gguf(folder):
        raise CheckpointError(f"{folder} is a GGUF file, which is read and never written")
    check_links(folder)
    config = read_config(folder)
    if config.storage != "float":
        raise CheckpointError(f"{folder} is in {config.storage}; merge into the checkpoint that it was made from")
    return folder, config


def _changed(path: Path, config: PretrainedConfig, change: Change) -> dict[str, Tensor]:
    """A weight file's tensors by their stored names, changed parameter by parameter."""
    tensors = {}
    with opened(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118  (not a dict)
            tensor: Tensor = file.get_tensor(name)
            for parameter, rows in config.family.parameters(name, config.decoder).items():
                if rows is None:
                    new = change(parameter, tensor)
                    tensor = tensor if new is None else new
                    continue
                grouped = rows.of(tensor)
                new = change(parameter, grouped.flatten(0, 1))
                if new is not None:
                    # This changes a private copy of the mapped page, never the file.
                    grouped.copy_(new.view_as(grouped))
            tensors[name] = tensor
    return tensors


def _copy_all_but_weights(folder: Path, target: Path, with_sidecar: bool) -> None:
    """Copy configuration, tokenizer, chat template, index: every file that is neither weights, code nor an adapter."""
    for path in folder.iterdir():
        if not path.is_file() or path.name == ADAPTER_CONFIG or path.name.startswith("pytorch_model"):
            continue
        is_sidecar = path.name in (SIDECAR_FILE, PROMPT_FILE)
        if with_sidecar if is_sidecar else path.suffix not in _NOT_COPIED:
            shutil.copyfile(path, target / path.name)
