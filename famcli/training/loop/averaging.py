"""Weight averaging: an exponential moving average of the float32 weights, which is what gets checked and exported.

Averaging takes out the noise of a high learning rate (Polyak averaging; its exponential form as in arXiv 1806.05594).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from famcli.training.loop.network import trained


class WeightAverage:
    """The average of those weights of a network that are trained. With `decay` 0 it is the weights themselves, and
    costs nothing.

    The n-th update keeps min(decay, (1 + n) / (10 + n)) of the old average, so that the initial weights fade soon.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self._average = [value.detach().clone() for value in trained(network).values()] if decay else []

    def update(self, step: int) -> None:
        """Take in the weights as they are after `step` optimiser steps."""
        if self._average:
            kept = min(self._decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self._average, [value.detach() for value in trained(self._network).values()], 1 - kept)

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """In the `with`, `network` (of the same shape, in any type) has the averaged weights; then its own again."""
        if not self._average:
            yield
            return
        parameters = [value.detach() for value in trained(network).values()]
        own = [value.clone() for value in parameters]
        _copy(parameters, self._average)
        try:
            yield
        finally:
            _copy(parameters, own)

    def to_tensors(self) -> dict[str, Tensor]:
        """The average by parameter name; empty when there is none."""
        names = trained(self._network)
        return dict(zip(names, self._average, strict=True)) if self._average else {}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `to_tensors` gave; with nothing, begin at the network's weights."""
        if self._average:
            own = trained(self._network)
            _copy(self._average, [(tensors or own)[name].detach() for name in own])


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
