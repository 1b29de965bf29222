"""The sections of a recipe. Every key, its type, default, bounds and meaning are defined here, and only here.

A dataclass defines the keys of a section, and `checking.parse_table` checks a TOML table against it.
`tools/recipe_keys.py` prints the keys into docs/training.md.
"""

# ruff: noqa: RUF009 - `key` is dataclasses.field with its documentation

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famcli.nn.config import FamConfig
from famcli.nn.shapes import TARGETS
from famcli.synthetic.episodes import TASKS
from famcli.synthetic.sequences import SEQUENCES
from famcli.training.recipe.checking import key, share

LANGUAGE_MODELLING = "language_modelling"
TURNS = "turns"
_TEXT = ("corpora", "text_weight")
_MADE = (*_TEXT, "answer_weight", "blocks", "segments")
_RECORDS = ("path", "license", "where", "exclude_ids", "hash_field", "hash_from", "hash_below", "max_answer_characters")
# The keys that have a meaning for each kind; any other one that is set is an error.
_KEYS_OF_KIND = {
    LANGUAGE_MODELLING: _TEXT,
    "repeat": (*_MADE, "segment_tokens"),
    "passkey": (*_MADE, "episodes_per_block", "digits", "distinct_digits"),
    "needles": (*_MADE, "episodes_per_block", "digits", "count", "queries"),
    "facts": (*_MADE, "count", "queries", "tasks"),
    "questions": (*_MADE, "queries", *_RECORDS),
    **dict.fromkeys(SEQUENCES, ("text_weight", "answer_weight", "blocks", "size")),
    TURNS: ("answer_weight", "path", "license"),
}


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe(FamConfig):
    """How the network reads (the keys of `FamConfig`), and the decoder's shape, in the names of `DecoderConfig`."""

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
        """How the network reads, without the decoder's shape."""
        return FamConfig(**{each.name: getattr(self, each.name) for each in dataclasses.fields(FamConfig)})


@dataclass(frozen=True)
class TokenizerRecipe:
    """The tokenizer of the corpora; it is copied into the exported checkpoint."""

    path: Path | None = key("folder that holds the tokenizer; relative to the recipe", None)
    vocab_size: int | None = key(
        "if `path` holds none: size of a sentencepiece tokenizer that is trained on the corpora and kept in the cache",
        None,
        low=262,
    )
    characters: int = key("characters that it is trained on, drawn by the corpora's weights", 20_000_000, low=1)


@dataclass(frozen=True)
class CorpusRecipe:
    """One source of documents: a .jsonl or .jsonl.zst file (one object with `id` and `text` a line) or a folder."""

    name: str = key("short name, used in logs and overrides: corpora.NAME.weight=2")
    path: Path = key("file, or folder of .txt files; relative to data.folder", by_name=True)
    weight: float = key("share of the training tokens, relative to the other corpora", low=0.0)
    license: str = key("licence of the texts, for the model card", "", free=True)
    where: dict[str, str] | None = key(
        "keep only records whose fields have these values, e.g. { split = 'train' }", None
    )
    exclude_ids: tuple[str, ...] = key("records never used, by id", ())
    validation_hash_below: int = key(
        "records whose sha256(id) starts with a byte below this are for validation only", 0, low=0, high=256
    )
    validation_documents: int = key(
        "this many more records, those of the smallest sha256(id), for validation", 0, low=0
    )
    max_characters: int | None = key("train on about this many, in whole documents drawn by data.seed", None, low=1)


@dataclass(frozen=True)
class DataRecipe:
    folder: Path = key("folder that corpus paths are relative to; itself relative to the recipe", free=True)
    cache: Path | None = key("folder for tokenized corpora (default: `tokens` beside the run folder)", None, free=True)
    seed: int = key("draws documents for max_characters and shuffles their order", 0, low=0)


