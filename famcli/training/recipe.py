"""Recipes: what a training run is made of, as a TOML file with nothing in it that is not checked.

Every key, its type, its default and its meaning stand once, in the dataclasses below; `describe.py` prints them.
Unknown keys, wrong types and values out of range are errors that name the file, the key, and what to do.
"""

# ruff: noqa: RUF009 - `_key` is dataclasses.field with its documentation

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from famcli.errors import RecipeError


def _key(doc: str, default: Any = MISSING, *, low: float | None = None, high: float | None = None, **more: Any) -> Any:
    """A documented key: `low` and `high` bound numbers (inclusive), `choices` names the strings that are allowed."""
    metadata = {"doc": doc, "low": low, "high": high, **more}
    if isinstance(default, dict | list):
        raise TypeError("use tuples and None as defaults")
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class NetworkRecipe:
    """The shape of the decoder and of its memory; names as in `DecoderConfig` and `FamConfig`."""

    hidden_size: int = _key("model width d", low=1)
    num_layers: int = _key("number of layers", low=1)
    num_heads: int = _key("query heads", low=1)
    num_key_value_heads: int = _key("key and value heads; divides num_heads", low=1)
    head_dim: int = _key("width of one head, even", low=2)
    intermediate_size: int = _key("width of the gated feed-forward", low=1)
    block_size: int = _key("tokens in a block, C", low=1)
    memory_segments: int = _key("closed blocks a token still sees, m", low=0)
    fam_length: int = _key("rows of the feedback memory, f; 0 trains the BSWA twin", low=0)
    tie_embeddings: bool = _key("share the embedding with the output head", True)
    rope_theta: float = _key("base of the rotary angles", 10000.0, low=1.0)
    norm_eps: float = _key("epsilon of the RMS norms", 1e-5, low=0.0)


@dataclass(frozen=True)
class TokenizerRecipe:
    """Which tokenizer the corpora are read with; it is copied into the exported checkpoint."""

    path: Path = _key("folder that holds the tokenizer; relative to the recipe")


@dataclass(frozen=True)
class CorpusRecipe:
    """One source of documents: a .jsonl or .jsonl.zst file (one object with `id` and `text` a line) or a folder."""

    name: str = _key("short name, used in logs and by --set corpora.NAME.key=value")
    path: Path = _key("file, or folder of .txt files; relative to data.folder")
    weight: float = _key("share of the training tokens, relative to the other corpora", low=0.0)
    license: str = _key("licence of the texts, for the model card", "")
    where: dict[str, str] | None = _key(
        "keep only records whose fields have these values, e.g. { split = 'train' }", None
    )
    exclude_ids: tuple[str, ...] = _key("records never used, by id", ())
    validation_hash_below: int = _key(
        "records whose sha256(id) starts with a byte below this are for validation only", 0, low=0, high=256
    )
    validation_documents: int = _key(
        "as many further records, those of the smallest sha256(id), for validation", 0, low=0
    )
    max_characters: int | None = _key("train on about this much, whole documents drawn by data.seed", None, low=1)


@dataclass(frozen=True)
class DataRecipe:
    """Where the corpora are and where their tokens are kept."""

    folder: Path = _key("folder that corpus paths are relative to; itself relative to the recipe")
    cache: Path | None = _key("folder for tokenized corpora (default: `tokens` beside the run folder)", None)
    seed: int = _key("draws documents for max_characters and shuffles their order", 0, low=0)


