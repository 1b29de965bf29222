"""From a finished run to a checkpoint folder, or an adapter's, that every command opens."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from famcli.checkpoint.chat import has_chat_template
from famcli.checkpoint.save import replacing, rewrite, save_adapter, save_checkpoint
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar, read_sidecar
from famcli.checkpoint.weights import PROMPT_NAME
from famcli.nn import Network
from famcli.nn.lora import lora_updates
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.adapt import EMBEDDING, lora_config, open_base
from famcli.training.recipe.recipe import Recipe
from famcli.training.recipe.sections import AdaptRecipe


def export_checkpoint(
    folder: Path, network: Network, tokenizer: Tokenizer, recipe: Recipe, validated_tokens: int | None
) -> Path:
    """Write `network` to `folder`: weights as `recipe.export` says, tokenizer, `fam.json` and the recipe.

    With [adapt] the folder is an adapter's (LoRA), or a checkpoint in the layout of the one that was adapted.
    validated_tokens: the length at which bits per byte were measured; commands warn past it. Raises CheckpointError
    when writing fails.
    """
    if recipe.adapt is not None:
        _export_adapted(folder, network, recipe.adapt, validated_tokens)
    else:
        export = recipe.export
        save_checkpoint(
            folder,
            network,
            tokenizer,
            Sidecar(network.fam, network.fam.fam_length > 0, validated_tokens, tasks={"summarize": "extract"}),
            torch.float32 if export.storage == "float32" else torch.bfloat16,
            storage="int8" if export.storage == "int8" else "float",
            shard_bytes=None if export.shard_megabytes is None else int(export.shard_megabytes * 1e6),
        )
    target = folder / "recipe.toml"
    # A finished run may be exported again from the recipe inside its own export.
    if recipe.path.is_file() and not (target.exists() and target.samefile(recipe.path)):
        shutil.copyfile(recipe.path, target)
    return folder


def _export_adapted(folder: Path, network: Network, adapt: AdaptRecipe, validated_tokens: int | None) -> None:
    base, _, stored = open_base(adapt)
    own = read_sidecar(base) if (base / SIDECAR_FILE).exists() else None
    fallback = {"summarize": "write" if has_chat_template(base) else "extract"}
    sidecar = Sidecar(
        fam=network.fam,
        memory_trained=network.fam.fam_length > 0,
        validated_tokens=validated_tokens,
        tasks=own.tasks if own else fallback,
        prompts=own.prompts if own else {},
    )
    prompt = network.memory_prompt.detach() if network.fam.fam_length else None
    if adapt.method == "lora":
        updates, lora = lora_updates(network), lora_config(adapt)
        save_adapter(folder, updates, lora, stored, base=adapt.model, sidecar=sidecar, prompt=prompt)
        return
    weights = {name: value.detach().cpu() for name, value in network.named_parameters() if name != PROMPT_NAME}
    # Some checkpoints store a tied head as well, and the layout is theirs.
    weights.setdefault("lm_head.weight", weights[EMBEDDING])
    rewrite(base, folder, replacing(weights), sidecar, prompt)
