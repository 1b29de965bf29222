"""Guessing while writing: tokens that may follow are read together with the next one, and dropped where they are wrong.

Where a guess was right its rows are there already. The tokens themselves are chosen from the same rows in the same
order, so the text is the one that would have been written anyway. Guesses are looked up where the last tokens stood
before (prompt lookup), or come from a draft (nn/draft.py): both are forms of speculative decoding, arXiv 2211.17192. A
guess that was looked up has no probability, and a token that is drawn equals it exactly as often as rejection sampling
would accept it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from famcli.nn import Network, State
from famcli.nn.draft import Draft
from famcli.reading.engine import float_logits, write

# The longest run of last tokens that is looked up, and the shortest.
_LONGEST, _SHORTEST = 4, 2
# Most tokens that are guessed at once: all rows of a call go through `Network.write` together.
MOST_GUESSED = 7
# How fast what is known of costs and hits follows what is new.
_RATE = 0.15


class Guess(NamedTuple):
    """A token that may come next. probabilities: the distribution [v] that it was drawn from, if it was drawn."""

    token: int
    probabilities: Tensor | None = None


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

    def guess(self, last: int, count: int) -> list[Guess]:
        known = self._tokens
        for length in range(min(_LONGEST, len(known)), _SHORTEST - 1, -1):
            place = self._after.get(tuple(known[-length:]))
            if place is not None:
                return [Guess(token) for token in known[place : place + count]]
        return []


class Drafting:
    """A draft that goes along with a text: it knows what the target made of the text's last tokens.

    choose: one of the draft's guesses from its logits [v] float32, after the guesses before it.
    """

    def __init__(self, draft: Draft, target: Network, choose: Callable[[Tensor, Sequence[int]], Guess]) -> None:
        self._draft, self._target, self._choose = draft, target, choose
        self._state = draft.start()

    def append(self, token: int) -> None:
        """Nothing is known of a token before the target has read it."""

    def read(self, levels: Sequence[Tensor]) -> None:
        """What the target made of the next tokens of the text: all its levels [1, n, d]."""
        self._state = self._draft.read(levels[-self._draft.num_levels :], self._state)

    def guess(self, last: int, count: int) -> list[Guess]:
        """At most `count` tokens that may follow `last`, the only token that the target has not read."""
        if not self._state.num_read:
            return []
        guesses = list[Guess]()

        def choose(logits: Tensor) -> int:
            guesses.append(self._choose(logits.float().cpu(), [guess.token for guess in guesses]))
            return guesses[-1].token

        self._draft.propose(self._target, last, self._state, choose, min(count, self._draft.draft.drafted_tokens))
        return guesses


Guesser = Lookup | Drafting


class _Costs:
    """How many tokens to guess: the number with the most tokens for the time, as both were measured so far.

    guessing: what a guess costs before it was measured, as a share of reading one token. timed: False goes by that, and
    never by the clock, so that the same is guessed again where the text depends on it.
    """

    def __init__(self, guessing: float = 0.0, timed: bool = True) -> None:
        # Seconds of a call of one row; the share of it that a further row costs; the share of guesses that are right.
        self._one, self._more, self._hits = 0.0, 0.25, 0.6
        self._guessing, self._timed = guessing, timed

    def best(self) -> int:
        best, most = 1.0, 0
        gained = 1.0
        for count in range(1, MOST_GUESSED + 1):
            gained += self._hits**count
            rate = gained / (1 + (self._more + self._guessing) * count)
            if rate > best:
                best, most = rate, count
        # What is never tried is never learnt: what was missed long ago is forgotten.
        self._hits += 0.0 if most else 0.02 * (0.6 - self._hits)
        return most

    def measured(self, rows: int, seconds: float) -> None:
        if not self._timed:
            return
        if rows == 1:
            self._one += (seconds - self._one) * (_RATE if self._one else 1)
        elif self._one:
            self._more += (max(0.0, (seconds / self._one - 1) / (rows - 1)) - self._more) * _RATE

    def guessed(self, count: int, seconds: float) -> None:
        if self._timed and self._one and count:
            self._guessing += (seconds / self._one / count - self._guessing) * _RATE

    def hit(self, right: bool) -> None:
        self._hits += (right - self._hits) * _RATE


class Ahead:
    """Reads a text token by token as it is written, and guesses on.

    logits: [v] float32 on the CPU, for the next token. guessed, right: how many tokens were guessed, and how many of
    them came.
    """

    @torch.inference_mode()
    def __init__(
        self,
        network: Network,
        state: State,
        hidden: Tensor,
        guessers: Sequence[tuple[Guesser, float]] = (),
        *,
        timed: bool = True,
    ) -> None:
        """hidden: [1, 1, d], of the last token read into `state`. guessers: each with the share of reading a token that
        a guess costs; the first that knows something is asked, if the network `writes_ahead`. timed: as `_Costs`."""
        self._network, self._state, self._hidden = network, state, hidden
        self._guessers = [
            (guesser, _Costs(share, timed)) for guesser, share in (guessers if network.writes_ahead else ())
        ]
        self._followers = [guesser for guesser, _ in self._guessers if isinstance(guesser, Drafting)]
        self._guesses, self._place = list[Guess](), 0
        # Whose guesses these are; and what the network made of the last call's tokens.
        self._costs, self._levels = _Costs(), list[Tensor]()
        self._rows = float_logits(network, hidden)[0]
        self.guessed = self.right = 0

    @property
    def logits(self) -> Tensor:
        return self._rows[self._place]

    @property
    def guess(self) -> Guess | None:
        """What was guessed for the next token."""
        return self._guesses[0] if self._guesses else None

    def append(self, token: int) -> None:
        """The token that was chosen. Raises CheckpointError as `write` does."""
        for guesser, _ in self._guessers:
            guesser.append(token)
        if self._guesses:
            right = self._guesses[0].token == token
            self._costs.hit(right)
            if right:
                self.right += 1
                self._place += 1
                del self._guesses[0]
                return
        self._settle()
        self._read(token, self._guess(token))

    @torch.inference_mode()
    def _guess(self, last: int) -> list[Guess]:
        # A call must not close the block: that cannot be undone.
        room = self._network.fam.block_size - self._state.fill - 2
        for guesser, costs in self._guessers:
            if (count := min(costs.best(), room)) > 0:
                began = time.perf_counter()
                guesses = guesser.guess(last, count)
                costs.guessed(len(guesses), time.perf_counter() - began)
                if guesses:
                    self._costs = costs
                    return guesses
        return []

    @torch.inference_mode()
    def _settle(self) -> None:
        """Forget the guesses that did not come, and tell of the tokens that did."""
        if self._levels:
            for guesser in self._followers:
                guesser.read([level[:, : self._place + 1] for level in self._levels])
            self._levels = []
        if self._guesses:
            self._state = self._state.rewound(len(self._guesses))
            self._guesses = []

    def _read(self, token: int, guesses: list[Guess]) -> None:
        began, levels = time.perf_counter(), list[Tensor]() if self._followers else None
        ids = torch.tensor([[token, *(guess.token for guess in guesses)]])
        self._hidden, self._state = write(self._network, ids, self._state, levels)
        self._rows, self._place = float_logits(self._network, self._hidden)[0], 0
        seconds = time.perf_counter() - began
        for _, costs in self._guessers:
            costs.measured(ids.shape[1], seconds)
        self._guesses, self._levels = guesses, levels or []
        self.guessed += len(guesses)

    @torch.inference_mode()
    def end(self) -> tuple[State, Tensor]:
        """The state after all tokens that came, and the hidden row [1, 1, d] of the last one."""
        self._settle()
        return self._state, self._hidden[:, self._place : self._place + 1].clone()


def kept_or_drawn(wanted: Tensor, guess: Guess, generator: torch.Generator) -> int:
    """A token that is distributed as `wanted` [v], and as often as can be the one that was guessed.

    Rejection sampling (arXiv 2211.17192, section 2.3): a token drawn from q is kept with the probability min(1, p/q);
    else one is drawn from what p has more than q.
    """
    drafted, token = guess.probabilities, guess.token
    assert drafted is not None
    if float(torch.rand(1, generator=generator)) * float(drafted[token]) < float(wanted[token]):
        return token
    more = (wanted - drafted).clamp_min(0)
    # Nothing is left where both are the same to rounding.
    return int(torch.multinomial(more if float(more.sum()) > 0 else wanted, 1, generator=generator))
