"""What the layers of a decoder need to know of one call of `Decoder.read`, beside its rows; and the contract of the
memory that they carry through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from famcli.nn.config import FamConfig
from famcli.nn.kernels.attention import KeysValues, attention_received
from famcli.nn.layers import Layer
from famcli.nn.rope import Rotation, rotate_halves
from famcli.nn.state import DecoderState


class Memory(ABC):
    """How a layer's memory [b, rows, w] takes in blocks, and what tokens see of it. It holds nothing itself.

    One subclass for each `memory_update`, named in decoder.py; shapes.py has the shapes.
    """

    # The decoder's parameter with an entry for each layer that the memory needs (`Call.own`).
    parameter: ClassVar[str | None] = None
    # Before the first block it is what the memory prompt becomes, not zeros.
    begins_with_prompt: ClassVar[bool] = False
    # Its rows are made anew from the memory prompt at each block (`Call.initial_rows`).
    returns_to_prompt: ClassVar[bool] = False
    # One whole block may be read with the rows in the same products (`read_block_and_memory`).
    joins_tokens: ClassVar[bool] = False
    # What a layer reads depends on it (`changed_input`), so that blocks of one call are read in turn.
    changes_input: ClassVar[bool] = False
    # Its rows lie before the segments, not between them and the block.
    is_before_segments: ClassVar[bool] = False

    def changed_input(self, layer: Layer, x: Tensor, memory: Tensor, call: Call) -> Tensor:
        """What the layer reads [b, n, d] in the place of its input x."""
        return x

    @abstractmethod
    def seen(self, layer: Layer, memory: Tensor, call: Call, t: int) -> KeysValues | None:
        """Keys (rotated) and values [b, hk, rows, e] that tokens of block t of the call see; None if they see none."""

    @abstractmethod
    def take_in(
        self, layer: Layer, memory: Tensor, pieces: Sequence[KeysValues], num_blocks: int, call: Call
    ) -> tuple[Tensor, list[KeysValues]]:
        """The memory after the last `num_blocks` of `pieces`, and what each of them sees of it (nothing: an empty
        list). pieces: keys (rotated) and values of the segments and of the call's blocks, block by block; of a layer
        with a window the first may be less than a block."""


class Call:
    """The state before the call, its rotations, each made once, and the attention of its memory.

    Blocks are counted within the call, from t = 0.
    initial: [b] bool, True in batch rows whose memory gets its first update; None if there are none.
    received: how much of the memory's attention each token receives, [b, c] for each layer with a memory and each block
    in it; None unless the caller asked for it.
    wide: the tokens are computed in float32.
    own: the parameter that the memory names, with an entry for each layer.
    initial_rows: F_0 [1, f, d] of each layer, for a memory that returns to it.
    """

    def __init__(
        self,
        rotation_at: Callable[[str | None, Tensor, bool], Rotation],
        fam: FamConfig,
        memory: Memory,
        state: DecoderState,
        n: int,
        received: list[Tensor] | None,
        wide: bool = False,
        own: Tensor | None = None,
        initial_rows: Sequence[Tensor] = (),
    ) -> None:
        self._rotation_at, self._n, self._own, self.initial_rows = rotation_at, n, own, initial_rows
        self.fam, self.memory, self.state, self.received, self.wide = fam, memory, state, received, wide
        initial = state.memory_is_initial
        self.initial = initial.to(state.layers[0].memory.device) if bool(initial.any()) else None
        self._start = (state.position - state.fill)[:, None]
        self._made: dict[tuple[str | None, str, int], Rotation] = {}
        self._blocks: dict[int, Call] = {}

    def of_block(self, t: int) -> Call:
        """The call as it would be of block t alone, after those before it."""
        if t not in self._blocks:
            size, closed = self.fam.block_size, min(self.state.num_closed + t, self.fam.memory_segments + 1)
            state = replace(self.state, position=self.state.position + t * size, num_closed=closed)
            more = (self.received, False, self._own, self.initial_rows)
            self._blocks[t] = Call(self._rotation_at, self.fam, self.memory, state, size, *more)
        return self._blocks[t]

    def own(self, layer: Layer) -> Tensor:
        """The layer's entry in the memory's parameter."""
        assert self._own is not None
        return self._own[layer.index]

    def rotate_tokens(self, layer: Layer) -> Rotation:
        return self._rotation(layer, "tokens", 0, self.state.fill, self._n)

    def angles(self, layer: Layer) -> tuple[Tensor, Tensor] | None:
        if layer.rope is None:
            return None
        rotate = self.rotate_tokens(layer)
        assert isinstance(rotate, partial)
        return rotate.keywords["cos"], rotate.keywords["sin"]

    def rotate_memory(self, layer: Layer, t: int) -> Rotation:
        """Memory rows as block t sees them: at the last f positions before the block, or before its segments."""
        first = -self.fam.fam_length - (self._segments if self.memory.is_before_segments else 0)
        return self._rotation(layer, "memory", t, first, self.fam.fam_length)

    def rotate_back(self, layer: Layer, t: int) -> Rotation:
        """Undo the rotation of the tokens of block t, in float32."""
        made = self._rotation(layer, "block", t, 0, self.fam.block_size)
        if layer.rope is None:
            return made
        assert isinstance(made, partial)
        # The inverse of the rotation as it was rounded, and of its gain.
        cos, sin = (made.keywords[name].float() for name in ("cos", "sin"))
        square = cos.square() + sin.square()
        return lambda x: rotate_halves(x.float(), cos / square, -sin / square)

    def rotate_sinks(self, layer: Layer, t: int) -> Rotation:
        """Sinks as block t sees them: directly before its oldest visible segment, or a memory before that."""
        rows = self.fam.fam_length if self.memory.is_before_segments else 0
        first = -self._segments - self.fam.sink_tokens - rows
        return self._rotation(layer, "sinks", t, first, self.fam.sink_tokens)

    @property
    def _segments(self) -> int:
        """Tokens of the segments that a block sees."""
        return self.fam.memory_segments * self.fam.block_size

    def _rotation(self, layer: Layer, what: str, t: int, first: int, count: int) -> Rotation:
        """To `count` positions, the first of them `first` after the beginning of block t."""
        key = (layer.rope, what, t)
        # Layers of one kind share their rotations.
        if key not in self._made:
            offsets = t * self.fam.block_size + torch.arange(first, first + count)
            self._made[key] = self._rotation_at(layer.rope, self._start + offsets, self.wide and what == "tokens")
        return self._made[key]

    def record(self, layer: Layer, queries: Tensor, parts: list[KeysValues]) -> None:
        """Keep the attention that a layer's memory queries [b, h, f, e] give to a block, the last of `parts`."""
        if self.received is not None:
            self.received.append(attention_received(queries, parts, **layer.self_attn.scoring))

    def mean_received(self, num_blocks: int) -> Tensor:
        """[b, k] float32: the mean over layers, heads and memory rows, for the k tokens of the blocks that closed."""
        assert self.received
        stacked = torch.stack(self.received)
        return stacked.view(-1, num_blocks, *stacked.shape[1:]).mean(0).transpose(0, 1).flatten(1)
