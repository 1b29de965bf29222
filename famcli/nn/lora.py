"""LoRA (arXiv 2106.09685): a frozen matrix W with a trained update of low rank beside it, W + scale * B A.

In training the update is a product of its own; for reading it is added to the matrix when a checkpoint is opened, so
that an adapter costs nothing then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from famcli.nn.kernels.linear import Linear
from famcli.nn.shapes import TARGETS


@dataclass(frozen=True)
class LoraConfig:
    """rank: rows of A and columns of B. alpha: the update is scaled by alpha / rank. targets: some of TARGETS."""

    rank: int = 64
    alpha: float = 64.0
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        unknown = [name for name in self.targets if name not in TARGETS]
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}, it must be at least 1")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha is {self.alpha}, it must be above 0")
        if unknown or not self.targets:
            raise ValueError(f"targets name {', '.join(unknown) or 'nothing'}; choose from {', '.join(TARGETS)}")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True, eq=False)
class LowRank:
    """An update alone: `scale` times the matrix b a [o, i], with a [r, i] and b [o, r] in float32."""

    a: Tensor
    b: Tensor
    scale: float

    def added_to(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """`weight` [o, i] with the update: summed in float32, then rounded to `dtype`."""
        return (self.b @ self.a).mul_(self.scale).add_(weight.cpu()).to(dtype)


class LoraLinear(Linear):
    """A `Linear` whose weight and bias are frozen, with an update of low rank.

    `lora_a` [r, i] and `lora_b` [o, r]; the products are in the type of the input. `active` false leaves the update
    out: that is the base network.
    """

    # Float32 whatever the type of the weight: the steps of training would be rounded away in fewer bits.

    plain = False
    lora_a: nn.Parameter
    lora_b: nn.Parameter
    scale: float
    active: bool

    @classmethod
    def of(cls, base: Linear, config: LoraConfig, generator: torch.Generator) -> Self:
        """`base` with an update that is 0: A is drawn as torch draws a Linear's weight, B is 0 (section 4.1)."""
        # On the meta device: the weights are those of `base`, so none are drawn.
        with torch.device("meta"):
            made = cls(base.in_features, base.out_features, bias=base.bias is not None)
        made.weight, made.bias = base.weight, base.bias
        for parameter in base.parameters():
            parameter.requires_grad_(False)
        device, bound = base.weight.device, base.in_features**-0.5
        drawn = torch.rand(config.rank, base.in_features, generator=generator) * (2 * bound) - bound
        made.lora_a = nn.Parameter(drawn.to(device))
        made.lora_b = nn.Parameter(torch.zeros(base.out_features, config.rank, device=device))
        made.scale, made.active = config.scale, True
        return made

    def forward(self, x: Tensor) -> Tensor:
        return self._updated(super().forward(x), x)

    def few(self, x: Tensor) -> Tensor:
        return self._updated(super().few(x), x)

    def update(self) -> LowRank:
        """What is added to the weight, on the CPU, without gradient."""
        return LowRank(self.lora_a.detach().float().cpu(), self.lora_b.detach().float().cpu(), self.scale)

    def _updated(self, made: Tensor, x: Tensor) -> Tensor:
        if not self.active:
            return made
        inner = nn.functional.linear(x, self.lora_a.to(x.dtype))
        return made + nn.functional.linear(inner, self.lora_b.to(x.dtype)) * self.scale


def add_lora(network: nn.Module, config: LoraConfig, seed: int) -> None:
    """Freeze all of `network` but its memory prompt, and give its target matrices updates drawn from `seed`.

    Raises ValueError if it has none of the targets.
    """
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name == "memory_prompt")
    generator = torch.Generator().manual_seed(seed)
    linear = [name for name, module in network.named_modules() if isinstance(module, Linear)]
    found = [name for name in linear if ".layers." in name and name.rpartition(".")[2] in config.targets]
    if not found:
        raise ValueError(f"the network has none of the targets {', '.join(config.targets)}")
    for name in found:
        owner, _, last = name.rpartition(".")
        parent = network.get_submodule(owner)
        setattr(parent, last, LoraLinear.of(getattr(parent, last), config, generator))


def lora_updates(network: nn.Module) -> dict[str, LowRank]:
    """The updates of a network, by the name of the weight that each belongs to."""
    modules = network.named_modules()
    return {f"{name}.weight": module.update() for name, module in modules if isinstance(module, LoraLinear)}
