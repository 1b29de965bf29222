"""The rankers of passages beside `famcli ask`: BM25 by a library, and the network alone.

BM25 ranks the very same passages. For the network, all questions are read on forks of the state at the end of every
block, in one pass over the text; the gain of a block is what it adds to their mean log-likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.networks import score_continuation
from famcli.checkpoint.model import Model
from famcli.documents.opening import open_source
from famcli.errors import UsageError
from famcli.nn import MemoryMode, State
from famcli.reading.events import BlockEvent
from famcli.reading.reader import Reader
from famcli.tasks.ask.likelihood import fresh_start
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.prompts import QUESTION_OPENING


class Ranker(Protocol):
    """Ranks the passages of an index."""

    def ranked(self, question: str, count: int) -> list[int]:
        """The numbers of the best passages, best first."""
        ...


class LibraryBM25:
    """bm25s with its English stop words and a Snowball stemmer, as its makers recommend."""

    def __init__(self, index: PassageIndex, headings: bool = False) -> None:
        """headings: those above a passage count as words of it. Raises UsageError where packages are missing."""
        try:
            import bm25s
            import Stemmer
        except ImportError as error:
            raise UsageError(f"the package {error.name} is needed; pip install 'famcli[eval]'") from error
        self._library, self._stemmer = bm25s, Stemmer.Stemmer("english")
        texts = texts_of(index, headings)
        self._bm25 = bm25s.BM25()
        self._bm25.index(self._words(texts), show_progress=False)

    def ranked(self, question: str, count: int) -> list[int]:
        """The numbers of the best passages, best first; none where no word of the question counts."""
        words = self._words([question])[0]
        if not words:
            return []
        order = np.argsort(-self._bm25.get_scores(words), kind="stable")[:count]
        return [int(number) for number in order]

    def _words(self, texts: list[str]) -> list[list[str]]:
        words: list[list[str]] = self._library.tokenize(
            texts, stopwords="en", stemmer=self._stemmer, show_progress=False, return_ids=False
        )
        return words


class Embedding:
    """A sentence encoder with mean pooling, opened by transformers: the likeness of question and passage."""

    def __init__(self, index: PassageIndex, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._network = AutoModel.from_pretrained(folder).eval()
        self._rows = self._encoded(texts_of(index, True))

    def ranked(self, question: str, count: int) -> list[int]:
        """The numbers of the nearest passages, nearest first."""
        order = np.argsort(-(self._rows @ self._encoded([question])[0]), kind="stable")[:count]
        return [int(number) for number in order]

    @torch.inference_mode()
    def _encoded(self, texts: list[str]) -> NDArray[np.float32]:
        rows = []
        for first in range(0, len(texts), 32):
            batch = self._tokenizer(
                texts[first : first + 32], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            mask = batch["attention_mask"][..., None]
            mean = (self._network(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean, dim=1).numpy())
        return np.concatenate(rows)


def texts_of(index: PassageIndex, headings: bool) -> list[str]:
    """All passages, with the headings above them if those count."""
    passages = map(index.passage, range(index.num_passages))
    return [one.with_headings if headings else one.text for one in passages]


def block_gains(
    model: Model,
    path: Path,
    questions: Sequence[str],
    memory_mode: MemoryMode,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The bytes at which the blocks of a file end [blocks], and each one's gain for each question [q, blocks]."""
    hidden, state = fresh_start(model, memory_mode)
    reader, before = (
        Reader(model, memory_mode=memory_mode),
        np.array(_likelihoods(model, questions, state, hidden)),
    )
    ends, gains = list[int](), list[NDArray[np.float64]]()
    for event in reader.read([open_source(path, encoding="utf-8")]):
        if isinstance(event, BlockEvent):
            on_tokens(event.num_tokens)
            after = np.array(_likelihoods(model, questions, reader.state, reader.last_hidden))
            ends.append(event.span[1])
            gains.append(after - before)
            before = after
    return np.array(ends), np.array(gains).T.reshape(len(questions), len(ends))


def ranked_by_gain(index: PassageIndex, ends: NDArray[np.int64], gains: NDArray[np.float64], count: int) -> list[int]:
    """The passages in the blocks of the most gain, best first; those of one block in their order."""
    blocks = np.array(
        [
            min(int(np.searchsorted(ends, index.passage(number).span[1])), len(ends) - 1)
            for number in range(index.num_passages)
        ]
    )
    return [int(number) for number in np.argsort(-gains[blocks], kind="stable")[:count]]


def _likelihoods(model: Model, questions: Sequence[str], state: State, last_hidden: Tensor | None) -> list[float]:
    """The mean log-likelihood of each question after `state`, in nats per token."""
    opening = model.tokenizer.encode(QUESTION_OPENING)
    found = list[float]()
    for question in questions:
        run = opening + model.tokenizer.encode(" " + question)
        nll = score_continuation(model.network, state, run, last_hidden)
        found.append(-float(torch.nanmean(nll[len(opening) :])))
    return found
