"""The loss on hidden rows, its gradient made slice by slice, and what of it is logged for each objective.

The vocabulary's logits are the widest thing a step makes. They live for one slice only: each slice's gradient goes
back through the head at once, and what reaches the hidden rows is collected for one pass through the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from famcli.nn import Network
from famcli.training.data.lanes import LaneGroup

_ROWS = 1024

TALLY = ("text_nats", "text_tokens", "text_bytes", "answer_nats", "answer_tokens", "answers", "answers_right")
"""Columns of a tally, which is a sum over tokens and may be added up over groups, steps and processes."""


@dataclass(frozen=True)
class Lesson:
    """What a teacher would say: `hidden` [b, n, d] are its rows for the same tokens, before its final norm."""

    teacher: Network
    hidden: Tensor


@dataclass(frozen=True)
class Loss:
    """weighted: sum of loss weight times nats, or times the divergence from the teacher. nats [b, n] float32: of each
    target, 0 where its weight is 0. right [b, n] bool: answer tokens that were the likeliest."""

    weighted: float
    nats: Tensor
    right: Tensor


@dataclass(frozen=True)
class ObjectiveLoss:
    """What one objective's documents gave in a step: nats per token, bits per byte, share of whole answers right.

    None where there was nothing to count. `text` is all that is no answer; what is not learned is not counted.
    """

    text_loss: float | None
    bits_per_byte: float | None
    answer_loss: float | None
    answers_right: float | None
    num_text_tokens: int
    num_answers: int


def language_model_gradient(
    network: Network,
    hidden: Tensor,
    targets: Tensor,
    weights: Tensor,
    scale: float,
    answers: Tensor | None = None,
    lesson: Lesson | None = None,
    *,
    always: bool = False,
    slices: AbstractContextManager[None] | None = None,
) -> Loss:
    """The loss of `targets` [b, n], each weighted by `weights` [b, n]; both and `answers` [b, n] are on the CPU.

    Adds `scale` times the gradient of the weighted sum to the `.grad` of the network's parameters; `hidden` [b, n, d]
    must come from a read with gradient. Targets of weight 0 (padding) are left out, and cost nothing. A probability
    under 1e-38 counts as 1e-38. With a `lesson` the loss of a row is the Kullback-Leibler divergence of the network's
    next-token distribution from the teacher's, KL(teacher | network), and the targets are only counted.

    always: go back through head and decoder even if no target is used. slices: entered for the slices of the head.
    """
    used = weights.flatten().nonzero()[:, 0]
    nats, right = torch.zeros(weights.numel()), torch.zeros(weights.numel(), dtype=torch.bool)
    losses = nats
    if always and not len(used):
        used = torch.zeros(1, dtype=torch.int64)  # with no weight, so that every parameter of the head has a gradient
    if len(used):
        wanted, shares, places = (
            part.to(hidden.device, non_blocking=True)
            for part in (targets.flatten()[used].clamp_min(0), scale * weights.flatten()[used], used)
        )
        asked = torch.zeros(len(used), dtype=torch.bool) if answers is None else answers.flatten()[used]
        flat = hidden.detach().flatten(0, 1)
        gradient = torch.zeros_like(flat)
        found = []
        with slices or nullcontext():
            for first in range(0, len(used), _ROWS):
                part = slice(first, first + _ROWS)
                rows = flat[places[part]].requires_grad_()
                wished = None if lesson is None else _log_wishes(lesson, places[part])
                judged = asked[part].nonzero()[:, 0].to(hidden.device)
                found.append(_head_gradient(network, rows, wanted[part], shares[part], judged, wished))
                assert rows.grad is not None
                gradient[places[part]] = rows.grad
        hidden.backward(gradient.view_as(hidden))  # type: ignore[no-untyped-call]
    if len(used):
        nats[used] = torch.cat([part for part, _, _ in found]).cpu()
        right[used] = torch.cat([part for _, part, _ in found]).cpu()
        losses = torch.zeros_like(nats).index_copy_(0, used, torch.cat([part for *_, part in found]).cpu())
    weighted = float((losses.double() * weights.flatten()).sum())
    return Loss(weighted, nats.view_as(weights), right.view_as(weights))


def _head_gradient(
    network: Network, rows: Tensor, wanted: Tensor, shares: Tensor, judged: Tensor, wished: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Backward through the head for `rows` [k, d], each times its share [k]: their nats [k], whether the likeliest
    token was the wanted one [k] (only told of the rows `judged` [j]), and their losses [k].

    wished: the teacher's log-probabilities [k, v], if it is them that the rows should come to.
    """
    logits = network.logits(rows[None])[0]
    with torch.no_grad():
        gradient = torch.softmax(logits.float(), dim=-1)
        at = wanted[:, None]
        chosen = gradient.gather(1, at)
        right = torch.zeros_like(wanted, dtype=torch.bool)
        right[judged] = gradient[judged].argmax(-1) == wanted[judged]
        nats = -chosen[:, 0].clamp_min(1e-38).log()
        if wished is None:
            losses = nats
            gradient.scatter_(1, at, chosen - 1)
        else:
            shown, weight = torch.log_softmax(logits.float(), dim=-1), wished.exp()
            losses = (weight * (wished - shown)).sum(-1)
            gradient.sub_(weight)
        gradient.mul_(shares[:, None])
    logits.backward(gradient.to(logits.dtype))  # type: ignore[no-untyped-call]
    return nats, right, losses


