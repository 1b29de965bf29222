"""Several runs of tokens read side by side in one batch, each after a copy of the same state or a row of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from famcli.nn import Network, State
from famcli.reading.engine import Tokens, as_batch, read_calls
from famcli.reading.scoring import score_continuation


def pad_runs(network: Network, runs: Sequence[Tokens]) -> Tensor:
    """The runs as the rows of [b, n] int64 on the network's device.

    Shorter runs are filled up behind their end. Attention is causal, so nothing of theirs sees the filling; the state
    after it must not be kept.
    """
    padded = torch.zeros(len(runs), max(map(len, runs)), dtype=torch.int64, device=network.device)
    for row, run in enumerate(runs):
        padded[row, : len(run)] = as_batch(run, network)[0]
    return padded


def copies(state: State, count: int) -> State:
    """`count` rows of a state of batch one; one row is the state itself."""
    return state if count == 1 else State.stack([state] * count)


def read_side_by_side(network: Network, state: State, runs: Sequence[Tokens], wanted: Sequence[range]) -> list[Tensor]:
    """Read one run after each row of `state` and return the hidden rows [k, d] of the `wanted` positions of each run.

    Rows that are not wanted are let go call by call. Raises CheckpointError for hidden rows that are not finite.
    """
    found, first = list[list[Tensor]]([] for _ in runs), 0
    hidden = torch.empty(0)
    for ids, hidden, _ in read_calls(network, pad_runs(network, runs), state):
        for row, positions in enumerate(wanted):
            begin, end = max(positions.start - first, 0), positions.stop - first
            if begin < min(end, ids.shape[1]):
                found[row].append(hidden[row, begin:end].clone())
        first += ids.shape[1]
    return [torch.cat(parts) if parts else hidden.new_empty(0, network.config.hidden_size) for parts in found]


@torch.inference_mode()
def score_continuations(
    network: Network, state: State, runs: Sequence[Tokens], *, last_hidden: Tensor | None = None
) -> list[Tensor]:
    """`score_continuation` for several runs of different lengths after one state of batch one, in one batch.

    Costs len(runs) copies of the state, which are not kept.
    """
    if not runs:
        return []
    before = None if last_hidden is None else last_hidden.expand(len(runs), -1, -1)
    nll = score_continuation(network, copies(state, len(runs)), pad_runs(network, runs), last_hidden=before)
    return [row[: len(run)] for row, run in zip(nll, runs, strict=True)]
