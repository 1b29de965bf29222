"""Adapting a pretrained checkpoint to a memory: the recipe of `famcli adapt`, the network, and its teacher.

The recipe is written out as TOML, so that it can be read, changed and run again with `famcli train`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from famcli.checkpoint.adapter import fit, read_adapter
from famcli.checkpoint.choose import choose_fam, with_chosen_sinks
from famcli.checkpoint.enable import draw_prompt
from famcli.checkpoint.families.pretrained import PretrainedConfig, read_config
from famcli.checkpoint.folder import check_links
from famcli.checkpoint.open import assign_weights
from famcli.checkpoint.save import load_updates
from famcli.checkpoint.sidecar import SIDECAR_FILE, read_sidecar
from famcli.checkpoint.weights import (
    PROMPT_FILE,
    PROMPT_NAME,
    StoredTensor,
    checked_weights,
    opened,
    stored_own,
)
from famcli.errors import RecipeError, UsageError
from famcli.nn import Network, make_network
from famcli.nn.config import FamConfig
from famcli.nn.lora import LoraConfig, LoraLinear, add_lora
from famcli.nn.shapes import EMBEDDING, SCORES_NAME, TARGETS, own_shapes
from famcli.training.data.corpus import named
from famcli.training.recipe.recipe import Recipe, base_folder
from famcli.training.recipe.sections import AdaptRecipe

Weights = Mapping[str, StoredTensor]

# What taught fam-tiny's memory (docs/experiments.md): most documents ask for something, once each; steps without
# segments, so that the memory is the only way; few blocks at first; Muon, for the updates too; the memory passed on
# once it holds something.
_ASKING: tuple[dict[str, Any], ...] = (
    {"kind": "language_modelling", "weight": 0.4},
    {"kind": "repeat", "weight": 0.1, "answer_weight": 2.0},
    {"kind": "passkey", "weight": 0.25, "answer_weight": 12.0},
    {"kind": "needles", "weight": 0.25, "answer_weight": 12.0, "episodes_per_block": 0.5},
)
# A teacher gives every token a target, so no document has to ask.
_PLAIN: tuple[dict[str, Any], ...] = ({"kind": "language_modelling", "weight": 1.0},)
_SCHEDULE: dict[str, Any] = {
    "min_blocks": 2,
    "max_blocks": 8,
    "curriculum_share": 0.5,
    "segment_dropout": 0.6,
    "random_state_passing": 0.5,
    "random_state_passing_from": 0.5,
    "warmup_steps": 20,
    "decay_share": 0.5,
}
# A fit needs the attention of whole documents, and no rates.
_FIT: dict[str, Any] = {"min_blocks": 2, "max_blocks": 4, "steps": 100}
_RATES = {"lora": 1e-3, "full": 1e-4, "keep": 0.0}
_MINUTES = 60.0


def adapt_table(
    name: str,
    model: str,
    data: Sequence[Path],
    *,
    adapter: Mapping[str, Any],
    network: Mapping[str, Any],
    schedule: Mapping[str, Any],
    hardware: Mapping[str, Any],
    learning_rate: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """A recipe called `name` as tables; `make_recipe` checks it, `to_toml` writes it.

    model: checkpoint, a folder or a name. data: corpora, as recipes name them. adapter, network, schedule, hardware:
    keys of the sections [adapt], [network], [schedule] and [hardware]; what is left out or None is chosen here.
    learning_rate: of Muon and AdamW alike. seed: of data and weights. Raises UsageError if there is no data or a target
    does not exist, RecipeError or CheckpointError for what cannot be adapted.
    """
    if network.get("fam_length") == 0:
        raise UsageError("fam_length is 0: there would be no memory to adapt; leave it out, or give 1 or more")
    if not data:
        raise UsageError("there is nothing to learn from", remedy={"data": "PATH"})
    how: dict[str, Any] = {"method": "lora", "objective": "task", "rank": 64} | _given(adapter)
    if unknown := [target for target in how.get("targets", ()) if target not in TARGETS]:
        raise UsageError(f"{unknown[0]} is not a matrix that can get an update; choose from {', '.join(TARGETS)}")
    keeps, given = how["method"] == "keep", _given(schedule)
    if keeps:
        schedule = {
            "lanes": 4,
            **{key: _FIT[key] for key in _FIT if key != "steps" or "max_minutes" not in given},
            **given,
        }
    else:
        schedule = {"lanes": 4, **_SCHEDULE, **given}
    if not schedule.keys() & {"steps", "max_minutes"}:
        schedule["max_minutes"] = _MINUTES
    rate = _RATES[how["method"]] if learning_rate is None else learning_rate
    # The recipe may be run from another folder.
    place = str(Path(model).resolve()) if Path(model).is_dir() else model
    return {
        "name": name,
        "adapt": {"model": place, "alpha": float(how["rank"]), **how},
        "network": _network_keys(base_folder(model, how.get("cache")), _given(network), "kept" if keeps else "gated"),
        "data": {"folder": ".", "seed": seed},
        "corpora": [{"name": name, "path": str(path), "weight": 1.0} for name, path in named(data)],
        "objectives": [dict(part) for part in (_ASKING if how["objective"] == "task" else _PLAIN)],
        "schedule": {**schedule, "muon_lr": rate, "adamw_lr": rate, "seed": seed},
        "hardware": {"device": "auto", "dtype": "bfloat16", "checkpoint_gradients": True, **_given(hardware)},
        "checks": {"every_steps": 0},
    }


def _network_keys(folder: Path, given: dict[str, Any], update: str) -> dict[str, Any]:
    """How the checkpoint will read: as given, else as its fam.json says, else as `famcli enable` would choose."""
    if (folder / SIDECAR_FILE).exists():
        fam = read_sidecar(folder).fam
    else:
        fam, _ = choose_fam(read_config(folder).decoder, **given)
    settings = [each.name for each in fields(FamConfig) if not each.metadata.get("internal")]
    return {name: getattr(fam, name) for name in settings} | given | {"memory_update": update}


def to_toml(table: Mapping[str, Any]) -> str:
    """Tables of plain values as TOML: strings, numbers and lists are written as JSON writes them."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items() if not isinstance(value, dict | list)]
    for name, value in table.items():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                lines += ["", f"[[{name}]]" if isinstance(value, list) else f"[{name}]"]
                lines += [f"{key} = {json.dumps(item)}" for key, item in part.items()]
    return "\n".join(lines) + "\n"


