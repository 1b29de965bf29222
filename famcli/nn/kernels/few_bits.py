"""Matrices in 8 or 4 bits for products of a few rows, beside the weights that reading uses.

What a token costs is moving the weights: a quantized file's own numbers are a third of bfloat16, and exact. products.c
multiplies by them in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from famcli.nn.kernels import measured
from famcli.nn.kernels.compiled import library, longs, pointers

ROWS = 32
"""Rows of a matrix that lie together."""
# A matrix that no cache holds, by which the two ways are timed.
_TIMED = (16_384, 1024)


class Grouped(NamedTuple):
    """A matrix [o, i] of uint8 `numbers`, 0 to 2^bits - 1, whose columns share a float32 scale [o, i / g] group by
    group: each stands for number * scale + smallest, or without `smallest` for (number - 128) * scale, or with `zero`
    for (number - 8) * scale + zero, where both are numbers of bfloat16.

    bits: 8, or 4 with groups of 32 and smallest ones or zeros. g is 32 or 16; without either it may be i.
    """

    numbers: Tensor
    scale: Tensor
    smallest: Tensor | None
    bits: int
    zero: Tensor | None = None

    def changed(self, change: Callable[[Tensor], Tensor]) -> Grouped:
        """With other rows: what `change` makes of numbers, scales and smallest numbers [o, ...]."""
        smallest, zero = (None if each is None else change(each) for each in (self.smallest, self.zero))
        return Grouped(change(self.numbers), change(self.scale), smallest, self.bits, zero)


class FewBits:
    """A matrix as products.c takes it. numbers: what the kernels are told of it."""

    def __init__(self, matrix: Grouped, update: tuple[Tensor, Tensor] | None = None) -> None:
        """update: B [o, r] and A [r, i], whose product is added; they are rounded to bfloat16."""
        numbers, scale = matrix.numbers.contiguous(), matrix.scale.float().contiguous()
        (num_rows, self._width), num_groups = numbers.shape, scale.shape[1]
        group, rank = self._width // num_groups, 0 if update is None else update[1].shape[0]
        other = matrix.smallest if matrix.zero is None else matrix.zero
        other = None if other is None else other.float().contiguous()
        form = 2 if matrix.zero is not None else int(other is not None)
        b, a = (None, None) if update is None else (each.bfloat16().contiguous() for each in update)
        group_bytes = group * matrix.bits // 8 + (8 if form == 1 else 4)
        # Padded with rows of 0.
        self._tiles = torch.zeros(-(-num_rows // ROWS), ROWS * (num_groups * group_bytes + 2 * rank), dtype=torch.uint8)
        library().pack(
            numbers.data_ptr(), scale.data_ptr(), _address(other), _address(b), self._tiles.data_ptr(), num_rows,
            self._width, matrix.bits, group, form, rank,
        )  # fmt: skip
        self._a = a
        self.numbers = longs((self._tiles.data_ptr(), num_rows, matrix.bits, group, form, rank, _address(a)))

    def rows(self, indices: Tensor) -> Tensor:
        """Its rows [..., i] at `indices` [...], in float32 and without the update."""
        flat = indices.flatten().long().contiguous()
        out = torch.empty(*indices.shape, self._width)
        threads = torch.get_num_threads()
        library().unpack(self.numbers, flat.data_ptr(), len(flat), out.data_ptr(), self._width, threads)
        return out

    def __deepcopy__(self, _: Any) -> Self:
        # It never changes, and a copy's addresses would be wrong.
        return self

    def __reduce__(self) -> Any:
        raise TypeError("it holds addresses: save what it was made of")


class _Attached:
    """What is attached to a weight, once it was made."""

    def __init__(self, weight: Tensor, make: Callable[[], FewBits | None]) -> None:
        self._version, self._address = weight._version, weight.data_ptr()
        # Let go once it was called: it holds a part of a file.
        self._make: Callable[[], FewBits | None] | None = make
        self._few: FewBits | None = None

    def belongs_to(self, weight: Tensor) -> bool:
        return (weight._version, weight.data_ptr()) == (self._version, self._address)

    @property
    def few(self) -> FewBits | None:
        if self._make is not None:
            self._few, self._make = self._make(), None
        return self._few


_attached: Any = WeakTensorKeyDictionary()


def attach(weight: Tensor, make: Callable[[], FewBits | None]) -> None:
    """Let a few rows be multiplied by what `make` returns instead of `weight`, until that is changed.

    It is called when that is first asked for; None is for what cannot be made.
    """
    _attached[weight] = _Attached(weight, make)


def is_attached(weight: Any) -> bool:
    return isinstance(weight, Tensor) and weight in _attached


def described(weight: Any) -> Any:
    """What the kernels are told of a matrix in bfloat16, or of what is attached to it, or of a quantized one
    (quantized.py). To be kept with the weight."""
    if not isinstance(weight, Tensor):
        return weight.few.numbers
    own = _attached.get(weight)
    if own is not None and own.belongs_to(weight) and _are_faster() and own.few is not None:
        return own.few.numbers
    return longs((weight.data_ptr(), len(weight), 16, 0, 0, 0, 0))


@lru_cache(maxsize=1)
def _are_faster() -> bool:
    """True unless this processor multiplies a row faster by a matrix in bfloat16 than by one in 4 bits."""
    num_rows, width = _TIMED
    scale = torch.ones(num_rows, width // 32)
    few = FewBits(Grouped(torch.ones(_TIMED, dtype=torch.uint8), scale, scale, 4))
    wide = torch.ones(_TIMED, dtype=torch.bfloat16)
    x, y = torch.ones(width), torch.empty(num_rows)

    def compute(matrix: Any) -> None:
        library().multiply(x.data_ptr(), pointers(matrix), 1, y.data_ptr(), 1, width, num_rows, torch.get_num_threads())

    plain = longs((wide.data_ptr(), num_rows, 16, 0, 0, 0, 0))
    ways = {"4 bits": lambda: compute(few.numbers), "bfloat16": lambda: compute(plain)}
    return measured.fastest("few rows", ways, "4 bits") == "4 bits"


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
