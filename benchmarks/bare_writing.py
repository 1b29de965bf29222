"""What a decoder writes by itself, kept as something to learn from: notes on texts, and answers to plain instructions.

A part of `benchmarks.grounded_data`: what the decoder could do before stays as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from famcli.checkpoint.open import open_model
from famcli.documents.records import read_objects
from famcli.tasks.grounding import Sources
from famcli.tasks.written_text import TurnWriter
from famcli.text.words import num_words

_NOTES_OF = (
    ("sum_openstax_sections", True),
    ("sum_tech_proposals", True),
    ("books_train", False),
)


def notes(corpus: Path, name: str, count: int) -> Iterator[dict[str, Any]]:
    """Notes as the bare decoder writes them, kept where they are borne out."""
    model = open_model(name, dtype="bfloat16")
    pen = TurnWriter(model)
    rng = np.random.default_rng(5)
    before, after = pen.around("summarize_note", {"words": "60", "about": "", "focus": ""})
    texts = [_stretches(corpus / f"{file}.jsonl.zst", rng, by_hash) for file, by_hash in _NOTES_OF]
    made = 0
    while made < count:
        text = next(texts[int(rng.integers(len(texts)))])
        said = list(pen.sentences(before + model.tokenizer.encode(text) + after, 80))
        said = [one for one in said if one[-1] == "." and not Sources([text]).missing(one)][:3]
        if sum(map(num_words, said)) >= 12:
            made += 1
            yield {"id": f"note-{made}", "turn": "summarize_note", "text": text, "asked": [("", " ".join(said))]}


def instructions(corpus: Path, name: str, count: int) -> Iterator[dict[str, Any]]:
    """Answers to plain instructions as the bare decoder writes them."""
    model = open_model(name, dtype="bfloat16")
    pen, rng = TurnWriter(model), np.random.default_rng(5)
    before, after = pen.around("{text}", {})
    prompts = [r["prompt"] for _, r in read_objects(corpus / "instruct_selfinstruct_human.jsonl.zst")]
    made = 0
    for place in rng.permutation(len(prompts)).tolist():
        prompt = prompts[place]
        if made >= count or len(prompt) > 800:
            continue
        said = list(pen.sentences(before + model.tokenizer.encode(prompt) + after, 80))
        if said and said[-1][-1] in ".!?":
            made += 1
            yield {"id": f"said-{made}", "turn": "{text}", "text": prompt, "asked": [("", " ".join(said))]}


def _stretches(path: Path, rng: np.random.Generator, by_hash: bool) -> Iterator[str]:
    """Paragraphs of 900 to 1,700 characters together, each from another document."""
    while True:
        for _, record in read_objects(path):
            if by_hash and hashlib.sha256(record["id"].encode()).digest()[0] < 26:
                continue
            paragraphs = [one.strip() for one in record["text"].split("\n\n") if len(one.strip()) > 200]
            if len(paragraphs) < 2 or rng.random() < 0.5:
                continue
            first, wanted = int(rng.integers(len(paragraphs))), int(rng.integers(900, 1700))
            text = ""
            for one in paragraphs[first:]:
                if len(text) + len(one) > 1900:
                    break
                text += ("\n\n" if text else "") + one
                if len(text) >= wanted:
                    break
            if len(text) > 700:
                yield text
