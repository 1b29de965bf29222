"""Write an adapter in PEFT's layout, and a checkpoint's folder anew with other numbers in its matrices.

Those numbers are an adapter merged in, or weights that were trained. Tensors keep the names, the types and the files
that they have, so that whatever opens the one folder opens the other. They are changed one file at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from famcli.checkpoint.adapters.adapter import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Adapter,
    Fitted,
    base_warnings,
    fit,
    read_adapter,
)
from famcli.checkpoint.checks import check_folder
from famcli.checkpoint.families.pretrained import PretrainedConfig, read_config
from famcli.checkpoint.families.table import Rows
from famcli.checkpoint.folder import check_links, check_new_folder, checkpoint_folder
from famcli.checkpoint.save import save_prompt, save_tensors, write_json, writing
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar
from famcli.checkpoint.weights import (
    PROMPT_FILE,
    PROMPT_NAME,
    StoredTensor,
    opened,
    stored_prompt,
    weight_files,
    weights_fingerprint,
)
from famcli.errors import CheckpointError
from famcli.nn.lora import LoraConfig, LowRank
from famcli.tokens.gguf_file import is_gguf

Change = Callable[[str, Tensor], Tensor | None]
"""Gives a parameter's new numbers, from its name and its stored numbers; None leaves it as it is."""

# Weights in any form, and code; all other files are copied along.
_NOT_COPIED = {".safetensors", ".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".py"}


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
    prompt: Tensor | None,
) -> Path:
    """Write the updates (by parameter) of a checkpoint with the weights `stored` to `folder`, and return that.

    Where the checkpoint keeps several parameters in one matrix, their updates become one of the sum of their ranks.
    `fam.json`, with the fingerprint of `stored`, and the memory prompt go beside PEFT's files. Raises CheckpointError
    when writing fails.
    """
    tensors, ranks = _stored_updates(updates, stored)
    sidecar = replace(sidecar, base_weights=weights_fingerprint(stored))
    config = _config(lora, base, ranks, stored)
    with writing(folder, "adapter") as made:
        save_tensors(made / ADAPTER_WEIGHTS, tensors)
        if prompt is not None:
            save_prompt(made / PROMPT_FILE, prompt)
        write_json(made / SIDECAR_FILE, sidecar.to_json())
        write_json(made / ADAPTER_CONFIG, config)
    if prompt is None:
        (folder / PROMPT_FILE).unlink(missing_ok=True)
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
    if rows is None:
        return numbers
    place = numbers % rows.period
    return numbers[(place >= rows.start) & (place < rows.stop)]


def merge(source: Path, adapter_folder: Path, target: Path, name: str | None = None) -> tuple[str, ...]:
    """Add the adapter to the checkpoint in `source`, shown as `name`, write the new folder `target`; return warnings.

    If famcli made the adapter, its FamConfig and its memory prompt go along. Raises CheckpointError when one of the two
    does not open, they do not fit, or the target cannot be written, UsageError when it exists already.
    """
    folder, _ = _base(source)
    check_new_folder(target)
    checked = check_folder(folder, ignore_adapter=True)
    adapter = read_adapter(adapter_folder)
    updates = load_updates(adapter, fit(adapter, checked.config, checked.weights, name or source))
    sidecar = adapter.sidecar and replace(adapter.sidecar, base_weights=None)
    prompt = None
    if sidecar is not None and sidecar.fam.fam_length:
        with opened(stored_prompt(adapter.folder).file, "pt") as file:
            prompt = file.get_tensor(PROMPT_NAME)

    def change(parameter: str, weight: Tensor) -> Tensor | None:
        return updates[parameter].added_to(weight, weight.dtype) if parameter in updates else None

    warnings = base_warnings(adapter, checked.weights, name or source)
    rewrite(folder, target, change, sidecar, prompt)
    return warnings


def replacing(weights: Mapping[str, Tensor]) -> Change:
    """The change that replaces the stored numbers by `weights` (by parameter), in their types."""
    return lambda parameter, weight: weights[parameter].to(weight.dtype) if parameter in weights else None


def rewrite(source: Path, target: Path, change: Change, sidecar: Sidecar | None, prompt: Tensor | None) -> Path:
    """Write the checkpoint in `source` to the folder `target` with `change` made to its weights; return the target.

    Files of the same name there are replaced. sidecar: its `fam.json`, with its memory prompt [f, d]; without one the
    source's own are copied, if there are any. Raises CheckpointError.
    """
    folder, config = _base(source)
    with writing(target, "checkpoint") as made:
        for path in weight_files(folder):
            save_tensors(made / path.name, _changed(path, config, change))
        _copy_others(folder, made, sidecar is None)
        if sidecar is not None:
            write_json(made / SIDECAR_FILE, sidecar.to_json())
        if prompt is not None:
            save_prompt(made / PROMPT_FILE, prompt)
    return target


def _base(path: Path) -> tuple[Path, PretrainedConfig]:
    """The folder and the configuration of a checkpoint that can be written anew. Raises CheckpointError."""
    folder = checkpoint_folder(path)
    if is_gguf(folder):
        raise CheckpointError(f"{folder} is a GGUF file; merge into the folder that it was made from")
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
            for parameter, rows in config.family.pieces(name, config.decoder).items():
                if rows is None:
                    new = change(parameter, tensor)
                    tensor = tensor if new is None else new
                    continue
                grouped = tensor.view(rows.groups, rows.period, *tensor.shape[1:])[:, rows.start : rows.stop]
                new = change(parameter, grouped.flatten(0, 1))
                if new is not None:
                    # This changes a private copy of the mapped page, never the file.
                    grouped.copy_(new.view_as(grouped))
            tensors[name] = tensor
    return tensors


def _copy_others(folder: Path, target: Path, with_sidecar: bool) -> None:
    """Copy configuration, tokenizer, chat template, index: every file that is neither weights, code nor an adapter."""
    for path in folder.iterdir():
        if not path.is_file() or path.name == ADAPTER_CONFIG or path.name.startswith("pytorch_model"):
            continue
        is_sidecar = path.name in (SIDECAR_FILE, PROMPT_FILE)
        if with_sidecar if is_sidecar else path.suffix not in _NOT_COPIED:
            shutil.copyfile(path, target / path.name)
