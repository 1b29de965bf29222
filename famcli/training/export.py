"""From a finished run to a checkpoint folder that every command opens."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from famcli.checkpoint.save import save_checkpoint
from famcli.checkpoint.sidecar import Sidecar
from famcli.nn import Network
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.adapting import export_adapted
from famcli.training.recipe.recipe import Recipe


def export_checkpoint(
    folder: Path,
    network: Network,
    tokenizer: Tokenizer,
    recipe: Recipe,
    validated_tokens: int | None,
) -> Path:
    """Write `network` to `folder` as a checkpoint: weights as `recipe.export` says, tokenizer, `fam.json`, the recipe.

    Of a checkpoint that was adapted, an adapter (LoRA), or the whole checkpoint in its own layout.

    `validated_tokens` is the length at which its bits per byte were measured; past it the commands warn.
    Raises CheckpointError when writing fails.
    """
    if recipe.adapt is not None:
        export_adapted(folder, network, recipe, validated_tokens)
        _copy_recipe(folder, recipe)
        return folder
    sidecar = Sidecar(
        fam=network.fam,
        memory_trained=network.fam.fam_length > 0,
        validated_tokens=validated_tokens,
        tasks={"summarize": "extract"},
    )
    export = recipe.export
    save_checkpoint(
        folder,
        network,
        tokenizer,
        sidecar,
        torch.float32 if export.storage == "float32" else torch.bfloat16,
        storage="int8" if export.storage == "int8" else "float",
        shard_bytes=None if export.shard_megabytes is None else int(export.shard_megabytes * 1e6),
    )
    _copy_recipe(folder, recipe)
    return folder


def _copy_recipe(folder: Path, recipe: Recipe) -> None:
    target = folder / "recipe.toml"
    if recipe.path.is_file() and not (target.exists() and target.samefile(recipe.path)):
        shutil.copyfile(recipe.path, target)
