"""The likelihood of a question after a text, measured on forks, so that the state itself does not change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.nn import MemoryMode, State
from famcli.reading.engine import as_batch, copies, read_any, read_side_by_side, start_state
from famcli.reading.scoring import cross_entropy, score_continuations
from famcli.tasks.prompts import QUESTION_OPENING

# Passages read together: each costs a copy of a state that has read nothing.
_ROWS = 16
# Questions read together after a state: each costs a copy of it.
_FORKS = 8


def fresh_start(model: Model, memory_mode: MemoryMode) -> tuple[Tensor | None, State]:
    """(last hidden row, state) of a network that has read no text, only the begin-of-stream token if there is one."""
    bos = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
    return read_any(model.network, bos, start_state(model.network, memory_mode))


def question_likelihoods(
    model: Model, questions: Sequence[str], state: State, last_hidden: Tensor | None
) -> list[float]:
    """The mean log-likelihood of each question after `state`, in nats per token."""
    opening = model.tokenizer.encode(QUESTION_OPENING)
    runs = [opening + _question_ids(model, question) for question in questions]
    found: list[float] = []
    for first in range(0, len(runs), _FORKS):
        for nll in score_continuations(model.network, state, runs[first : first + _FORKS], last_hidden=last_hidden):
            found.append(-float(torch.nanmean(nll[len(opening) :])))
    return found


def question_gains(
    model: Model, questions: Sequence[str], memory_mode: MemoryMode, pairs: Sequence[tuple[int, str]]
) -> list[float]:
    """For each (index of a question, text): how much more likely the question is after the text than after nothing.

    In nats per token. Each text is read from a fresh start; texts of about the same length are read together.
    """
    hidden, start = fresh_start(model, memory_mode)
    at_start = question_likelihoods(model, questions, start, hidden)
    opening, tails = model.tokenizer.encode(QUESTION_OPENING), [_question_ids(model, one) for one in questions]
    runs = [model.tokenizer.encode(text) + opening + tails[at] for at, text in pairs]
    gains = [0.0] * len(pairs)
    # Runs are filled up to the longest one of their batch: sorted, they waste little.
    order = sorted(range(len(pairs)), key=lambda index: len(runs[index]))
    for first in range(0, len(order), _ROWS):
        batch = order[first : first + _ROWS]
        lengths = [len(tails[pairs[index][0]]) for index in batch]
        means = _mean_likelihoods(model, start, [runs[index] for index in batch], lengths)
        for index, mean in zip(batch, means, strict=True):
            gains[index] = mean - at_start[pairs[index][0]]
    return gains


def _question_ids(model: Model, question: str) -> list[int]:
    # With the space that stands before a question in `prompts.QUESTION`.
    return model.tokenizer.encode(" " + question)


@torch.inference_mode()
def _mean_likelihoods(model: Model, start: State, runs: list[list[int]], tails: list[int]) -> list[float]:
    """Mean log-likelihood of the last `tails` tokens of each run, read from `start`; the logits of no others."""
    network = model.network
    # The row of a token predicts the next one.
    wanted = [range(len(run) - tail - 1, len(run) - 1) for run, tail in zip(runs, tails, strict=True)]
    found = read_side_by_side(network, copies(start, len(runs)), runs, wanted)
    return [
        -float(cross_entropy(network, hidden[None], as_batch(run[-tail:], network))[0].mean())
        for hidden, run, tail in zip(found, runs, tails, strict=True)
    ]
