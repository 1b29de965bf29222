"""Whether a text answers a question, as a checkpoint judges that was trained to say where it does not.

Such a checkpoint brings a wording of its own for the turn `ask`, which asks it to write `NOT_SAID`. Read to the end of
that turn, how likely it is to write just that says more than what it would write first: the refusal is always the same
words, while what an answer could begin with shares the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.checkpoint.probes import rows
from famcli.nn import State
from famcli.reading.engine import as_batch, float_logits, read_any, start_state
from famcli.tasks.prompts import NOT_SAID

# From this probability on the refusal is believed. It tells questions that a text answers from others no better than
# chance (docs/experiments.md), so less than even odds only cost answers that are right.
_BELIEVED = 0.5
_NEVER = 1e-6


# What a checkpoint writes where the passages do not answer.
_DENIES = re.compile(
    r"not in the (?:text|passages?)|(?:does|do) not (?:say|mention|specify|provide|state|contain|answer|explicitly)"
    r"|not (?:mentioned|stated|specified|provided|given|explicitly)|no information|cannot be determined",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Judged:
    """A turn that was read to where the answer begins. refusal: how likely it is to write `NOT_SAID`, 0 to 1. other:
    the likeliest first token of an answer, which does not begin as that does. last_hidden, state: after the turn.
    asked: what the model's probes look at [l, 2, d] of the tokens that ask; None without probes."""

    refusal: float
    other: int
    last_hidden: Tensor
    state: State
    asked: Tensor | None = None

    @property
    def refuses(self) -> bool:
        return self.refusal >= _BELIEVED


def knows_to_refuse(model: Model) -> bool:
    """True for a checkpoint whose own wording asks it to say that the text does not say."""
    return NOT_SAID in model.sidecar.prompts.get("ask", "")


def denies(text: str) -> bool:
    """True for a written text that says in any words that the passages do not answer."""
    return _DENIES.search(text) is not None


@torch.inference_mode()
def judge(model: Model, ids: Sequence[int], state: State | None = None, num_asking: int = 0) -> Judged:
    """Read the turn `ids` after nothing, or the rest of one after `state`.

    num_asking: how many tokens at its end ask the question.
    """
    network, probes, picked = model.network, model.probes if num_asking else None, list[Tensor]()
    before = start_state(network, model.default_memory_mode) if state is None else state
    on_levels = None if probes is None else lambda levels: picked.append(probes.picked(levels, num_asking))
    last_hidden, state = read_any(network, ids, before, on_levels)
    assert last_hidden is not None, "a turn has tokens"
    wanted = model.tokenizer.encode(NOT_SAID)
    first = torch.log_softmax(float_logits(network, last_hidden)[0, 0], -1)
    total, after = float(first[wanted[0]]), state
    for token, following in pairwise(wanted):
        if total < math.log(_NEVER):
            break
        row, after = read_any(network, as_batch([token], network), after)
        assert row is not None
        total += float(torch.log_softmax(float_logits(network, row)[0, 0], -1)[following])
    first[wanted[0]] = -math.inf
    asked = rows(torch.cat(picked, 2)[:, 0, -num_asking:]) if picked else None
    return Judged(math.exp(total), int(first.argmax()), last_hidden, state, asked)
