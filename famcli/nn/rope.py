"""Rotary positions (arXiv 2104.09864).

Positions of a stream grow without bound, so angles are computed in float64: in float32 an angle at position 10^9 would
be wrong by whole turns. The rotation itself runs in the compute type.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from famcli.nn.kernels import native
from famcli.nn.rope_scaling import Frequencies

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
