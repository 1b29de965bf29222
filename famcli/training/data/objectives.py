"""The documents that a run reads for each objective, and the choice of the next one.

A stream of documents is a pure function of counters, and so is the choice between streams: the n-th document is the
same in every run and every process, and there is no random state to save.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from famcli.errors import RecipeError
from famcli.evaluation.texts import TokenCorpus
from famcli.synthetic import episodes
from famcli.synthetic.sequences import SEQUENCES
from famcli.synthetic.streams import Marks
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.data import corpus as packing
from famcli.training.data.corpus import OnProgress, ignore_progress
from famcli.training.data.made import (
    Make,
    filler_of,
    make_episodes,
    make_questions,
    make_repeat,
    make_sequences,
    open_questions,
)
from famcli.training.recipe.recipe import Recipe
from famcli.training.recipe.sections import LANGUAGE_MODELLING, TURNS, ObjectiveRecipe

TrainingDocument = tuple[NDArray[Any], Marks | None]
"""Tokens [n] without BOS, and marks [n] of what answers and statements are; None if there is none."""


@dataclass(frozen=True)
class DocumentStream:
    """Documents by number.

    objective: the index of the objective they serve. weight: its share of all tokens. document(n, step_blocks): the
    n-th document (from 0), if the step in which it begins has `step_blocks` blocks a lane.
    """

    name: str
    objective: int
    weight: float
    document: Callable[[int, int], TrainingDocument]


@dataclass(frozen=True)
class TrainingData:
    """Everything a run reads.

    corpora: to train on, in the recipe's order. validation: what is kept from them, where the recipe says so.
    objectives: their names, by index.
    """

    tokenizer: Tokenizer
    corpora: list[TokenCorpus]
    validation: list[TokenCorpus]
    sources: list[DocumentStream]
    objectives: tuple[str, ...]


class Mixture:
    """Chooses sources so that the tokens read of each approach its weight as closely as whole documents allow.

    The source furthest behind its share gives the next document. A lane that is reading counts as `ahead` tokens more
    than were read, so that lanes which begin together spread over the sources.
    """

    def __init__(self, weights: Sequence[float], ahead: int) -> None:
        self._weights = np.array(weights, dtype=np.float64) / sum(weights)
        self._ahead = ahead
        # By source: documents given out, and tokens read of them.
        self._drawn = [0] * len(weights)
        self._read = [0] * len(weights)

    def draw(self, busy: Sequence[int]) -> tuple[int, int]:
        """(source, number of its document) for a lane, while other lanes are reading the sources `busy`."""
        taken = np.array(self._read) + self._ahead * np.bincount(busy, minlength=len(self._read))
        behind = self._weights * (taken.sum() + self._ahead) - taken
        # Otherwise a source of weight 0 is drawn when all others are ahead of their shares.
        behind[self._weights == 0] = -np.inf
        source = int(behind.argmax())
        self._drawn[source] += 1
        return source, self._drawn[source] - 1

    def count(self, source: int, num_tokens: int) -> None:
        self._read[source] += num_tokens

    def to_json(self) -> dict[str, Any]:
        return {"drawn": list(self._drawn), "read": list(self._read)}

    def load_json(self, saved: Mapping[str, Any]) -> None:
        self._drawn, self._read = list(saved["drawn"]), list(saved["read"])


def corpus_stream(corpus: TokenCorpus, objective: int, weight: float, seed: tuple[int, ...]) -> DocumentStream:
    """The documents of a corpus; each epoch has an order of its own."""
    order: dict[int, NDArray[np.int64]] = {}

    def document(number: int, step_blocks: int) -> TrainingDocument:
        epoch, place = divmod(number, len(corpus))
        if epoch not in order:
            # One epoch's order is kept. Lanes may differ by an epoch, and then it is drawn anew, the same.
            order.clear()
            order[epoch] = np.random.default_rng([*seed, epoch]).permutation(len(corpus))
        return corpus.document(int(order[epoch][place])), None

    return DocumentStream(corpus.name, objective, weight, document)


def generated_stream(
    recipe: ObjectiveRecipe, objective: int, seed: int, block_size: int, extra: int, make: Make
) -> DocumentStream:
    """Documents made by `make`, whole blocks long: as many as the recipe says, or as the step has.

    block_size: C. extra: tokens beyond the blocks; one for a tokenizer without BOS, as the first is not predicted.
    """

    def document(number: int, step_blocks: int) -> TrainingDocument:
        blocks = recipe.blocks or step_blocks
        # The length is part of the seed: a longer step gets another document, not a longer one.
        rng = np.random.default_rng([seed, objective, number, blocks])
        return make(rng, blocks * block_size + extra)

    return DocumentStream(recipe.name, objective, recipe.weight, document)


def open_data(recipe: Recipe, cache: Path, on_progress: OnProgress = ignore_progress) -> TrainingData:
    """Open the recipe's data; train the tokenizer and tokenize the corpora if `cache` does not hold them.

    Raises RecipeError, TokenizerError or DocumentError for what is missing or does not fit.
    """
    tokenizer, seed = packing.recipe_tokenizer(recipe, cache, on_progress), recipe.data.seed
    corpora, validation = [], []
    for corpus in recipe.corpora:
        corpora.append(packing.pack(corpus, tokenizer, cache, seed, on_progress=on_progress))
        if corpus.validation_hash_below or corpus.validation_documents:
            validation.append(packing.pack(corpus, tokenizer, cache, seed, validation=True, on_progress=on_progress))
    sources: list[DocumentStream] = []
    for index, objective in enumerate(recipe.all_objectives):
        if objective.kind == TURNS:
            continue
        names = objective.corpora or [item.name for item in recipe.corpora]
        chosen = [
            (packed, corpus.weight)
            for packed, corpus in zip(corpora, recipe.corpora, strict=True)
            if corpus.name in names and corpus.weight
        ]
        if objective.kind == LANGUAGE_MODELLING:
            total = sum(weight for _, weight in chosen)
            sources += [
                corpus_stream(packed, index, objective.weight * weight / total, (seed, index, number))
                for number, (packed, weight) in enumerate(chosen)
            ]
            continue
        make = _maker(objective, tokenizer, chosen, recipe.network.block_size, cache, on_progress)
        # Without BOS the first token is not predicted.
        extra = 1 if tokenizer.bos_id is None else 0
        sources.append(generated_stream(objective, index, seed, recipe.network.block_size, extra, make))
    names = tuple(objective.name for objective in recipe.all_objectives)
    return TrainingData(tokenizer, corpora, validation, sources, names)


def _maker(
    objective: ObjectiveRecipe,
    tokenizer: Tokenizer,
    corpora: Sequence[tuple[TokenCorpus, float]],
    block_size: int,
    cache: Path,
    on_progress: OnProgress,
) -> Make:
    open_filler = filler_of([packed for packed, _ in corpora], [weight for _, weight in corpora])
    if objective.kind in SEQUENCES:
        return make_sequences(objective, tokenizer)
    if objective.kind == "questions":
        questions = open_questions(objective, tokenizer, cache, on_progress)
        return make_questions(objective, tokenizer, questions, open_filler if objective.corpora else None)
    if objective.kind == "repeat":
        return make_repeat(objective, tokenizer, open_filler)
    if objective.kind == "facts":
        # A count that leaves nothing to ask should fail now, not in the middle of a run.
        try:
            for task in objective.tasks:
                episodes.facts(np.random.default_rng(0), task=task, count=objective.count)
        except ValueError as error:
            raise RecipeError(f"objective {objective.name!r}: {error}") from error
    return make_episodes(objective, tokenizer, open_filler, block_size)