@dataclass(frozen=True)
class ScheduleRecipe:
    """How long, how much at a time, and how fast. At least one of `steps` and `max_minutes` ends the run."""

    lanes: int = _key("documents read side by side", low=1)
    blocks_per_step: int = _key("blocks of each lane in a step; gradients run through all of them", low=1)
    steps: int | None = _key("optimiser steps in the run", None, low=1)
    max_minutes: float | None = _key("minutes of training in the run, counted over all resumes", None, low=0.0)
    muon_lr: float = _key(
        "peak learning rate of Muon, for the matrices inside the layers; 0 gives them to AdamW", 0.003, low=0.0
    )
    adamw_lr: float = _key("peak learning rate of AdamW, for all other parameters", 0.005, low=0.0)
    momentum: float = _key("momentum of Muon", 0.95, low=0.0, high=1.0)
    beta1: float = _key("first decay of AdamW", 0.9, low=0.0, high=1.0)
    beta2: float = _key("second decay of AdamW", 0.95, low=0.0, high=1.0)
    weight_decay: float = _key(
        "decoupled decay of the matrices; norms, embeddings and memory prompt have none", 0.0, low=0.0
    )
    clip_norm: float = _key("the gradient's norm is cut to this; 0 leaves it", 1.0, low=0.0)
    warmup_steps: int = _key("steps of linear warm-up", 50, low=0)
    decay_share: float = _key(
        "share of the run, at its end, over which the rates fall linearly to 0", 0.8, low=0.0, high=1.0
    )
    seed: int = _key("initial weights", 0, low=0)
    max_skipped: int = _key("steps with a loss or gradient that is not finite before the run stops", 20, low=0)


@dataclass(frozen=True)
class HardwareRecipe:
    """What the run computes on; changes speed and rounding, nothing else."""

    device: str = _key("auto, cpu, cuda or mps", "cpu", choices=("auto", "cpu", "cuda", "mps"))
    dtype: str = _key("compute type; weights and optimiser stay float32", "bfloat16", choices=("float32", "bfloat16"))
    threads: int | None = _key("CPU threads (default: torch's)", None, low=1)


@dataclass(frozen=True)
class ChecksRecipe:
    """What is looked at during the run, and how often the run is saved."""

    every_steps: int = _key("steps between checks on the validation documents; 0 for none", 500, low=0)
    documents: int = _key("validation documents of each corpus in a check", 8, low=1)
    tokens: int = _key("tokens of each; shorter documents are left out", 4096, low=1)
    save_minutes: float = _key("minutes between training checkpoints", 5.0, low=0.0)
    heldout: Path | None = _key(
        "corpus read only once, after the run, for the card's figures; relative to data.folder", None
    )


