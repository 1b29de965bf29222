"""Weights in 8 or 4 bits: which of them, and how they are made and turned back.

int8, for every matrix and the embedding: a matrix [rows, columns] becomes int8 of the same shape and a float32 scale
[rows], its largest magnitude / 127. int4, for the matrices of the layers: nibbles, and a bfloat16 scale and zero for
each 32 columns of a row. There the embedding and the head stay in int8, as does a matrix whose columns are no multiple
of 32. The router of a mixture of experts is never quantized: it is small, and it decides. Norms, biases and the memory
prompt stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from famcli.errors import CheckpointError
from famcli.nn.shapes import EMBEDDING

# torch is imported where numbers are made: `famcli inspect` only asks how many bits a matrix would take.
if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from famcli.nn.kernels.quantized import QuantizedMatrix

QUANTIZATIONS = ("none", "int8", "int4")
GROUP_COLUMNS = 32
# -128 is left out, so that the range is symmetric about 0.
_INT8_LARGEST = 127
_INT4_LEVELS, _INT4_MIDDLE = 15, 8


def bits_of(parameter: str, shape: tuple[int, ...], quantize: str) -> int | None:
    """8 or 4 for a parameter that `quantize` keeps in so many bits, None for one that stays as it is."""
    if quantize == "none" or len(shape) != 2 or not parameter.endswith(".weight"):
        return None
    # A router: it is small, and an error in it sends tokens to other experts.
    if parameter.endswith(".mlp.gate.weight"):
        return None
    outer = parameter in (EMBEDDING, "lm_head.weight")
    return 4 if quantize == "int4" and not outer and shape[1] % GROUP_COLUMNS == 0 else 8


def quantized_matrix(matrix: Tensor, parameter: str, bits: int, dtype: torch.dtype) -> QuantizedMatrix:
    """`matrix` [o, i] in `bits` bits, on its device, to be used in `dtype`. Raises CheckpointError unless all numbers
    are finite."""
    from famcli.nn.kernels.quantized import Int4Matrix, Int8Matrix

    try:
        if bits == 4:
            return Int4Matrix(*to_int4(matrix), dtype)
        return Int8Matrix(*to_int8(matrix), dtype)
    except ValueError as error:
        raise CheckpointError(f"'{parameter}' cannot be quantized: {error}; fetch the weights again") from error


def to_int8(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """`matrix` [rows, columns] as int8 of the same shape, and the float32 scale [rows].

    Every number comes back within half a scale. Raises ValueError for numbers that are not finite.
    """
    import torch

    values = _finite(matrix)
    scale = values.abs().amax(1) / _INT8_LARGEST
    steps = values / torch.where(scale > 0, scale, 1.0)[:, None]
    return steps.round().clamp(-_INT8_LARGEST, _INT8_LARGEST).to(torch.int8), scale


def from_int8(values: Tensor, scale: Tensor) -> Tensor:
    """The float32 matrix [rows, columns] of int8 `values` and their `scale` [rows]."""
    return values.float() * scale[:, None]


def to_int4(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`matrix` [rows, columns] as nibbles uint8 [rows, columns / 2] (the even column below), and the scale and the zero
    [rows, columns / 32] in bfloat16: a number q from 0 to 15 stands for (q - 8) * scale + zero.

    The 16 levels reach from the smallest number of a group to the largest. Raises ValueError for numbers that are not
    finite, and for columns that are no multiple of 32.
    """
    import torch

    rows, columns = matrix.shape
    if columns % GROUP_COLUMNS:
        raise ValueError(f"{columns} columns are no multiple of {GROUP_COLUMNS}")
    values = _finite(matrix).view(rows, -1, GROUP_COLUMNS)
    low, high = values.amin(2), values.amax(2)
    scale = ((high - low) / _INT4_LEVELS).to(torch.bfloat16)
    zero = (low + _INT4_MIDDLE * scale.float()).to(torch.bfloat16)
    # From the rounded scale and zero, which are what the numbers will be turned back with.
    steps = (values - zero.float()[..., None]) / torch.where(scale > 0, scale.float(), 1.0)[..., None]
    numbers = (steps + _INT4_MIDDLE).round_().clamp_(0, _INT4_LEVELS).to(torch.uint8).view(rows, columns)
    return numbers[:, 0::2] | (numbers[:, 1::2] << 4), scale, zero


def from_int4(nibbles: Tensor, scale_zero: Tensor) -> Tensor:
    """The float32 matrix [rows, columns] of nibbles and their scales and zeros [rows, columns / 32, 2]."""
    from famcli.nn.kernels.quantized import unpack

    scale, zero = scale_zero.float().unbind(-1)
    numbers = unpack(nibbles).view(*scale.shape, GROUP_COLUMNS).float()
    return ((numbers - _INT4_MIDDLE) * scale[..., None] + zero[..., None]).flatten(1)


def _finite(matrix: Tensor) -> Tensor:
    values = matrix.detach().float()
    if not bool(values.isfinite().all()):
        raise ValueError("the weights are not finite numbers")
    return values