def open_base(adapt: AdaptRecipe) -> tuple[Path, PretrainedConfig, Weights]:
    """Folder, config and stored weights of the checkpoint to adapt, checked but not loaded.

    Raises CheckpointError for what is missing, damaged or does not fit together.
    """
    folder = base_folder(adapt.model, adapt.cache)
    check_links(folder)
    config = read_config(folder)
    return folder, config, checked_weights(folder, config)


def adapted_network(recipe: Recipe, fam: FamConfig) -> Network:
    """The network that [adapt] trains, on the CPU. With `lora` its weights are in the compute type and frozen.

    Raises CheckpointError for a checkpoint that does not open, RecipeError for targets that it does not have.
    """
    adapt = recipe.adapt
    assert adapt is not None
    folder, config, stored = open_base(adapt)
    # If every layer has a sliding window, local layers are the only ones that can have a memory.
    every_layer_is_local = len(config.decoder.local_layers) == config.decoder.num_layers
    fam = replace(fam, local_memory=every_layer_is_local)
    if fam.keeps_tokens:
        # The decoder is not trained to do without its first tokens.
        try:
            fam = with_chosen_sinks(replace(fam, local_memory=False), config.decoder)
        except ValueError as error:
            raise RecipeError(f"network: {error}") from error
    # Trained weights are float32; frozen ones can be as small as the compute type.
    dtype = torch.float32 if adapt.method == "full" else getattr(torch, recipe.hardware.dtype)
    network = _load(config, stored, fam, dtype)
    if fam.keeps_tokens:
        scores = torch.zeros(own_shapes(config.decoder, fam)[SCORES_NAME])
        network.requires_grad_(False).memory_scores = nn.Parameter(scores, requires_grad=False)
    elif fam.fam_length:
        network.memory_prompt = nn.Parameter(_prompt(folder, stored, fam.fam_length, recipe.schedule.seed))
    # What keeps tokens may do so beside updates that were trained before.
    if adapt.method == "lora" or (fam.keeps_tokens and adapt.start is not None):
        try:
            add_lora(network, LoraConfig(adapt.rank, adapt.alpha, adapt.targets), recipe.schedule.seed)
        except ValueError as error:
            raise RecipeError(f"adapt.targets: {error}") from error
        if adapt.start is not None:
            _start_from(network, Path(adapt.start), config, stored)
            if fam.keeps_tokens and adapt.method == "lora":
                _take_scores(network, Path(adapt.start))
    return network


