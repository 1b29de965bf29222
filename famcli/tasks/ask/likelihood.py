"""How likely a question is after something was read: on forks, so that reading is never disturbed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.nn import MemoryMode, State
from famcli.reading.batch import copies, read_side_by_side
from famcli.reading.engine import as_batch, read_any, start_state
from famcli.reading.scoring import cross_entropy, score_continuations
from famcli.tasks.prompts import QUESTION_OPENING

_ROWS = 16  # passages read together: each costs a copy of a state that has read nothing
_FORKS = 8  # questions read together after a state: each costs a copy of it


class QuestionLikelihood:
    """Mean log-likelihood, in nats per token, of questions after a state or a passage."""

    def __init__(self, model: Model, questions: Sequence[str], memory_mode: MemoryMode) -> None:
        self._model = model
        self._opening = model.tokenizer.encode(QUESTION_OPENING)
        self._questions = [model.tokenizer.encode(" " + question) for question in questions]
        bos = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
        self._start_hidden, self._start = read_any(model.network, bos, start_state(model.network, memory_mode))
        self.at_start = self.after(self._start, self._start_hidden)

    def after(self, state: State, last_hidden: Tensor | None) -> list[float]:
        """Of each question, read on a fork of `state`."""
        found: list[float] = []
        for first in range(0, len(self._questions), _FORKS):
            runs = [self._opening + ids for ids in self._questions[first : first + _FORKS]]
            for nll in score_continuations(self._model.network, state, runs, last_hidden=last_hidden):
                found.append(-float(torch.nanmean(nll[len(self._opening) :])))
        return found

    def gains(self, pairs: Sequence[tuple[int, str]]) -> list[float]:
        """For each (question by its index, text): by how much the text, read from a fresh start, makes the question
        more likely than nothing does. Texts of about the same length are read together."""
        runs = [self._model.tokenizer.encode(text) + self._opening + self._questions[at] for at, text in pairs]
        gains = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda index: len(runs[index]))
        for first in range(0, len(order), _ROWS):
            batch = order[first : first + _ROWS]
            tails = [len(self._questions[pairs[index][0]]) for index in batch]
            for index, mean in zip(batch, self._means([runs[index] for index in batch], tails), strict=True):
                gains[index] = mean - self.at_start[pairs[index][0]]
        return gains

    @torch.inference_mode()
    def _means(self, runs: list[list[int]], tails: list[int]) -> list[float]:
        """Mean log-likelihood of the last `tails` tokens of each run, read from the start; the logits of no others."""
        network = self._model.network
        # The row of a token predicts the next one.
        wanted = [range(len(run) - tail - 1, len(run) - 1) for run, tail in zip(runs, tails, strict=True)]
        found = read_side_by_side(network, copies(self._start, len(runs)), runs, wanted)
        return [
            -float(cross_entropy(network, hidden[None], as_batch(run[-tail:], network))[0].mean())
            for hidden, run, tail in zip(found, runs, tails, strict=True)
        ]
