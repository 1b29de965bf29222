"""The gradient of a step over texts in turns, and how well their questions are answered during a run.

A text is read once, beside others of its length, and the rows of its questions go on from its state side by side, with
gradient through its keys and values: k questions about n tokens cost n plus their own tokens, not k times n. No logits
are made but those of answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from famcli.checkpoint.chat_template import open_chat_template
from famcli.checkpoint.sidecar import Sidecar
from famcli.errors import RecipeError
from famcli.evaluation.overlap import best_f1
from famcli.nn import Network, State
from famcli.reading.engine import call_lengths, pad_runs
from famcli.tasks.prompts import NOT_SAID
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.data.objectives import TrainingData
from famcli.training.data.turns import AskedTurn, TextTurns, TurnsPlan, TurnsQueue, documents_of, open_turns
from famcli.training.loop.run_folder import TurnsChecked
from famcli.training.loop.step import TALLY, Gradients, LaneStates, StepSums, language_model_gradient, seeing, tally_row
from famcli.training.recipe.recipe import Recipe, base_folder
from famcli.training.recipe.sections import TURNS

_MOST_ANSWER_TOKENS = 24
# Texts, and questions on a processor and elsewhere.
_TOGETHER, _SIDE_BY_SIDE = 32, (8, 256)


class TurnsGradients(Gradients):
    """`Gradients` for the texts of a `TurnsQueue`."""

    queue: TurnsQueue

    def read(self, plan: TurnsPlan) -> tuple[StepSums, LaneStates, LaneStates]:  # type: ignore[override]
        """Read this process's texts, those of one length side by side. There are no states to keep."""
        self._clear()
        weighted, scale = 0.0, 1.0 / max(plan.weight_sum, 1e-9)
        tally = np.zeros((self._num_objectives, len(TALLY)))
        for texts in _alike(plan.texts.values()):
            weighted += (self._read_turns if texts[0].weights is None else self._read_documents)(texts, scale, tally)
            self._collect()
        layers = self.compute.config.num_layers
        return StepSums(weighted, tally, np.zeros(layers), max(1, len(plan.texts))), LaneStates(), LaneStates()

    def _read_turns(self, texts: Sequence[TextTurns], scale: float, tally: np.ndarray) -> float:
        """Returns the weighted loss; what was counted goes into `tally`."""
        network = self.compute
        state = _read(network, torch.tensor([text.opening for text in texts]), network.start(len(texts)))[1]
        # Those of a length together: what is padded is read for nothing.
        asked = sorted(
            ((row, one) for row, text in enumerate(texts) for one in text.asked), key=lambda one: len(one[1].ids)
        )
        rows, targets, weights = list[Tensor](), list[int](), list[float]()
        size = _SIDE_BY_SIDE[network.device.type != "cpu"]
        for some in (asked[place : place + size] for place in range(0, len(asked), size)):
            # The last token of each row is only predicted.
            ids = pad_runs(network, [one.ids[:-1] for _, one in some])
            hidden, _ = _read(network, ids, state.rows(torch.tensor([row for row, _ in some])))
            for made, (row, one) in zip(hidden, some, strict=True):
                rows.append(made[: len(one.ids) - 1])
                targets += one.ids[1:]
                weight = self.queue.weight(texts[row])
                weights += [0.0] * (len(one.ids) - 1 - one.answered) + [weight] * one.answered
        weighted = torch.tensor([weights])
        answers, of_all = weighted > 0, torch.cat(rows)[None]
        loss, nats, right = language_model_gradient(network, of_all, torch.tensor([targets]), weighted, scale, answers)
        lengths = [len(one) for one in rows]
        whole = torch.split((right | ~answers)[0], lengths)
        for (row, one), spent, is_right in zip(asked, torch.split(nats[0], lengths), whole, strict=True):
            counted = (0, 0, 0, float(spent.sum()), one.answered, 1, bool(is_right.all()))
            tally[texts[row].objective] += counted
        return loss

    def _read_documents(self, texts: Sequence[TextTurns], scale: float, tally: np.ndarray) -> float:
        """As `_read_turns`, of documents."""
        network, ids = self.compute, torch.tensor([text.opening for text in texts])
        with seeing(network, texts[0].segments):
            hidden, _ = _read(network, ids[:, :-1], network.start(len(texts)))
        weights = torch.stack([text.weights for text in texts if text.weights is not None])
        answers = torch.stack([text.answers for text in texts if text.answers is not None])
        loss = language_model_gradient(network, hidden, ids[:, 1:], weights, scale, answers)
        for row, text in enumerate(texts):
            tally[text.objective] += tally_row(loss, ids[:, 1:], weights, answers, row, self._token_bytes)
        return loss[0]


def _alike(texts: Iterable[TextTurns]) -> Iterator[list[TextTurns]]:
    """Texts that can be read side by side, at most `_TOGETHER`."""
    found = dict[tuple[object, ...], list[TextTurns]]()
    for text in texts:
        found.setdefault((len(text.opening), text.segments, text.weights is None), []).append(text)
    for some in found.values():
        yield from (some[place : place + _TOGETHER] for place in range(0, len(some), _TOGETHER))


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
    return open_turns(path, chat, sidecar, longest, objective, recipe.adapt.round_tokens)


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
