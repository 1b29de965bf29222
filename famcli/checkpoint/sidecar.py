"""`fam.json`, the sidecar that turns a decoder's folder into a checkpoint that reads streams.

It is parsed strictly: an unknown key is an error, because a misspelt option that silently does nothing is worse. Later
formats raise the format number.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from famcli.checkpoint.folder import Fields, beside, read_json_object, shown
from famcli.errors import CheckpointError
from famcli.nn.config import ARCHITECTURES, FamConfig

SIDECAR_FILE = "fam.json"
FORMAT = 1

# Beyond any use, and no number that takes long to parse.
MAX_TOKENS = 1 << 60

_FAM_KEYS = tuple(each.name for each in fields(FamConfig))
_KEYS = ("format", *_FAM_KEYS, "memory_trained", "validated_tokens", "tasks", "prompts", "base_weights")


@dataclass(frozen=True)
class Sidecar:
    """A parsed `fam.json`.

    fam: how the checkpoint reads a stream. memory_trained: false right after `famcli enable`. validated_tokens: the
    length up to which the checkpoint was evaluated, None if it never was. tasks: a task's default mode, such as
    {"summarize": "extract"}. prompts: texts that tasks wrap around a document or a question. base_weights: of an
    adapter, the fingerprint of the weights it was made for.
    """

    fam: FamConfig
    memory_trained: bool = False
    validated_tokens: int | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    base_weights: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `fam.json` holds."""
        return {
            "format": FORMAT,
            "architecture": self.fam.architecture,
            **self.fam.to_json(),
            "memory_trained": self.memory_trained,
            "validated_tokens": self.validated_tokens,
            "tasks": dict(self.tasks),
            "prompts": dict(self.prompts),
            **({"base_weights": self.base_weights} if self.base_weights else {}),
        }


def read_sidecar(folder: Path, name: str | None = None) -> Sidecar:
    """The sidecar of the checkpoint in `folder`, shown as `name`. Raises CheckpointError, also without one."""
    path, name = beside(folder, SIDECAR_FILE), name or str(folder)
    if not path.exists():
        raise CheckpointError(
            f"{name} has no {path.name}, so it is a plain decoder; run `famcli enable {shlex.quote(name)}` to read "
            "with it"
        )
    return parse_sidecar(path, read_json_object(path))


def parse_sidecar(path: Path, values: Mapping[str, Any]) -> Sidecar:
    """The sidecar that `values` (the JSON object of `path`) describes. Raises CheckpointError."""
    fields = Fields(path, values)
    number = fields.integer("format", low=1, high=1 << 30)
    if number != FORMAT:
        raise fields.wrong("format", f"is {number}, this famcli reads format {FORMAT}", "use a newer famcli")
    architecture = fields.string("architecture")
    # Before the keys, since another architecture has other keys.
    if architecture not in ARCHITECTURES:
        raise fields.wrong("architecture", f"is '{shown(architecture)}', this famcli knows {', '.join(ARCHITECTURES)}")
    for key in values:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "remove it, or use a newer famcli"
            raise fields.wrong(shown(key), "is not a key this famcli knows", hint)
    validated = values.get("validated_tokens")
    return Sidecar(
        fam=_fam_config(fields),
        memory_trained=fields.boolean("memory_trained"),
        validated_tokens=None if validated is None else fields.integer("validated_tokens", low=0, high=MAX_TOKENS),
        tasks=fields.strings("tasks"),
        prompts=fields.strings("prompts"),
        base_weights=fields.string("base_weights", "") or None,
    )


def _fam_config(fields: Fields) -> FamConfig:
    given = {key: value for key, value in fields.values.items() if key in _FAM_KEYS}
    try:
        return FamConfig.from_json(given)
    except KeyError as error:
        raise fields.wrong(error.args[0], "is missing", f"add it to {fields.path.name}") from error
    except ValueError as error:
        raise CheckpointError(f"{fields.path}: {error}") from error
