"""The recipe of `famcli adapt`: what a few options mean, written out so that it can be read, changed and run again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from famcli.checkpoint.enable import choose_fam
from famcli.checkpoint.families.pretrained import read_config
from famcli.checkpoint.sidecar import SIDECAR_FILE, read_sidecar
from famcli.errors import RecipeError, UsageError
from famcli.nn.config import FamConfig
from famcli.training.recipe.adapt import TARGETS, base_folder

# What taught fam-tiny's memory (docs/experiments.md): most documents ask for something, once each; steps without
# segments, so that the memory is the only way; few blocks at first; Muon, for the updates too; the memory passed on
# once it holds something.
_TASKS: tuple[dict[str, Any], ...] = (
    {"kind": "language_modelling", "weight": 0.4},
    {"kind": "repeat", "weight": 0.1, "answer_weight": 2.0},
    {"kind": "passkey", "weight": 0.25, "answer_weight": 12.0},
    {"kind": "needles", "weight": 0.25, "answer_weight": 12.0, "episodes_per_block": 0.5},
)
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
_RATES = {"lora": 1e-3, "full": 1e-4}
_MINUTES = 60.0


@dataclass(frozen=True)
class AdaptPlan:
    """What `famcli adapt` is asked for; None: chosen here.

    data: corpora, as recipes name them (docs/training.md). network: settings of `FamConfig` by name.
    """

    model: str
    data: tuple[Path, ...]
    method: str = "lora"
    objective: str = "task"
    rank: int = 64
    alpha: float | None = None
    targets: tuple[str, ...] | None = None
    steps: int | None = None
    minutes: float | None = None
    lanes: int = 4
    learning_rate: float | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "bfloat16"
    threads: int | None = None
    seed: int = 0

    def table(self, name: str) -> dict[str, Any]:
        """The recipe as tables, called `name`.

        Raises UsageError for options that are missing or mean nothing, RecipeError or CheckpointError for what cannot
        be adapted.
        """
        if self.network.get("fam_length") == 0:
            raise UsageError("fam_length is 0: there would be no memory to adapt; leave it out, or give 1 or more")
        if not self.data:
            raise UsageError("--data is missing: give .jsonl(.zst), text files, or a folder of .txt to learn from")
        if unknown := [name for name in self.targets or () if name not in TARGETS]:
            raise UsageError(f"--target {unknown[0]} can get no update: choose from {', '.join(TARGETS)}")
        budget = {"steps": self.steps, "max_minutes": self.minutes}
        if self.steps is None and self.minutes is None:
            budget["max_minutes"] = _MINUTES
        adapt = {
            "model": str(Path(self.model).resolve()) if Path(self.model).is_dir() else self.model,
            "method": self.method,
            "objective": self.objective,
            "rank": self.rank,
            "alpha": float(self.rank) if self.alpha is None else self.alpha,
            "targets": None if self.targets is None else list(self.targets),
        }
        rate = _RATES[self.method] if self.learning_rate is None else self.learning_rate
        hardware = {"device": self.device, "dtype": self.dtype, "threads": self.threads, "checkpoint_gradients": True}
        tables: dict[str, Any] = {
            "name": name,
            "adapt": adapt,
            "network": self._network(),
            "data": {"folder": ".", "seed": self.seed},
            "corpora": self._corpora(),
            "objectives": list(_TASKS if self.objective == "task" else _PLAIN),
            "schedule": {
                "lanes": self.lanes,
                **_SCHEDULE,
                **budget,
                "muon_lr": rate,
                "adamw_lr": rate,
                "seed": self.seed,
            },
            "hardware": hardware,
            "checks": {"every_steps": 0},
        }
        return {name: _without_nothing(value) for name, value in tables.items()}

    def _network(self) -> dict[str, Any]:
        """How it will read: by the options, else as its fam.json says, else as `famcli enable` would choose."""
        folder = base_folder(self.model)
        given = {name: value for name, value in self.network.items() if value is not None}
        if (folder / SIDECAR_FILE).exists():
            fam = read_sidecar(folder).fam
        else:
            fam, _ = choose_fam(read_config(folder).decoder, **given)
        settings = [each.name for each in fields(FamConfig) if not each.metadata.get("internal")]
        return {name: getattr(fam, name) for name in settings} | given | {"memory_update": "gated"}

    def _corpora(self) -> list[dict[str, Any]]:
        corpora: list[dict[str, Any]] = []
        for path in self.data:
            if not path.exists():
                raise RecipeError(f"{path} does not exist; --data takes .jsonl(.zst), text files, or a folder of .txt")
            stem = path.resolve().name.split(".")[0] or "texts"
            taken = sum(corpus["name"].rpartition("-")[0] == stem or corpus["name"] == stem for corpus in corpora)
            name = f"{stem}-{taken + 1}" if taken else stem
            corpora.append({"name": name, "path": str(path.resolve()), "weight": 1.0})
        return corpora


def to_toml(table: Mapping[str, Any]) -> str:
    """Tables of plain values as TOML: strings, numbers and lists of them are written as JSON writes them."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items() if not isinstance(value, dict | list)]
    for name, value in table.items():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                lines += ["", f"[[{name}]]" if isinstance(value, list) else f"[{name}]"]
                lines += [f"{key} = {json.dumps(item)}" for key, item in part.items()]
    return "\n".join(lines) + "\n"


def _without_nothing(value: Any) -> Any:
    """Tables without the keys that have no value: those are left to their defaults."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_nothing(part) for part in value]
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value
