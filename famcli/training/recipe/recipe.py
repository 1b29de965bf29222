"""Recipes: what a training run is made of, as a TOML file with nothing in it that is not checked.

Every key, its type, its default and its meaning stand once, in the dataclasses below; `describe.py` prints them and
`tables.py` checks them.
"""

# ruff: noqa: RUF009 - `key` is dataclasses.field with its documentation

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from famcli.errors import RecipeError
from famcli.nn.config import FamConfig
from famcli.training.recipe.adapt import AdaptRecipe, with_base
from famcli.training.recipe.objectives import LANGUAGE_MODELLING, ObjectiveRecipe
from famcli.training.recipe.tables import apply_override, key, parse_table


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe(FamConfig):
    """How the network reads (the keys of `FamConfig`), and the decoder's shape, with names as in `DecoderConfig`."""

    hidden_size: int = key("model width d", low=1)
    num_layers: int = key("number of layers", low=1)
    num_heads: int = key("query heads", low=1)
    num_key_value_heads: int = key("key and value heads; divides num_heads", low=1)
    head_dim: int = key("width of one head, even", low=2)
    intermediate_size: int = key("width of the gated feed-forward", low=1)
    tie_embeddings: bool = key("share the embedding with the output head", True)
    rope_theta: float = key("base of the rotary angles", 10000.0, low=1.0)
    norm_eps: float = key("epsilon of the RMS norms", 1e-5, low=0.0)

    @property
    def fam(self) -> FamConfig:
        """How the network reads, alone."""
        return FamConfig(**{each.name: getattr(self, each.name) for each in dataclasses.fields(FamConfig)})


@dataclass(frozen=True)
class TokenizerRecipe:
    """Which tokenizer the corpora are read with; it is copied into the exported checkpoint."""

    path: Path | None = key("folder that holds the tokenizer; relative to the recipe", None)
    vocab_size: int | None = key(
        "where `path` holds none: size of a sentencepiece tokenizer that is trained on the corpora, into the cache",
        None,
        low=262,
    )
    characters: int = key("characters it is trained on, drawn by the corpora's weights", 20_000_000, low=1)


@dataclass(frozen=True)
class CorpusRecipe:
    """One source of documents: a .jsonl or .jsonl.zst file (one object with `id` and `text` a line) or a folder."""

    name: str = key("short name, used in logs and by --set corpora.NAME.key=value")
    path: Path = key("file, or folder of .txt files; relative to data.folder")
    weight: float = key("share of the training tokens, relative to the other corpora", low=0.0)
    license: str = key("licence of the texts, for the model card", "")
    where: dict[str, str] | None = key(
        "keep only records whose fields have these values, e.g. { split = 'train' }", None
    )
    exclude_ids: tuple[str, ...] = key("records never used, by id", ())
    validation_hash_below: int = key(
        "records whose sha256(id) starts with a byte below this are for validation only", 0, low=0, high=256
    )
    validation_documents: int = key(
        "as many further records, those of the smallest sha256(id), for validation", 0, low=0
    )
    max_characters: int | None = key("train on about this much, whole documents drawn by data.seed", None, low=1)


@dataclass(frozen=True)
class DataRecipe:
    """Where the corpora are and where their tokens are kept."""

    folder: Path = key("folder that corpus paths are relative to; itself relative to the recipe")
    cache: Path | None = key("folder for tokenized corpora (default: `tokens` beside the run folder)", None)
    seed: int = key("draws documents for max_characters and shuffles their order", 0, low=0)