@dataclass(frozen=True)
class Recipe:
    """A whole run. `path` is the file it came from; paths inside are absolute after parsing."""

    name: str = _key("name of the checkpoint")
    network: NetworkRecipe = _key("section")
    tokenizer: TokenizerRecipe = _key("section")
    data: DataRecipe = _key("section")
    corpora: tuple[CorpusRecipe, ...] = _key("sections [[corpora]]")
    schedule: ScheduleRecipe = _key("section")
    hardware: HardwareRecipe = _key("section", HardwareRecipe())
    checks: ChecksRecipe = _key("section", ChecksRecipe())
    path: Path = _key("set by the reader", Path(), internal=True)

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain values, for logs and for the training checkpoint."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        return plain

    def learning_fingerprint(self) -> str:
        """sha256 of what shapes the numbers of a run, so that a run is only resumed with the recipe it began with.

        The budget, the hardware, the checks and where files lie may change. Keys at their defaults are left out, so
        that runs stay resumable when recipes learn new keys.
        """
        plain = _without_defaults(self)
        for section in ("hardware", "checks", "path"):
            plain.pop(section, None)
        for section, key in (
            ("schedule", "steps"),
            ("schedule", "max_minutes"),
            ("schedule", "max_skipped"),
            ("tokenizer", "path"),
            ("data", "folder"),
            ("data", "cache"),
        ):
            plain[section].pop(key, None)
        for corpus in plain["corpora"]:
            corpus["path"] = Path(corpus["path"]).name
            corpus.pop("license", None)
        return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def _without_defaults(value: Any) -> Any:
    """Plain values of a dataclass, keys at their defaults left out."""
    if isinstance(value, tuple):
        return [_without_defaults(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    pairs = ((item, getattr(value, item.name)) for item in dataclasses.fields(value))
    return {item.name: _without_defaults(given) for item, given in pairs if given != item.default}


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
    for override in overrides:
        _apply_override(table, override)
    recipe: Recipe = _parse_table(Recipe, table, str(path), "")
    recipe = _resolve_paths(dataclasses.replace(recipe, path=path.resolve()))
    _check_whole(recipe)
    return recipe


def type_name(hint: Any) -> str:
    if get_origin(hint) in (UnionType, Union):
        return type_name(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return f"list of {type_name(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return "table of strings"
    return {int: "integer", float: "number", bool: "true or false", str: "string", Path: "path"}[hint]


def _apply_override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {override}: not of the form key=value; write e.g. --set schedule.lanes=4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string: --set hardware.device=cuda
    node: Any = table
    for part in parts[:-1]:
        if isinstance(node, list):
            node = next((item for item in node if item.get("name") == part), None)
        else:
            node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict | list):
            raise RecipeError(f"--set {override}: the recipe has no {part!r} there; check the key")
    if isinstance(node, list):
        raise RecipeError(f"--set {override}: name the entry, e.g. --set corpora.NAME.weight=2")
    node[parts[-1]] = value


def _parse_table(kind: type[Any], table: Any, file: str, prefix: str) -> Any:
    if not isinstance(table, dict):
        raise RecipeError(f"{file}: {prefix.rstrip('.')} must be a table; write it as a [section]")
    fields = {item.name: item for item in dataclasses.fields(kind) if not item.metadata.get("internal")}
    for key in table:
        if key not in fields:
            raise RecipeError(f"{file}: unknown key {prefix}{key}; one of: {', '.join(fields)}")
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for name, item in fields.items():
        if name in table:
            values[name] = _parse_value(hints[name], table[name], item, file, prefix + name)
        elif item.default is MISSING:
            raise RecipeError(f"{file}: {prefix}{name} is missing; it is the {item.metadata['doc']}")
    return kind(**values)


def _parse_value(hint: Any, value: Any, item: dataclasses.Field[Any], file: str, key: str) -> Any:
    if get_origin(hint) in (UnionType, Union):
        hint = get_args(hint)[0]
    if dataclasses.is_dataclass(hint):
        return _parse_table(hint, value, file, key + ".")  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if not isinstance(value, list):
            raise RecipeError(f"{file}: {key} must be a list; it is {value!r}")
        return tuple(_parse_value(inner, entry, item, file, f"{key}[{i}]") for i, entry in enumerate(value))
    if get_origin(hint) is dict:
        if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
            raise RecipeError(f"{file}: {key} must be a table of strings; it is {value!r}")
        return value
    accepted: Any = {int: int, float: (int, float), bool: bool, str: str, Path: str}[hint]
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise RecipeError(f"{file}: {key} must be of type {type_name(hint)}; it is {value!r}")
    low, high, choices = (item.metadata.get(name) for name in ("low", "high", "choices"))
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise RecipeError(f"{file}: {key} must be {bounds}; it is {value!r}")
    if choices and value not in choices:
        raise RecipeError(f"{file}: {key} must be one of {', '.join(choices)}; it is {value!r}")
    return hint(value)


def _resolve_paths(recipe: Recipe) -> Recipe:
    base = recipe.path.parent
    folder = (base / recipe.data.folder).resolve()
    heldout = recipe.checks.heldout
    cache = recipe.data.cache
    return dataclasses.replace(
        recipe,
        tokenizer=TokenizerRecipe(path=(base / recipe.tokenizer.path).resolve()),
        data=dataclasses.replace(recipe.data, folder=folder, cache=(base / cache).resolve() if cache else None),
        corpora=tuple(dataclasses.replace(corpus, path=folder / corpus.path) for corpus in recipe.corpora),
        checks=dataclasses.replace(recipe.checks, heldout=folder / heldout if heldout else None),
    )


def _check_whole(recipe: Recipe) -> None:
    file, network, schedule = recipe.path, recipe.network, recipe.schedule
    names = [corpus.name for corpus in recipe.corpora]
    problems = [
        (network.num_heads % network.num_key_value_heads != 0, "network.num_key_value_heads must divide num_heads"),
        (network.head_dim % 2 != 0, "network.head_dim must be even"),
        (network.fam_length > network.block_size, "network.fam_length must be at most block_size"),
        (schedule.steps is None and schedule.max_minutes is None, "schedule needs steps or max_minutes; add one"),
        (not names or sum(corpus.weight for corpus in recipe.corpora) <= 0, "corpora need a positive weight; add one"),
        (len(set(names)) != len(names), "corpora need different names; rename one"),
    ]
    for failed, message in problems:
        if failed:
            raise RecipeError(f"{file}: {message}")
