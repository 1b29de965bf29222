"""The numbers of a GGUF file: the ways they are stored in, and how the `gguf` package turns them back."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from famcli.checkpoint.jsonfile import shown
from famcli.errors import CheckpointError
from famcli.tokens.gguf_file import GgufFile, GgufTensor

Values = npt.NDArray[np.float32]

# ggml's number of each way of storing that is read, its name here, and bytes of a group of so many numbers.
GGUF_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("float32", 4, 1),
    1: ("float16", 2, 1),
    30: ("bfloat16", 2, 1),
    2: ("Q4_0", 18, 32),
    3: ("Q4_1", 20, 32),
    6: ("Q5_0", 22, 32),
    7: ("Q5_1", 24, 32),
    8: ("Q8_0", 34, 32),
    10: ("Q2_K", 84, 256),
    11: ("Q3_K", 110, 256),
    12: ("Q4_K", 144, 256),
    13: ("Q5_K", 176, 256),
    14: ("Q6_K", 210, 256),
    16: ("IQ2_XXS", 66, 256),
    17: ("IQ2_XS", 74, 256),
    18: ("IQ3_XXS", 98, 256),
    19: ("IQ1_S", 50, 256),
    20: ("IQ4_NL", 18, 32),
    21: ("IQ3_S", 110, 256),
    22: ("IQ2_S", 82, 256),
    23: ("IQ4_XS", 136, 256),
    29: ("IQ1_M", 56, 256),
    34: ("TQ1_0", 54, 256),
    35: ("TQ2_0", 66, 256),
}


def tensor_bytes(tensor: GgufTensor, path: Path) -> tuple[str, int]:
    """How a tensor is stored, and its bytes. Raises CheckpointError for a way that is not read."""
    if tensor.type not in GGUF_TYPES:
        known = ", ".join(name for name, _, _ in GGUF_TYPES.values())
        raise CheckpointError(
            f"{path}: '{shown(tensor.name)}' is stored as ggml's type {tensor.type}; known are {known}"
        )
    name, group_bytes, group = GGUF_TYPES[tensor.type]
    if not tensor.shape or tensor.shape[-1] % group:
        raise CheckpointError(f"{path}: '{shown(tensor.name)}' cannot be stored as {name} with its shape")
    return name, prod(tensor.shape) // group * group_bytes


def values_of(file: GgufFile, tensor: GgufTensor, part: slice | None = None) -> Values:
    """The numbers of a tensor, in its shape, or of the rows `part` of a matrix. Raises CheckpointError."""
    try:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError as error:
        raise CheckpointError(f"{file.path} needs the `gguf` package: install famcli[hf]") from error
    _, size = tensor_bytes(tensor, file.path)
    if tensor.start + size > file.path.stat().st_size:
        raise CheckpointError(f"{file.path} is cut short: '{shown(tensor.name)}' lies beyond its end; fetch it again")
    raw = np.memmap(file.path, mode="r", dtype=np.uint8, offset=tensor.start, shape=(size,))
    rows = raw.reshape(-1, size // prod(tensor.shape[:-1]))
    rows = rows if part is None else rows[part]
    values = np.array(dequantize(rows, GGMLQuantizationType(tensor.type)), dtype=np.float32)
    return values.reshape(tensor.shape if part is None else (len(rows), *tensor.shape[1:]))
