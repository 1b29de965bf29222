"""What one call of `Decoder.read` shares between its layers: rotations, the caller's recorder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from famcli.nn.config import FamConfig
from famcli.nn.kernels.attention import attention_received
from famcli.nn.layers import Layer
from famcli.nn.network import AttentionRecorder
from famcli.nn.state import DecoderState

KeysValues = tuple[Tensor, Tensor]
Turn = Callable[[Tensor], Tensor]


class Turns:
    """One call's rotations of one kind, each made once when it is first needed. Blocks are counted within the call."""

    def __init__(self, rotate: Callable[[Tensor], Turn], fam: FamConfig, state: DecoderState, n: int) -> None:
        self._rotate, self._fam = rotate, fam
        self._start = (state.position - state.fill)[:, None]
        self._made: dict[tuple[str, int], Turn] = {}
        self.tokens = rotate(state.position[:, None] + torch.arange(n))

    def memory(self, t: int) -> Turn:
        """Of the memory before block t: at the last f positions before the block."""
        return self._get("memory", t, torch.arange(-self._fam.fam_length, 0))

    def sinks(self, t: int) -> Turn:
        """Of the sinks as block t sees them: directly before its oldest visible segment."""
        window = self._fam.memory_segments * self._fam.block_size
        return self._get("sinks", t, torch.arange(-self._fam.sink_tokens, 0) - window)

    def _get(self, what: str, t: int, offsets: Tensor) -> Turn:
        if (what, t) not in self._made:
            self._made[what, t] = self._rotate(self._start + t * self._fam.block_size + offsets)
        return self._made[what, t]


class Call:
    """One call: how the text is read, the state before it, its recorder, and its rotations by the layer's kind.

    initial: [b] bool, the rows whose memory gets its first update; None if none does.
    """

    def __init__(
        self,
        rotate: Callable[[str | None, Tensor], Turn],
        fam: FamConfig,
        state: DecoderState,
        n: int,
        recorder: AttentionRecorder | None,
    ) -> None:
        self._rotate, self._n = rotate, n
        self.fam, self.state, self.recorder = fam, state, recorder
        initial = state.memory_is_initial
        self.initial = initial.to(state.layers[0].memory.device) if bool(initial.any()) else None
        self._turns: dict[str | None, Turns] = {}

    def record(self, layer: Layer, queries: Tensor, parts: list[KeysValues]) -> None:
        """Keep the attention that a layer's memory queries [b, h, f, e] give to a block, if the caller asked for it."""
        if self.recorder is not None:
            attention = layer.self_attn
            received = attention_received(queries, parts, scale=attention.scale, softcap=attention.softcap)
            self.recorder.by_layer.append(received)

    def turns(self, layer: Layer) -> Turns:
        """The rotations of the layer's queries and keys."""
        kind = layer.rope
        if kind not in self._turns:
            self._turns[kind] = Turns(lambda at: self._rotate(kind, at), self.fam, self.state, self._n)
        return self._turns[kind]


def unrotated(x: Tensor) -> Tensor:
    """The rotation of layers that have no positions."""
    return x
