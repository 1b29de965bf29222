"""Endless sequences whose answers need a state that is kept up to date: the tasks of arXiv 2002.09402, section 4.

Each task yields pairs of a text and the answer that follows it ("" where nothing is to be answered). Symbols are
separated by spaces, so that a tokenizer can have one piece for each; the values of programs are not, because most
tokenizers make a space before a digit a token of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from famcli.tokens.tokenizer import Ids, Tokenizer

Task = Callable[[np.random.Generator, int], Iterator[tuple[str, str]]]

VALUES = 10
"""The largest value of a variable; the least is 1."""

_NAMES = "xyzuvwabcd"
_LETTERS = "abcdefghij"
_GRID = 8
_MOVES = {"up": (0, 1), "down": (0, -1), "right": (1, 0), "left": (-1, 0)}
# Of set, change, conditional change and print. Only prints are learned from, but each also tells a value: with more of
# them, counting from the last print is enough, and a network need not keep any state.
_SHARES = (0.05, 0.42, 0.36, 0.17)
# For first lessons, which are learned sooner: each print depends on few statements.
_OFTEN = (0.06, 0.4, 0.24, 0.3)


def algorithmic(rng: np.random.Generator, size: int, shares: Sequence[float] = _SHARES) -> Iterator[tuple[str, str]]:
    """A program over `size` variables (1 to 10) that hold 1 to 10, which prints them; the answer is what is printed.

    Statements: `x =3 ;`, `x ++ ;`, `x -- ;`, `if x > y : x -- ;` (or `<`) and `print x7 ;`. A change that would leave
    the range is not written.
    """
    names, values = _NAMES[:size], {}
    for name in names:
        values[name] = int(rng.integers(1, VALUES + 1))
        yield f" {name} ={values[name]} ;", ""
    while True:
        kind, name = rng.choice(len(shares), p=shares), names[rng.integers(size)]
        step = int(rng.choice((-1, 1)))
        in_range = 1 <= values[name] + step <= VALUES
        sign = "++" if step > 0 else "--"
        if kind == 0:
            values[name] = int(rng.integers(1, VALUES + 1))
            yield f" {name} ={values[name]} ;", ""
        elif kind == 1 and in_range:
            values[name] += step
            yield f" {name} {sign} ;", ""
        elif kind == 2 and in_range and size > 1:
            left, right = (names[i] for i in rng.permutation(size)[:2])
            above = bool(rng.random() < 0.5)
            holds = values[left] > values[right] if above else values[left] < values[right]
            values[name] += step if holds else 0
            yield f" if {left} {'>' if above else '<'} {right} : {name} {sign} ;", ""
        elif kind == 3:
            yield f" print {name}", str(values[name])
            yield " ;", ""


def algorithmic_often(rng: np.random.Generator, size: int) -> Iterator[tuple[str, str]]:
    """The same, with nearly twice as many prints."""
    return algorithmic(rng, size, _OFTEN)


def copy(rng: np.random.Generator, size: int) -> Iterator[tuple[str, str]]:
    """`size` letters, and the same again as the answer."""
    return _repeated(rng, size, 1)


def reverse(rng: np.random.Generator, size: int) -> Iterator[tuple[str, str]]:
    """`size` letters, and the same backwards as the answer."""
    return _repeated(rng, size, -1)


def random_walk(rng: np.random.Generator, size: int) -> Iterator[tuple[str, str]]:
    """`size` moves on a grid of 8 by 8 from a place that is told, and the place they lead to as the answer.

    A move that would leave the grid is not written.
    """
    while True:
        x, y = (int(place) for place in rng.integers(0, _GRID, 2))
        yield f" from {x} {y} :", ""
        done = 0
        while done < size:
            move = list(_MOVES)[rng.integers(len(_MOVES))]
            to_x, to_y = x + _MOVES[move][0], y + _MOVES[move][1]
            if 0 <= to_x < _GRID and 0 <= to_y < _GRID:
                x, y, done = to_x, to_y, done + 1
                yield f" {move}", ""
        yield " at", f" {x} {y}"
        yield " ;", ""


def _repeated(rng: np.random.Generator, size: int, direction: int) -> Iterator[tuple[str, str]]:
    while True:
        letters = [_LETTERS[i] for i in rng.integers(0, len(_LETTERS), size)]
        yield f" {' '.join(letters)} :", f" {' '.join(letters[::direction])}"
        yield " ;", ""


SEQUENCES: dict[str, Task] = {
    "algorithmic": algorithmic,
    "algorithmic_often": algorithmic_often,
    "copy": copy,
    "reverse": reverse,
    "random_walk": random_walk,
}
"""The tasks by name. Their size: variables of a program, letters, or moves."""


def sequence(
    task: str, tokenizer: Tokenizer, num_tokens: int, rng: np.random.Generator, size: int
) -> tuple[Ids, NDArray[np.int64]]:
    """The first `num_tokens` of a sequence [n] int32 without BOS, and the number of each token's answer [n], or -1.

    An answer that does not fit in whole is cut off with the rest.
    """
    ids: list[int] = []
    answers: list[int] = []
    number = 0
    for text, answer in SEQUENCES[task](rng, size):
        for part, is_answer in ((text, False), (answer, True)):
            encoded: Sequence[int] = tokenizer.encode(part) if part else ()
            if is_answer and len(ids) + len(encoded) > num_tokens:
                is_answer = False
            ids.extend(encoded)
            answers.extend([number if is_answer else -1] * len(encoded))
            number += is_answer and bool(encoded)
        if len(ids) >= num_tokens:
            break
    return np.array(ids[:num_tokens], dtype=np.int32), np.array(answers[:num_tokens])
