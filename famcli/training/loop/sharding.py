"""A network divided over the processes of a run: each keeps its share of every matrix, gradient and moment (FSDP2).

A layer's weights are gathered when the layer is read, and again in the backward pass; only the weights outside the
layers stay gathered through a step. All processes must send the same messages, though their lanes differ: each reads as
many groups of lanes as the one that has most, and runs the memory prompt up the layers for every group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from famcli.errors import RecipeError
from famcli.nn import Network, State
from famcli.training.data.lanes import LaneGroup, StepPlan
from famcli.training.loop.networks import trained
from famcli.training.loop.processes import Processes
from famcli.training.loop.step import Gradients
from famcli.training.recipe.recipe import Recipe


def check_shardable(recipe: Recipe, processes: Processes) -> None:
    """Raise RecipeError for recipes that do not work with a divided network."""
    schedule, adapt = recipe.schedule, recipe.adapt
    problems = {
        "divides a network over processes, and there is one; start it under torchrun": processes.size == 1,
        "needs schedule.muon_lr = 0: Muon needs whole matrices, and no process has one": schedule.muon_lr > 0,
        "needs schedule.average_decay = 0": schedule.average_decay > 0,
        "needs hardware.compile = false": recipe.hardware.compile,
        'needs network.architecture = "fam"': recipe.network.architecture != "fam",
        'needs adapt.objective = "task"': adapt is not None and adapt.objective == "distill",
    }
    for message, applies in problems.items():
        if applies:
            raise RecipeError(f"{recipe.path}: hardware.shard {message}")


def shard(network: Network, dtype: torch.dtype, processes: Processes) -> None:
    """Divide `network` (on the CPU) over the processes, each share on its process's device; products run in `dtype`.

    Raises RecipeError for a mixture of experts, as processes would choose different experts.
    """
    if network.config.experts is not None:
        raise RecipeError("hardware.shard does not work for a mixture of experts; set it to false")
    mesh = init_device_mesh(processes.device.type, (processes.size,))
    types = {} if dtype == torch.float32 else {"param_dtype": dtype, "reduce_dtype": torch.float32}
    policy = MixedPrecisionPolicy(**types, cast_forward_inputs=False)
    for part in (*network.layers, network):
        fully_shard(part, mesh=mesh, mp_policy=policy)
        divided = cast(FSDPModule, part)
        # gloo has no sum that is scaled on the way.
        divided.set_force_sum_reduction_for_comms(True)
        # A sum, not a mean: the loss is already divided by the weights of all lanes.
        divided.set_gradient_divide_factor(1.0)
    for method in ("start", "read", "logits"):
        register_fsdp_forward_method(network, method)
    cast(FSDPModule, network).set_reshard_after_backward(False, recurse=False)


class ShardedGradients(Gradients):
    """`Gradients` of a network that `shard` divided. It computes itself, and gradients are summed as they are made."""

    always = True

    def _prepare(self, dtype: torch.dtype) -> Network:
        return self._network

    def _clear(self) -> None:
        for parameter in trained(self._network).values():
            parameter.grad = None

    def _parts(self, plan: StepPlan) -> Iterator[LaneGroup]:
        parts = list(super()._parts(plan))
        most = max(self._processes.gather(len(parts)))
        # Read like any part, but without lanes and without weight.
        idle = replace(parts[0], lanes=(), weights=torch.zeros_like(parts[0].weights))
        yield from [*parts, *[idle] * (most - len(parts))]

    def _start(self, group: LaneGroup) -> State:
        """As for one process, but always with a gradient path to the memory prompt, if only with weight 0."""
        state = super()._start(group)
        if any(start is None for start in group.starts):
            return state
        fresh = self.compute.start(len(group.starts))
        pairs = zip(state.memories, fresh.memories, strict=True)
        return state.with_memories([own + 0.0 * other for own, other in pairs])

    @contextmanager
    def _slices(self) -> Iterator[None]:
        """Keep the head's gradient until the decoder's comes, as the number of slices differs between processes."""
        network = cast(FSDPModule, self._network)
        network.set_requires_gradient_sync(False, recurse=False)
        network.set_is_last_backward(False)
        try:
            yield
        finally:
            network.set_requires_gradient_sync(True, recurse=False)
            network.set_is_last_backward(True)

    def add_up(self) -> float:
        """The norm of the gradient, which is already summed."""
        cast(FSDPModule, self._network).reshard()
        # No process has the whole gradient, so squares are summed before the root.
        squares = torch.zeros((), device=self._processes.device)
        for gradient in self._gradients():
            squares += gradient.square().sum()
        self._processes.add(squares)
        return float(squares.sqrt())

    def scale(self, factor: float) -> None:
        for gradient in self._gradients():
            gradient.mul_(factor)

    def whole(self, make: Callable[[], Network]) -> Network:
        """A network on this process's CPU, made by `make`, with the trained weights of all processes."""
        network = make()
        own = trained(self._network)
        with torch.no_grad():
            for name, parameter in trained(network).items():
                parameter.copy_(whole_tensor(own[name]).cpu())
        return network

    def _gradients(self) -> Iterator[Tensor]:
        """This process's share of each gradient."""
        for parameter in trained(self._network).values():
            if parameter.grad is not None:
                yield cast(DTensor, parameter.grad).to_local()


def whole_tensor(tensor: Tensor) -> Tensor:
    """The whole of a divided tensor. Every process must call this."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def placed_like(tensor: Tensor, model: Tensor) -> Tensor:
    """This process's share of a whole `tensor`, divided as `model` is."""
    if not isinstance(model, DTensor) or tensor.shape != model.shape:
        return tensor
    moved = tensor.to(model.device)
    return distribute_tensor(moved, model.device_mesh, model.placements, src_data_rank=None)
