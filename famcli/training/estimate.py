"""What a recipe will need, before it is run: parameters, operations, tokens, memory, time, and disk space.

Counts follow from the shapes. Speed and memory are measured: one step on random tokens at the recipe's shapes, with as
many lanes as take a few seconds on this machine.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import torch

from famcli.checkpoint.device import select_device, set_threads
from famcli.nn import Network
from famcli.training.data.corpus import own_tokenizer
from famcli.training.loop import networks
from famcli.training.loop.optimizer import Optimizers
from famcli.training.loop.step import language_model_gradient
from famcli.training.recipe.recipe import Recipe

# The longest time that a measured step should take, and the share of the machine's peak that it is expected to reach:
# they decide how much of a step is measured.
_SECONDS = 5.0
_EXPECTED_SHARE = 0.25


@dataclass(frozen=True)
class Estimate:
    """What a run will need, in bytes, seconds and tokens.

    trained: the parameters that training changes. tokens_per_step: on average over the run. training_distance: the
    longest distance from a key to its question. fixed_bytes: weights, gradients and optimiser state. step_bytes: what
    the longest step adds, scaled from the measured lanes. measured: how speed and memory were measured, in words.
    """

    parameters: int
    trained: int
    tokens_per_step: float
    steps: int
    tokens: int
    training_distance: int
    flops_per_token: float
    fixed_bytes: int
    step_bytes: int
    tokens_per_second: float
    peak_share: float
    seconds: float
    export_bytes: int
    checkpoint_bytes: int
    measured: str


def estimate(recipe: Recipe, vocab_size: int) -> Estimate:
    """Measure a step of `recipe` and derive the rest from its shapes. Takes a few seconds."""
    schedule, hardware = recipe.schedule, recipe.hardware
    set_threads(hardware.threads)
    # A recipe for a GPU is measured on the CPU where there is none.
    missing = hardware.device == "cuda" and not torch.cuda.is_available()
    device, dtype = select_device("cpu" if missing else hardware.device), getattr(torch, hardware.dtype)
    network = networks.build_network(recipe, vocab_size).to(device)
    optimizers = Optimizers(network, schedule)
    parameters = sum(value.numel() for value in network.parameters())
    changed = sum(value.numel() for value in networks.trained(network).values())
    weights = sum(value.numel() * value.element_size() for value in network.parameters())
    longest, block_size = schedule.longest_step, network.fam.block_size
    flops = networks.flops_per_token(network.config, network.fam, longest, frozen=recipe.trains_updates)
    peak = networks.machine_flops(device, dtype)
    affordable = _SECONDS * _EXPECTED_SHARE * peak / flops
    at_once = -(-schedule.lanes // schedule.accumulate)
    lanes = max(1, min(at_once, int(affordable / (longest * block_size))))
    blocks = max(1, min(longest, int(affordable / block_size)))
    seconds, num_bytes = _measure(recipe, network, optimizers, dtype, lanes, blocks)
    speed = lanes * blocks * block_size / seconds
    per_step = schedule.lanes * _mean_blocks(recipe) * block_size
    steps, total = _budget(recipe, speed / per_step)
    # Moments, gradients and the average are float32 whatever the compute type.
    moments = 4 * sum(value.numel() for value in optimizers.to_tensors().values())
    copies = changed * (4 if schedule.average_decay else 0)
    # Weights and gradients of the copy that computes.
    compute = 0 if network.dtype == dtype else 2 * parameters * dtype.itemsize
    stored = 4 if recipe.trains_updates else {"float32": 4, "bfloat16": 2, "int8": 1}[recipe.export.storage]
    return Estimate(
        parameters=parameters,
        trained=changed,
        tokens_per_step=per_step,
        steps=steps,
        tokens=int(steps * per_step),
        training_distance=recipe.longest_distance,
        flops_per_token=flops,
        fixed_bytes=weights + 4 * changed + moments + copies + compute,
        step_bytes=int(num_bytes * at_once / lanes * longest / blocks),
        tokens_per_second=speed,
        peak_share=speed * flops / peak,
        seconds=total,
        export_bytes=stored * changed,
        checkpoint_bytes=4 * changed + moments + copies,
        measured=f"{lanes} of {at_once} lanes, {blocks} of {longest} blocks, on {device.type}"
        + (f": there is no {hardware.device} here" if missing else ""),
    )


def expected_vocab_size(recipe: Recipe) -> int:
    """The vocabulary size of the recipe's tokenizer, or of the one that will be trained."""
    own = own_tokenizer(recipe)
    vocab_size = recipe.tokenizer.vocab_size if own is None else own.vocab_size
    assert vocab_size is not None, "load_recipe requires one of the two"
    return vocab_size


def _measure(
    recipe: Recipe, network: Network, optimizers: Optimizers, dtype: torch.dtype, lanes: int, blocks: int
) -> tuple[float, int]:
    """Seconds of one step of `lanes` times `blocks` random blocks, the second of two, and the bytes it added."""
    compute = network if network.dtype == dtype else networks.copy_of(network, dtype)
    compute.checkpoint_gradients = recipe.hardware.checkpoint_gradients
    if recipe.hardware.compile:
        networks.compile_layers(compute)
    shape = (lanes, blocks * network.fam.block_size)
    # A generator of its own, so that measuring changes no later draw.
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, network.config.vocab_size, shape, generator=generator)
    if network.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before, seconds = _peak_bytes(network.device), 0.0
    # The first step allocates and compiles; only the second one is measured.
    for _ in range(2):
        began = time.perf_counter()
        hidden, _ = compute.read(tokens.to(network.device), compute.start(lanes))
        language_model_gradient(compute, hidden, tokens, torch.ones(shape), 1.0 / tokens.numel())
        pairs = zip(*(networks.trained(each).values() for each in (network, compute)), strict=True)
        for parameter, computed in pairs:
            parameter.grad = computed.grad.float() if computed.grad is not None else torch.zeros_like(parameter)
        peak = _peak_bytes(network.device)
        optimizers.step(0.0)
        if network.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return seconds, max(0, peak - before)


def _mean_blocks(recipe: Recipe) -> float:
    """The average number of blocks that a lane reads in a step."""
    schedule = recipe.schedule
    if schedule.max_blocks is None:
        return float(schedule.longest_step)
    low, high, growing = schedule.min_blocks, schedule.longest_step, schedule.curriculum_share
    return growing * (low + (high - low) / 4) + (1 - growing) * (low + high) / 2


def _budget(recipe: Recipe, steps_per_second: float) -> tuple[int, float]:
    """Steps and seconds of the run, by the limit that ends it."""
    schedule = recipe.schedule
    by_steps = schedule.steps / steps_per_second if schedule.steps else float("inf")
    seconds = min(by_steps, 60 * schedule.max_minutes if schedule.max_minutes else float("inf"))
    steps = schedule.steps if schedule.steps and by_steps <= seconds else round(seconds * steps_per_second)
    return max(1, steps), seconds


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    # The only measure of a process's peak; in bytes on a Mac, in KiB elsewhere.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
