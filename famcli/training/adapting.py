"""A pretrained checkpoint that is adapted: its network and what is trained of it, its teacher, what is exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from famcli.checkpoint.adapters.merge import replacing, rewrite, save_adapter
from famcli.checkpoint.chat import has_chat_template
from famcli.checkpoint.checks import checked_weights
from famcli.checkpoint.enable import draw_prompt
from famcli.checkpoint.families.pretrained import PretrainedConfig, read_config
from famcli.checkpoint.folder import check_links
from famcli.checkpoint.loading import assign_weights
from famcli.checkpoint.sidecar import SIDECAR_FILE, Sidecar, read_sidecar
from famcli.checkpoint.weights import PROMPT_FILE, PROMPT_NAME, StoredTensor, opened, weights_fingerprint
from famcli.errors import RecipeError
from famcli.nn import Network, make_network
from famcli.nn.config import FamConfig
from famcli.nn.lora import LoraConfig, add_lora, lora_updates
from famcli.training.recipe.adapt import AdaptRecipe, base_folder
from famcli.training.recipe.recipe import Recipe

EMBEDDING = "model.embed_tokens.weight"


@dataclass(frozen=True)
class Base:
    """A pretrained checkpoint, checked and not loaded."""

    folder: Path
    config: PretrainedConfig
    stored: Mapping[str, StoredTensor]

    @classmethod
    def of(cls, adapt: AdaptRecipe) -> Base:
        """Raises CheckpointError for what is missing, damaged or does not fit together."""
        folder = base_folder(adapt.model)
        check_links(folder)
        config = read_config(folder)
        return cls(folder, config, checked_weights(folder, config))

    @property
    def fingerprint(self) -> str:
        """Of its weights: a run goes on only with those it began with."""
        return weights_fingerprint(self.stored)

    def network(self, fam: FamConfig, dtype: torch.dtype) -> Network:
        """Its network on the CPU, reading as `fam` says; with memory rows, their prompt has no values yet."""
        with torch.device("meta"):
            network = make_network(self.config.decoder, fam)
        assign_weights(network, self.stored, torch.device("cpu"), dict.fromkeys(self.stored, dtype))
        return network

    def prompt(self, length: int, seed: int) -> torch.Tensor:
        """The memory prompt [f, d] to begin with: its own if it has one of that length, else one that is drawn."""
        if (self.folder / SIDECAR_FILE).exists() and read_sidecar(self.folder).fam.fam_length == length:
            with opened(self.folder / PROMPT_FILE, "pt") as file:
                own: torch.Tensor = file.get_tensor(PROMPT_NAME)
            return own.float()
        return draw_prompt(self.stored[EMBEDDING], length, seed)


def adapted_network(recipe: Recipe, fam: FamConfig) -> Network:
    """The network that [adapt] trains, on the CPU: with `lora` its weights in the compute type and frozen.

    Raises CheckpointError for a checkpoint that does not open, RecipeError for targets that it has not.
    """
    adapt = recipe.adapt
    assert adapt is not None
    base = Base.of(adapt)
    decoder = base.config.decoder
    every_layer_is_local = len(decoder.local_layers) == decoder.num_layers
    lora = adapt.method == "lora"
    dtype = getattr(torch, recipe.hardware.dtype) if lora else torch.float32
    network = base.network(replace(fam, local_memory=every_layer_is_local), dtype)
    if fam.fam_length:
        network.memory_prompt = nn.Parameter(base.prompt(fam.fam_length, recipe.schedule.seed))
    if lora:
        try:
            add_lora(network, lora_config(adapt), recipe.schedule.seed)
        except ValueError as error:
            raise RecipeError(f"adapt.targets: {error}") from error
    return network


def lora_config(adapt: AdaptRecipe) -> LoraConfig:
    """The updates' shape."""
    return LoraConfig(adapt.rank, adapt.alpha, adapt.targets)


def teacher_of(recipe: Recipe, network: Network) -> Network | None:
    """The unadapted network with full attention over the length it was trained for, frozen; None without `distill`.

    It is read block by block and sees as many whole blocks before its own as that length holds. With `lora` it shares
    the network's weights, so it costs no memory.
    """
    adapt = recipe.adapt
    if adapt is None or adapt.objective != "distill":
        return None
    base, size = Base.of(adapt), recipe.network.block_size
    length = adapt.teacher_tokens or base.config.max_positions
    if length < size:
        raise RecipeError(f"the teacher sees {length} tokens, less than a block of {size}; set adapt.teacher_tokens")
    fam = FamConfig(block_size=size, memory_segments=length // size - 1, fam_length=0)
    if adapt.method == "full":
        teacher = base.network(fam, getattr(torch, recipe.hardware.dtype)).to(network.device)
    else:
        with torch.device("meta"):
            teacher = make_network(network.config, fam)
        given = dict(network.named_parameters())
        for name, _ in list(teacher.named_parameters()):
            owner, _, last = name.rpartition(".")
            setattr(teacher.get_submodule(owner), last, nn.Parameter(given[name].detach(), requires_grad=False))
    return teacher.requires_grad_(False)


def export_adapted(folder: Path, network: Network, recipe: Recipe, validated_tokens: int | None) -> Path:
    """Write what was trained: an adapter's folder, or with `full` a checkpoint in the base's own layout and types.

    Raises CheckpointError when writing fails.
    """
    adapt = recipe.adapt
    assert adapt is not None
    base = Base.of(adapt)
    own = read_sidecar(base.folder) if (base.folder / SIDECAR_FILE).exists() else None
    fallback = {"summarize": "write" if has_chat_template(base.folder) else "extract"}
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
        return save_adapter(folder, updates, lora, base.stored, base=adapt.model, sidecar=sidecar, prompt=prompt)
    weights = {name: value.detach().cpu() for name, value in network.named_parameters() if name != PROMPT_NAME}
    weights.setdefault("lm_head.weight", weights[EMBEDDING])  # a tied head that is stored all the same
    return rewrite(base.folder, folder, replacing(weights), sidecar, prompt)
