"""How likely a question is after something was read: on forks, so that reading is never disturbed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.nn import MemoryMode
from famcli.nn.state import State
from famcli.reading.engine import read_any, start_state
from famcli.reading.scoring import score_continuation, score_continuations

_BATCH = 4  # forks read together: each costs a copy of the state
_OPENING = "\n\nQuestion:"


class QuestionLikelihood:
    """Mean log-likelihood, in nats per token, of questions after a state or a passage."""

    def __init__(self, model: Model, questions: Sequence[str], memory_mode: MemoryMode) -> None:
        self._model, self._memory_mode = model, memory_mode
        self._opening = model.tokenizer.encode(_OPENING)
        self._questions = [model.tokenizer.encode(" " + question) for question in questions]
        bos = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
        self._start_hidden, self._start = read_any(model.network, bos, start_state(model.network, memory_mode))
        self.at_start = self.after(self._start, self._start_hidden)

    def after(self, state: State, last_hidden: Tensor | None) -> list[float]:
        """Of each question, read on a fork of `state`."""
        found: list[float] = []
        for first in range(0, len(self._questions), _BATCH):
            runs = [self._opening + ids for ids in self._questions[first : first + _BATCH]]
            for nll in score_continuations(self._model.network, state, runs, last_hidden=last_hidden):
                found.append(self._mean(nll))
        return found

    def gain(self, question: int, text: str) -> float:
        """By how much `text`, read from a fresh start, makes a question (by its index) more likely than nothing."""
        ids = self._model.tokenizer.encode(text) + self._opening + self._questions[question]
        nll = score_continuation(self._model.network, self._start, ids, last_hidden=self._start_hidden)
        return self._mean(nll[-len(self._opening + self._questions[question]) :]) - self.at_start[question]

    def _mean(self, nll: Tensor) -> float:
        return -float(torch.nanmean(nll[len(self._opening) :]))
