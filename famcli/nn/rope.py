"""Rotary positions (arXiv 2104.09864) whose angles are computed in float64.

Positions of a stream grow without bound: in float32 an angle at position 10^9 would be wrong by whole turns.
The rotation itself runs in the compute type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from famcli.nn.config import RopeConfig
from famcli.nn.frequencies import inverse_frequencies


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries or keys [b, h, n, e]: halves (first, second) are the planes, as in Llama.

    With fewer angles than planes the leading dimensions are rotated and the others stay.
    """
    rotated = 2 * cos.shape[-1]
    if rotated < x.shape[-1]:
        return torch.cat((rotate_halves(x[..., :rotated], cos, sin), x[..., rotated:]), dim=-1)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines [b or 1, 1, n, e/2] of the angles of n positions, ready to rotate [b, h, n, e]."""

    cos: Tensor
    sin: Tensor
    rotate: Callable[[Tensor, Tensor, Tensor], Tensor] = rotate_halves

    def __call__(self, x: Tensor) -> Tensor:
        return self.rotate(x, self.cos, self.sin)


def rotation(positions: Tensor, frequencies: Tensor, gain: float, dtype: torch.dtype) -> Rotation:
    """The rotation of `positions` [b or 1, n] (int64) by `frequencies` [e/2] (float64), times `gain`."""
    angles = positions[:, None, :, None].to(torch.float64) * frequencies
    return Rotation((angles.cos() * gain).to(dtype), (angles.sin() * gain).to(dtype))


def rope_frequencies(config: RopeConfig, head_dim: int, visible: int) -> tuple[Tensor, float]:
    """Frequencies [e/2] in float64 and the factor of scaled rotations, as tensors: see `inverse_frequencies`."""
    frequencies, gain = inverse_frequencies(config, head_dim, visible)
    return torch.from_numpy(frequencies), gain
