"""Weights in fewer bits: which of them, how, and what memory each choice needs.

int8 keeps a scale for each row (int8.py), for every matrix and the embedding. int4 keeps a scale and a zero for each 32
columns of a row, for the matrices of the layers; the embedding and the head stay in int8, as does a matrix whose
columns are no multiple of 32. The router of a mixture of experts is never quantized: it is small, and it decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

from famcli.errors import CheckpointError, UsageError
from famcli.nn.config import DecoderConfig, FamConfig
from famcli.nn.shapes import parameter_shapes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from famcli.nn.kernels.quantized import QuantizedMatrix

QUANTIZATIONS = ("none", "int8", "int4")
GROUP_COLUMNS = 32
_ITEM_BYTES = {"float32": 4, "bfloat16": 2}
EMBEDDING = "model.embed_tokens.weight"
_OUTER = (EMBEDDING, "lm_head.weight")


def check_quantization(name: str) -> None:
    """Raise UsageError for what is no quantization."""
    if name not in QUANTIZATIONS:
        raise UsageError(f"quantization '{name}' is not known; choose one of {', '.join(QUANTIZATIONS)}")


def bits_of(parameter: str, shape: tuple[int, ...], quantize: str) -> int | None:
    """8 or 4 for a parameter that `quantize` keeps in so many bits, None for one that stays as it is."""
    if quantize == "none" or len(shape) != 2 or not parameter.endswith(".weight"):
        return None
    if parameter.endswith(".mlp.gate.weight"):
        return None
    return 4 if quantize == "int4" and parameter not in _OUTER and shape[1] % GROUP_COLUMNS == 0 else 8


def quantized_matrix(matrix: Tensor, parameter: str, bits: int, dtype: torch.dtype) -> QuantizedMatrix:
    """`matrix` [o, i] in `bits` bits, on its device, to be used in `dtype`. Raises CheckpointError unless all numbers
    are finite."""
    from famcli.checkpoint.int4 import quantize as to_int4
    from famcli.checkpoint.int8 import quantize as to_int8
    from famcli.nn.kernels.quantized import Int4Matrix, Int8Matrix

    try:
        if bits == 4:
            return Int4Matrix(*to_int4(matrix), dtype)
        return Int8Matrix(*to_int8(matrix), dtype, looked_up=parameter == EMBEDDING)
    except ValueError as error:
        raise CheckpointError(f"'{parameter}' cannot be quantized: {error}; fetch the weights again") from error


def memory_bytes(config: DecoderConfig, fam: FamConfig) -> Mapping[str, int]:
    """Bytes of all weights in memory: in float32, in bfloat16, and quantized with the rest in bfloat16."""
    shapes = parameter_shapes(config, fam)
    needed = {name: sum(prod(shape) * size for shape in shapes.values()) for name, size in _ITEM_BYTES.items()}
    for quantize in QUANTIZATIONS[1:]:
        needed[quantize] = sum(_bytes(name, shape, quantize) for name, shape in shapes.items())
    return needed


def _bytes(parameter: str, shape: tuple[int, ...], quantize: str) -> int:
    bits = bits_of(parameter, shape, quantize)
    if bits is None:
        return prod(shape) * _ITEM_BYTES["bfloat16"]
    extra = 4 * shape[0] if bits == 8 else 4 * prod(shape) // GROUP_COLUMNS
    return prod(shape) * bits // 8 + extra
