"""Weights in 4 bits with a scale and a zero for each 32 columns of a row."""

from __future__ import annotations

import torch
from torch import Tensor

from famcli.nn.kernels.quantized import GROUP, unpack

_LEVELS = 15
_MIDDLE = 8


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`matrix` [rows, columns] as nibbles uint8 [rows, columns / 2] (the even column below), and the scale and the zero
    [rows, columns / 32] in bfloat16: a number q from 0 to 15 stands for (q - 8) * scale + zero.

    The 16 levels reach from the smallest number of a group to the largest. Raises ValueError for numbers that are not
    finite, and for columns that are no multiple of 32.
    """
    rows, columns = matrix.shape
    if columns % GROUP:
        raise ValueError(f"{columns} columns are no multiple of {GROUP}")
    values = matrix.detach().float().view(rows, -1, GROUP)
    if not bool(values.isfinite().all()):
        raise ValueError("the weights are not finite numbers")
    low, high = values.amin(2), values.amax(2)
    scale = ((high - low) / _LEVELS).to(torch.bfloat16)
    zero = (low + _MIDDLE * scale.float()).to(torch.bfloat16)
    steps = (values - zero.float()[..., None]) / torch.where(scale > 0, scale.float(), 1.0)[..., None]
    numbers = (steps + _MIDDLE).round_().clamp_(0, _LEVELS).to(torch.uint8).view(rows, columns)
    return numbers[:, 0::2] | (numbers[:, 1::2] << 4), scale, zero


def dequantize(nibbles: Tensor, scale_zero: Tensor) -> Tensor:
    """The float32 matrix [rows, columns] that nibbles and their scales and zeros [rows, columns / 32, 2] stand for."""
    scale, zero = scale_zero.float().unbind(-1)
    groups = (unpack(nibbles).view(*scale.shape, GROUP).float() - _MIDDLE) * scale[..., None] + zero[..., None]
    return groups.flatten(1)