@dataclass(frozen=True)
class ScheduleRecipe:
    """The length of the run, of its steps, and the learning rates. `steps` or `max_minutes`, or both, end the run."""

    lanes: int = key("documents read side by side", low=1)
    blocks_per_step: int | None = key(
        "blocks of each lane in a step; gradients run through all of them (alternatively give max_blocks)", None, low=1
    )
    min_blocks: int = key("with max_blocks: the fewest blocks of a step", 1, low=1)
    max_blocks: int | None = key(
        "the most blocks of a step: each step's number is drawn uniformly, up to a growing bound", None, low=1
    )
    curriculum_share: float = share("share of the run over which this bound grows from min_blocks to max_blocks", 0.0)
    random_state_passing: float = share(
        "probability that a document starts from the memory with which its lane ended the last one", 0.0
    )
    random_state_passing_from: float = share("share of the run before which that is 0", 0.0)
    state_passing: str = key(
        "lane: each lane passes on its own memory; batch, the paper's form: all documents of a step start from the "
        "memory with which the first lane ended the last step, or none does",
        "lane",
        choices=("lane", "batch"),
    )
    segment_dropout: float = share(
        "probability that a step is read without segments, so that everything before a block must come from the memory",
        0.0,
    )
    accumulate: int = key(
        "read the lanes of a step in this many parts, one after the other: less memory, same gradient",
        1,
        low=1,
        free=True,
    )
    steps: int | None = key("optimiser steps in the run", None, low=1, free=True)
    max_minutes: float | None = key(
        "minutes of training in the run, counted over all resumes", None, low=1e-6, free=True
    )
    muon_lr: float = key(
        "peak learning rate of Muon, for the matrices of the layers; 0 gives them to AdamW", 0.003, low=0.0
    )
    adamw_lr: float = key("peak learning rate of AdamW, for all other parameters", 0.005, low=0.0)
    momentum: float = share("momentum of Muon", 0.95)
    beta1: float = share("first decay of AdamW", 0.9)
    beta2: float = share("second decay of AdamW", 0.95)
    weight_decay: float = key(
        "decoupled decay of the matrices; norms, embeddings and the memory prompt have none", 0.0, low=0.0
    )
    clip_norm: float = key("the gradient is scaled down to this norm; 0 turns that off", 1.0, low=0.0)
    warmup_steps: int = key("steps of linear warm-up", 50, low=0)
    decay_share: float = share("share of the run, at its end, over which the rates fall linearly to 0", 0.8)
    average_decay: float = share("decay per step of the weight average, which is what is exported; 0: no average", 0.0)
    init: str | None = key("checkpoint (folder or name) whose weights the run starts from", None, by_name=True)
    seed: int = key("draws the initial weights", 0, low=0)
    max_skipped: int = key(
        "steps with a loss or gradient that is not finite, after which the run stops", 20, low=0, free=True
    )

    @property
    def longest_step(self) -> int:
        """The blocks of a lane in the longest step."""
        blocks = self.blocks_per_step if self.blocks_per_step is not None else self.max_blocks
        assert blocks is not None, "load_recipe requires one of the two"
        return blocks

    def progress(self, step: int, seconds: float) -> float:
        """The used share of the budget, 0 to 1: the larger of the shares of steps and of minutes."""
        steps = step / self.steps if self.steps else 0.0
        minutes = seconds / 60 / self.max_minutes if self.max_minutes else 0.0
        return min(1.0, max(steps, minutes))

    def blocks_of_step(self, seed: int, step: int, progress: float) -> int:
        """The blocks of a lane in step `step` (from 0), when `progress` (0 to 1) of the run is done.

        `blocks_per_step`, or drawn uniformly from min_blocks to the curriculum's bound, by (seed, step) alone.
        """
        if self.max_blocks is None:
            return self.longest_step
        # Long steps cost most and teach little at first, so the bound grows.
        grown = min(1.0, progress / self.curriculum_share) if self.curriculum_share else 1.0
        bound = self.min_blocks + round(grown * (self.max_blocks - self.min_blocks))
        return int(np.random.default_rng([seed, step]).integers(self.min_blocks, bound + 1))


