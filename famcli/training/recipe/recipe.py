"""A recipe: everything that a training run is made of, read from a TOML file and checked.

`sections` defines the keys; here is the whole of them, what depends on several sections, and what a resumed run may
not change.
"""

# ruff: noqa: RUF009 - `key` is dataclasses.field with its documentation

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from famcli.checkpoint.families.pretrained import read_config
from famcli.checkpoint.folder import checkpoint_folder
from famcli.checkpoint.locate import CACHE_VARIABLE, resolve
from famcli.checkpoint.weights import refuse_adapter
from famcli.errors import RecipeError
from famcli.tokens.gguf_file import is_gguf
from famcli.training.recipe import sections
from famcli.training.recipe.checking import apply_override, key, parse_table
from famcli.training.recipe.sections import LANGUAGE_MODELLING, ObjectiveRecipe

SHAPE = (
    *("hidden_size", "num_layers", "num_heads", "num_key_value_heads", "head_dim", "intermediate_size"),
    *("tie_embeddings", "norm_eps"),
)
"""The keys of [network] that are the decoder's, in the names of `DecoderConfig`; a checkpoint to adapt decides them."""


_LARGEST = 1 << 16  # bytes


@dataclass(frozen=True)
class Recipe:
    """A whole run. `path` is the file it came from; paths inside are absolute after parsing."""

    name: str = key("name of the checkpoint")
    network: sections.NetworkRecipe = key("section")
    tokenizer: sections.TokenizerRecipe = key("section")
    data: sections.DataRecipe = key("section")
    schedule: sections.ScheduleRecipe = key("section")
    corpora: tuple[sections.CorpusRecipe, ...] = key("sections [[corpora]]; none: turns alone", ())
    objectives: tuple[ObjectiveRecipe, ...] = key("sections [[objectives]]; none: language modelling alone", ())
    hardware: sections.HardwareRecipe = key("section", sections.HardwareRecipe(), free=True)
    checks: sections.ChecksRecipe = key("section", sections.ChecksRecipe(), free=True)
    export: sections.ExportRecipe = key("section", sections.ExportRecipe(), free=True)
    adapt: sections.AdaptRecipe | None = key("section", None)
    path: Path = key("set by the reader", Path(), internal=True, free=True)

    @property
    def all_objectives(self) -> tuple[ObjectiveRecipe, ...]:
        """The objectives by index: those of the recipe, or language modelling alone."""
        return self.objectives or (ObjectiveRecipe(kind=LANGUAGE_MODELLING, name=LANGUAGE_MODELLING, weight=1.0),)

    @property
    def trains_updates(self) -> bool:
        """True if the weights of a checkpoint are frozen: low-rank updates are trained, or its memory alone."""
        return self.adapt is not None and self.adapt.method != "full"

    @property
    def learns_turns(self) -> bool:
        """True if what is learned are answers in turns, and perhaps documents beside them."""
        return any(objective.kind == sections.TURNS for objective in self.objectives)

    @property
    def longest_distance(self) -> int:
        """The longest distance in tokens from a statement to its question, over all documents made for training.

        When a memory is judged, lengths are given as multiples of this. 0 if nothing is ever asked.
        """
        lengths = [
            objective.blocks or self.schedule.longest_step
            for objective in self.all_objectives
            if objective.kind not in (LANGUAGE_MODELLING, sections.TURNS) and objective.weight > 0
        ]
        return max(lengths, default=0) * self.network.block_size

    def learning_keys(self) -> dict[str, Any]:
        """The keys that decide the numbers of a run, as plain values: a run is only resumed with the same ones.

        What is marked as free may change: the budget, the hardware, the checks, the export and the places of files.
        """
        keys: dict[str, Any] = json.loads(json.dumps(_learning_keys(self), default=str))
        # A run knows its tokenizer by the fingerprint of its contents.
        return keys | {"tokenizer": {}}


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe. `overrides` are `key=value` strings with dotted keys and TOML values.

    Raises RecipeError for a file that is missing or not TOML, and for any key or value that does not fit.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise RecipeError(f"{path}: larger than any recipe ({_LARGEST >> 10} KiB); give the path of a recipe")
        table = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); give the path of a recipe") from error
    except RecipeError:
        raise
    except RecursionError as error:
        raise RecipeError(f"{path}: its values are nested too deeply for a recipe; correct it") from error
    except ValueError as error:
        raise RecipeError(f"{path}: not TOML: {error}; correct that line") from error
    return make_recipe(table, path, overrides)


