"""Weights in int8 with a scale for each output channel: how a checkpoint is made half as large, for the disk only.

A matrix [rows, columns] is kept as int8 `NAME` and float32 `NAME_scale` [rows], and is turned back to numbers of the
compute type when it is loaded: nothing computes in int8. Norms, biases and the memory prompt stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from famcli.checkpoint.weights import SCALE_SUFFIX

_LARGEST = 127  # -128 is left out, so that the range is symmetric about 0


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """`matrix` [rows, columns] as int8 of the same shape, and the float32 scale [rows]: largest magnitude / 127.

    Every number comes back within half a scale. Raises ValueError for numbers that are not finite.
    """
    values = matrix.detach().float()
    if not bool(values.isfinite().all()):
        raise ValueError("the weights are not finite numbers")
    scale = values.abs().amax(1) / _LARGEST
    steps = values / torch.where(scale > 0, scale, 1.0)[:, None]
    return steps.round().clamp(-_LARGEST, _LARGEST).to(torch.int8), scale


def dequantize(values: Tensor, scale: Tensor) -> Tensor:
    """The float32 matrix [rows, columns] that int8 `values` and their `scale` [rows] stand for."""
    return values.float() * scale[:, None]


def quantized(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` with every matrix replaced by its int8 values and, under `NAME_scale`, their scale."""
    result = {}
    for name, tensor in weights.items():
        if tensor.dim() == 2:
            result[name], result[name + SCALE_SUFFIX] = quantize(tensor)
        else:
            result[name] = tensor
    return result
