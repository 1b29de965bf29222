"""The sliced loss against torch's cross-entropy, and the optimisers' rates and saved form."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from famcli.nn import DecoderConfig, FamConfig
from famcli.training import objective
from famcli.training.lanes import IGNORE
from famcli.training.objective import language_model_gradient
from famcli.training.optimizer import Optimizers, rate_factor
from famcli.training.recipe import ScheduleRecipe
from tests.helpers import random_network

SCHEDULE = ScheduleRecipe(lanes=1, blocks_per_step=1, steps=100, warmup_steps=9, decay_share=0.5, weight_decay=0.1)


@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_gradient_equal_plain_cross_entropy(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "_ROWS", 5)
    network = random_network(DecoderConfig(50, 16, 24, 2, 2, 1, 8, tie_embeddings=tied), FamConfig(4, 1, 2), gain=3.0)
    tokens, targets = torch.randint(0, 50, (2, 12)), torch.randint(0, 50, (2, 12))
    targets[0, 5:] = IGNORE
    hidden, _ = network.read(tokens, network.start(2))
    loss = functional.cross_entropy(network.logits(hidden).flatten(0, 1), targets.flatten(), reduction="sum")
    (loss * 0.25).backward()
    expected = {name: value.grad for name, value in network.named_parameters()}
    network.zero_grad()
    hidden, _ = network.read(tokens, network.start(2))
    nats = language_model_gradient(network, hidden, targets, 0.25)
    assert nats == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)


def test_a_step_of_padding_alone_adds_nothing() -> None:
    network = random_network(DecoderConfig(50, 16, 24, 1, 2, 1, 8), FamConfig(4, 1, 2))
    hidden, _ = network.read(torch.zeros(1, 4, dtype=torch.int64), network.start())
    assert language_model_gradient(network, hidden, torch.full((1, 4), IGNORE), 1.0) == 0.0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_rates_warm_up_stay_and_fall_to_zero() -> None:
    assert rate_factor(0, 0.0, SCHEDULE) == pytest.approx(0.1)
    assert rate_factor(9, 0.09, SCHEDULE) == 1.0
    assert rate_factor(40, 0.5, SCHEDULE) == 1.0
    assert rate_factor(75, 0.75, SCHEDULE) == pytest.approx(0.5)
    assert rate_factor(100, 1.0, SCHEDULE) == 0.0
    assert rate_factor(99, 0.99, dataclasses.replace(SCHEDULE, decay_share=0.0)) == 1.0


@pytest.mark.parametrize("muon_lr", [0.01, 0.0])
def test_prompt_norms_and_embeddings_are_not_decayed(muon_lr: float) -> None:
    network = random_network(DecoderConfig(50, 16, 24, 1, 2, 1, 8), FamConfig(4, 1, 2))
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizers = Optimizers(network, dataclasses.replace(SCHEDULE, muon_lr=muon_lr, adamw_lr=0.02))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(1.0)
    for name, value in network.named_parameters():
        decayed = not torch.equal(value, before[name])
        assert decayed == (value.ndim == 2 and ".layers." in name), name


def test_moments_survive_saving() -> None:
    def network_and_optimizers() -> tuple[torch.nn.Module, Optimizers]:
        network = random_network(DecoderConfig(50, 16, 24, 1, 2, 1, 8), FamConfig(4, 1, 2))
        return network, Optimizers(network, SCHEDULE)

    def step(network: torch.nn.Module, optimizers: Optimizers, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizers.step(0.5)

    network, optimizers = network_and_optimizers()
    step(network, optimizers, 0)
    other, again = network_and_optimizers()
    other.load_state_dict(network.state_dict())
    again.load_tensors({name: value.clone() for name, value in optimizers.to_tensors().items()})
    step(network, optimizers, 1)
    step(other, again, 1)
    for left, right in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right)
