"""The gradient of a step over texts in turns, and how well their questions are answered during a run.

A text is read once and the rows of its questions go on from its state side by side, with gradient through its keys and
values: k questions about n tokens cost n plus their own tokens, not k times n. No logits are made but those of answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from famcli.checkpoint.chat_template import open_chat_template
from famcli.checkpoint.sidecar import Sidecar
from famcli.errors import RecipeError
from famcli.evaluation.overlap import best_f1
from famcli.nn import Network, State
from famcli.reading.engine import call_lengths
from famcli.tasks.prompts import NOT_SAID
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.data.objectives import TrainingData
from famcli.training.data.turns import AskedTurn, TextTurns, TurnsPlan, TurnsQueue, documents_of, open_turns
from famcli.training.loop.run_folder import TurnsChecked
from famcli.training.loop.step import TALLY, Gradients, LaneStates, StepSums, language_model_gradient, seeing, tally_row
from famcli.training.recipe.recipe import Recipe, base_folder
from famcli.training.recipe.sections import TURNS

_MOST_ANSWER_TOKENS = 24
_SIDE_BY_SIDE = 8


class TurnsGradients(Gradients):
    """`Gradients` for the texts of a `TurnsQueue`."""

    queue: TurnsQueue

    def read(self, plan: TurnsPlan) -> tuple[StepSums, LaneStates, LaneStates]:  # type: ignore[override]
        """Read this process's texts one by one. There are no states to keep."""
        self._clear()
        weighted, scale = 0.0, 1.0 / max(plan.weight_sum, 1e-9)
        tally = np.zeros((self._num_objectives, len(TALLY)))
        for text in plan.texts.values():
            found, row = self._read_text(text, self.queue.weight(text), scale)
            self._collect()
            weighted += found
            tally[text.objective] += row
        layers = self.compute.config.num_layers
        return StepSums(weighted, tally, np.zeros(layers), max(1, len(plan.texts))), LaneStates(), LaneStates()

    def _read_text(self, text: TextTurns, weight: float, scale: float) -> tuple[float, np.ndarray]:
        network = self.compute
        if text.weights is not None:
            return self._read_document(text, text.weights, scale)
        state = _read(network, text.opening, network.start(1))[1]
        rows, targets, weights, asked = list[Tensor](), list[int](), list[float](), text.asked
        # Those of a length together: what is padded is read for nothing.
        by_length = sorted(asked, key=lambda one: len(one.ids))
        for some in (by_length[place : place + _SIDE_BY_SIDE] for place in range(0, len(asked), _SIDE_BY_SIDE)):
            # The last token of each row is only predicted.
            ids = _padded([one.ids[:-1] for one in some])
            hidden, _ = _read(network, ids, State.stack([state] * len(some)))
            for row, one in zip(hidden, some, strict=True):
                rows.append(row[: len(one.ids) - 1])
                targets += one.ids[1:]
                weights += [0.0] * (len(one.ids) - 1 - one.answered) + [weight] * one.answered
        weighted = torch.tensor([weights])
        answers = weighted > 0
        loss, nats, right = language_model_gradient(
            network, torch.cat(rows)[None], torch.tensor([targets]), weighted, scale, answers
        )
        by_question = torch.split((right | ~answers)[0], [len(row) for row in rows])
        whole = sum(bool(one.all()) for one in by_question)
        numbers = (0, 0, 0, float(nats.sum()), int(answers.sum()), len(asked), whole)
        return loss, np.array(numbers, dtype=np.float64)

    def _read_document(self, text: TextTurns, weights: Tensor, scale: float) -> tuple[float, np.ndarray]:
        network = self.compute
        with seeing(network, text.segments):
            hidden, _ = _read(network, text.opening[:-1], network.start(1))
        targets, answers = torch.tensor([text.opening[1:]]), text.answers
        assert answers is not None
        loss = language_model_gradient(network, hidden, targets, weights[None], scale, answers[None])
        return loss[0], tally_row(loss, targets, weights[None], answers[None], 0, self._token_bytes)


