"""Sets of texts with summaries, and the peers that summarize them: first sentences, TextRank and LexRank.

TextRank: Mihalcea and Tarau 2004. LexRank: Erkan and Radev 2004. Both are those of the library sumy.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from famcli.documents.records import read_objects
from famcli.errors import DocumentError, UsageError

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


Ranking = Callable[[Sequence[str]], list[int]]
"""Sentences in, their numbers out, the best first."""

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")


def rankings() -> dict[str, Ranking]:
    """Each peer by its name. Raises UsageError where the library is not installed."""
    try:
        from sumy.summarizers.lex_rank import LexRankSummarizer
        from sumy.summarizers.text_rank import TextRankSummarizer
    except ImportError as error:
        raise UsageError(
            "benchmarks.quality summary compares with the package sumy: pip install 'famcli[eval]'"
        ) from error
    return {
        "LEAD": lambda sentences: list(range(len(sentences))),
        "TextRank": _ranked_by(TextRankSummarizer),
        "LexRank": _ranked_by(LexRankSummarizer),
    }


class _Words:
    """sumy's tokenizer for sentences that are known already."""

    def to_words(self, text: str) -> list[str]:
        return _WORD.findall(text)


def _ranked_by(summarizer_class: Any) -> Ranking:
    from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence
    from sumy.nlp.stemmers import Stemmer
    from sumy.utils import get_stop_words

    class Ranked(summarizer_class):  # type: ignore[misc]
        """The summarizer, asked for its order instead of its choice."""

        def _get_best_sentences(self, sentences: Any, count: Any, rating: Any, *_: Any, **__: Any) -> Any:
            rate = rating if callable(rating) else rating.__getitem__
            return [(rate(sentence), sentence) for sentence in sentences]

    summarizer = Ranked(Stemmer("english"))
    summarizer.stop_words = get_stop_words("english")

    def rank(sentences: Sequence[str]) -> list[int]:
        units = [Sentence(" ".join(sentence.split()), _Words()) for sentence in sentences]
        if not units:
            return []
        rated = {id(unit): float(rate) for rate, unit in summarizer(ObjectDocumentModel([Paragraph(units)]), 1)}
        return sorted(range(len(units)), key=lambda number: (-rated.get(id(units[number]), 0.0), number))

    return rank
