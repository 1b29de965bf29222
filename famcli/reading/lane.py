"""One network state on its way through a stream, and what one call measures on the way.

A lane is a value: stepping returns another one. Reading with the memory on and frozen side by side is two lanes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from famcli.nn import AttentionRecorder, Network, State
from famcli.reading.engine import as_batch, check_finite
from famcli.reading.scoring import cross_entropy


@dataclass(frozen=True, eq=False)
class Lane:
    """state: after the last token; last_hidden [1, 1, d]: of that token, None before the first one."""

    state: State
    last_hidden: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """Of the n tokens of a call, on the CPU. nll [n] float32, correct [n] bool, attention [n] float32 (see
    `BlockEvent`); None for what was not asked or is not to be had."""

    nll: Tensor | None = None
    correct: Tensor | None = None
    attention: Tensor | None = None

    def part(self, first: int, last: int) -> Measured:
        """Of the tokens first to last - 1."""
        nll, correct, attention = (x if x is None else x[first:last] for x in (self.nll, self.correct, self.attention))
        return Measured(nll, correct, attention)


@torch.inference_mode()
def step(
    network: Network, lane: Lane, ids: NDArray[np.int32], *, score: bool = False, attention: bool = False
) -> tuple[Lane, Measured]:
    """Read `ids` [n] in one call, which must be a legal one. Raises CheckpointError for what is not a number."""
    tokens, n, fill = as_batch(ids, network), len(ids), lane.state.fill
    closes = (fill + n) % network.fam.block_size == 0
    recorder = AttentionRecorder() if attention and closes and lane.state.memory_mode == "on" else None
    hidden, state = network.read(tokens, lane.state, recorder)
    check_finite(hidden)
    nll, correct = _score(network, lane.last_hidden, hidden, tokens) if score else (None, None)
    received = None if recorder is None or recorder.received is None else recorder.received[0, -n:].float().cpu()
    if network.device.type == "cuda":
        torch.cuda.synchronize(network.device)  # so that the time measured around this is the network's
    return Lane(state, hidden[:, -1:].clone()), Measured(nll, correct, received)


def _score(network: Network, last_hidden: Tensor | None, hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    if last_hidden is not None:
        nll, correct = cross_entropy(network, torch.cat((last_hidden, hidden[:, :-1]), 1), tokens)
        return nll[0], correct[0]
    nll, correct = cross_entropy(network, hidden[:, :-1], tokens[:, 1:])
    return torch.cat((torch.full((1,), torch.nan), nll[0])), torch.cat((torch.zeros(1, dtype=torch.bool), correct[0]))
