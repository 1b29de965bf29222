"""The numbers of an adapter: from its file into updates of the network's parameters, and back into PEFT's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from famcli.checkpoint.adapters.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter, FittedUpdate
from famcli.checkpoint.families.weight_names import Rows
from famcli.checkpoint.save import save_prompt, save_tensors
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar
from famcli.checkpoint.weights import PROMPT_FILE, StoredTensor, opened, weights_fingerprint
from famcli.documents.atomic import atomic_files
from famcli.errors import CheckpointError
from famcli.nn.lora import LoraConfig, LowRank


def load_updates(adapter: Adapter, fitted: Mapping[str, FittedUpdate]) -> dict[str, LowRank]:
    """The updates by the network's parameters, float32, on the CPU. Raises CheckpointError for no numbers."""
    updates: dict[str, LowRank] = {}
    with opened(adapter.folder / ADAPTER_WEIGHTS, "pt") as file:
        for parameter, found in fitted.items():
            a, b = (file.get_tensor(half.name).float() for half in (found.update.a, found.update.b))
            if not (bool(a.isfinite().all()) and bool(b.isfinite().all())):
                raise CheckpointError(f"{adapter.folder}: the update of '{parameter}' is not finite; fetch it again")
            updates[parameter] = LowRank(a, b[_row_numbers(found.rows, b.shape[0])], found.update.scale)
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
    """Write updates (by parameter) of a checkpoint whose files declare `stored` to `folder`, and return that.

    Where the checkpoint keeps several parameters in one matrix, their updates become one of the sum of their ranks.
    `fam.json`, with the fingerprint of `stored`, and the memory prompt go beside PEFT's files. Raises CheckpointError
    when writing fails.
    """
    tensors, ranks = _stored_updates(updates, stored)
    sidecar = replace(sidecar, base_weights=weights_fingerprint(stored))
    config = _config(lora, base, ranks, stored)
    try:
        with atomic_files(folder) as made:
            save_tensors(made / ADAPTER_WEIGHTS, tensors)
            if prompt is not None:
                save_prompt(made / PROMPT_FILE, prompt)
            (made / SIDECAR_FILE).write_text(sidecar.dumps(), encoding="utf-8")
            (made / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if prompt is None:
            (folder / PROMPT_FILE).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: the adapter could not be written ({error}); free space, retry") from error
    return folder


def _stored_updates(
    updates: Mapping[str, LowRank], stored: Mapping[str, StoredTensor]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """A and B under PEFT's names, and the rank of each module, where scale = alpha / rank is as in the updates.

    Several updates of one module: A one below the other, each B in its rows and its own columns.
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
    """`adapter_config.json`. Matrices of another rank get an alpha that leaves the scale as it is."""
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
    """The rows of a module's B that are meant."""
    numbers = torch.arange(total)
    if rows is None:
        return numbers
    place = numbers % rows.period
    return numbers[(place >= rows.start) & (place < rows.stop)]