@torch.no_grad()
def _log_wishes(lesson: Lesson, places: Tensor) -> Tensor:
    """The teacher's log-probabilities [k, v] at `places` [k] of its rows."""
    rows = lesson.hidden.flatten(0, 1)[places]
    return torch.log_softmax(lesson.teacher.logits(rows[None])[0].float(), dim=-1)


def tally_group(
    group: LaneGroup, loss: Loss, token_num_bytes: NDArray[np.int64], num_objectives: int
) -> NDArray[np.float64]:
    """What a group's loss adds to the tally [num_objectives, len(TALLY)]. token_num_bytes: of each token, [v]."""
    tally = np.zeros((num_objectives, len(TALLY)))
    for row, objective in enumerate(group.objectives):
        counted, asked = group.weights[row].numpy() > 0, group.answers[row].numpy()
        nats, right = loss.nats[row].numpy().astype(np.float64), loss.right[row].numpy()
        text, answer = counted & ~asked, counted & asked
        begins = np.flatnonzero(answer & ~np.concatenate(([False], answer[:-1])))
        ends = np.flatnonzero(answer & ~np.concatenate((answer[1:], [False]))) + 1
        tally[objective] += (
            nats[text].sum(),
            text.sum(),
            token_num_bytes[group.targets[row].numpy()[text]].sum(),
            nats[answer].sum(),
            answer.sum(),
            len(begins),
            sum(bool(right[first:last].all()) for first, last in zip(begins, ends, strict=True)),
        )
    return tally


def objective_losses(names: Sequence[str], tally: NDArray[np.float64]) -> dict[str, ObjectiveLoss]:
    """A tally in words, by the objectives' names; those of which nothing was read are left out."""
    losses = {}
    for name, row in zip(names, tally.tolist(), strict=True):
        columns = dict(zip(TALLY, row, strict=True))
        if not columns["text_tokens"] + columns["answer_tokens"]:
            continue
        losses[name] = ObjectiveLoss(
            text_loss=_ratio(columns["text_nats"], columns["text_tokens"]),
            bits_per_byte=_ratio(columns["text_nats"] / math.log(2), columns["text_bytes"]),
            answer_loss=_ratio(columns["answer_nats"], columns["answer_tokens"]),
            answers_right=_ratio(columns["answers_right"], columns["answers"]),
            num_text_tokens=int(columns["text_tokens"]),
            num_answers=int(columns["answers"]),
        )
    return losses


def _ratio(total: float, count: float) -> float | None:
    return total / count if count else None
