"""What is hidden in a long text and asked for later: pass keys and named codes. `facts` adds stories.

Training and evaluation take their wording from here, so a network is tested in the words it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RecallQuestion:
    """A question, followed by the beginning of the sentence that answers it.

    text: ends directly before the answer. answer: includes the space before it, but not the full stop after it.
    choices: the closed set of possible answers, spaced like `answer`; empty for digits.
    """

    text: str
    answer: str
    choices: tuple[str, ...] = ()


Episode = tuple[str | RecallQuestion, ...]
"""Statements (plain strings, no space around them) and questions, in the order of the text. A question comes after
every statement it is about."""

_COLOURS = (
    *("amber", "black", "blue", "brown", "copper", "crimson", "golden", "green", "grey", "iron", "ivory", "marble"),
    *("orange", "purple", "red", "silver", "stone", "white", "wooden", "yellow"),
)
_THINGS = ("bell", "box", "bridge", "cabin", "chest", "door", "drawer", "gate", "lamp", "locker", "safe", "tower")
NUM_NAMES = len(_COLOURS) * len(_THINGS)
"""The most named codes that one episode can hold."""


def statements_of(episode: Episode) -> list[str]:
    """The statements of an episode, in order."""
    return [part for part in episode if isinstance(part, str)]


def questions_of(episode: Episode) -> list[RecallQuestion]:
    """The questions of an episode, in order."""
    return [part for part in episode if isinstance(part, RecallQuestion)]


def passkey(rng: np.random.Generator, *, digits: int = 5, distinct_digits: int | None = None) -> Episode:
    """One number of `digits` random digits, stated twice, and the question for it (TransformerFAM's PassKey task).

    distinct_digits: draw the digits from this many of the ten, so that more of them repeat.
    """
    few = None if distinct_digits is None else rng.choice(10, distinct_digits, replace=False)
    key = _number(rng, digits) if few is None else "".join(str(digit) for digit in rng.choice(few, digits))
    statement = f"The pass key is {key}. Remember it. {key} is the pass key."
    return statement, RecallQuestion("What is the pass key? The pass key is", f" {key}")


def needles(rng: np.random.Generator, *, count: int, queries: int = 1, digits: int = 4) -> Episode:
    """`count` named codes, then questions for `queries` of them, drawn at random.

    Raises ValueError for more codes than there are names, and for more questions than codes.
    """
    if not 0 < queries <= count <= NUM_NAMES:
        raise ValueError(f"{count} named values, {queries} questions: 1 to {NUM_NAMES} can be named, and no more asked")
    names = [
        f"{_COLOURS[number // len(_THINGS)]} {_THINGS[number % len(_THINGS)]}"
        for number in rng.choice(NUM_NAMES, count, replace=False)
    ]
    values = [_number(rng, digits) for _ in names]
    # Questions come in an order of their own, not in that of the statements.
    asked = rng.choice(count, queries, replace=False)
    return (
        *(f"The code of the {name} is {value}." for name, value in zip(names, values, strict=True)),
        *(
            RecallQuestion(f"What is the code of the {names[i]}? The code of the {names[i]} is", f" {values[i]}")
            for i in asked
        ),
    )


def interleave(rng: np.random.Generator, episodes: Sequence[Episode]) -> Episode:
    """All episodes shuffled into one; each keeps its own order. They must not contradict one another."""
    order = rng.permutation(np.repeat(np.arange(len(episodes)), [len(episode) for episode in episodes]))
    remaining = [iter(episode) for episode in episodes]
    return tuple(next(remaining[index]) for index in order)


def _number(rng: np.random.Generator, digits: int) -> str:
    return "".join(str(digit) for digit in rng.integers(0, 10, digits))
