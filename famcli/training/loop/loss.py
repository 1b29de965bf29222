"""The loss on hidden rows, its gradient made slice by slice, and the sums that are logged for each objective.

The vocabulary's logits are the widest tensor of a step. They exist for one slice at a time: each slice's gradient goes
back through the head at once, and what reaches the hidden rows is collected for one pass through the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from famcli.nn import Network
from famcli.training.data.lanes import LaneGroup

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
    nats, right = torch.zeros(weights.numel()), torch.zeros(weights.numel(), dtype=torch.bool)
    losses = nats
    if always and not len(used):
        # One row without weight, so that every parameter of the head has a gradient.
        used = torch.zeros(1, dtype=torch.int64)
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
                taught = None if teacher is None else teacher(places[part])
                judged = asked[part].nonzero()[:, 0].to(hidden.device)
                found.append(_head_gradient(network, rows, wanted[part], shares[part], judged, taught))
                assert rows.grad is not None
                gradient[places[part]] = rows.grad
        hidden.backward(gradient.view_as(hidden))  # type: ignore[no-untyped-call]
        # Moved to the CPU after the backward pass, so that a GPU is never waited for before it.
        nats[used], right[used], of_rows = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
        losses = torch.zeros_like(nats).index_copy_(0, used, of_rows)
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
    _, all_nats, all_right = loss
    tally = np.zeros((num_objectives, len(TALLY)))
    for row, objective in enumerate(group.objectives):
        counted, asked = group.weights[row].numpy() > 0, group.answers[row].numpy()
        nats, right = all_nats[row].numpy().astype(np.float64), all_right[row].numpy()
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


def objective_losses(names: Sequence[str], tally: NDArray[np.float64]) -> ObjectiveLosses:
    """The losses in a tally, by the objectives' names; objectives of which nothing was read are left out."""
    losses: ObjectiveLosses = {}
    for name, row in zip(names, tally.tolist(), strict=True):
        text_nats, text_tokens, text_bytes, answer_nats, answer_tokens, answers, answers_right = row
        if not text_tokens + answer_tokens:
            continue
        losses[name] = {
            "text_loss": _ratio(text_nats, text_tokens),
            "bits_per_byte": _ratio(text_nats / math.log(2), text_bytes),
            "answer_loss": _ratio(answer_nats, answer_tokens),
            "answers_right": _ratio(answers_right, answers),
            "num_text_tokens": int(text_tokens),
            "num_answers": int(answers),
        }
    return losses


def _ratio(total: float, count: float) -> float | None:
    return total / count if count else None
