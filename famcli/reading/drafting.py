"""Guesses of a draft (nn/draft.py) for what a target writes, and the rule by which drawn ones are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from famcli.nn import Network
from famcli.nn.draft import Draft
from famcli.reading.lookup import Guess


class Drafting:
    """A draft that goes along with a text: it knows what the target made of the text's last tokens.

    choose: one of the draft's guesses from its logits [v] float32, after the guesses before it.
    """

    follows = True

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
