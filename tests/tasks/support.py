"""Texts and models that the tests of tasks share."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from famcli.checkpoint.model import Model
from famcli.nn import FamConfig
from famcli.tokens.tokenizer import ByteTokenizer
from tests.reading.support import tiny_model

LARGE = FamConfig(block_size=64, memory_segments=2, fam_length=4)


def byte_model(fam: FamConfig | None = None, **options: Any) -> Model:
    """A tiny random model that reads bytes, in blocks of 8 unless `fam` says otherwise."""
    return tiny_model(ByteTokenizer(), fam=fam, **options)


def without_bos(model: Model) -> Model:
    """The same model with a tokenizer that has no begin-of-stream token."""
    tokenizer = ByteTokenizer()
    tokenizer.bos_id = None
    return replace(model, tokenizer=tokenizer)


def with_sidecar(model: Model, **changes: Any) -> Model:
    """The same model with another sidecar."""
    return replace(model, sidecar=replace(model.sidecar, **changes))


def write(folder: Path, text: str | bytes, name: str = "text.txt") -> Path:
    """A file in `folder`."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def prose(num_sentences: int, seed: int = 0) -> str:
    """Sentences of made-up words, some paragraphs, no word of which occurs in a test's questions."""
    draw = random.Random(seed)
    syllables = ["ba", "ko", "lu", "mi", "ra", "ten", "vo", "zi"]
    sentences = []
    for number in range(num_sentences):
        words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(draw.randint(6, 14))]
        end = "\n\n" if number % 5 == 4 else " "
        sentences.append(" ".join(words).capitalize() + "." + end)
    return "".join(sentences)


def collect(events: Iterable[Any], kind: type) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]
