"""Matrices of GGUF files in the bits that the file itself has, for products of a few rows (nn/kernels/few_bits.py).

The formulas are those of the `gguf` package's `dequantize`, with the numbers, the scales and the smallest numbers of
groups apart. Types that are not here go by their dequantized values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from famcli.nn.kernels.few_bits import Grouped

# Of uint8, and of float32.
Bytes = npt.NDArray[Any]
Floats = npt.NDArray[Any]
# Blocks [o, b, bytes] to numbers [o, b, k], and scales and smallest numbers [o, b, groups] (see few_bits.Grouped).
_Parts = tuple[Bytes, Floats, Floats | None]


def _half(blocks: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(blocks[..., at : at + 2]).view(np.float16).astype(np.float32)


def _fields(packed: Bytes, width: int, bits: int) -> Bytes:
    """Each `width` bytes of [o, b, k] as their lowest `bits`, then the next ones: [o, b, k * 8 / bits]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    parts = packed.reshape(*packed.shape[:-1], -1, 1, width) >> shifts & ((1 << bits) - 1)
    return parts.reshape(*packed.shape[:-1], -1)


def _fifth_bits(blocks: Bytes, at: int) -> Bytes:
    return np.unpackbits(blocks[..., at : at + 4], axis=-1, bitorder="little") << 4


def _q4_0(blocks: Bytes) -> _Parts:
    scale = _half(blocks, 0)
    return _fields(blocks[..., 2:], 16, 4), scale, -8 * scale


def _q4_1(blocks: Bytes) -> _Parts:
    return _fields(blocks[..., 4:], 16, 4), _half(blocks, 0), _half(blocks, 2)


def _q5_0(blocks: Bytes) -> _Parts:
    # In 8 bits 128 stands for 0, here 16 does.
    return (_fields(blocks[..., 6:], 16, 4) | _fifth_bits(blocks, 2)) + 112, _half(blocks, 0), None


def _q5_1(blocks: Bytes) -> _Parts:
    return _fields(blocks[..., 8:], 16, 4) | _fifth_bits(blocks, 4), _half(blocks, 0), _half(blocks, 2)


def _q8_0(blocks: Bytes) -> _Parts:
    return blocks[..., 2:] ^ 0x80, _half(blocks, 0), None


def _scales_of_k(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales and smallest numbers of the eight groups of Q4_K and Q5_K, which have 6 bits each."""
    scales, smallest, high = np.split(blocks[..., 4:16], 3, axis=-1)
    own = np.concatenate((scales & 0x3F, high & 0x0F | scales >> 2 & 0x30), axis=-1)
    least = np.concatenate((smallest & 0x3F, high >> 4 | smallest >> 2 & 0x30), axis=-1)
    return _half(blocks, 0) * own, -(_half(blocks, 2) * least)


def _q4_k(blocks: Bytes) -> _Parts:
    return _fields(blocks[..., 16:], 32, 4), *_scales_of_k(blocks)


def _q5_k(blocks: Bytes) -> _Parts:
    return _fields(blocks[..., 48:], 32, 4) | _fields(blocks[..., 16:48], 32, 1) << 4, *_scales_of_k(blocks)


def _q6_k(blocks: Bytes) -> _Parts:
    numbers = _fields(blocks[..., :128], 64, 4) | _fields(blocks[..., 128:192], 32, 2) << 4
    scale = _half(blocks, 208) * np.ascontiguousarray(blocks[..., 192:208]).view(np.int8)
    return numbers + 96, scale, None


# By the type's name: the bits of the form that holds it, and how it is taken apart.
_FORMS: Mapping[str, tuple[int, Callable[[Bytes], _Parts]]] = {
    "Q4_0": (4, _q4_0),
    "Q4_1": (4, _q4_1),
    "Q4_K": (4, _q4_k),
    "Q5_0": (8, _q5_0),
    "Q5_1": (8, _q5_1),
    "Q5_K": (8, _q5_k),
    "Q6_K": (8, _q6_k),
    "Q8_0": (8, _q8_0),
}


def is_grouped(kind: str) -> bool:
    """True for a type of GGUF's that `grouped` takes."""
    return kind in _FORMS


def grouped(rows: Bytes, kind: str, block_bytes: int) -> Grouped:
    """A matrix from its rows [o, bytes] in a file."""
    import torch

    from famcli.nn.kernels.few_bits import Grouped

    bits, parts = _FORMS[kind]
    numbers, scale, smallest = parts(rows.reshape(len(rows), -1, block_bytes))
    least = None if smallest is None else torch.from_numpy(smallest.reshape(len(rows), -1))
    scales = torch.from_numpy(scale.reshape(len(rows), -1))
    return Grouped(torch.from_numpy(numbers.reshape(len(rows), -1)), scales, least, bits)
