"""The recipe's [adapt] table: which pretrained checkpoint is adapted, what of it is trained, and what teaches it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.checkpoint.checks import refuse_adapter
from famcli.checkpoint.families.pretrained import PretrainedConfig, read_config
from famcli.checkpoint.folder import checkpoint_folder
from famcli.checkpoint.locate import resolve
from famcli.errors import RecipeError
from famcli.nn.config import DecoderConfig
from famcli.tokens.gguf_file import is_gguf
from famcli.training.recipe.tables import key

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # nn/lora.py's, without torch
_SHAPE = ("hidden_size", "num_layers", "num_heads", "num_key_value_heads", "head_dim", "intermediate_size")
_REST = ("tie_embeddings", "norm_eps")


@dataclass(frozen=True)
class AdaptRecipe:
    """How a pretrained checkpoint learns to read with a memory."""

    model: str = key("checkpoint, folder or name, that is adapted; gives [network] its shape, and the tokenizer")
    method: str = key(
        "lora: updates of low rank and the memory prompt, all else frozen; full: every weight", "lora",
        choices=("lora", "full"),
    )  # fmt: skip
    rank: int = key("rank of the updates", 64, low=1)
    alpha: float = key("updates are scaled by alpha / rank", 64.0, low=1e-6)
    targets: tuple[str, ...] = key("matrices that get an update", TARGETS, choices=TARGETS)
    objective: str = key(
        "task: the targets of [[objectives]]; distill: the next-token distributions of the unadapted network with full "
        "attention, over the same documents, by their Kullback-Leibler divergence",
        "task",
        choices=("task", "distill"),
    )
    teacher_tokens: int | None = key(
        "distill: tokens that the teacher sees, in whole blocks (default: the length it was trained for)", None, low=1
    )


def base_folder(model: str) -> Path:
    """The folder of the checkpoint to adapt. Raises RecipeError for a GGUF file, CheckpointError if there is none."""
    folder = checkpoint_folder(resolve(model, asked_by="adapt.model").path)
    if is_gguf(folder):
        raise RecipeError(f"adapt.model {model} is a GGUF file; adapt the folder that it was made from")
    refuse_adapter(folder)
    return folder


def with_base(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """A recipe's table with what the checkpoint to adapt decides: the network's shape, and the tokenizer.

    Raises RecipeError where the recipe says otherwise.
    """
    model = table["adapt"].get("model")
    if not isinstance(model, str):
        raise RecipeError(f"{path}: adapt.model is missing; it is the checkpoint to adapt, a folder or a name")
    if (path.parent / model).exists():
        model = str((path.parent / model).resolve())
    folder = base_folder(model)
    found = shape_of(read_config(folder))
    network = table.get("network", {})
    for name, value in found.items():
        if isinstance(network, dict) and network.get(name, value) != value:
            raise RecipeError(f"{path}: network.{name} is {network[name]}, in {model} it is {value}; leave it out")
    tokenizer = table.get("tokenizer", {"path": str(folder.resolve())})
    return table | {"adapt": table["adapt"] | {"model": model}, "network": network | found, "tokenizer": tokenizer}


def shape_of(config: PretrainedConfig) -> dict[str, Any]:
    """The keys of [network] that a checkpoint decides."""
    decoder: DecoderConfig = config.decoder
    values = {name: getattr(decoder, name) for name in (*_SHAPE, *_REST)}
    return values | {"rope_theta": decoder.rope.theta}
