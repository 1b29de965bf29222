"""The gradient of one step: every lane is read once, in parts that fit into memory, and summed over all processes.

Weights, gradients and their sums are float32; products run on a copy in the recipe's type. After each part the copy's
gradient is added to the float32 one, so that many parts are not rounded away. Logits are the widest tensor of a step,
so they exist for one slice at a time: each slice's gradient goes back through the head at once, and the gradient of the
hidden rows is collected for one pass through the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from famcli.nn import Network, State
from famcli.training.data.lanes import LaneGroup, StepPlan, stack_starts
from famcli.training.loop.networks import copy_of, trained
from famcli.training.loop.processes import Processes

# Rows of logits at a time.
_ROWS = 1024

TALLY = ("text_nats", "text_tokens", "text_bytes", "answer_nats", "answer_tokens", "answers", "answers_right")
"""Columns of a tally: sums over tokens, which may be added over groups, steps and processes."""

Loss = tuple[float, Tensor, Tensor]
"""weighted: the sum of loss weights times nats, or times the divergence from the teacher. nats [b, n] float32: of each
target, 0 where its weight is 0. right [b, n] bool: answer tokens that were the most likely ones."""
LogProbs = Callable[[Tensor], Tensor]
"""The teacher's log-probabilities [k, v] at `places` [k] of the flattened rows."""
ObjectiveLosses = dict[str, dict[str, float | None]]
"""By objective: text_loss and answer_loss (nats per token), bits_per_byte, answers_right (share of whole answers), None
where nothing was counted; num_text_tokens and num_answers. Text is every token that is not in an answer."""


def teacher_log_probs(teacher: Network, hidden: Tensor) -> LogProbs:
    """The log-probabilities of a teacher whose rows for the same tokens, before its final norm, are `hidden` [b, n, d].

    They are computed where they are asked for: for a whole step they would be as wide as its logits.
    """

    @torch.no_grad()
    def at(places: Tensor) -> Tensor:
        rows = hidden.flatten(0, 1)[places]
        return torch.log_softmax(teacher.logits(rows[None])[0].float(), dim=-1)

    return at


def language_model_gradient(
    network: Network,
    hidden: Tensor,
    targets: Tensor,
    weights: Tensor,
    scale: float,
    answers: Tensor | None = None,
    teacher: LogProbs | None = None,
    *,
    always: bool = False,
    slices: AbstractContextManager[None] | None = None,
) -> Loss:
    """The loss of `targets` [b, n], weighted by `weights` [b, n]; both and `answers` [b, n] are on the CPU.

    Adds `scale` times the gradient of the weighted sum to the `.grad` of the network's parameters; `hidden` [b, n, d]
    must come from a read with gradient. Targets of weight 0 (padding) cost nothing. A probability under 1e-38 counts as
    1e-38. With a `teacher` the loss of a row is the Kullback-Leibler divergence of the network's next-token
    distribution from the teacher's, KL(teacher | network), and targets only count for the tally.

    always: go back through head and decoder even if no target is used. slices: entered around the slices of the head.
    """
    used = weights.flatten().nonzero()[:, 0]
    nats, losses = torch.zeros(2, weights.numel())
    right = torch.zeros(weights.numel(), dtype=torch.bool)
    if always and not len(used):
        # One row without weight, so that every parameter of the head has a gradient.
        used = torch.zeros(1, dtype=torch.int64)
    if len(used):
        wanted, shares, places = (
            part.to(hidden.device, non_blocking=True)
            for part in (targets.flatten()[used].clamp_min(0), scale * weights.flatten()[used], used)
        )
        asked = torch.zeros(len(used), dtype=torch.bool) if answers is None else answers.flatten()[used]
        flat, found = hidden.detach().flatten(0, 1), []
        gradient = torch.zeros_like(flat)
        with slices or nullcontext():
            for first in range(0, len(used), _ROWS):
                part = slice(first, first + _ROWS)
                rows = flat[places[part]].requires_grad_()
                taught = None if teacher is None else teacher(places[part])
                judged = asked[part].nonzero()[:, 0].to(hidden.device)
                found.append(_head_gradient(network, rows, wanted[part], shares[part], judged, taught))
                assert rows.grad is not None
                gradient[places[part]] = rows.grad
        hidden.backward(gradient.view_as(hidden))  # type: ignore[no-untyped-call]
        # Moved to the CPU after the backward pass, so that a GPU is never waited for before it.
        nats[used], right[used], losses[used] = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    weighted = float((losses.double() * weights.flatten()).sum())
    return weighted, nats.view_as(weights), right.view_as(weights)


