"""Matrix products by the fastest library at hand.

On a CPU torch sends float32 products to MKL, which holds back on processors of other makers; oneDNN, which is in the
same build, does not (docs/decisions.md has the measurement).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x` [..., i] times `weight` [o, i] transposed, plus `bias` [o]: what torch's `linear` gives, to rounding."""
    if _ONEDNN and x.dtype == torch.float32 == weight.dtype and x.device.type == "cpu" and not _needs_autograd(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    return functional.linear(x, weight, bias)


def _needs_autograd(x: Tensor) -> bool:
    return torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type)


class Linear(nn.Linear):
    """`nn.Linear` through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
