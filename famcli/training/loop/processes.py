"""Several processes as one run: started by `torchrun`, each reads its own lanes, and they sum their gradients.

Every process holds the whole network, the whole optimiser and the plan of all lanes, and takes the same step after one
sum over all gradients. Without `torchrun` there is one process, and nothing here costs anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Self, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from famcli.checkpoint.device import select_device
from famcli.errors import RecipeError

_T = TypeVar("_T")
# The others wait this long while the first process tokenizes a corpus or scores held-out documents.
_TIMEOUT = timedelta(hours=12)


def is_first_process() -> bool:
    """True in the process that speaks for the run; known before it has joined."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Processes:
    """This process among those of a run: `rank` from 0 to `size` - 1, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> Self:
        """Join the run that `torchrun` started, or be the only process. `device` is the recipe's.

        Processes on CPUs use gloo, those on GPUs nccl, with one GPU each by LOCAL_RANK. Raises RecipeError for another
        device, or fewer GPUs than processes.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(0, 1, select_device(device))
        chosen = select_device(device)
        if chosen.type not in ("cpu", "cuda"):
            raise RecipeError(f"hardware.device {chosen.type}: several processes need cpu or cuda; start one process")
        if chosen.type == "cuda":
            local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
            if local >= there:
                raise RecipeError(f"{local + 1} processes on a machine of {there} GPUs; start fewer")
            chosen = torch.device("cuda", local)
            torch.cuda.set_device(chosen)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_TIMEOUT)
        return cls(dist.get_rank(), size, chosen)

    def leave(self) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """True in the process that logs, checks and saves."""
        return self.rank == 0

    def share(self, num_lanes: int) -> range:
        """The lanes that this process reads: neighbours, divided as evenly as possible.

        Raises RecipeError if there are more processes than lanes.
        """
        if num_lanes < self.size:
            raise RecipeError(f"schedule.lanes is {num_lanes}, fewer than {self.size} processes; raise it")
        return range(self.rank * num_lanes // self.size, (self.rank + 1) * num_lanes // self.size)

    def add(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over all processes, the same bits everywhere."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def gather(self, value: _T) -> list[_T]:
        """Every process's `value`, in the order of their ranks, everywhere."""
        if self.size == 1:
            return [value]
        values: list[_T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first process runs the body of the `with`, then the others: they find what it put into the cache."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def wait(self) -> None:
        """Wait until every process has come this far."""
        if self.size > 1:
            dist.barrier()