def _head_gradient(
    network: Network, rows: Tensor, wanted: Tensor, shares: Tensor, judged: Tensor, taught: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Backward through the head for `rows` [k, d], each times its share [k].

    Returns nats [k], right [k] (only of the rows `judged` [j]) and losses [k]. taught: the teacher's log-probabilities
    [k, v], if the rows are to match them.
    """
    logits = network.logits(rows[None])[0]
    with torch.no_grad():
        # The gradient of cross-entropy is softmax - onehot; that of the divergence, softmax - teacher.
        gradient = torch.softmax(logits.float(), dim=-1)
        at = wanted[:, None]
        chosen = gradient.gather(1, at)
        right = torch.zeros_like(wanted, dtype=torch.bool)
        right[judged] = gradient[judged].argmax(-1) == wanted[judged]
        nats = -chosen[:, 0].clamp_min(1e-38).log()
        if taught is None:
            losses = nats
            gradient.scatter_(1, at, chosen - 1)
        else:
            log_probs, teacher_probs = torch.log_softmax(logits.float(), dim=-1), taught.exp()
            losses = (teacher_probs * (taught - log_probs)).sum(-1)
            gradient.sub_(teacher_probs)
        gradient.mul_(shares[:, None])
    logits.backward(gradient.to(logits.dtype))  # type: ignore[no-untyped-call]
    return nats, right, losses


def tally_group(
    group: LaneGroup, loss: Loss, token_num_bytes: NDArray[np.int64], num_objectives: int
) -> NDArray[np.float64]:
    """What a group's loss adds to the tally [num_objectives, len(TALLY)]. token_num_bytes [v]: of each token."""
    tally = np.zeros((num_objectives, len(TALLY)))
    for row, objective in enumerate(group.objectives):
        tally[objective] += tally_row(loss, group.targets, group.weights, group.answers, row, token_num_bytes)
    return tally


def tally_row(
    loss: Loss, targets: Tensor, weights: Tensor, answers: Tensor, row: int, token_num_bytes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What row `row` of targets, weights and answers [b, n], whose loss is `loss`, adds to a tally: [len(TALLY)]."""
    counted, asked = weights[row].numpy() > 0, answers[row].numpy()
    nats, right = loss[1][row].numpy().astype(np.float64), loss[2][row].numpy()
    text, answer = counted & ~asked, counted & asked
    # Where runs of answer tokens begin, and where they end.
    edges = np.diff(answer.astype(np.int8), prepend=0, append=0)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    counts = (
        nats[text].sum(),
        text.sum(),
        token_num_bytes[targets[row].numpy()[text]].sum(),
        nats[answer].sum(),
        answer.sum(),
        len(begins),
        sum(bool(right[first:last].all()) for first, last in zip(begins, ends, strict=True)),
    )
    return np.array(counts, dtype=np.float64)


def objective_losses(names: Sequence[str], tally: NDArray[np.float64]) -> ObjectiveLosses:
    """The losses in a tally, by the objectives' names; objectives of which nothing was read are left out."""

    def ratio(total: float, count: float) -> float | None:
        return total / count if count else None

    losses: ObjectiveLosses = {}
    for name, row in zip(names, tally.tolist(), strict=True):
        text_nats, text_tokens, text_bytes, answer_nats, answer_tokens, answers, answers_right = row
        if text_tokens + answer_tokens:
            losses[name] = {
                "text_loss": ratio(text_nats, text_tokens),
                "bits_per_byte": ratio(text_nats / math.log(2), text_bytes),
                "answer_loss": ratio(answer_nats, answer_tokens),
                "answers_right": ratio(answers_right, answers),
                "num_text_tokens": int(text_tokens),
                "num_answers": int(answers),
            }
    return losses


# Tokens that a teacher reads at once, over all lanes of a group: its memory must not grow with the length of a step.
_TEACHER_TOKENS = 4096

LaneStates = dict[int, State]
"""States by the number of their lane."""


@dataclass(frozen=True)
class StepSums:
    """What reading lanes gave, as sums over targets and lanes that can be added over processes.

    weighted: nats times loss weights. tally [objectives, counts]: as `tally_group` counts. memory_squares [l]: by
    layer, the sum over lanes of the mean square of the memory.
    """

    weighted: float
    tally: NDArray[np.float64]
    memory_squares: NDArray[np.float64]
    num_lanes: int

    def __add__(self, other: StepSums) -> StepSums:
        return StepSums(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.weighted) and bool(np.isfinite(self.memory_squares).all())

    @property
    def bits_per_byte(self) -> float:
        """Over all text, without answers."""
        nats, _, num_bytes = self.tally[:, :3].sum(0)
        return float(nats / math.log(2) / max(num_bytes, 1))

    @property
    def memory_rms(self) -> tuple[float, ...]:
        """Root mean square of the carried memory over all lanes, by layer."""
        return tuple(float(value) for value in np.sqrt(self.memory_squares / self.num_lanes))


class Gradients:
    """The float32 gradient of the trained parameters, as views of one tensor, and the network that computes it.

    compute: a copy in the compute type, or the network itself if it has that type. teacher: the network to distil from,
    if targets are not the tokens themselves. always: run backward even if no target has a weight.
    """

    always = False

    def __init__(
        self,
        network: Network,
        dtype: torch.dtype,
        processes: Processes,
        token_bytes: NDArray[np.int64],
        num_objectives: int,
        max_rows: int,
        teacher: Network | None = None,
    ) -> None:
        self._network, self._processes, self._max_rows, self._teacher = network, processes, max_rows, teacher
        self._token_bytes, self._num_objectives = token_bytes, num_objectives
        self.compute = self._prepare(dtype)

    def _prepare(self, dtype: torch.dtype) -> Network:
        """Allocate the gradient; returns the network that computes it."""
        network, parameters = self._network, list(trained(self._network).values())
        sizes = [parameter.numel() for parameter in parameters]
        # One flat tensor makes the sum over processes one message.
        self._flat = torch.zeros(sum(sizes), device=network.device)
        for parameter, part in zip(parameters, torch.split(self._flat, sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        return network if network.dtype == dtype else copy_of(network, dtype)

    def read(self, plan: StepPlan) -> tuple[StepSums, LaneStates, LaneStates]:
        """Read this process's lanes, at most `max_rows` at a time.

        Returns the sums, each lane's state after the step, and the teacher's states.
        """
        self._clear()
        # The weight of all lanes, so that the sum over processes is the mean over all of them.
        weighted, scale = 0.0, 1.0 / max(plan.weight_sum, 1e-9)
        tally = np.zeros((self._num_objectives, len(TALLY)))
        states, teacher_states = LaneStates(), LaneStates()
        with seeing(self.compute, 0 if plan.without_segments else None):
            for part in self._parts(plan):
                hidden, state = self.compute.read(part.inputs.to(self.compute.device), self._start(part))
                taught = None
                if self._teacher is not None:
                    taught, after = teach(self._teacher, part)
                    teacher_states.update(zip(part.lanes, after.split(), strict=True))
                loss = language_model_gradient(
                    self.compute,
                    hidden,
                    part.targets,
                    part.weights,
                    scale,
                    part.answers,
                    taught,
                    always=self.always,
                    slices=self._slices(),
                )
                self._collect()
                weighted += loss[0]
                tally += tally_group(part, loss, self._token_bytes, self._num_objectives)
                # A process that has no lane left runs rows of padding, which belong to no lane.
                states.update(zip(part.lanes, state.detach().split(), strict=False))
        # By layer, the mean square of the carried memory, summed over lanes.
        squares = torch.stack([state.memory_squares().sum(1) for state in states.values()]).sum(0)
        sums = StepSums(weighted, tally, squares.double().cpu().numpy(), len(states))
        return sums, states, teacher_states

    def add_up(self) -> float:
        """Sum the gradient over all processes; returns its norm."""
        self._processes.add(self._flat)
        return float(torch.linalg.vector_norm(self._flat))

    def scale(self, factor: float) -> None:
        self._flat.mul_(factor)

    def refresh(self) -> None:
        if self.compute is not self._network:
            with torch.no_grad():
                for parameter, computed in zip(self._network.parameters(), self.compute.parameters(), strict=True):
                    computed.copy_(parameter)

    def _clear(self) -> None:
        self._flat.zero_()

    def _parts(self, plan: StepPlan) -> Iterator[LaneGroup]:
        for group in plan.groups:
            yield from parts_of(group, self._max_rows)

    def _start(self, group: LaneGroup) -> State:
        return stack_starts(self.compute, group)

    def _slices(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _collect(self) -> None:
        """Add the computing network's gradient to the float32 one. A parameter that was not used has none."""
        if self.compute is self._network:
            return
        for parameter, computed in zip(self._network.parameters(), self.compute.parameters(), strict=True):
            if computed.grad is not None:
                assert parameter.grad is not None
                parameter.grad.add_(computed.grad)
                computed.grad = None


@contextmanager
def seeing(network: Network, segments: int | None) -> Iterator[None]:
    """Within it the network sees so many closed blocks (`memory_segments`); None is as many as it is set to."""
    fam = network.fam
    network.fam = fam if segments is None else replace(fam, memory_segments=segments)
    try:
        yield
    finally:
        network.fam = fam


@torch.no_grad()
def teach(teacher: Network, group: LaneGroup) -> tuple[LogProbs, State]:
    """The teacher's log-probabilities for a group's inputs, and its state after them.

    Self-distillation: the unadapted network with full attention reads the same documents, so any text will do (arXiv
    1503.02531 for the divergence as a loss). It carries a state of its own from step to step.
    """
    state = group.teacher if group.teacher is not None else teacher.start(len(group.lanes))
    tokens, size, rows = group.inputs.to(teacher.device), teacher.fam.block_size, []
    # In calls of whole blocks.
    for part in torch.split(tokens, max(1, _TEACHER_TOKENS // (size * len(tokens))) * size, dim=1):
        hidden, state = teacher.read(part, state)
        rows.append(hidden)
    return teacher_log_probs(teacher, torch.cat(rows, dim=1)), state


def parts_of(group: LaneGroup, max_rows: int) -> Iterator[LaneGroup]:
    """The group in parts of at most `max_rows` lanes, divided as evenly as possible."""
    rows = len(group.lanes)
    count = -(-rows // max_rows)
    for number in range(count):
        part = slice(number * rows // count, (number + 1) * rows // count)
        # A group without a teacher has None there; all else has a row for each lane.
        states = None if group.teacher is None else State.stack(group.teacher.split()[part])
        others = {each.name: getattr(group, each.name)[part] for each in fields(group) if each.name != "teacher"}
        yield replace(group, **others, teacher=states)
