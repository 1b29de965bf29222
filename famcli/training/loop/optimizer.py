"""Optimisers and their schedule: Muon for the matrices inside the layers, AdamW for everything else.

Norms, embeddings and the memory prompt are never decayed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from famcli.errors import RecipeError
from famcli.training.loop.network import trained
from famcli.training.recipe.recipe import ScheduleRecipe


class Optimizers:
    """The optimisers of a run as one: a step, a rate, and a state that can be saved."""

    def __init__(self, network: nn.Module, schedule: ScheduleRecipe) -> None:
        named = trained(network)
        inner = {name for name, value in named.items() if value.ndim == 2 and ".layers." in name}
        rest = [value for name, value in named.items() if name not in inner]
        matrices = [named[name] for name in named if name in inner]
        self._optimizers: list[torch.optim.Optimizer] = []
        adam_groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": 0.0}]
        if schedule.muon_lr > 0 and matrices:
            if not hasattr(torch.optim, "Muon"):
                raise RecipeError(f"schedule.muon_lr needs torch 2.9, this is {torch.__version__}; set it to 0")
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
        """One step at `factor` of the peak rates; returns the first group's rate."""
        for optimizer, peaks in zip(self._optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            optimizer.step()
        return self._peaks[0][0] * factor

    def to_tensors(self) -> dict[str, Tensor]:
        """The moments, as `optimizer.parameter.moment`."""
        return {
            f"{number}.{index}.{moment}": torch.as_tensor(value)
            for number, optimizer in enumerate(self._optimizers)
            for index, moments in optimizer.state_dict()["state"].items()
            for moment, value in moments.items()
        }

    def load_tensors(
        self, tensors: dict[str, Tensor], place: Callable[[Tensor, Tensor], Tensor] = lambda value, parameter: value
    ) -> None:
        """Put back what `to_tensors` gave. place: gives a moment the form of its parameter."""
        for number, optimizer in enumerate(self._optimizers):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            saved = optimizer.state_dict()
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                owner, index, moment = name.split(".", 2)
                if int(owner) == number:
                    state.setdefault(int(index), {})[moment] = place(value, parameters[int(index)])
            optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


def rate_factor(step: int, progress: float, schedule: ScheduleRecipe) -> float:
    """Share of the peak rate at `step` (counted from 0) when `progress` (0 to 1) of the budget is used.

    Linear warm-up over `warmup_steps`, constant, then linear to zero over the last `decay_share` of the budget.
    """
    warm = min(1.0, (step + 1) / (schedule.warmup_steps + 1))
    if schedule.decay_share == 0:
        return warm
    return warm * min(1.0, max(0.0, 1.0 - progress) / schedule.decay_share)