def make_recipe(table: dict[str, Any], path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in `table`, whose file is (or will be) `path`. Raises RecipeError."""
    # Overrides come first, as they may name another checkpoint to adapt.
    for override in overrides:
        apply_override(table, override)
    if isinstance(table.get("adapt"), dict):
        table = _with_base(table, path)
    recipe: Recipe = parse_table(Recipe, table, str(path))
    recipe = _resolve(replace(recipe, path=path.resolve()))
    for number, objective in enumerate(recipe.objectives):
        problem = objective.problem({corpus.name: corpus.weight for corpus in recipe.corpora})
        if problem:
            raise RecipeError(f"{path}: objectives[{number}]{problem}")
    for message, applies in _problems(recipe).items():
        if applies:
            raise RecipeError(f"{recipe.path}: {message}")
    return recipe


def base_folder(model: str, cache: str | None = None) -> Path:
    """The folder of the checkpoint to adapt. Raises RecipeError for a GGUF file, CheckpointError if there is none.

    cache: the hub's cache to look in, if not the usual one.
    """
    environ = dict(os.environ) if cache is None else {**os.environ, CACHE_VARIABLE: cache}
    folder = checkpoint_folder(resolve(model, environ, asked_by="adapt.model").path)
    if is_gguf(folder):
        raise RecipeError(f"adapt.model {model} is a GGUF file; adapt the folder that it was made from")
    refuse_adapter(folder)
    return folder


def _learning_keys(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_learning_keys(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    keys = {}
    for item in dataclasses.fields(value):
        given, marks = getattr(value, item.name), item.metadata
        # Without defaults, so that a run can still be resumed after recipes have learned new keys.
        if not marks.get("free") and (given != item.default or marks.get("required")):
            # Of a path only the name: the data may be moved to another folder or machine.
            keys[item.name] = Path(given).name if marks.get("by_name") else _learning_keys(given)
    return keys


def _with_base(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """A recipe's table with the shape and the tokenizer of the checkpoint to adapt.

    Raises RecipeError if the recipe says otherwise.
    """
    model = table["adapt"].get("model")
    if not isinstance(model, str):
        raise RecipeError(f"{path}: adapt.model is missing; it is the checkpoint to adapt, a folder or a name")
    # A folder beside the recipe takes precedence over a name.
    if (path.parent / model).exists():
        model = str((path.parent / model).resolve())
    cache = table["adapt"].get("cache")
    folder = base_folder(model, cache if isinstance(cache, str) else None)
    decoder = read_config(folder).decoder
    shape = {name: getattr(decoder, name) for name in SHAPE} | {"rope_theta": decoder.rope.theta}
    network = table.get("network", {})
    for name, value in shape.items():
        if isinstance(network, dict) and network.get(name, value) != value:
            raise RecipeError(f"{path}: network.{name} is {network[name]}, in {model} it is {value}; leave it out")
    tokenizer = table.get("tokenizer", {"path": str(folder.resolve())})
    return table | {"adapt": table["adapt"] | {"model": model}, "network": network | shape, "tokenizer": tokenizer}


def _resolve(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths, and with the names that were left out."""
    base = recipe.path.parent
    folder = (base / recipe.data.folder).resolve()

    def beside(path: Path | None, place: Path) -> Path | None:
        return None if path is None else (place / path).resolve()

    adapt, init = recipe.adapt, recipe.schedule.init
    if adapt is not None and adapt.start is not None:
        adapt = replace(adapt, start=str((base / adapt.start).resolve()))
    # Otherwise it is the name of a checkpoint.
    if init is not None and (base / init).exists():
        init = str((base / init).resolve())
    return replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, path=beside(recipe.tokenizer.path, base)),
        data=replace(recipe.data, folder=folder, cache=beside(recipe.data.cache, base)),
        corpora=tuple(replace(corpus, path=folder / corpus.path) for corpus in recipe.corpora),
        objectives=tuple(
            replace(item, name=item.name or item.kind, path=folder / item.path if item.path else None)
            for item in recipe.objectives
        ),
        schedule=replace(recipe.schedule, init=init),
        adapt=adapt,
        checks=replace(
            recipe.checks,
            heldout=folder / recipe.checks.heldout if recipe.checks.heldout else None,
            turns=folder / recipe.checks.turns if recipe.checks.turns else None,
        ),
    )


