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
    """Weights of the same input, one after the other in oneDNN's layout: a cache, never saved or copied.

    Made at first use, and again when a weight has changed.
    """

    def __init__(self) -> None:
        self._sources: tuple[tuple[Tensor, int, int], ...] = ()
        self._packed: Tensor | None = None

    def of(self, *weights: Tensor) -> Tensor:
        """`weights` [o_i, i], to be used as one weight [sum of o_i, i]."""
        sources = tuple((weight, weight._version, weight.data_ptr()) for weight in weights)
        if not _same(sources, self._sources):
            plain = weights[0].detach() if len(weights) == 1 else torch.cat([weight.detach() for weight in weights])
            self._packed = torch.ops.mkldnn._reorder_linear_weight(plain, _PACKED_ROWS)
            self._sources = sources
        assert self._packed is not None
        return self._packed

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedWeight:
        return PackedWeight()

    def __getstate__(self) -> dict[str, Any]:
        return {"_sources": (), "_packed": None}


def _same(first: tuple[tuple[Tensor, int, int], ...], second: tuple[tuple[Tensor, int, int], ...]) -> bool:
    return len(first) == len(second) and all(
        a[0] is b[0] and a[1:] == b[1:] for a, b in zip(first, second, strict=True)
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, packed: PackedWeight | None = None) -> Tensor:
    """`x` [..., i] times `weight` [o, i] transposed, plus `bias` [o]: what torch's `linear` gives, to rounding."""
    if _by_onednn(x, weight):
        layout = weight if packed is None else packed.of(weight)
        return torch.ops.mkldnn._linear_pointwise(x, layout, bias, "none", [], "")  # type: ignore[no-any-return]
    return functional.linear(x, weight, bias)


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN may be asked by name: on a CPU, in a type it has, without gradients or autocast."""
    if not _ONEDNN or x.device.type != "cpu" or x.dtype != weight.dtype or x.dtype not in _TYPES:
        return False
    return not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


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


class JointLinear:
    """Several `Linear`s of one input as one product: fewer and larger reads of memory. Holds no weights of its own."""

    def __init__(self) -> None:
        self._packed = PackedWeight()

    def __call__(self, x: Tensor, *maps: Linear) -> list[Tensor]:
        """What each of `maps` makes of x [..., i]: a list of [..., o_i], views of one tensor in inference on a CPU."""
        weights = [each.weight for each in maps]
        if any(each.bias is not None for each in maps) or not _by_onednn(x, weights[0]):
            return [each(x) for each in maps]
        out = torch.ops.mkldnn._linear_pointwise(x, self._packed.of(*weights), None, "none", [], "")
        return list(out.split_with_sizes([weight.shape[0] for weight in weights], dim=-1))
