"""Guessing while writing: what followed the last tokens where they stood before is read together with the next one.

Where the guess was right its rows are there already; where it was wrong they are dropped. The tokens themselves are
chosen from the same rows in the same order, so the text is the one that would have been written anyway, drawn at
random or not. (Prompt lookup, a form of speculative decoding, arXiv 2211.17192, with a draft that has no probabilities:
a token that is drawn equals the guess exactly as often as rejection sampling would accept it.)
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch
from torch import Tensor

from famcli.nn import Network, State
from famcli.reading.engine import float_logits, write

# The longest run of last tokens that is looked up, and the shortest.
_LONGEST, _SHORTEST = 4, 2
# Most tokens that are guessed at once: all rows of a call go through `Network.write` together.
MOST_GUESSED = 7
# How fast what is known of costs and hits follows what is new.
_RATE = 0.15


class Lookup:
    """Where runs of tokens stood last, and what followed."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self._tokens, self._after = list[int](), dict[tuple[int, ...], int]()
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        # A run is entered when it has been followed, so that the last one is never found as itself.
        place, known = len(self._tokens), self._tokens
        for length in range(_SHORTEST, min(_LONGEST, place) + 1):
            self._after[tuple(known[place - length :])] = place
        known.append(token)

    def guess(self, count: int) -> list[int]:
        """At most `count` tokens that may follow, none if the last ones are new."""
        known = self._tokens
        for length in range(min(_LONGEST, len(known)), _SHORTEST - 1, -1):
            place = self._after.get(tuple(known[-length:]))
            if place is not None:
                return known[place : place + count]
        return []


class _Costs:
    """How many tokens to guess: the number with the most tokens for the time, as both were measured so far."""

    def __init__(self) -> None:
        # Seconds of a call of one row; the share of it that a further row costs; the share of guesses that are right.
        self._one, self._more, self._hits = 0.0, 0.25, 0.6

    def best(self) -> int:
        best, most = 1.0, 0
        gained = 1.0
        for count in range(1, MOST_GUESSED + 1):
            gained += self._hits**count
            rate = gained / (1 + self._more * count)
            if rate > best:
                best, most = rate, count
        # What is never tried is never learnt: what was missed long ago is forgotten.
        self._hits += 0.0 if most else 0.02 * (0.6 - self._hits)
        return most

    def measured(self, rows: int, seconds: float) -> None:
        if rows == 1:
            self._one += (seconds - self._one) * (_RATE if self._one else 1)
        elif self._one:
            self._more += (max(0.0, (seconds / self._one - 1) / (rows - 1)) - self._more) * _RATE

    def hit(self, right: bool) -> None:
        self._hits += (right - self._hits) * _RATE


class Ahead:
    """Reads a text token by token as it is written, and guesses on.

    logits: [v] float32 on the CPU, for the next token. guessed, right: how many tokens were guessed, and how many of
    them came.
    """

    @torch.inference_mode()
    def __init__(self, network: Network, state: State, hidden: Tensor, known: Iterable[int] | None) -> None:
        """hidden: [1, 1, d], of the last token read into `state`. known: tokens to look in; None guesses nothing."""
        self._network, self._state, self._hidden = network, state, hidden
        self._lookup = Lookup(known) if known is not None and network.writes_ahead else None
        self._costs = _Costs()
        self._guesses, self._place = list[int](), 0
        self._rows = float_logits(network, hidden)[0]
        self.guessed = self.right = 0

    @property
    def logits(self) -> Tensor:
        return self._rows[self._place]

    def append(self, token: int) -> None:
        """The token that was chosen. Raises CheckpointError as `write` does."""
        if self._lookup is not None:
            self._lookup.append(token)
        if self._guesses:
            right = self._guesses[0] == token
            self._costs.hit(right)
            if right:
                self.right += 1
                self._place += 1
                del self._guesses[0]
                return
        self._read([token, *self._guess()])

    def _guess(self) -> list[int]:
        self._drop()
        # A call must not close the block: that cannot be undone.
        room = self._network.fam.block_size - self._state.fill - 2
        count = min(self._costs.best(), room) if self._lookup is not None else 0
        return self._lookup.guess(count) if self._lookup is not None and count > 0 else []

    def _drop(self) -> None:
        """Forget the guesses that did not come."""
        if self._guesses:
            self._state = self._state.rewound(len(self._guesses))
            self._guesses = []

    def _read(self, ids: list[int]) -> None:
        began = time.perf_counter()
        self._hidden, self._state = write(self._network, torch.tensor([ids]), self._state)
        self._rows, self._place = float_logits(self._network, self._hidden)[0], 0
        self._costs.measured(len(ids), time.perf_counter() - began)
        self._guesses = ids[1:]
        self.guessed += len(self._guesses)

    @torch.inference_mode()
    def end(self) -> tuple[State, Tensor]:
        """The state after all tokens that came, and the hidden row [1, 1, d] of the last one."""
        self._drop()
        return self._state, self._hidden[:, self._place : self._place + 1].clone()