@dataclass(frozen=True)
class ScheduleRecipe:
    """How long, how much at a time, and how fast. At least one of `steps` and `max_minutes` ends the run."""

    lanes: int = key("documents read side by side", low=1)
    blocks_per_step: int | None = key(
        "blocks of each lane in a step; gradients run through all of them (or give max_blocks)", None, low=1
    )
    min_blocks: int = key("with max_blocks: the fewest blocks of a step", 1, low=1)
    max_blocks: int | None = key(
        "the most: each step's number is drawn anew, uniformly up to a growing bound", None, low=1
    )
    curriculum_share: float = key(
        "share of the run over which that bound grows from min_blocks to max_blocks", 0.0, low=0.0, high=1.0
    )
    random_state_passing: float = key(
        "probability that a document starts from the memory with which its lane ended the last one",
        0.0,
        low=0.0,
        high=1.0,
    )
    random_state_passing_from: float = key("share of the run before which that is 0", 0.0, low=0.0, high=1.0)
    state_passing: str = key(
        "lane, or batch: the paper's form, where all documents of a step start from what the first lane ended the last "
        "step with, or none",
        "lane",
        choices=("lane", "batch"),
    )
    segment_dropout: float = key(
        "probability that a step is read without segments, so that all from before a block must come by the memory",
        0.0,
        low=0.0,
        high=1.0,
    )
    accumulate: int = key(
        "read a step's lanes in so many parts, one after the other: less memory, same gradient", 1, low=1
    )
    steps: int | None = key("optimiser steps in the run", None, low=1)
    max_minutes: float | None = key("minutes of training in the run, counted over all resumes", None, low=1e-6)
    muon_lr: float = key(
        "peak learning rate of Muon, for the matrices inside the layers; 0 gives them to AdamW", 0.003, low=0.0
    )
    adamw_lr: float = key("peak learning rate of AdamW, for all other parameters", 0.005, low=0.0)
    momentum: float = key("momentum of Muon", 0.95, low=0.0, high=1.0)
    beta1: float = key("first decay of AdamW", 0.9, low=0.0, high=1.0)
    beta2: float = key("second decay of AdamW", 0.95, low=0.0, high=1.0)
    weight_decay: float = key(
        "decoupled decay of the matrices; norms, embeddings and memory prompt have none", 0.0, low=0.0
    )
    clip_norm: float = key("the gradient's norm is cut to this; 0 leaves it", 1.0, low=0.0)
    warmup_steps: int = key("steps of linear warm-up", 50, low=0)
    decay_share: float = key(
        "share of the run, at its end, over which the rates fall linearly to 0", 0.8, low=0.0, high=1.0
    )
    average_decay: float = key(
        "decay of the average of the weights, a step; the average is what is exported; 0: no average",
        0.0,
        low=0.0,
        high=1.0,
    )
    init: str | None = key("checkpoint, folder or name, whose weights the run starts from", None)
    seed: int = key("initial weights", 0, low=0)
    max_skipped: int = key("steps with a loss or gradient that is not finite before the run stops", 20, low=0)

    @property
    def longest_step(self) -> int:
        """Blocks of a lane in the longest step."""
        blocks = self.blocks_per_step if self.blocks_per_step is not None else self.max_blocks
        assert blocks is not None, "load_recipe requires one of the two"
        return blocks

    def blocks_of_step(self, seed: int, step: int, progress: float) -> int:
        """Blocks of a lane in step `step` (counted from 0), when `progress` (0 to 1) of the run is done.

        `blocks_per_step`, or uniform from min_blocks to the curriculum's bound, from (seed, step) alone.
        """
        if self.max_blocks is None:
            return self.longest_step
        grown = min(1.0, progress / self.curriculum_share) if self.curriculum_share else 1.0
        bound = self.min_blocks + round(grown * (self.max_blocks - self.min_blocks))
        return int(np.random.default_rng([seed, step]).integers(self.min_blocks, bound + 1))


@dataclass(frozen=True)
class HardwareRecipe:
    """What the run computes on; changes speed and rounding, nothing else."""

    device: str = key("auto, cpu, cuda or mps", "cpu", choices=("auto", "cpu", "cuda", "mps"))
    dtype: str = key("compute type; weights and optimiser stay float32", "bfloat16", choices=("float32", "bfloat16"))
    threads: int | None = key("CPU threads (default: torch's)", None, low=1)
    checkpoint_gradients: bool = key("recompute each layer in the backward pass: less memory, more time", False)
    compile: bool = key("compile the layers with torch.compile", False)
    shard: bool = key("under torchrun: divide weights, gradients and moments over the processes (FSDP2)", False)


@dataclass(frozen=True)
class ExportRecipe:
    """How the finished checkpoint lies on disk."""

    storage: str = key(
        "type of the stored weights; int8: matrices with a scale for each row, turned back on loading",
        "bfloat16",
        choices=("bfloat16", "float32", "int8"),
    )
    shard_megabytes: float | None = key("weights in files of at most this size (default: one file)", None, low=0.001)