def _take_scores(network: Network, folder: Path) -> None:
    """Give `network` the scores of the adapter in `folder`. Raises RecipeError for one that keeps no tokens."""
    if not read_sidecar(folder).fam.keeps_tokens:
        raise RecipeError(f"adapt.start {folder}: has no scores by which tokens are kept; fit them, with method 'keep'")
    shapes = own_shapes(network.config, network.fam)
    with opened(stored_own(folder, shapes)[SCORES_NAME].file, "pt") as file, torch.no_grad():
        network.memory_scores.copy_(file.get_tensor(SCORES_NAME))


def _start_from(network: Network, folder: Path, config: PretrainedConfig, stored: Weights) -> None:
    """Give the updates of `network` those of the adapter in `folder`. Raises CheckpointError, or RecipeError where they
    do not fit."""
    adapter = read_adapter(folder)
    updates = load_updates(adapter, fit(adapter, config, stored, folder))
    own = {f"{name}.weight": module for name, module in network.named_modules() if isinstance(module, LoraLinear)}
    if not updates:
        # Of one that only keeps tokens; those of the network are drawn.
        return
    for name in own.keys() | updates.keys():
        module, update = own.get(name), updates.get(name)
        if module is None or update is None or module.scale != update.scale or module.lora_a.shape != update.a.shape:
            raise RecipeError(
                f"adapt.start {folder}: {name} has another update there; make rank, alpha and targets its"
            )
        with torch.no_grad():
            module.lora_a.copy_(update.a)
            module.lora_b.copy_(update.b)


def teacher_of(recipe: Recipe, network: Network) -> Network | None:
    """The unadapted network with full attention over its training length, frozen; None without `distill`.

    It is read block by block, and sees as many whole blocks before its own as fit into that length. With `lora` it
    shares the network's weights and costs no memory.
    """
    adapt = recipe.adapt
    if adapt is None or adapt.objective != "distill":
        return None
    _, config, stored = open_base(adapt)
    size, length = recipe.network.block_size, adapt.teacher_tokens or config.decoder.rope.max_position
    if length < size:
        raise RecipeError(f"the teacher sees {length} tokens, less than a block of {size}; set adapt.teacher_tokens")
    fam = FamConfig(block_size=size, memory_segments=length // size - 1, fam_length=0)
    if adapt.method == "full":
        teacher = _load(config, stored, fam, getattr(torch, recipe.hardware.dtype)).to(network.device)
    else:
        with torch.device("meta"):
            teacher = make_network(network.config, fam)
        # The teacher gets views of the same tensors: no weight is copied.
        given = dict(network.named_parameters())
        for name, _ in list(teacher.named_parameters()):
            owner, _, last = name.rpartition(".")
            setattr(teacher.get_submodule(owner), last, nn.Parameter(given[name].detach(), requires_grad=False))
    return teacher.requires_grad_(False)


def _load(config: PretrainedConfig, stored: Weights, fam: FamConfig, dtype: torch.dtype) -> Network:
    """The checkpoint's network on the CPU, reading as `fam` says; a memory prompt has no values yet."""
    with torch.device("meta"):
        network = make_network(config.decoder, fam)
    assign_weights(network, stored, torch.device("cpu"), dict.fromkeys(stored, dtype))
    return network


def _prompt(folder: Path, stored: Weights, length: int, seed: int) -> torch.Tensor:
    """The initial memory prompt [f, d]: the checkpoint's own if it has one of this length, else a drawn one."""
    if (folder / SIDECAR_FILE).exists() and read_sidecar(folder).fam.fam_length == length:
        with opened(folder / PROMPT_FILE, "pt") as file:
            own: torch.Tensor = file.get_tensor(PROMPT_NAME)
        return own.float()
    return draw_prompt(stored[EMBEDDING], length, seed)


def _given(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in keys.items() if value is not None
    }
