"""Runs of tokens of any length through a network, in the calls that it allows.

A call either stays inside the open block or holds whole blocks. `read_calls` is the one loop that cuts a run so. What
runs here runs in inference mode (`read_calls` in its caller's), so states that come out of it are read on with in it.
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


def call_lengths(n: int, fill: int, block_size: int, blocks_per_call: int = 1) -> Iterator[int]:
    """The lengths of the calls that read `n` tokens after `fill` tokens of the open block: their sum is n."""
    # A call that crossed the end of the open block would have to update the memory in its middle.
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
    """Raise CheckpointError for NaN or infinity: nothing made from them would mean anything."""
    if not torch.isfinite(values).all():
        raise CheckpointError(
            "the network gives values that are not numbers: its weights are damaged, or too large for their type",
            remedy={"dtype": "float32"},
        )


@torch.inference_mode()
def start_state(network: Network, memory_mode: MemoryMode = "on") -> State:
    """The state before the first token, for a batch of one."""
    return network.start(1, memory_mode)


def read_calls(
    network: Network, tokens: Tensor, state: State, *, blocks_per_call: int = 1
) -> Iterator[tuple[Tensor, Tensor, State]]:
    """Read `tokens` [b, n], any n, after `state`. Yields for each call its tokens [b, k], their hidden rows [b, k, d]
    before the final norm, and the state after it. Raises CheckpointError for hidden rows that are not finite."""
    first = 0
    for n in call_lengths(tokens.shape[1], state.fill, network.fam.block_size, blocks_per_call):
        ids = tokens[:, first : first + n]
        hidden, state = network.read(ids, state)
        check_finite(hidden)
        yield ids, hidden, state
        first += n


@torch.inference_mode()
def read_any(
    network: Network, tokens: Tokens, state: State, *, blocks_per_call: int = 1
) -> tuple[Tensor | None, State]:
    """Read a run of any length ([n] for a batch of one, or [b, n]) after `state`.

    Returns the hidden row of its last token [b, 1, d] (`network.logits` predicts the next token from it; None for an
    empty run) and the state after it. Raises CheckpointError for hidden rows that are not finite.
    """
    last, after = None, state
    for _, hidden, after in read_calls(network, as_batch(tokens, network), state, blocks_per_call=blocks_per_call):  # noqa: B007
        # A view would keep the hidden rows of the whole call alive.
        last = hidden[:, -1:].clone()
    return last, after
