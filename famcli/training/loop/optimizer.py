"""Optimisers, their schedule, and the average of the weights.

Muon trains the matrices inside the layers, AdamW everything else. Norms, embeddings and the memory prompt are never
decayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from famcli.errors import RecipeError
from famcli.training.loop.networks import trained
from famcli.training.recipe.sections import ScheduleRecipe


class Optimizers:
    def __init__(self, network: nn.Module, schedule: ScheduleRecipe) -> None:
        matrices, rest = list[nn.Parameter](), list[nn.Parameter]()
        for name, value in trained(network).items():
            (matrices if value.ndim == 2 and "layers." in name else rest).append(value)
        self._optimizers: list[torch.optim.Optimizer] = []
        adam_groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": 0.0}]
        if schedule.muon_lr > 0 and matrices:
            if not hasattr(torch.optim, "Muon"):
                raise RecipeError(f"schedule.muon_lr needs torch 2.9, this is {torch.__version__}; set it to 0")
            # match_rms_adamw makes Muon's rates comparable to AdamW's (arXiv 2502.16982).
            self._optimizers.append(
                torch.optim.Muon(
                    matrices,
                    lr=schedule.muon_lr,
                    weight_decay=schedule.weight_decay,
                    momentum=schedule.momentum,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        elif matrices:
            adam_groups.append({"params": matrices, "weight_decay": schedule.weight_decay})
        betas = (schedule.beta1, schedule.beta2)
        self._optimizers.append(torch.optim.AdamW(adam_groups, lr=schedule.adamw_lr, betas=betas, eps=1e-10))
        self._peaks = [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in self._optimizers]

    def step(self, factor: float) -> float:
        """Take a step at `factor` times the peak rates; returns the first group's rate."""
        for optimizer, peaks in zip(self._optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            optimizer.step()
        return self._peaks[0][0] * factor

    def to_tensors(self) -> dict[str, Tensor]:
        """The moments, named `optimizer.parameter.moment`."""
        return {
            f"{number}.{index}.{moment}": torch.as_tensor(value)
            for number, optimizer in enumerate(self._optimizers)
            for index, moments in optimizer.state_dict()["state"].items()
            for moment, value in moments.items()
        }

    def load_tensors(
        self, tensors: dict[str, Tensor], place: Callable[[Tensor, Tensor], Tensor] = lambda value, parameter: value
    ) -> None:
        """Restore what `to_tensors` gave. place(moment, parameter): the moment, divided like its parameter."""
        for number, optimizer in enumerate(self._optimizers):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            # torch numbers the parameters over all groups of an optimiser.
            saved = optimizer.state_dict()
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                owner, index, moment = name.split(".", 2)
                if int(owner) == number:
                    state.setdefault(int(index), {})[moment] = place(value, parameters[int(index)])
            optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


def rate_factor(step: int, progress: float, schedule: ScheduleRecipe) -> float:
    """The factor of the peak rate at `step` (from 0) when `progress` (0 to 1) of the budget is used.

    Linear warm-up over `warmup_steps`, then constant, then linear to zero over the last `decay_share` of the budget.
    """
    warm = min(1.0, (step + 1) / (schedule.warmup_steps + 1))
    if schedule.decay_share == 0:
        return warm
    return warm * min(1.0, max(0.0, 1.0 - progress) / schedule.decay_share)


class WeightAverage:
    """An exponential moving average of the trained float32 weights, which is what is checked and exported.

    It removes the noise of a high learning rate (Polyak averaging; this form as in arXiv 1806.05594). The n-th update
    keeps min(decay, (1 + n) / (10 + n)) of the old average, so that the initial weights fade quickly. With `decay` 0 it
    is the weights themselves, and costs nothing.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self._average = [value.detach().clone() for value in trained(network).values()] if decay else []

    def update(self, step: int) -> None:
        """Add the weights as they are after `step` optimiser steps."""
        if self._average:
            kept = min(self._decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self._average, [value.detach() for value in trained(self._network).values()], 1 - kept)

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """In the `with`, `network` (of the same shape, in any type) has the averaged weights, and its own after it."""
        if not self._average:
            yield
            return
        parameters = [value.detach() for value in trained(network).values()]
        own = [value.clone() for value in parameters]
        torch._foreach_copy_(parameters, self._average)
        try:
            yield
        finally:
            torch._foreach_copy_(parameters, own)

    def to_tensors(self) -> dict[str, Tensor]:
        """The average by parameter name; empty if there is none."""
        return dict(zip(trained(self._network), self._average, strict=True)) if self._average else {}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `to_tensors` gave; if that is empty, start from the network's weights."""
        if self._average:
            own = trained(self._network)
            torch._foreach_copy_(self._average, [(tensors or own)[name].detach() for name in own])
