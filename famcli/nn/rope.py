"""Rotary positions (arXiv 2104.09864) whose angles are computed in float64.

Positions of a stream grow without bound: in float32 an angle at position 10^9 would be wrong by whole turns.
The rotation itself runs in the compute type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from famcli.nn.config import RopeConfig


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines [b or 1, 1, n, e/2] of the angles of n positions, ready to rotate [b, h, n, e]."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate queries or keys [b, h, n, e]: halves (first, second) are the planes, as in Llama."""
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * self.cos - second * self.sin, second * self.cos + first * self.sin), dim=-1)

    def __getitem__(self, rows: slice) -> Rotation:
        return Rotation(self.cos[:, :, rows], self.sin[:, :, rows])


def rotation(positions: Tensor, frequencies: Tensor, gain: float, dtype: torch.dtype) -> Rotation:
    """The rotation of `positions` [b or 1, n] (int64) by `frequencies` [e/2] (float64), times `gain`."""
    angles = positions[:, None, :, None].to(torch.float64) * frequencies
    return Rotation((angles.cos() * gain).to(dtype), (angles.sin() * gain).to(dtype))


def rope_frequencies(config: RopeConfig, head_dim: int, visible: int) -> tuple[Tensor, float]:
    """Frequencies [e/2] in float64, and the factor by which scaled rotations are multiplied.

    `visible` is the largest distance between a query and a key that can occur; scalings that depend on a length are
    fixed by it once, for a stream has no length. Raises ValueError for a scaling that is not known or lacks a number.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu") / head_dim
    frequencies = config.theta**-exponents
    scaling = config.scaling
    if scaling is None:
        return frequencies, 1.0
    kind = str(scaling.get("rope_type", scaling.get("type", "default")))
    if kind == "default":
        return frequencies, 1.0
    if kind == "linear":
        return frequencies / _number(scaling, "factor"), 1.0
    if kind == "dynamic":
        factor, trained = _number(scaling, "factor"), config.max_position
        stretch = max(1.0, factor * max(visible, trained) / trained - (factor - 1))
        base = config.theta * stretch ** (head_dim / (head_dim - 2))
        return base**-exponents, 1.0
    if kind == "llama3":
        return _llama3(frequencies, scaling), 1.0
    if kind == "yarn":
        return _yarn(frequencies, scaling, config, head_dim)
    raise ValueError(f"rope scaling '{kind}' is not known; known are default, linear, dynamic, llama3, yarn")


def _llama3(frequencies: Tensor, scaling: Mapping[str, object]) -> Tensor:
    factor, trained = _number(scaling, "factor"), _number(scaling, "original_max_position_embeddings")
    low, high = _number(scaling, "low_freq_factor"), _number(scaling, "high_freq_factor")
    turns = trained * frequencies / (2 * math.pi)
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (keep + (1 - keep) / factor)


def _yarn(
    frequencies: Tensor, scaling: Mapping[str, object], config: RopeConfig, head_dim: int
) -> tuple[Tensor, float]:
    """YaRN (arXiv 2309.00071): low frequencies are interpolated, high ones kept, attention is made sharper."""
    trained = _number(scaling, "original_max_position_embeddings", config.max_position)
    factor = _number(scaling, "factor", config.max_position / trained)

    def plane(turns: float) -> float:
        return head_dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(config.theta))

    low, high = plane(_number(scaling, "beta_fast", 32.0)), plane(_number(scaling, "beta_slow", 1.0))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    planes = torch.arange(len(frequencies), dtype=torch.float64, device="cpu")
    ramp = ((planes - low) / ((high - low) or 0.001)).clamp(0, 1)
    scaled = frequencies / factor * ramp + frequencies * (1 - ramp)

    def sharpen(mscale: float) -> float:
        return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0

    if scaling.get("attention_factor") is not None:
        return scaled, _number(scaling, "attention_factor")
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return scaled, sharpen(_number(scaling, "mscale")) / sharpen(_number(scaling, "mscale_all_dim"))
    return scaled, sharpen(1.0)


def _number(scaling: Mapping[str, object], key: str, default: float | None = None) -> float:
    value = scaling.get(key)
    if value is None:
        value = default
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"rope scaling needs a positive number for '{key}', found {value!r}")
    return float(value)
