"""Whether a text answers a question, as a checkpoint judges that was trained to say where it does not.

Such a checkpoint brings a wording of its own for the turn `ask`, which asks it to write `NOT_SAID`. Read to the end of
that turn, how likely it is to write just that is a sign beside what words say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.nn import State
from famcli.reading.engine import as_batch, float_logits, read_any, start_state
from famcli.tasks.prompts import NOT_SAID

# It is an answer if A * logit(confidence of words) - logit(refusal) + C is above 0: fitted on documents of the training
# parts that the checkpoint did not see (docs/experiments.md).
_OF_WORDS, _LEANING = 0.5, 1.0
_NEVER = 1e-6


@dataclass(frozen=True)
class Judged:
    """A turn that was read to where the answer begins. refusal: how likely it is to write `NOT_SAID`, 0 to 1. other:
    the likeliest first token of an answer, which does not begin as that does. last_hidden, state: after the turn."""

    refusal: float
    other: int
    last_hidden: Tensor
    state: State

    def answers(self, confidence: float) -> bool:
        """True if the text answers, also by the confidence of what words say of the best passage."""
        return _OF_WORDS * _logit(confidence) - _logit(self.refusal) + _LEANING > 0


def knows_to_refuse(model: Model) -> bool:
    """True for a checkpoint whose own wording asks it to say that the text does not say."""
    return NOT_SAID in model.sidecar.prompts.get("ask", "")


@torch.inference_mode()
def judge(model: Model, ids: Sequence[int]) -> Judged:
    """Read the turn `ids` after nothing."""
    network = model.network
    last_hidden, state = read_any(network, ids, start_state(network, model.default_memory_mode))
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
    return Judged(math.exp(total), int(first.argmax()), last_hidden, state)


def _logit(probability: float) -> float:
    bounded = min(max(probability, _NEVER), 1 - _NEVER)
    return math.log(bounded / (1 - bounded))
