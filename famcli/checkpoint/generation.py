"""A checkpoint's own settings for generating, from its `generation_config.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.checkpoint.jsonfile import Fields, read_json_object
from famcli.tokens.gguf_file import is_gguf, read_gguf
from famcli.tokens.tokenizer import Tokenizer

GENERATION_FILE = "generation_config.json"
_MAX_ID = 1 << 31


@dataclass(frozen=True)
class GenerationDefaults:
    """Defaults for the fields of `reading.GenerationConfig` of the same names. end_ids: the tokens that end an answer.

    temperature is 0 (the most likely token) unless the checkpoint asks for sampling.
    """

    end_ids: tuple[int, ...] = ()
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


def read_generation(folder: Path, tokenizer: Tokenizer) -> GenerationDefaults:
    """The settings of the checkpoint in `folder`; the tokenizer's eos always ends an answer. Raises CheckpointError."""
    if is_gguf(folder):
        metadata = read_gguf(folder).metadata
        own = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
        return GenerationDefaults(_ends(tokenizer, [end for end in own if isinstance(end, int)]))
    path = folder / GENERATION_FILE
    fields = Fields(path, read_json_object(path) if path.is_file() else {})
    ends = _ends(tokenizer, _listed_ends(fields))
    # Many checkpoints carry a temperature that only counts when sampling is asked for, as with transformers.
    if not fields.boolean("do_sample", False):
        return GenerationDefaults(ends, repetition_penalty=_penalty(fields))
    return GenerationDefaults(
        end_ids=ends,
        temperature=fields.number("temperature", 1.0, low=0.0, high=1e6),
        top_k=fields.integer("top_k", 50, low=0, high=_MAX_ID),
        top_p=fields.number("top_p", 1.0, low=1e-9, high=1.0),
        min_p=fields.number("min_p", 0.0, low=0.0, high=1.0 - 1e-9),
        repetition_penalty=_penalty(fields),
    )


def _penalty(fields: Fields) -> float:
    return fields.number("repetition_penalty", 1.0, low=1e-6, high=1e6)


def _listed_ends(fields: Fields) -> list[int]:
    value: Any = fields.values.get("eos_token_id")
    found = value if isinstance(value, list) else [] if value is None else [value]
    if any(type(each) is not int or not 0 <= each < _MAX_ID for each in found):
        raise fields.wrong("eos_token_id", "must be a token's id, or a list of them")
    return found


def _ends(tokenizer: Tokenizer, found: list[int]) -> tuple[int, ...]:
    own = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    return tuple(dict.fromkeys([*own, *found]))
