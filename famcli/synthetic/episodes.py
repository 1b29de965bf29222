"""What is hidden in a long text and asked about later: passkeys and named values. Stories of facts are in `facts`.

The wording stands here once: training and evaluation use the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Statement:
    """A sentence or a few, hidden in the filler; no space around it."""

    text: str


@dataclass(frozen=True)
class Question:
    """A question, and the beginning of the sentence that answers it.

    text: ends directly before the answer. answer: with the space that precedes it, without the closing point.
    choices: the closed set that the answer comes from, spaced like it; empty for digits.
    """

    text: str
    answer: str
    choices: tuple[str, ...] = ()


Episode = tuple[Statement | Question, ...]
"""In the order of the text; a question comes after all that it is about."""

_COLOURS = (
    *("amber", "black", "blue", "brown", "copper", "crimson", "golden", "green", "grey", "iron", "ivory", "marble"),
    *("orange", "purple", "red", "silver", "stone", "white", "wooden", "yellow"),
)
_THINGS = ("bell", "box", "bridge", "cabin", "chest", "door", "drawer", "gate", "lamp", "locker", "safe", "tower")
NUM_NAMES = len(_COLOURS) * len(_THINGS)
"""How many named values one episode can hold."""


def passkey(rng: np.random.Generator, *, digits: int = 5, distinct_digits: int | None = None) -> Episode:
    """One number of `digits` random digits, stated twice, and the question for it (TransformerFAM's PassKey).

    distinct_digits: draw them from so many of the ten, so that more of them repeat.
    """
    few = None if distinct_digits is None else rng.choice(10, distinct_digits, replace=False)
    key = _number(rng, digits) if few is None else "".join(str(digit) for digit in rng.choice(few, digits))
    statement = Statement(f"The pass key is {key}. Remember it. {key} is the pass key.")
    return statement, Question("What is the pass key? The pass key is", f" {key}")


def needles(rng: np.random.Generator, *, count: int, queries: int = 1, digits: int = 4) -> Episode:
    """`count` named numbers, and after them questions for `queries` of them, drawn at random.

    Raises ValueError for more values than there are names, and for more questions than values.
    """
    if not 0 < queries <= count <= NUM_NAMES:
        raise ValueError(f"{count} named values, {queries} questions: 1 to {NUM_NAMES} can be named, and no more asked")
    names = [
        f"{_COLOURS[number // len(_THINGS)]} {_THINGS[number % len(_THINGS)]}"
        for number in rng.choice(NUM_NAMES, count, replace=False)
    ]
    values = [_number(rng, digits) for _ in names]
    asked = rng.choice(count, queries, replace=False)
    return (
        *(Statement(f"The code of the {name} is {value}.") for name, value in zip(names, values, strict=True)),
        *(
            Question(f"What is the code of the {names[i]}? The code of the {names[i]} is", f" {values[i]}")
            for i in asked
        ),
    )


def interleave(rng: np.random.Generator, episodes: Sequence[Episode]) -> Episode:
    """All episodes as one, shuffled together; each keeps its own order. They must not contradict one another."""
    turns = rng.permutation(np.repeat(np.arange(len(episodes)), [len(episode) for episode in episodes]))
    rests = [iter(episode) for episode in episodes]
    return tuple(next(rests[turn]) for turn in turns)


def _number(rng: np.random.Generator, digits: int) -> str:
    return "".join(str(digit) for digit in rng.integers(0, 10, digits))
