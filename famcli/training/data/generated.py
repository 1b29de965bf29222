"""Documents made for an objective: what is to be remembered in real text, and the question for it.

What is hidden and how it is asked for comes from `famcli.evaluation`, so that training and evaluation say the same. A
document too short to hold an episode is plain text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from famcli.synthetic.episodes import NUM_NAMES, Episode, Statement, interleave, needles, passkey
from famcli.synthetic.facts import facts
from famcli.synthetic.filler import Filler
from famcli.synthetic.streams import embed
from famcli.tasks.prompts import REMEMBER, REPEAT
from famcli.tokens.tokenizer import Ids, Tokenizer
from famcli.training.data.corpus import PackedCorpus
from famcli.training.data.sources import Make
from famcli.training.recipe.objectives import ObjectiveRecipe

_TRIES = 8

OpenFiller = Callable[[np.random.Generator], Filler]


def filler_of(corpora: Sequence[PackedCorpus], weights: Sequence[float]) -> OpenFiller:
    """Text of one of `corpora`, drawn by `weights`, from a random place of a random document on."""
    shares = np.array(weights, dtype=np.float64) / sum(weights)

    def open_filler(rng: np.random.Generator) -> Filler:
        corpus = corpora[int(rng.choice(len(corpora), p=shares))]
        return Filler(corpus.tokens, corpus.offsets, rng)

    return open_filler


def plain_text(filler: Filler, num_tokens: int) -> tuple[Ids, NDArray[np.bool_]]:
    """A document without any answer."""
    return filler.take(num_tokens), np.zeros(num_tokens, dtype=np.bool_)


def make_repeat(recipe: ObjectiveRecipe, tokenizer: Tokenizer, open_filler: OpenFiller) -> Make:
    """A marked passage of real text somewhere in it, and at the end its repetition, which is the answer."""
    cues = [np.array(tokenizer.encode(text), dtype=np.int32) for text in (REMEMBER, "\n\n", REPEAT)]
    around = sum(map(len, cues))

    def make(rng: np.random.Generator, num_tokens: int) -> tuple[Ids, NDArray[np.bool_]]:
        filler = open_filler(rng)
        length = min(recipe.segment_tokens, (num_tokens - around) // 3)
        if length < 1:
            return plain_text(filler, num_tokens)
        room = num_tokens - around - 2 * length
        text = filler.take(room + length)
        start = int(rng.integers(room + 1))
        passage = text[start : start + length]
        parts = [text[:start], cues[0], passage, cues[1], text[start + length :], cues[2], passage]
        answers = np.zeros(num_tokens, dtype=np.bool_)
        answers[-length:] = True
        return np.concatenate(parts), answers

    return make


def make_episodes(recipe: ObjectiveRecipe, tokenizer: Tokenizer, open_filler: OpenFiller, block_size: int) -> Make:
    """Passkeys, needles or facts in real text, and questions for them.

    With `episodes_per_block`, passkeys follow one another, each with its question before the next, and the question
    for a needle stands anywhere after it.
    """

    def make(rng: np.random.Generator, num_tokens: int) -> tuple[Ids, NDArray[np.bool_]]:
        count = max(1, round(recipe.episodes_per_block * num_tokens / block_size))
        filler = open_filler(rng)
        for _ in range(_TRIES):
            parts = count if recipe.kind == "passkey" else 1
            ends = np.sort(rng.integers(0, num_tokens + 1, parts - 1)).tolist()
            lengths = np.diff([0, *ends, num_tokens])
            try:
                made = [embed(_episode(recipe, rng, count), tokenizer, filler, int(n), rng) for n in lengths]
            except ValueError:  # no room for it
                count = max(1, count // 2)
                continue
            return np.concatenate([ids for ids, _ in made]), np.concatenate([answers for _, answers in made])
        return plain_text(filler, num_tokens)

    return make


def _episode(recipe: ObjectiveRecipe, rng: np.random.Generator, count: int) -> Episode:
    """One episode of the recipe's kind; of needles, `count` episodes in one."""
    if recipe.kind == "passkey":
        return passkey(rng, digits=recipe.digits or 5, distinct_digits=recipe.distinct_digits)
    if recipe.kind == "facts":
        task = recipe.tasks[int(rng.integers(len(recipe.tasks)))]
        return facts(rng, task=task, count=recipe.count, questions=recipe.queries or None)
    hidden = recipe.count or 1
    asked = recipe.queries or hidden
    count = min(count, NUM_NAMES // hidden)
    episode = needles(rng, count=count * hidden, queries=count * asked, digits=recipe.digits or 4)
    return interleave(rng, _with_their_questions(episode)) if recipe.episodes_per_block else episode


def _with_their_questions(episode: Episode) -> list[Episode]:
    """Each statement with the question that its words answer, if it is asked at all."""
    statements = [part for part in episode if isinstance(part, Statement)]
    questions = [part for part in episode if not isinstance(part, Statement)]
    return [
        (statement, *(question for question in questions if statement.text.startswith(question.text.split("? ", 1)[1])))
        for statement in statements
    ]
