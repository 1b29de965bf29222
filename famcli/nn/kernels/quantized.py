"""Matrices in 8 or 4 bits that replace the weight of a Linear or an Embedding, for inference only.

For many rows the matrix is turned back to numbers of the compute type, for that one product. A few rows (decoding) are
multiplied by the bits themselves, where there is a compiler (few_bits.py); elsewhere they cost as much as many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from famcli.nn.kernels import native
from famcli.nn.kernels.compiled import library
from famcli.nn.kernels.few_bits import FewBits, Grouped

GROUP = 32
"""Columns that share a scale and a zero in 4 bits."""


class QuantizedMatrix(nn.Module, ABC):
    """A matrix [o, i] on `device`, whose numbers are used in `dtype`.

    num_bytes: what it takes in memory. few: the matrix as the compiled kernels take it; None where they do not.
    """

    # In one of the two forms, never in both.

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device, num_bytes: int) -> None:
        super().__init__()
        self.shape, self.dtype, self.device, self.num_bytes = torch.Size(shape), dtype, device, num_bytes
        self.few: FewBits | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def _pack(self, matrix: Grouped) -> bool:
        """Whether the kernels take the matrix, which is then kept as they do."""
        if self.device.type == "cpu" and self.shape[1] % native.STEP == 0 and library() is not None:
            self.few = FewBits(matrix)
        return self.few is not None

    @abstractmethod
    def _turned_back(self, indices: Tensor | None) -> Tensor:
        """Its rows at `indices` (None: all), in any type, of a matrix that the kernels do not take."""

    def whole(self, dtype: torch.dtype) -> Tensor:
        """All its numbers [o, i]."""
        made = self._turned_back(None) if self.few is None else self.few.rows(torch.arange(self.shape[0]))
        return made.to(dtype)

    def rows(self, indices: Tensor) -> Tensor:
        """Its rows [..., i] at `indices` [...]."""
        made = self._turned_back(indices) if self.few is None else self.few.rows(indices)
        return made.to(self.dtype)

    def of_few(self, x: Tensor) -> Tensor | None:
        """`x` [..., i] times the matrix transposed, [..., o]; None where it is to be turned back for that."""
        if self.few is None or x.numel() > native.MOST_ROWS * self.shape[1] or torch.is_grad_enabled():
            return None
        return native.multiply(x.float(), [self]).to(x.dtype)


class Int8Matrix(QuantizedMatrix):
    """`values` int8 [o, i], each row with a float32 `scale` [o]."""

    values: Tensor
    scale: Tensor

    def __init__(self, values: Tensor, scale: Tensor, dtype: torch.dtype) -> None:
        shape = (values.shape[0], values.shape[1])
        super().__init__(shape, dtype, values.device, values.nbytes + scale.nbytes)
        if not self._pack(Grouped(values.view(torch.uint8) ^ 0x80, scale[:, None], None, 8)):
            self.register_buffer("values", values)
            self.register_buffer("scale", scale)

    def _turned_back(self, indices: Tensor | None) -> Tensor:
        if indices is None:
            return self.values * self.scale[:, None]
        return functional.embedding(indices, self.values) * functional.embedding(indices, self.scale[:, None])


class Int4Matrix(QuantizedMatrix):
    """`nibbles` uint8 [o, i / 2], the number of an even column in the lower four bits; a number q of the group g stands
    for (q - 8) * scale[o, g] + zero[o, g]. Both are [o, i / GROUP], in bfloat16."""

    nibbles: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(self, nibbles: Tensor, scale: Tensor, zero: Tensor, dtype: torch.dtype) -> None:
        shape = (nibbles.shape[0], 2 * nibbles.shape[1])
        super().__init__(shape, dtype, nibbles.device, nibbles.nbytes + scale.nbytes + zero.nbytes)
        if not self._pack(Grouped(unpack(nibbles), scale, None, 4, zero)):
            self.register_buffer("nibbles", nibbles)
            self.register_buffer("scale", scale)
            self.register_buffer("zero", zero)

    def _turned_back(self, indices: Tensor | None) -> Tensor:
        parts = (self.nibbles, self.scale, self.zero)
        nibbles, scale, zero = parts if indices is None else (each[indices] for each in parts)
        groups = unpack(nibbles).view(*scale.shape, GROUP).float() - 8
        made: Tensor = (groups * scale[..., None] + zero[..., None]).flatten(-2)
        return made


def unpack(nibbles: Tensor) -> Tensor:
    """The numbers 0 to 15 [..., i], as uint8, that `nibbles` [..., i / 2] hold."""
    return torch.stack((nibbles & 15, nibbles >> 4), dim=-1).flatten(-2)