@dataclass(frozen=True)
class HardwareRecipe:
    """The machine. Changes only speed and rounding."""

    device: str = key("auto, cpu, cuda or mps", "cpu", choices=("auto", "cpu", "cuda", "mps"))
    dtype: str = key("compute type; weights and moments stay float32", "bfloat16", choices=("float32", "bfloat16"))
    threads: int | None = key("CPU threads (default: torch's)", None, low=1)
    checkpoint_gradients: bool = key("recompute each layer in the backward pass: less memory, more time", False)
    compile: bool = key("compile the layers with torch.compile", False)
    shard: bool = key("under torchrun: divide weights, gradients and moments over the processes (FSDP2)", False)


@dataclass(frozen=True)
class ExportRecipe:
    storage: str = key(
        "type of the stored weights; int8: matrices with one scale per row, converted back on loading",
        "bfloat16",
        choices=("bfloat16", "float32", "int8"),
    )
    shard_megabytes: float | None = key("most megabytes of a file of weights (default: one file)", None, low=0.001)


@dataclass(frozen=True)
class ChecksRecipe:
    """What is measured during the run, and how often the run is saved."""

    every_steps: int = key("steps between checks on the validation documents; 0 for none", 500, low=0)
    documents: int = key("validation documents of each corpus in a check", 8, low=1)
    tokens: int = key("tokens of each that are scored; shorter documents are left out", 4096, low=1)
    passkey_every_steps: int = key("steps between checks of passkeys in validation text; 0 for none", 0, low=0)
    passkey_streams: int = key("streams in such a check, with one key each", 20, low=1)
    passkey_distances: tuple[int, ...] = key("their lengths, as multiples of the training distance", (1, 4, 16), low=1)
    save_minutes: float = key("minutes between training checkpoints", 5.0, low=0.0)
    turns: Path | None = key(
        "file of texts in turns whose questions are answered at each check; relative to data.folder", None
    )
    heldout: Path | None = key(
        "corpus that is scored once, after the run, for the model card; relative to data.folder", None
    )


