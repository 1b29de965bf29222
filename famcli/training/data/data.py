"""Everything a run reads, opened: tokenizer, corpora, and the sources of its objectives."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from famcli.errors import RecipeError
from famcli.synthetic.facts import facts
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.data.corpus import OnProgress, PackedCorpus, pack
from famcli.training.data.generated import filler_of, make_episodes, make_repeat
from famcli.training.data.lanes import Lanes
from famcli.training.data.questions import make_questions, open_questions
from famcli.training.data.sources import CorpusSource, GeneratedSource, Make, Source
from famcli.training.data.vocabulary import recipe_tokenizer
from famcli.training.recipe.objectives import LANGUAGE_MODELLING, ObjectiveRecipe
from famcli.training.recipe.recipe import Recipe


@dataclass(frozen=True)
class TrainingData:
    """What a run reads. corpora: in the recipe's order, to train on; validation: what is kept from them, where the
    recipe says so; objectives: their names, by index."""

    tokenizer: Tokenizer
    corpora: list[PackedCorpus]
    validation: list[PackedCorpus]
    sources: list[Source]
    objectives: tuple[str, ...]


def open_data(recipe: Recipe, cache: Path, on_progress: OnProgress = lambda progress: None) -> TrainingData:
    """Open what the recipe names; train the tokenizer and tokenize the corpora where `cache` does not hold them.

    Raises RecipeError, TokenizerError or DocumentError for what is missing or does not fit.
    """
    tokenizer, seed = recipe_tokenizer(recipe, cache, on_progress), recipe.data.seed
    corpora, validation = [], []
    for corpus in recipe.corpora:
        corpora.append(pack(corpus, tokenizer, cache, seed, on_progress=on_progress))
        if corpus.validation_hash_below or corpus.validation_documents:
            validation.append(pack(corpus, tokenizer, cache, seed, validation=True, on_progress=on_progress))
    sources: list[Source] = []
    for index, objective in enumerate(recipe.all_objectives):
        chosen = [
            (packed, corpus.weight)
            for packed, corpus in zip(corpora, recipe.corpora, strict=True)
            if corpus.name in (objective.corpora or [item.name for item in recipe.corpora]) and corpus.weight
        ]
        if objective.kind == LANGUAGE_MODELLING:
            total = sum(weight for _, weight in chosen)
            sources += [
                CorpusSource(packed, index, objective.weight * weight / total, (seed, index, number))
                for number, (packed, weight) in enumerate(chosen)
            ]
            continue
        make = _maker(objective, tokenizer, chosen, recipe.network.block_size, cache, on_progress)
        extra = 1 if tokenizer.bos_id is None else 0
        sources.append(
            GeneratedSource(objective, index, objective.weight, seed, recipe.network.block_size, extra, make)
        )
    return TrainingData(
        tokenizer, corpora, validation, sources, tuple(objective.name for objective in recipe.all_objectives)
    )


def make_lanes(recipe: Recipe, data: TrainingData, own: Collection[int] | None = None) -> Lanes:
    """The lanes of a run at its beginning; `own`: those that this process reads, None for all."""
    return Lanes(
        data.sources,
        recipe.all_objectives,
        recipe.schedule,
        recipe.network.block_size,
        data.tokenizer.bos_id,
        recipe.data.seed,
        own,
    )


def _maker(
    objective: ObjectiveRecipe,
    tokenizer: Tokenizer,
    corpora: Sequence[tuple[PackedCorpus, float]],
    block_size: int,
    cache: Path,
    on_progress: OnProgress,
) -> Make:
    open_filler = filler_of([packed for packed, _ in corpora], [weight for _, weight in corpora])
    if objective.kind == "questions":
        questions = open_questions(objective, tokenizer, cache, on_progress)
        return make_questions(objective, tokenizer, questions, open_filler if objective.corpora else None)
    if objective.kind == "repeat":
        return make_repeat(objective, tokenizer, open_filler)
    if objective.kind == "facts":
        try:
            for task in objective.tasks:
                facts(np.random.default_rng(0), task=task, count=objective.count)
        except ValueError as error:
            raise RecipeError(f"objective {objective.name!r}: {error}") from error
    return make_episodes(objective, tokenizer, open_filler, block_size)
