"""Runs of tokens of any length through a network, alone or side by side, in the calls that it allows.

A call either stays inside the open block or holds whole blocks; `read_calls` is the one loop that cuts a run so.
Everything here runs in inference mode (`read_calls` in its caller's), and so must what reads on from its states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
    while n:
        call = min(n, block_size - fill)
        if not fill and n >= block_size:
            call = min(n // block_size, blocks_per_call) * block_size
        yield call
        n, fill = n - call, 0


def as_batch(tokens: Tokens, network: Network) -> Tensor:
    """[1, n] (or [b, n] as it is) int64 on the network's device."""
    ids = tokens if isinstance(tokens, Tensor) else torch.as_tensor(np.asarray(tokens, dtype=np.int64))
    return (ids if ids.dim() == 2 else ids[None]).to(device=network.device, dtype=torch.int64)


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
    network: Network, tokens: Tensor, state: State, on_levels: Callable[[Sequence[Tensor]], None] | None = None
) -> Iterator[tuple[Tensor, Tensor, State]]:
    """Read `tokens` [b, n], any n, after `state`. Yields for each call its tokens [b, k], their hidden rows [b, k, d]
    before the final norm, and the state after it. Raises CheckpointError for hidden rows that are not finite."""
    first = 0
    fam = network.fam
    for n in call_lengths(tokens.shape[1], state.fill, fam.block_size, fam.blocks_per_call):
        ids = tokens[:, first : first + n]
        levels: list[Tensor] | None = None if on_levels is None else []
        hidden, state = network.read(ids, state, levels=levels)
        check_finite(hidden)
        if on_levels is not None and levels is not None:
            on_levels(levels)
        yield ids, hidden, state
        first += n


@torch.inference_mode()
def read_any(
    network: Network, tokens: Tokens, state: State, on_levels: Callable[[Sequence[Tensor]], None] | None = None
) -> tuple[Tensor | None, State]:
    """Read a run of any length ([n] for a batch of one, or [b, n]) after `state`.

    Returns the hidden row of its last token [b, 1, d] (`network.logits` predicts the next token from it; None for an
    empty run) and the state after it. on_levels: is called with the `levels` of each call (see `Network.read`). Raises
    CheckpointError for hidden rows that are not finite.
    """
    last, after = None, state
    for _, hidden, after in read_calls(network, as_batch(tokens, network), state, on_levels):  # noqa: B007
        # A view would keep the hidden rows of the whole call alive.
        last = hidden[:, -1:].clone()
    return last, after


@torch.inference_mode()
def write(network: Network, tokens: Tensor, state: State, levels: list[Tensor] | None = None) -> tuple[Tensor, State]:
    """Read a few tokens [b, n] of texts that are being written, all within the open block of `state`: their hidden rows
    [b, n, d] and the state. levels: as `Network.write` says. Raises CheckpointError for hidden rows that are not
    finite."""
    hidden, state = network.write(tokens.to(network.device), state, levels)
    check_finite(hidden)
    return hidden, state


@torch.inference_mode()
def float_logits(network: Network, hidden: Tensor) -> Tensor:
    """The logits [b, n, v] of hidden rows, on the CPU, so that a seed draws the same on every device."""
    return network.logits(hidden).float().cpu()


def pad_runs(network: Network, runs: Sequence[Tokens]) -> Tensor:
    """The runs as the rows of [b, n] int64 on the network's device.

    Shorter runs are padded at their end. Attention is causal, so their tokens do not see the padding; the state after
    it must not be kept.
    """
    padded = torch.zeros(len(runs), max(map(len, runs)), dtype=torch.int64, device=network.device)
    for row, run in enumerate(runs):
        padded[row, : len(run)] = as_batch(run, network)[0]
    return padded


def copies(state: State, count: int) -> State:
    """A state of batch one as `count` equal rows."""
    return state if count == 1 else State.stack([state] * count)


def read_side_by_side(
    network: Network,
    state: State,
    runs: Sequence[Tokens],
    wanted: Sequence[range],
    on_levels: Callable[[Sequence[Tensor]], None] | None = None,
) -> list[Tensor]:
    """Read one run after each row of `state`; returns the hidden rows [k, d] of the `wanted` positions of each run.

    on_levels: as of `read_any`, with the padding behind shorter runs. Other rows are freed call by call. Raises
    CheckpointError for hidden rows that are not finite.
    """
    found, first = list[list[Tensor]]([] for _ in runs), 0
    hidden = torch.empty(0)
    for ids, hidden, _ in read_calls(network, pad_runs(network, runs), state, on_levels):
        for row, positions in enumerate(wanted):
            begin, end = max(positions.start - first, 0), positions.stop - first
            if begin < min(end, ids.shape[1]):
                found[row].append(hidden[row, begin:end].clone())
        first += ids.shape[1]
    return [torch.cat(parts) if parts else hidden.new_empty(0, network.config.hidden_size) for parts in found]