def _problems(recipe: Recipe) -> dict[str, bool]:
    """What can be wrong between keys, and whether it is."""
    network, schedule, tokenizer, adapted = recipe.network, recipe.schedule, recipe.tokenizer, recipe.adapt is not None
    feedback, kept = network.architecture == "feedback", network.keeps_tokens
    fixed, least, most = schedule.blocks_per_step, schedule.min_blocks, schedule.max_blocks
    names = [corpus.name for corpus in recipe.corpora]
    titles = [objective.name for objective in recipe.objectives]
    return {
        "network.num_key_value_heads must divide num_heads": network.num_heads % network.num_key_value_heads != 0,
        "adapt trains a memory of architecture 'fam'; for 'feedback' name the checkpoint in schedule.init": feedback
        and adapted,
        "schedule.segment_dropout and random_state_passing have no meaning for architecture 'feedback', which has no "
        "memory apart from what its tokens see; leave them out": feedback
        and bool(schedule.segment_dropout or schedule.random_state_passing),
        "network.memory_update 'kept' and adapt.method 'keep' belong together; without that, give an adapter with "
        "scores as adapt.start": kept
        and (recipe.adapt is None or (recipe.adapt.method != "keep" and recipe.adapt.start is None)),
        "adapt.method 'keep' and network.memory_update 'kept' belong together, and no objective of kind turns with "
        "them; change one": recipe.adapt is not None
        and recipe.adapt.method == "keep"
        and (not kept or recipe.learns_turns),
        "adapt knows no network.memory_update 'delta', whose maps are trained with the whole decoder; leave [adapt] "
        "out and name the checkpoint in schedule.init": network.associates and adapted,
        "network.head_dim must be even": network.head_dim % 2 != 0,
        "tokenizer needs path or vocab_size; add one": tokenizer.path is None and tokenizer.vocab_size is None,
        "schedule needs steps or max_minutes; add one": schedule.steps is None and schedule.max_minutes is None,
        "schedule needs either blocks_per_step or max_blocks; give one of them": (fixed is None) == (most is None),
        "schedule.max_blocks must be at least min_blocks": most is not None and most < least,
        "corpora need a positive weight; add one": any(one.kind != sections.TURNS for one in recipe.all_objectives)
        and sum(corpus.weight for corpus in recipe.corpora) <= 0,
        "objectives[].segments is for runs with an objective of kind turns; leave it out": not recipe.learns_turns
        and any(objective.segments is not None for objective in recipe.objectives),
        "objectives of kind turns need [adapt] with a checkpoint that has a chat template": recipe.learns_turns
        and not adapted,
        "schedule.init and adapt.model exclude each other; leave one out": adapted and schedule.init is not None,
        "export has no effect with [adapt], whose result has its own types; leave it out": adapted
        and recipe.export != sections.ExportRecipe(),
        "corpora need different names; rename one": len(set(names)) != len(names),
        "objectives need different names; give them a `name`": len(set(titles)) != len(titles),
        "objectives need a positive weight; add one": bool(titles)
        and sum(objective.weight for objective in recipe.objectives) <= 0,
    }
