"""Matrices in 8 or 4 bits that replace the weight of a Linear or an Embedding, for inference only.

For many rows the matrix is turned back to numbers of the compute type, for that one product. A few rows (decoding) go
through torch's own kernels on a CPU, which read the 8 or 4 bits and nothing else. For int8 these also round the input
to 8 bits, row by row, which costs less accuracy than the rounding of the weights (docs/decisions.md).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUP = 32
"""Columns that share a scale and a zero in 4 bits."""

# Up to here torch's kernels are faster than turning the matrix back.
FEW_ROWS = 8
_INT_MM = torch._C._has_mkldnn and hasattr(torch, "_int_mm")
_LINEAR_DYNAMIC: Any = getattr(getattr(torch.ops.quantized, "linear_dynamic", None), "default", None)
# The operator itself, without torch's checks of each argument in Python.
_LINEAR_DYNAMIC = getattr(_LINEAR_DYNAMIC, "_op", _LINEAR_DYNAMIC)
_FBGEMM = (
    "fbgemm" in torch.backends.quantized.supported_engines
    and hasattr(torch, "_make_per_channel_quantized_tensor")
    and _LINEAR_DYNAMIC is not None
)
# Without VNNI the sums of two products overflow unless one factor has 7 bits.
_FULL_RANGE = hasattr(torch.cpu, "_is_vnni_supported") and torch.cpu._is_vnni_supported()
_INT4 = hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")
# Rows that lie together in torch's layout of 4 bits; which it is depends on the processor.
_BLOCKS = (64, 32)


class QuantizedMatrix(nn.Module, ABC):
    """A matrix [o, i] on `device`, whose numbers are used in `dtype`.

    num_bytes: what it takes in memory. has_kernel: whether there is a kernel that multiplies a few rows by it.
    """

    has_kernel = False

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device, num_bytes: int) -> None:
        super().__init__()
        self.shape, self.dtype, self.device, self.num_bytes = torch.Size(shape), dtype, device, num_bytes

    @abstractmethod
    def unscaled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Numbers [o, i] and a factor for each row [o] (None is 1), which make the matrix together."""

    def whole(self, dtype: torch.dtype) -> Tensor:
        """All its numbers [o, i]."""
        matrix, scale = self.unscaled(dtype)
        return matrix if scale is None else matrix.mul_(scale[:, None].to(dtype))

    def rows(self, indices: Tensor) -> Tensor:
        """Its rows [..., i] at `indices` [...]."""
        return self.whole(self.dtype)[indices]

    def of_few(self, x: Tensor) -> Tensor | None:
        """`x` [..., i] times the matrix transposed, [..., o]; None where `unscaled` is the faster way."""
        if not self.has_kernel or x.numel() > FEW_ROWS * self.shape[1] or torch.is_grad_enabled():
            return None
        return self._few(x).to(x.dtype)

    def _few(self, x: Tensor) -> Tensor:
        """[..., i] to [..., o], in any type, by the kernel."""
        raise NotImplementedError


class MatrixPart(QuantizedMatrix):
    """Rows `start` to `stop` of a joined matrix."""

    def __init__(self, joint: QuantizedMatrix, start: int, stop: int) -> None:
        num_rows, num_columns = joint.shape
        num_bytes = joint.num_bytes * (stop - start) // num_rows
        super().__init__((stop - start, num_columns), joint.dtype, joint.device, num_bytes)
        self._joint, self._rows = joint, slice(start, stop)

    def unscaled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        matrix, scale = self._joint.unscaled(dtype)
        return matrix[self._rows], None if scale is None else scale[self._rows]


