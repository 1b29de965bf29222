"""Rotary positions (arXiv 2104.09864) of one call of `Decoder.read`, shared by its layers.

Positions of a stream grow without bound, so angles are computed in float64: in float32 an angle at position 10^9 would
be wrong by whole turns. The rotation itself runs in the compute type.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from famcli.nn.config import FamConfig
from famcli.nn.kernels import native
from famcli.nn.kernels.attention import KeysValues, attention_received
from famcli.nn.layers import Layer
from famcli.nn.rope import Frequencies
from famcli.nn.state import DecoderState

Rotation = Callable[[Tensor], Tensor]
"""Rotates queries or keys [b, h, n, e] to the positions it was made for."""


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries or keys [b, h, n, e]: halves (first, second) are the planes, as in Llama.

    With fewer angles than planes the leading dimensions are rotated and the others stay.
    """
    rotated = 2 * cos.shape[-1]
    if rotated == x.shape[-1] and native.takes_blocks(x, cos, sin):
        return native.rotate_blocks(x, cos, sin)
    if rotated < x.shape[-1]:
        return torch.cat((rotate_halves(x[..., :rotated], cos, sin), x[..., rotated:]), dim=-1)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def rotation(
    positions: Tensor,
    frequencies: Frequencies,
    gain: float,
    dtype: torch.dtype,
    device: torch.device | None = None,
    rotate: Callable[..., Tensor] = rotate_halves,
) -> Rotation:
    """The rotation to `positions` [b or 1, n] (int64) by `frequencies` [e/2], times `gain` (`inverse_frequencies`)."""
    cos, sin = cos_sin(positions, frequencies, gain, dtype, device)
    return partial(rotate, cos=cos, sin=sin)


def cos_sin(
    positions: Tensor, frequencies: Frequencies, gain: float, dtype: torch.dtype, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The numbers [b or 1, 1, n, e/2] that rotate to `positions` (see `rotation`)."""
    # Rows at the same positions, which is the usual case, share their angles.
    if len(positions) > 1 and bool((positions == positions[:1]).all()):
        positions = positions[:1]
    # On the CPU, because some devices have no float64, and moved once.
    angles = positions[:, None, :, None].to(torch.float64) * torch.from_numpy(frequencies)
    cos, sin = ((part * gain).to(dtype).to(device) for part in (angles.cos(), angles.sin()))
    return cos, sin


class Call:
    """What the layers need to know of one call of the network, beside its rows: the state before it, and rotations,
    each made once.

    Blocks are counted within the call, from t = 0.
    initial: [b] bool, True in batch rows whose memory gets its first update; None if there are none.
    received: how much of the memory's attention each token receives, [b, c] for each layer with a memory and each block
    in it; None unless the caller asked for it.
    wide: the tokens are computed in float32.
    scores: [l, w], of a memory that keeps tokens.
    """

    def __init__(
        self,
        rotation_at: Callable[[str | None, Tensor, bool], Rotation],
        fam: FamConfig,
        state: DecoderState,
        n: int,
        received: list[Tensor] | None,
        wide: bool = False,
        scores: Tensor | None = None,
    ) -> None:
        self._rotation_at, self._n, self.scores = rotation_at, n, scores
        self.fam, self.state, self.received, self.wide = fam, state, received, wide
        initial = state.memory_is_initial
        self.initial = initial.to(state.layers[0].memory.device) if bool(initial.any()) else None
        if fam.keeps_tokens and bool(initial.any()) and not bool(initial.all()):
            raise ValueError("texts that keep tokens already and texts that keep none yet cannot be read together")
        self._start = (state.position - state.fill)[:, None]
        self._made: dict[tuple[str | None, str, int], Rotation] = {}

    def rotate_tokens(self, layer: Layer) -> Rotation:
        return self._rotation(layer, "tokens", 0, self.state.fill, self._n)

    def angles(self, layer: Layer) -> tuple[Tensor, Tensor] | None:
        if layer.rope is None:
            return None
        rotate = self.rotate_tokens(layer)
        assert isinstance(rotate, partial)
        return rotate.keywords["cos"], rotate.keywords["sin"]

    def rotate_memory(self, layer: Layer, t: int) -> Rotation:
        """Memory rows as block t sees them: at the last f positions before the block; tokens that were kept, before its
        segments."""
        first = -self.fam.fam_length - (self._segments if self.fam.keeps_tokens else 0)
        return self._rotation(layer, "memory", t, first, self.fam.fam_length)

    def rotate_back(self, layer: Layer, t: int) -> Rotation:
        """From the positions of block t to none, in float32."""
        made = self._rotation(layer, "block", t, 0, self.fam.block_size)
        if layer.rope is None:
            return made
        assert isinstance(made, partial)
        # The inverse of the rotation as it was rounded, and of its gain.
        cos, sin = (made.keywords[name].float() for name in ("cos", "sin"))
        square = cos.square() + sin.square()
        return lambda x: rotate_halves(x.float(), cos / square, -sin / square)

    def rotate_sinks(self, layer: Layer, t: int) -> Rotation:
        """Sinks as block t sees them: directly before its oldest visible segment, or before what was kept."""
        first = -self._segments - self.fam.sink_tokens - (self.fam.fam_length if self.fam.keeps_tokens else 0)
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