@dataclass(frozen=True)
class ChecksRecipe:
    """What is looked at during the run, and how often the run is saved."""

    every_steps: int = key("steps between checks on the validation documents; 0 for none", 500, low=0)
    documents: int = key("validation documents of each corpus in a check", 8, low=1)
    tokens: int = key("tokens of each; shorter documents are left out", 4096, low=1)
    passkey_every_steps: int = key("steps between checks of passkeys in validation text; 0 for none", 0, low=0)
    passkey_streams: int = key("streams with a key each in such a check", 20, low=1)
    passkey_distances: tuple[int, ...] = key("their lengths, as multiples of the training distance", (1, 4, 16), low=1)
    save_minutes: float = key("minutes between training checkpoints", 5.0, low=0.0)
    heldout: Path | None = key(
        "corpus read only once, after the run, for the card's figures; relative to data.folder", None
    )


@dataclass(frozen=True)
class Recipe:
    """A whole run. `path` is the file it came from; paths inside are absolute after parsing."""

    name: str = key("name of the checkpoint")
    network: NetworkRecipe = key("section")
    tokenizer: TokenizerRecipe = key("section")
    data: DataRecipe = key("section")
    corpora: tuple[CorpusRecipe, ...] = key("sections [[corpora]]")
    schedule: ScheduleRecipe = key("section")
    objectives: tuple[ObjectiveRecipe, ...] = key("sections [[objectives]]; none: language modelling alone", ())
    hardware: HardwareRecipe = key("section", HardwareRecipe())
    checks: ChecksRecipe = key("section", ChecksRecipe())
    export: ExportRecipe = key("section", ExportRecipe())
    adapt: AdaptRecipe | None = key("section", None)
    path: Path = key("set by the reader", Path(), internal=True)

    @property
    def all_objectives(self) -> tuple[ObjectiveRecipe, ...]:
        """The objectives by index: those of the recipe, or language modelling alone."""
        return self.objectives or (ObjectiveRecipe(kind=LANGUAGE_MODELLING, name=LANGUAGE_MODELLING, weight=1.0),)

    @property
    def trains_updates(self) -> bool:
        """Whether the weights of a checkpoint are frozen and updates of low rank are trained beside them."""
        return self.adapt is not None and self.adapt.method == "lora"

    @property
    def longest_distance(self) -> int:
        """The longest distance in tokens from what is asked for to its question, in any document made for training.

        This is what lengths are multiples of when a memory is judged. 0 where nothing is ever asked.
        """
        lengths = [
            objective.blocks or self.schedule.longest_step
            for objective in self.all_objectives
            if objective.kind != LANGUAGE_MODELLING and objective.weight > 0
        ]
        return max(lengths, default=0) * self.network.block_size

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain values, for logs and for the training checkpoint."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        return plain

    def learning_keys(self) -> dict[str, Any]:
        """What shapes the numbers of a run, as plain values: a run is only resumed with those it began with.

        The budget, the hardware, the checks, the export and where files lie may change. Keys at their defaults are left
        out, so that runs stay resumable when recipes learn new keys.
        """
        plain = _without_defaults(self)
        for section in ("hardware", "checks", "export", "path"):
            plain.pop(section, None)
        plain["tokenizer"] = {}  # a run knows its tokenizer by what is in it
        for section, name in (
            ("schedule", "steps"),
            ("schedule", "max_minutes"),
            ("schedule", "max_skipped"),
            ("schedule", "accumulate"),
            ("data", "folder"),
            ("data", "cache"),
        ):
            plain[section].pop(name, None)
        for source in plain["corpora"] + plain.get("objectives", []):
            if "path" in source:
                source["path"] = Path(source["path"]).name
            source.pop("license", None)
        if "init" in plain["schedule"]:
            plain["schedule"]["init"] = Path(plain["schedule"]["init"]).name
        if "adapt" in plain:
            plain["adapt"]["model"] = Path(plain["adapt"]["model"]).name
        keys: dict[str, Any] = json.loads(json.dumps(plain, default=str))
        return keys


