"""Matrix products by the fastest library at hand.

On a CPU torch sends float32 products to MKL, which holds back on processors of other makers; oneDNN, which is in the
same build, does not. It wants the weight in a layout of its own and, given a plain one, rearranges it at every call:
in inference each weight is rearranged once (docs/decisions.md has the measurements).

A few rows in float32 against weights in bfloat16, which is how a decoder computes single tokens, go to native.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from famcli.nn.kernels import native
from famcli.nn.kernels.quantized import QuantizedMatrix

# Types whose products go to oneDNN by name.
ONEDNN_TYPES = set[torch.dtype]()
if torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    ONEDNN_TYPES = {torch.float32} | ({torch.bfloat16} if torch.ops.mkldnn._is_mkldnn_bf16_supported() else set())
# The number of rows the layout is chosen for; measured to be as good for one row as for a block.
_PACKED_ROWS = 1024


class PackedWeight:
    """Weights of the same input, one after the other in oneDNN's layout: a cache, made again when a weight changed."""

    def __init__(self) -> None:
        self._sources: list[tuple[Tensor, int, int]] = []
        self._packed: Tensor | None = None

    def of(self, *weights: Tensor) -> Tensor:
        """`weights` [o_i, i], to be used as one weight [sum of o_i, i]."""
        same = len(weights) == len(self._sources)
        for weight, (source, version, address) in zip(weights, self._sources, strict=False):
            same = same and weight is source and weight._version == version and weight.data_ptr() == address
        if self._packed is None or not same:
            plain = weights[0].detach() if len(weights) == 1 else torch.cat([weight.detach() for weight in weights])
            self._packed = torch.ops.mkldnn._reorder_linear_weight(plain, _PACKED_ROWS)
            self._sources = [(weight, weight._version, weight.data_ptr()) for weight in weights]
        return self._packed

    # It is never saved or copied: it takes as much memory as the weights.
    def __getstate__(self) -> dict[str, Any]:
        return vars(PackedWeight())


def linear(
    x: Tensor, weight: Tensor | QuantizedMatrix, bias: Tensor | None = None, packed: PackedWeight | None = None
) -> Tensor:
    """`x` [..., i] times `weight` [o, i] transposed, plus `bias` [o]: what torch's `linear` gives, to rounding."""
    if isinstance(weight, QuantizedMatrix):
        made = weight.of_few(x)
        made = linear(x, weight.whole(x.dtype)) if made is None else made
        return made if bias is None else made + bias
    if is_wide(x, weight):
        made = native.multiply(x, [weight])
        return made if bias is None else made + bias
    if _by_onednn(x, weight):
        layout = weight if packed is None else packed.of(weight)
        return torch.ops.mkldnn._linear_pointwise(x, layout, bias, "none", [], "")  # type: ignore[no-any-return]
    return functional.linear(x, weight, bias)


def is_wide(x: Tensor, weight: Tensor | QuantizedMatrix) -> bool:
    """True for rows in float32 against weights in bfloat16: the few rows that native.py multiplies."""
    return x.dtype == torch.float32 and is_narrow(weight)


def is_narrow(weight: Tensor | QuantizedMatrix) -> bool:
    """True for weights used in bfloat16 that native.py multiplies by."""
    return weight.dtype == torch.bfloat16 and (not isinstance(weight, QuantizedMatrix) or weight.few is not None)


def _by_onednn(x: Tensor, weight: Tensor | QuantizedMatrix) -> bool:
    """True if oneDNN may be called by name: on a CPU, in a type it has, without gradients or autocast."""
    if isinstance(weight, QuantizedMatrix) or x.device.type != "cpu" or x.dtype not in ONEDNN_TYPES:
        return False
    return x.dtype == weight.dtype and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


class Linear(nn.Linear):
    """`nn.Linear` by the fastest library. plain: it has a weight and a bias and nothing else (see lora.py)."""

    plain: bool = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.packed = PackedWeight()

    def forward(self, x: Tensor) -> Tensor:
        if not _by_onednn(x, self.weight):
            return linear(x, self.weight, self.bias)
        # Called here and not through `linear`: decoding waits for each Python frame.
        packed = self.packed.of(self.weight)
        return torch.ops.mkldnn._linear_pointwise(x, packed, self.bias, "none", [], "")  # type: ignore[no-any-return]

    def few(self, x: Tensor) -> Tensor:
        """`forward` for a handful of rows, for which the weight is not packed."""
        if not _by_onednn(x, self.weight):
            return linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.packed = PackedWeight()
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]


class JointLinear:
    """Several `Linear`s of one input as one product, which reads memory in fewer and larger pieces.

    It holds no weights of its own, so checkpoints keep the names of its parts.
    """

    def __init__(self) -> None:
        self._packed = PackedWeight()

    def __call__(self, x: Tensor, *maps: Linear) -> list[Tensor]:
        """What each of `maps` makes of x [..., i]: a list of [..., o_i], views of one tensor in inference on a CPU."""
        plain = all(each.plain for each in maps)
        weights = [each.weight for each in maps]
        if plain and is_wide(x, weights[0]):
            product = native.multiply(x, weights)
            parts = product.split_with_sizes([weight.shape[0] for weight in weights], dim=-1)
            return [part if each.bias is None else part + each.bias for part, each in zip(parts, maps, strict=True)]
        if not plain or any(each.bias is not None for each in maps) or not _by_onednn(x, weights[0]):
            return [each(x) for each in maps]
        out = torch.ops.mkldnn._linear_pointwise(x, self._packed.of(*weights), None, "none", [], "")
        return list(out.split_with_sizes([weight.shape[0] for weight in weights], dim=-1))
