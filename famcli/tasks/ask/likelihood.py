"""The likelihood of a question after each of some texts, read by the network one more time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.nn import MemoryMode, State
from famcli.reading.engine import as_batch, copies, read_any, read_side_by_side, start_state
from famcli.reading.scoring import cross_entropy
from famcli.tasks.prompts import QUESTION_OPENING
from famcli.tokens.tokenizer import begin_ids

# Passages read together: each costs a copy of a state that has read nothing.
_ROWS = 16


def fresh_start(model: Model, memory_mode: MemoryMode) -> tuple[Tensor | None, State]:
    """(last hidden row, state) of a network that has read no text, only the begin-of-stream token if there is one."""
    return read_any(model.network, begin_ids(model.tokenizer), start_state(model.network, memory_mode))


@torch.inference_mode()
def question_likelihoods(
    model: Model, questions: Sequence[str], memory_mode: MemoryMode, pairs: Sequence[tuple[int, str]]
) -> list[float]:
    """For each (index of a question, text): the mean log-likelihood of the question after the text, in nats per token.

    Each text is read from a fresh start; texts of about the same length are read together.
    """
    network, start = model.network, start_state(model.network, memory_mode)
    opening, tails = model.tokenizer.encode(QUESTION_OPENING), [_question_ids(model, one) for one in questions]
    beginning = begin_ids(model.tokenizer)
    runs = [[*beginning, *model.tokenizer.encode(text), *opening, *tails[at]] for at, text in pairs]
    found = [0.0] * len(pairs)
    # Runs are filled up to the longest one of their batch: sorted, they waste little.
    order = sorted(range(len(pairs)), key=lambda index: len(runs[index]))
    for first in range(0, len(order), _ROWS):
        batch = order[first : first + _ROWS]
        chosen, lengths = [runs[index] for index in batch], [len(tails[pairs[index][0]]) for index in batch]
        # The row of a token predicts the next one; of other tokens than the question's no logits are made.
        wanted = [range(len(run) - length - 1, len(run) - 1) for run, length in zip(chosen, lengths, strict=True)]
        rows = read_side_by_side(network, copies(start, len(batch)), chosen, wanted)
        for index, hidden, length in zip(batch, rows, lengths, strict=True):
            tail = as_batch(runs[index][-length:], network)
            found[index] = -float(cross_entropy(network, hidden[None], tail)[0].mean())
    return found


def _question_ids(model: Model, question: str) -> list[int]:
    # With the space that stands before a question in `prompts.QUESTION`.
    return model.tokenizer.encode(" " + question)
