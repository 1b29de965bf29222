"""Where a lane's documents come from: corpora as they are, or documents made for an objective.

A source is a pure function of counters: its n-th document is the same in every run and in every process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from famcli.tokens.tokenizer import Ids
from famcli.training.data.corpus import PackedCorpus
from famcli.training.recipe.objectives import ObjectiveRecipe

Make = Callable[[np.random.Generator, int], tuple[Ids, NDArray[np.bool_]]]
"""Makes a document of so many tokens: ids [n], and which of them are answers [n]."""


@dataclass(frozen=True)
class TrainingDocument:
    """A document to train on, without BOS. answers: which of its tokens [n] are answers; None: none is."""

    tokens: NDArray[Any]
    answers: NDArray[np.bool_] | None = None


class Source(Protocol):
    """Documents by number. objective: the index of what they are for; weight: its share of all tokens."""

    @property
    def name(self) -> str: ...
    @property
    def objective(self) -> int: ...
    @property
    def weight(self) -> float: ...

    def document(self, number: int, step_blocks: int) -> TrainingDocument:
        """The document of this number (from 0), where the step in which it begins has `step_blocks` blocks a lane."""
        ...


class CorpusSource:
    """The documents of a corpus: every epoch a shuffle of its own."""

    def __init__(self, corpus: PackedCorpus, objective: int, weight: float, seed: tuple[int, ...]) -> None:
        self.name, self.objective, self.weight = corpus.name, objective, weight
        self._corpus, self._seed = corpus, seed
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def document(self, number: int, step_blocks: int) -> TrainingDocument:
        epoch, place = divmod(number, len(self._corpus))
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([*self._seed, epoch]).permutation(len(self._corpus)))
        return TrainingDocument(self._corpus.document(int(self._order[1][place])).tokens)


class GeneratedSource:
    """Documents that `make` makes, whole blocks long: as many as the recipe says, or as the step has.

    block_size: C; extra: tokens beside those of the blocks (one, without BOS: the first is not predicted).
    """

    def __init__(
        self, recipe: ObjectiveRecipe, objective: int, weight: float, seed: int, block_size: int, extra: int, make: Make
    ) -> None:
        self.name, self.objective, self.weight = recipe.name, objective, weight
        self._recipe, self._seed, self._block_size, self._extra, self._make = recipe, seed, block_size, extra, make

    def document(self, number: int, step_blocks: int) -> TrainingDocument:
        blocks = self._recipe.blocks or step_blocks
        rng = np.random.default_rng([self._seed, self.objective, number, blocks])
        return TrainingDocument(*self._make(rng, blocks * self._block_size + self._extra))
