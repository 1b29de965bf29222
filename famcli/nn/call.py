"""What one call of `Decoder.read` shares between its layers: rotations, the caller's probe, rows on their way up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from famcli.nn.attention import attention_received
from famcli.nn.config import FamConfig
from famcli.nn.rope import Rotation
from famcli.nn.state import State

KeysValues = tuple[Tensor, Tensor]


@dataclass
class Probe:
    """What a caller wants to see of a read beside its result.

    memory_attention: [b, k] float32 after the read, for the k tokens of the blocks that closed in it: how much of the
    memory's attention each token received, a mean over layers, heads and memory rows. None if no block closed, or if
    the memory is not updated.
    """

    memory_attention: Tensor | None = None
    _received: list[Tensor] = field(default_factory=list)

    def observe(self, queries: Tensor, parts: list[KeysValues]) -> None:
        self._received.append(attention_received(queries, parts))

    def collect(self, num_layers: int) -> None:
        self.memory_attention = None
        if self._received:  # layer by layer, and within a layer block by block: [l * t, b, c]
            received = torch.stack(self._received)
            received = received.view(num_layers, -1, *received.shape[1:]).mean(0)
            self.memory_attention = received.transpose(0, 1).flatten(1)
        self._received = []


class Call:
    """One call's rotations, each made once when it is first needed, and its probe. Blocks are counted within the call.

    rising: memory rows [b, f, d] on their way up the layers beside block 0, for `prompt_with_first_block` alone.
    """

    def __init__(
        self, rotate: Callable[[Tensor], Rotation], fam: FamConfig, state: State, n: int, probe: Probe | None
    ) -> None:
        self._rotate, self._fam, self.probe = rotate, fam, probe
        self.rising: Tensor | None = None
        self._start = (state.position - state.fill)[:, None]
        self._rows = torch.arange(-state.layers[0].memory.shape[1], 0)
        self._made: dict[tuple[str, int], Rotation] = {}
        self.tokens = rotate(state.position[:, None] + torch.arange(n))

    def memory(self, t: int) -> Rotation:
        """Of the memory before block t: at the last f positions before the block."""
        return self._get("memory", t, self._rows)

    def sinks(self, t: int) -> Rotation:
        """Of the sinks as block t sees them: directly before its oldest visible segment."""
        window = self._fam.memory_segments * self._fam.block_size
        return self._get("sinks", t, torch.arange(-self._fam.sink_tokens, 0) - window)

    def _get(self, what: str, t: int, offsets: Tensor) -> Rotation:
        if (what, t) not in self._made:
            self._made[what, t] = self._rotate(self._start + t * self._fam.block_size + offsets)
        return self._made[what, t]