class Int8Matrix(QuantizedMatrix):
    """`values` int8 [o, i], each row with a float32 `scale` [o].

    looked_up: it is an embedding, so rows are asked for and the layout stays.
    """

    # The values lie as in a file while many rows are multiplied, and in FBGEMM's layout while single rows are
    # (decoding). A change of layout takes as long as writing a few dozen tokens.

    scale: Tensor

    def __init__(self, values: Tensor, scale: Tensor, dtype: torch.dtype, *, looked_up: bool = False) -> None:
        shape = (values.shape[0], values.shape[1])
        super().__init__(shape, dtype, values.device, values.nbytes + scale.nbytes)
        self.register_buffer("scale", scale)
        self._values: Tensor | None = values
        self._packed: Any = None
        self.has_kernel = self.device.type == "cpu" and _INT_MM
        self._packs = self.device.type == "cpu" and _FBGEMM and not looked_up

    @classmethod
    def joined(cls, matrices: Sequence[Self]) -> Self:
        """One matrix of the rows of several, one after the other."""
        values, scales = [each.values for each in matrices], [each.scale for each in matrices]
        return cls(torch.cat(values), torch.cat(scales), matrices[0].dtype)

    @property
    def values(self) -> Tensor:
        """int8 [o, i]."""
        if self._values is None:
            self._values = torch.ops.quantized.linear_unpack(self._packed)[0].int_repr()
            self._packed = None
        return self._values

    def unscaled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        if dtype == torch.float16:
            # Sums of unscaled numbers would leave its range.
            return self.values.to(dtype).mul_(self.scale[:, None].to(dtype)), None
        return self.values.to(dtype), self.scale

    def rows(self, indices: Tensor) -> Tensor:
        scale = functional.embedding(indices, self.scale.unsqueeze(1))
        return (functional.embedding(indices, self.values) * scale).to(self.dtype)

    def _few(self, x: Tensor) -> Tensor:
        if self._packs and x.numel() == self.shape[1]:
            return self._by_fbgemm(x.float())
        # Each row is rounded to 8 bits by its own largest number. Row by row: torch's product of int8 is fast for one
        # row, and slow for the sizes just above it.
        rows = x.reshape(-1, self.shape[1])
        largest = rows.abs().amax(1, keepdim=True).float().clamp_min(1e-30)
        digits = (rows * (127.0 / largest)).round_().to(torch.int8)
        columns = self.values.t()
        sums = [torch._int_mm(digits[k : k + 1], columns) for k in range(len(rows))]
        made = (sums[0] if len(sums) == 1 else torch.cat(sums)) * self.scale * (largest / 127.0)
        return made.view(*x.shape[:-1], self.shape[0])

    def _by_fbgemm(self, row: Tensor) -> Tensor:
        """[..., i], all sizes but the last 1, in float32: FBGEMM takes and gives no other."""
        if self._packed is None:
            zeros = torch.zeros(len(self.values), dtype=torch.long)
            # torch warns that this will be removed some day; `_FBGEMM` is false then, and we do without it.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                quantized = torch._make_per_channel_quantized_tensor(self.values, self.scale.double(), zeros, 0)
                self._packed, self._values = torch.ops.quantized.linear_prepack(quantized, None), None
        try:
            return _LINEAR_DYNAMIC(row, self._packed, not _FULL_RANGE)  # type: ignore[no-any-return]
        except RuntimeError:
            # FBGEMM found no smallest and largest number: there is a NaN among them.
            return torch.full((*row.shape[:-1], self.shape[0]), torch.nan)


class Int4Matrix(QuantizedMatrix):
    """`nibbles` uint8 [o, i / 2], the number of an even column in the lower four bits; a number q of the group g stands
    for (q - 8) * scale[o, g] + zero[o, g]. Both are [o, i / GROUP], in bfloat16."""

    packed: Tensor
    scale_zero: Tensor

    def __init__(self, nibbles: Tensor, scale: Tensor, zero: Tensor, dtype: torch.dtype) -> None:
        shape = (nibbles.shape[0], 2 * nibbles.shape[1])
        super().__init__(shape, dtype, nibbles.device, nibbles.nbytes + scale.nbytes + zero.nbytes)
        scale_zero = torch.stack((scale.t(), zero.t()), dim=-1).to(torch.bfloat16).contiguous()
        self.register_buffer("scale_zero", scale_zero)  # [i / GROUP, o, 2]
        self._block = _block_of(nibbles) if self.device.type == "cpu" and _INT4 else 0
        self.register_buffer("packed", _pack(nibbles) if self._block else nibbles)
        self.has_kernel = bool(self._block)

    @classmethod
    def joined(cls, matrices: Sequence[Self]) -> Self:
        scale, zero = torch.cat([each.scale_zero for each in matrices], dim=1).unbind(-1)
        numbers = torch.cat([each._numbers() for each in matrices])
        return cls(numbers[:, 0::2] | (numbers[:, 1::2] << 4), scale.t(), zero.t(), matrices[0].dtype)

    def unscaled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        numbers = self._numbers()
        scale, zero = self.scale_zero.to(dtype).unbind(-1)
        groups = numbers.view(len(numbers), -1, GROUP).to(dtype).sub_(8)
        return groups.mul_(scale.t()[..., None]).add_(zero.t()[..., None]).view(self.shape), None

    def _numbers(self) -> Tensor:
        return _unblocked(self.packed, self._block) if self._block else unpack(self.packed)

    def _few(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.shape[1]).bfloat16()
        made: Tensor = torch._weight_int4pack_mm_for_cpu(rows, self.packed, GROUP, self.scale_zero)
        return made.view(*x.shape[:-1], self.shape[0])


def unpack(nibbles: Tensor) -> Tensor:
    """The numbers 0 to 15 [o, i], as uint8, that `nibbles` [o, i / 2] hold."""
    return torch.stack((nibbles & 15, nibbles >> 4), dim=-1).flatten(1)


def _pack(nibbles: Tensor) -> Tensor:
    packed: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(unpack(nibbles).int(), 1)
    return packed


def _block_of(nibbles: Tensor) -> int:
    """How many rows lie together in torch's layout; 0 if the layout is unknown or does not take the shape."""
    # Found by trying: torch does not say, and it differs between processors.
    for block in _BLOCKS:
        if nibbles.shape[0] % block == 0:
            sample = nibbles[:block]
            if torch.equal(_unblocked(_pack(sample), block), unpack(sample)):
                return block
    return 0


def _unblocked(packed: Tensor, block: int) -> Tensor:
    """The numbers [o, i] in torch's layout: for each block and column, rows r and r + block / 2 share a byte."""
    num_rows, num_bytes = packed.shape
    shared = packed.view(num_rows // block, 2 * num_bytes, block // 2)
    return torch.cat((shared & 15, shared >> 4), dim=2).transpose(1, 2).reshape(num_rows, 2 * num_bytes)
