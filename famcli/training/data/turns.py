"""Texts with requests about each, in the checkpoint's chat template: what an adapter learns to answer as tasks ask it.

Beside them stand documents of other kinds of objectives, cut to some blocks: what its memory learns from.

A record of a file is one text: `turn` (the name of a turn in tasks/prompts.py, or a wording with `{text}`), `text` and
`asked`, (question, answer) pairs. The text is read once, and each answer is learned after it alone: after the rest of
the turn, with the question in it, up to the token with which the template ends what the assistant says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from famcli.checkpoint.chat_template import ChatTemplate, Message
from famcli.checkpoint.sidecar import Sidecar
from famcli.documents.records import read_objects
from famcli.errors import DocumentError, RecipeError
from famcli.synthetic.streams import ANSWER, STATEMENT
from famcli.tasks.prompts import turn
from famcli.training.data.objectives import DocumentStream, Mixture
from famcli.training.recipe.sections import ObjectiveRecipe, ScheduleRecipe


@dataclass(frozen=True)
class AskedTurn:
    """The rest of a turn after its text: its ids, of which the last `answered` are the answer and its end."""

    ids: list[int]
    answered: int
    question: str = ""
    answer: str = ""


@dataclass(frozen=True)
class TextTurns:
    """A text and what is asked about it. opening: ids of the turn up to the end of the text.

    Of a document nothing is asked: targets [n - 1] are what its ids predict, with their loss weights and which of them
    are answers; stated [n] which of its ids belong to statements. segments: visible while it is read; None for as many
    as the network's.
    """

    opening: list[int]
    asked: tuple[AskedTurn, ...]
    objective: int = 0
    weights: Tensor | None = None
    answers: Tensor | None = None
    stated: Tensor | None = None
    segments: int | None = None

    def weight_sum(self, answer_weight: float) -> float:
        """Of all loss weights; those of answers in a turn are alike."""
        if self.weights is not None:
            return float(self.weights.sum())
        return answer_weight * sum(one.answered for one in self.asked)

    @property
    def num_tokens(self) -> int:
        """Tokens that are read for it."""
        return len(self.opening) + sum(len(one.ids) for one in self.asked)


def open_turns(
    path: Path, chat: ChatTemplate, sidecar: Sidecar, longest: int, objective: int = 0, multiple: int = 1
) -> list[TextTurns]:
    """The texts of a file that, with the longest request, are shorter than `longest` tokens.

    sidecar: its prompts go before the usual ones. multiple: line breaks after a text make its tokens a multiple of
    this. Raises DocumentError for what is no such file, RecipeError where nothing fits.
    """
    found = []
    for line, record in read_objects(path):
        try:
            name, text = str(record["turn"]), str(record["text"])
            asked = [(str(question), str(answer)) for question, answer in record["asked"]]
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(f"{path}: line {line} is no text with turn, text and asked; correct it") from error
        made = _text_turns(chat, sidecar, name, text, asked, objective)
        made.opening.extend(chat.tokenizer.encode("\n")[-1:] * (-len(made.opening) % multiple))
        if made.asked and len(made.opening) + max(len(one.ids) for one in made.asked) < longest:
            found.append(made)
    if not found:
        raise RecipeError(f"{path}: no text in it is shorter than {longest} tokens; make network.block_size larger")
    return found


def _text_turns(
    chat: ChatTemplate, sidecar: Sidecar, name: str, text: str, asked: Sequence[tuple[str, str]], objective: int
) -> TextTurns:
    encode, opening, turns = chat.tokenizer.encode, list[int](), list[AskedTurn]()
    end = sorted(chat.end_ids)[:1] or [token for token in [chat.tokenizer.eos_id] if token is not None]
    if not end:
        raise RecipeError(
            f"{chat.path}: no token ends an answer, so its end cannot be learned; name another adapt.model"
        )
    for question, answer in asked:
        # Of a summary no number of words is asked for here: a wording that names one has no such training.
        values = {"question": question, "about": "", "focus": "", "words": "60"}
        asked_for = turn(sidecar, chat.source, name, values)
        before, _, after = asked_for.user.partition("{text}")
        messages = [Message("system", asked_for.system)] if asked_for.system else []
        head, tail = chat.around([*messages, Message("user", before)], after)
        opening, answered = head + encode(text), encode(answer) + end
        turns.append(AskedTurn(tail + answered, len(answered), question, answer))
    return TextTurns(opening, tuple(turns), objective)


def documents_of(
    stream: DocumentStream, recipe: ObjectiveRecipe, schedule: ScheduleRecipe, block_size: int, bos_id: int | None
) -> Callable[[int], TextTurns]:
    """The documents of `stream` by number, each as many blocks long as `schedule` draws for it; longer ones are cut."""
    bos = [] if bos_id is None else [bos_id]

    def document(number: int) -> TextTurns:
        blocks = schedule.blocks_of_step(stream.objective, number, 1.0)
        ids, marks = stream.document(number, blocks)
        if marks is None:
            # Of a long text another stretch each time that it is drawn.
            count = blocks * block_size + 1 - len(bos)
            first = int(np.random.default_rng([stream.objective, number]).integers(max(1, len(ids) - count + 1)))
            ids = ids[first : first + count]
            marks = np.zeros(len(ids), np.int8)
        known = torch.from_numpy(np.concatenate((np.zeros(len(bos), np.int8), marks)))
        answers = known[1:] == ANSWER
        weights = torch.where(answers, recipe.answer_weight, recipe.text_weight)
        return TextTurns(
            [*bos, *ids.tolist()], (), stream.objective, weights, answers, known == STATEMENT, recipe.segments
        )

    return document


@dataclass(frozen=True)
class TurnsPlan:
    """The work of one step. texts: by their place in it, those of this process. num_targets: tokens that all processes
    read. weight_sum: of all loss weights."""

    texts: Mapping[int, TextTurns]
    step: int
    num_targets: int
    weight_sum: float
    num_blocks: int = 1


class TurnsQueue:
    """The texts of each step, in an order that follows from counters alone; what `Lanes` is for documents."""

    def __init__(
        self,
        files: Sequence[Sequence[TextTurns] | Callable[[int], TextTurns]],
        weights: Sequence[float],
        answer_weights: Sequence[float],
        per_step: int,
        seed: int,
        own: Collection[int] | None = None,
    ) -> None:
        self._files, self._answer_weights, self._seed = files, answer_weights, seed
        self._per_step, self._own = per_step, frozenset(range(per_step) if own is None else own)
        self._mixture = Mixture(weights, ahead=0)
        self._orders: dict[tuple[int, int], Any] = {}
        self._next: list[tuple[int, int]] = []
        self._draw()

    def plan(self, step: int, progress: float) -> TurnsPlan:
        """What step `step` reads. Changes nothing."""
        texts = [self._text(source, number) for source, number in self._next]
        weights = (text.weight_sum(self.weight(text)) for text in texts)
        own = {place: text for place, text in enumerate(texts) if place in self._own}
        return TurnsPlan(own, step, sum(text.num_tokens for text in texts), sum(weights))

    def weight(self, text: TextTurns) -> float:
        """The loss weight of each token of its answers."""
        return self._answer_weights[text.objective]

    def advance(self, plan: TurnsPlan, states: object = None, teacher: object = None) -> None:
        """Move on after `plan`."""
        self._draw()

    def abandon_documents(self) -> None:
        """Go on with other texts: after a step whose numbers were not finite."""
        self._draw()

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The counters, for the training checkpoint."""
        lanes = [{"source": source, "number": number} for source, number in self._next]
        return {}, {"lanes": lanes, "mixture": self._mixture.to_json()}

    def load_tensors(self, tensors: Mapping[str, Tensor], saved: Mapping[str, Any], device: torch.device) -> None:
        """Restore what `to_tensors` gave."""
        self._mixture.load_json(saved["mixture"])
        self._next = [(entry["source"], entry["number"]) for entry in saved["lanes"]]

    def _draw(self) -> None:
        self._next = []
        for _ in range(self._per_step):
            source, number = self._mixture.draw([])
            self._mixture.count(source, self._text(source, number).num_tokens)
            self._next.append((source, number))

    def _text(self, source: int, number: int) -> TextTurns:
        """The n-th text of a file, whose epochs have orders of their own, or the n-th document."""
        texts = self._files[source]
        if not isinstance(texts, Sequence):
            return texts(number)
        epoch, place = divmod(number, len(texts))
        if (source, epoch) not in self._orders:
            order = np.random.default_rng([self._seed, source, epoch]).permutation(len(texts))
            self._orders[source, epoch] = order
        return texts[int(self._orders[source, epoch][place])]
