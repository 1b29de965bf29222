"""Texts with reference summaries: lines of .jsonl(.zst) files with `id`, `text` and `summary` (a text, or several)."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from famcli.documents.records import read_objects
from famcli.errors import DocumentError

Split = Literal["heldout", "train", "all"]
HELDOUT_BYTE = 26
"""Records without a `split` are held out where sha256(id) begins with a byte below this (a tenth)."""

_GENERAL = re.compile(r"\s*(?:summari[sz]e (?:the )?(?:whole|entire|full)|what is the plot|give an overview)", re.I)


@dataclass(frozen=True)
class SummaryItem:
    """A text, what others wrote of it, and what they were asked; None where the summary is of the whole text."""

    id: str
    text: str
    references: tuple[str, ...]
    question: str | None


def read_items(path: Path, split: Split = "heldout", *, focused: bool = False) -> list[SummaryItem]:
    """The records of one set that have a summary. focused: those that answer a particular question, instead of those
    that are about the whole text. Raises DocumentError for what is no such file."""
    found = [item for is_heldout, item in _records(path) if split == "all" or is_heldout == (split == "heldout")]
    return [item for item in found if (item.question is not None) == focused]


def drawn(items: list[SummaryItem], count: int | None, seed: int) -> list[SummaryItem]:
    """`count` of them at random, the same for the same seed; all if that is None or more than there are."""
    if count is None or count >= len(items):
        return items
    return random.Random(seed).sample(items, count)


def is_heldout(record: dict[str, Any]) -> bool:
    """Whether a record must not be trained or tuned on: by its split, else by its id."""
    if record.get("split") is not None:
        return bool(record["split"] != "train")
    return hashlib.sha256(str(record["id"]).encode()).digest()[0] < HELDOUT_BYTE


def _records(path: Path) -> Iterator[tuple[bool, SummaryItem]]:
    for number, record in read_objects(path):
        summary = record.get("summary")
        references = [summary] if isinstance(summary, str) else summary
        if not isinstance(record.get("text"), str) or "id" not in record or not isinstance(references, list):
            raise DocumentError(f"{path}: line {number} is not an object with `id`, `text` and `summary`; correct it")
        question = record.get("question")
        whole = not isinstance(question, str) or not question.strip() or _GENERAL.match(question) is not None
        texts = tuple(text for text in references if isinstance(text, str) and text.strip())
        if texts:
            yield is_heldout(record), SummaryItem(str(record["id"]), record["text"], texts, None if whole else question)
