"""Weight averaging: the formula, and that nobody's weights are lost over it."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from famcli.training.loop.optimizer import WeightAverage


def changed(network: nn.Linear, value: float) -> None:
    with torch.no_grad():
        network.weight.fill_(value)


def test_the_average_follows_its_formula() -> None:
    network, expected = nn.Linear(2, 3, bias=False), 1.0
    changed(network, 1.0)
    average = WeightAverage(network, 0.5)
    for step in range(1, 20):
        changed(network, float(step))
        average.update(step)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * step
    assert average.to_tensors()["weight"].flatten().tolist() == pytest.approx([expected] * 6)


def test_it_is_applied_for_a_while_in_any_type() -> None:
    network = nn.Linear(1, 1, bias=False)
    changed(network, 4.0)
    average = WeightAverage(network, 0.9)
    changed(network, 8.0)
    other = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    with torch.no_grad():
        other.weight.fill_(2.0)
    with contextlib.suppress(KeyError), average.applied_to(other), average.applied_to(network):
        assert (other.weight.item(), network.weight.item()) == (4.0, 4.0)
        raise KeyError
    assert (other.weight.item(), network.weight.item()) == (2.0, 8.0)


def test_without_decay_it_is_the_weights() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, 0.0)
    changed(network, 8.0)
    average.update(1)
    assert average.to_tensors() == {}
    with average.applied_to(network):
        assert network.weight.item() == 8.0


def test_it_is_put_back_or_begins_at_the_weights() -> None:
    network = nn.Linear(1, 1, bias=False)
    changed(network, 3.0)
    average = WeightAverage(network, 0.9)
    average.load_tensors({"weight": torch.full((1, 1), 5.0)})
    assert average.to_tensors()["weight"].item() == 5.0
    changed(network, 7.0)
    average.load_tensors({})
    assert average.to_tensors()["weight"].item() == 7.0
