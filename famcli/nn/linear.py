"""Matrix products by the fastest library at hand.

On a CPU torch sends float32 products to MKL, which holds back on processors of other makers; oneDNN, which is in the
same build, does not. It wants the weight in a layout of its own and, given a plain one, rearranges it at every call:
in inference each weight is rearranged once (docs/decisions.md has the measurements).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

_ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_TYPES = {torch.float32}
if _ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    _TYPES.add(torch.bfloat16)
_PACKED_ROWS = 1024  # the number of rows the layout is chosen for; measured as good for one row as for a block


class PackedWeight:
    """A weight in oneDNN's layout, made at first use and again when the weight has changed. A cache, never saved."""

    def __init__(self) -> None:
        self._source: tuple[Tensor, int, int] | None = None
        self._packed: Tensor | None = None

    def of(self, weight: Tensor) -> Tensor:
        version, address = weight._version, weight.data_ptr()
        source = self._source
        if source is None or source[0] is not weight or source[1:] != (version, address):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _PACKED_ROWS)
            self._source = (weight, version, address)
        assert self._packed is not None
        return self._packed

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedWeight:
        return PackedWeight()

    def __getstate__(self) -> dict[str, Any]:
        return {"_source": None, "_packed": None}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, packed: PackedWeight | None = None) -> Tensor:
    """`x` [..., i] times `weight` [o, i] transposed, plus `bias` [o]: what torch's `linear` gives, to rounding."""
    if _ONEDNN and x.device.type == "cpu" and x.dtype == weight.dtype and x.dtype in _TYPES and not _needs_autograd(x):
        layout = weight if packed is None else packed.of(weight)
        return torch.ops.mkldnn._linear_pointwise(x, layout, bias, "none", [], "")  # type: ignore[no-any-return]
    return functional.linear(x, weight, bias)


def _needs_autograd(x: Tensor) -> bool:
    return torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type)


class Linear(nn.Linear):
    """`nn.Linear` through `linear`."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.packed = PackedWeight()

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias, self.packed)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.packed = PackedWeight()
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]
