"""Runs of tokens of any length through a network, in calls that it allows.

A call either stays inside the open block or holds whole blocks; everything here cuts accordingly and runs in
inference mode, so states that come out of it must be read on with it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from famcli.errors import CheckpointError
from famcli.nn import MemoryMode, Network, State

Tokens = Sequence[int] | NDArray[np.int32] | Tensor


def legal_cuts(n: int, fill: int, block_size: int, blocks_per_call: int = 1) -> Iterator[int]:
    """The lengths of the calls that read `n` tokens after `fill` tokens of the open block: their sum is n."""
    if fill and n:
        first = min(n, block_size - fill)
        yield first
        n -= first
    while n >= block_size:
        call = min(n // block_size, blocks_per_call) * block_size
        yield call
        n -= call
    if n:
        yield n


def as_batch(tokens: Tokens, network: Network) -> Tensor:
    """[1, n] (or [b, n] as it is) int64 on the network's device."""
    made = torch.as_tensor(np.asarray(tokens, dtype=np.int64) if not isinstance(tokens, Tensor) else tokens)
    return (made if made.dim() == 2 else made[None]).to(device=network.device, dtype=torch.int64)


def check_finite(values: Tensor) -> None:
    """Raise CheckpointError where a network gives what is not a number: whatever is made of it would mean nothing."""
    if not torch.isfinite(values).all():
        raise CheckpointError(
            "the network gives values that are not numbers: its weights are damaged, or too large for their type "
            "(--dtype float32)"
        )


@torch.inference_mode()
def start_state(network: Network, memory_mode: MemoryMode = "on") -> State:
    """The state before the first token, for a batch of one."""
    return network.start(1, memory_mode)


@torch.inference_mode()
def read_any(
    network: Network, tokens: Tokens, state: State, *, blocks_per_call: int = 1
) -> tuple[Tensor | None, State]:
    """Read a run of any length ([n] for a batch of one, or [b, n]) after `state`.

    Returns the hidden row of its last token [b, 1, d] (what `network.logits` predicts the next token from; None for
    an empty run) and the state after it. Holds the hidden rows of one call at a time. Raises CheckpointError for what
    is not a number.
    """
    last, place, batch = None, 0, as_batch(tokens, network)
    for n in legal_cuts(batch.shape[1], state.fill, network.fam.block_size, blocks_per_call):
        hidden, state = network.read(batch[:, place : place + n], state)
        check_finite(hidden)
        last, place = hidden[:, -1:].clone(), place + n
    return last, state