@dataclass(frozen=True)
class ObjectiveRecipe:
    """What a share of the training tokens is for. All kinds except language modelling make their own documents."""

    kind: str = key("what is learned", choices=tuple(_KEYS_OF_KIND))
    name: str = key("short name, used in logs and overrides: objectives.NAME.weight=2 (default: the kind)", "")
    weight: float = key("share of the training tokens, relative to the other objectives", 1.0, low=0.0)
    corpora: tuple[str, ...] = key(
        "names of the corpora that give its text (default: all, by their weights; questions: passages of its file)",
        (),
    )
    text_weight: float = key("loss weight of a token that is not in an answer", 1.0, low=0.0)
    answer_weight: float = key("loss weight of a token in an answer", 1.0, low=0.0)
    blocks: int | None = key("length of its documents (default: that of the step they begin in)", None, low=1)
    segments: int | None = key(
        "in a run with turns: segments that are visible while its documents are read (default: the network's)",
        None,
        low=0,
    )
    episodes_per_block: float = key("passkey, needles: this many in a row; 0: one in a document", 0.0, low=0.0)
    digits: int | None = key("passkey, needles: digits of a number (default: 5, 4)", None, low=1)
    distinct_digits: int | None = key(
        "passkey: draw a number's digits from this many of the ten, so that more repeat (default: all)",
        None,
        low=1,
        high=10,
    )
    count: int | None = key("needles, facts: statements in an episode (default: 1; 2 to 10 at random)", None, low=1)
    queries: int = key("needles, facts, questions: the most questions in an episode; 0: all there are", 1, low=0)
    tasks: tuple[str, ...] = key("facts: the tasks to draw from", ("qa1",), choices=TASKS)
    size: int = key(
        "algorithmic: variables of a program; copy, reverse: letters; random_walk: moves", 3, low=1, high=1000
    )
    segment_tokens: int = key("repeat: tokens that are repeated", 64, low=1)
    path: Path | None = key(
        "questions: .jsonl(.zst) with context, question, answers; turns: turn, text, asked; relative to data.folder",
        None,
        by_name=True,
    )
    license: str = key("questions, turns: licence of the file, for the model card", "", free=True)
    where: dict[str, str] | None = key("questions: keep only records whose fields have these values", None)
    exclude_ids: tuple[str, ...] = key("questions: records never used, by id", ())
    hash_field: str = key("questions: the field whose sha256 decides what is held out", "id")
    hash_from: int = key("questions: use records whose first byte of that is at least this", 0, low=0, high=256)
    hash_below: int = key("questions: and below this", 256, low=0, high=256)
    max_answer_characters: int = key("questions: leave out records with a longer answer", 200, low=1)

    def problem(self, corpora: Mapping[str, float]) -> str | None:
        """What is wrong with it, given `corpora` (weights by name); to be appended to its name. None if nothing is."""
        known = ("kind", "name", "weight", *_KEYS_OF_KIND[self.kind])
        for item in dataclasses.fields(self):
            if item.name not in known and getattr(self, item.name) != item.default:
                return f".{item.name} has no meaning for {self.kind}; remove it"
        if self.kind == TURNS:
            return None if self.path else ".path is missing; it is the file of the texts"
        unknown = [name for name in self.corpora if name not in corpora]
        if unknown:
            return f".corpora names {unknown[0]!r}, which is no corpus; one of: {', '.join(corpora)}"
        if sum(corpora[name] for name in self.corpora or corpora) <= 0:
            return ": its corpora need a positive weight; raise one"
        if self.kind == "questions" and self.path is None:
            return ".path is missing; it is the file of the questions"
        if self.kind == "needles" and self.queries > (self.count or 1):
            return f".queries is {self.queries}, more than its count of {self.count or 1}; lower it"
        if self.text_weight == 0 and (self.kind == LANGUAGE_MODELLING or self.answer_weight == 0):
            return " learns nothing with its loss weights at 0; raise one"
        return None


@dataclass(frozen=True)
class AdaptRecipe:
    """How a pretrained checkpoint learns to read with a memory."""

    model: str = key(
        "checkpoint (folder or name) to adapt; it decides the shape in [network], and the tokenizer", by_name=True
    )
    method: str = key(
        "lora: train low-rank updates and the memory prompt; full: train every weight; keep: fit the scores by which "
        "tokens are kept (memory_update 'kept'), and leave every weight as it is",
        "lora",
        choices=("lora", "full", "keep"),
    )
    start: str | None = key(
        "folder of an adapter whose updates the run starts from; its rank, alpha and targets must be the recipe's",
        None,
        by_name=True,
    )
    rank: int = key("rank of the updates", 64, low=1)
    alpha: float = key("updates are scaled by alpha / rank", 64.0, low=1e-6)
    storage: str = key("type of the adapter's stored weights", "float32", choices=("float32", "bfloat16"), free=True)
    targets: tuple[str, ...] = key("matrices that get an update", TARGETS, choices=TARGETS)
    objective: str = key(
        "task: the targets of [[objectives]]; distill: the next-token distributions of the unadapted network with full "
        "attention, over the same documents, by their Kullback-Leibler divergence",
        "task",
        choices=("task", "distill"),
    )
    round_tokens: int = key(
        "turns: line breaks after a text make it a multiple of so many tokens, so that more texts have one length and "
        "are read side by side, which a GPU needs",
        1,
        low=1,
    )
    prompts: dict[str, str] | None = key(
        "wordings of the tasks' turns that the adapter is trained with and brings in its fam.json, by name", None
    )
    cache: str | None = key("the hub's cache that a name is looked up in (default: the usual one)", None)
    teacher_tokens: int | None = key(
        "distill: tokens that the teacher sees, in whole blocks (default: the length it was trained for)", None, low=1
    )