@torch.inference_mode()
def check_turns(network: Network, tokenizer: Tokenizer, texts: Sequence[TextTurns], step: int) -> TurnsChecked:
    """Answer the questions about `texts` with the likeliest tokens: F1, and how well it knows what is not said."""
    began, scores, given = time.monotonic(), list[float](), list[tuple[bool, bool]]()
    for text in texts:
        state = _read(network, text.opening, network.start(1))[1]
        for asked in text.asked:
            answer = _answer(network, tokenizer, state, asked)
            refused = answer.strip() == NOT_SAID
            given.append((asked.answer == NOT_SAID, refused))
            if asked.answer != NOT_SAID:
                scores.append(0.0 if refused else best_f1([asked.answer], answer))
    both = sum(wanted and refused for wanted, refused in given)
    return TurnsChecked(
        step=step,
        questions=len(given),
        f1=float(np.mean(scores)) if scores else 0.0,
        refusal_recall=both / max(1, sum(wanted for wanted, _ in given)),
        refusal_precision=both / max(1, sum(refused for _, refused in given)),
        seconds=time.monotonic() - began,
    )


def turns_of(recipe: Recipe, path: Path, tokenizer: Tokenizer, longest: int, objective: int = 0) -> list[TextTurns]:
    """The texts of a file in the turns of the checkpoint to adapt. Raises RecipeError if that has no chat template."""
    assert recipe.adapt is not None
    folder = base_folder(recipe.adapt.model, recipe.adapt.cache)
    chat = open_chat_template(folder, tokenizer)
    if chat is None:
        raise RecipeError(f"{folder} has no chat template, so there are no turns to learn; name another adapt.model")
    sidecar = Sidecar(fam=recipe.network.fam, prompts=recipe.adapt.prompts or {})
    return open_turns(path, chat, sidecar, longest, objective)


def open_queue(recipe: Recipe, data: TrainingData, own: Collection[int]) -> TurnsQueue:
    """The texts and documents that a run learns from."""
    longest, schedule = recipe.network.visible_tokens, recipe.schedule
    files, weights = list[Sequence[TextTurns] | Callable[[int], TextTurns]](), list[float]()
    for number, objective in enumerate(recipe.objectives):
        if objective.path is not None and objective.kind == TURNS:
            files.append(turns_of(recipe, objective.path, data.tokenizer, longest, number))
            weights.append(objective.weight)
    for stream in data.sources:
        size, bos_id = recipe.network.block_size, data.tokenizer.bos_id
        files.append(documents_of(stream, recipe.all_objectives[stream.objective], schedule, size, bos_id))
        weights.append(stream.weight)
    answers = [one.answer_weight for one in recipe.all_objectives]
    return TurnsQueue(files, weights, answers, schedule.lanes, recipe.data.seed, own)


def _answer(network: Network, tokenizer: Tokenizer, state: State, asked: AskedTurn) -> str:
    hidden, state = _read(network, asked.ids[: -asked.answered], state)
    found, end = list[int](), asked.ids[-1]
    while len(found) < _MOST_ANSWER_TOKENS:
        token = int(network.logits(hidden[:, -1:]).argmax())
        if token == end:
            break
        found.append(token)
        hidden, state = _read(network, [token], state)
    return tokenizer.decode(found)


def _read(network: Network, ids: Sequence[int] | Tensor, state: State) -> tuple[Tensor, State]:
    """Hidden rows [b, n, d] of `ids` [b, n], or [n] of one row, and the state after them."""
    tokens = ids if isinstance(ids, Tensor) else torch.tensor([list(ids)])
    tokens, rows, place = tokens.to(network.device), list[Tensor](), 0
    for n in call_lengths(tokens.shape[1], state.fill, network.fam.block_size, blocks_per_call=tokens.shape[1]):
        hidden, state = network.read(tokens[:, place : place + n], state)
        rows.append(hidden)
        place += n
    return torch.cat(rows, dim=1), state


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    found = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for row, ids in zip(found, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return found
