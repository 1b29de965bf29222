"""Rotary positions (arXiv 2104.09864) whose angles are computed in float64.

Positions of a stream grow without bound: in float32 an angle at position 10^9 would be wrong by whole turns.
The rotation itself runs in the compute type.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from famcli.nn.config import RopeConfig
from famcli.nn.frequencies import inverse_frequencies


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines [b or 1, 1, n, e/2] of the angles of n positions, ready to rotate [b, h, n, e]."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate queries or keys [b, h, n, e]: halves (first, second) are the planes, as in Llama.

        With fewer angles than planes the leading dimensions are rotated and the others stay.
        """
        rotated = 2 * self.cos.shape[-1]
        if rotated < x.shape[-1]:
            return torch.cat((self(x[..., :rotated]), x[..., rotated:]), dim=-1)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * self.cos - second * self.sin, second * self.cos + first * self.sin), dim=-1)

    def __getitem__(self, rows: slice) -> Rotation:
        return Rotation(self.cos[:, :, rows], self.sin[:, :, rows])


def rotation(positions: Tensor, frequencies: Tensor, gain: float, dtype: torch.dtype) -> Rotation:
    """The rotation of `positions` [b or 1, n] (int64) by `frequencies` [e/2] (float64), times `gain`."""
    angles = positions[:, None, :, None].to(torch.float64) * frequencies
    return Rotation((angles.cos() * gain).to(dtype), (angles.sin() * gain).to(dtype))


def rope_frequencies(config: RopeConfig, head_dim: int, visible: int) -> tuple[Tensor, float]:
    """Frequencies [e/2] in float64 and the factor of scaled rotations, as tensors: see `inverse_frequencies`."""
    frequencies, gain = inverse_frequencies(config, head_dim, visible)
    return torch.from_numpy(frequencies), gain
