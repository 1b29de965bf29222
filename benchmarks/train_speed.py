"""How fast training is, against the machine's own peak and against the BSWA twin.

    python -m benchmarks.train_speed [RECIPE] [--rounds 9] [--lanes N] [--blocks N]

Whole steps (forward, backward, gradients to float32, optimiser) of the recipe's network with its memory and with
fam_length = 0, on drawn tokens, turn about with a square matrix product in the recipe's type. Ratios are medians over
rounds. Bars: at least 25 % of the peak on a CPU, at most 1.25 times the twin's time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.common import FAM_TINY, print_table, verdict
from famcli.checkpoint.device import select_device, set_threads
from famcli.nn import DecoderConfig, FamConfig
from famcli.training.estimate import expected_vocab_size
from famcli.training.loop.networks import build_network, copy_of, flops_per_token, machine_flops
from famcli.training.loop.optimizer import Optimizers
from famcli.training.loop.step import language_model_gradient
from famcli.training.recipe.recipe import Recipe, load_recipe

SHARE_BAR, TWIN_BAR = 0.25, 1.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", type=Path, default=FAM_TINY / "recipe.toml")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--lanes", type=int, help="default: the recipe's")
    parser.add_argument("--blocks", type=int, default=6)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    set_threads(recipe.hardware.threads)
    device, dtype = select_device(recipe.hardware.device), getattr(torch, recipe.hardware.dtype)
    lanes = arguments.lanes or recipe.schedule.lanes
    tokens = lanes * arguments.blocks * recipe.network.block_size
    twin = replace(recipe, network=replace(recipe.network, fam_length=0))
    steps = {name: _step(each, lanes, arguments.blocks) for name, each in (("FAM", recipe), ("BSWA twin", twin))}
    flops = flops_per_token(*_shape(recipe), arguments.blocks)
    rounds = []
    for number in range(arguments.rounds + 1):
        peak = machine_flops(device, dtype)
        seconds = {name: _timed(step) for name, step in steps.items()}
        if number:  # the first round warms up
            rounds.append((peak, seconds["FAM"], seconds["BSWA twin"]))
    share = statistics.median(tokens * flops / fam / peak for peak, fam, _ in rounds)
    cost = statistics.median(fam / bswa for _, fam, bswa in rounds)
    speed = statistics.median(tokens / fam for _, fam, _ in rounds)
    rows = [
        ("tokens a second", f"{speed:,.0f}", "", ""),
        ("share of the peak", f"{share:.3f}", f">= {SHARE_BAR}", verdict(share, SHARE_BAR, at_least=True)),
        ("time over the BSWA twin's", f"{cost:.3f}", f"<= {TWIN_BAR}", verdict(cost, TWIN_BAR)),
    ]
    title = f"{recipe.name}, {recipe.hardware.dtype} on {device.type}: {lanes} lanes of {arguments.blocks} blocks, "
    print_table(title + f"medians of {arguments.rounds}", ["", "measured", "bar", ""], rows)


def _shape(recipe: Recipe) -> tuple[DecoderConfig, FamConfig]:
    network = build_network(recipe, expected_vocab_size(recipe))
    return network.config, network.fam


def _step(recipe: Recipe, lanes: int, blocks: int) -> Callable[[], None]:
    """A whole training step on drawn tokens."""
    vocab_size, device = expected_vocab_size(recipe), select_device(recipe.hardware.device)
    network = build_network(recipe, vocab_size).to(device)
    compute = copy_of(network, getattr(torch, recipe.hardware.dtype))
    compute.checkpoint_gradients = recipe.hardware.checkpoint_gradients
    optimizers = Optimizers(network, recipe.schedule)
    shape = (lanes, blocks * recipe.network.block_size)
    tokens = torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(0))

    def step() -> None:
        hidden, _ = compute.read(tokens.to(device), compute.start(lanes))
        language_model_gradient(compute, hidden, tokens, torch.ones(shape), 1.0 / tokens.numel())
        for parameter, computed in zip(network.parameters(), compute.parameters(), strict=True):
            parameter.grad = torch.zeros_like(parameter) if computed.grad is None else computed.grad.float()
            computed.grad = None
        optimizers.step(0.0)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _timed(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