def _without_defaults(value: Any) -> Any:
    """Plain values of a dataclass, keys at their defaults left out."""
    if isinstance(value, tuple):
        return [_without_defaults(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    pairs = ((item, getattr(value, item.name)) for item in dataclasses.fields(value))
    return {
        item.name: _without_defaults(given)
        for item, given in pairs
        if given != item.default or item.metadata.get("required")
    }


def load_recipe(path: Path | str, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Read and check a recipe. `overrides` are `key=value` strings with dotted keys and TOML values.

    Raises RecipeError for a file that is missing or not TOML, and for any key or value that does not fit.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); give the path of a recipe") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not TOML: {error}; correct that line") from error
    return make_recipe(table, path, overrides)


def make_recipe(table: dict[str, Any], path: Path, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """The recipe that `table` holds, whose file is (or will be) `path`. Raises RecipeError."""
    for override in overrides:
        apply_override(table, override)
    if isinstance(table.get("adapt"), dict):
        table = with_base(table, path)
    recipe: Recipe = parse_table(Recipe, table, str(path))
    recipe = _resolve(dataclasses.replace(recipe, path=path.resolve()))
    for number, objective in enumerate(recipe.objectives):
        problem = objective.problem({corpus.name: corpus.weight for corpus in recipe.corpora})
        if problem:
            raise RecipeError(f"{path}: objectives[{number}]{problem}")
    _check_whole(recipe)
    return recipe


def _resolve(recipe: Recipe) -> Recipe:
    """Paths made absolute, and names that were left out."""
    base = recipe.path.parent
    folder = (base / recipe.data.folder).resolve()
    heldout, cache, init = recipe.checks.heldout, recipe.data.cache, recipe.schedule.init
    tokenizer = recipe.tokenizer.path
    objectives = tuple(
        dataclasses.replace(item, name=item.name or item.kind, path=folder / item.path if item.path else None)
        for item in recipe.objectives
    )
    if init is not None and (base / init).exists():  # else it is the name of a checkpoint
        init = str((base / init).resolve())
    return dataclasses.replace(
        recipe,
        tokenizer=dataclasses.replace(recipe.tokenizer, path=(base / tokenizer).resolve() if tokenizer else None),
        data=dataclasses.replace(recipe.data, folder=folder, cache=(base / cache).resolve() if cache else None),
        corpora=tuple(dataclasses.replace(corpus, path=folder / corpus.path) for corpus in recipe.corpora),
        objectives=objectives,
        schedule=dataclasses.replace(recipe.schedule, init=init),
        checks=dataclasses.replace(recipe.checks, heldout=folder / heldout if heldout else None),
    )


def _check_whole(recipe: Recipe) -> None:
    file, network, schedule = recipe.path, recipe.network, recipe.schedule
    names = [corpus.name for corpus in recipe.corpora]
    titles = [objective.name for objective in recipe.objectives]
    problems = [
        (network.num_heads % network.num_key_value_heads != 0, "network.num_key_value_heads must divide num_heads"),
        (network.head_dim % 2 != 0, "network.head_dim must be even"),
        (
            recipe.tokenizer.path is None and recipe.tokenizer.vocab_size is None,
            "tokenizer needs path or vocab_size; add one",
        ),
        (schedule.steps is None and schedule.max_minutes is None, "schedule needs steps or max_minutes; add one"),
        (
            (schedule.blocks_per_step is None) == (schedule.max_blocks is None),
            "schedule needs either blocks_per_step or max_blocks; give one of them",
        ),
        (
            schedule.max_blocks is not None and schedule.max_blocks < schedule.min_blocks,
            "schedule.max_blocks must be at least min_blocks",
        ),
        (not names or sum(corpus.weight for corpus in recipe.corpora) <= 0, "corpora need a positive weight; add one"),
        (
            recipe.adapt is not None and schedule.init is not None,
            "schedule.init and adapt.model exclude each other; leave one out",
        ),
        (
            recipe.adapt is not None and recipe.export != ExportRecipe(),
            "export has no effect with [adapt], whose result has types of its own; leave it out",
        ),
        (len(set(names)) != len(names), "corpora need different names; rename one"),
        (len(set(titles)) != len(titles), "objectives need different names; give them a `name`"),
        (
            bool(titles) and sum(objective.weight for objective in recipe.objectives) <= 0,
            "objectives need a positive weight; add one",
        ),
    ]
    for failed, message in problems:
        if failed:
            raise RecipeError(f"{file}: {message}")
