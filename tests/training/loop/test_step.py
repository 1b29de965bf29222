"""The sliced loss against torch's cross-entropy, and the optimisers' rates and saved form."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from famcli.nn import DecoderConfig, FamConfig
from famcli.training.data.lanes import IGNORE, LaneGroup
from famcli.training.loop import step as loss_module
from famcli.training.loop.optimizer import Optimizers, rate_factor
from famcli.training.loop.step import Loss, language_model_gradient, objective_losses, tally_group
from famcli.training.recipe.sections import ScheduleRecipe
from tests.helpers import random_network

SCHEDULE = ScheduleRecipe(lanes=1, blocks_per_step=1, steps=100, warmup_steps=9, decay_share=0.5, weight_decay=0.1)


@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_gradient_equal_plain_weighted_cross_entropy(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "_ROWS", 5)
    network = random_network(DecoderConfig(50, 16, 24, 2, 2, 1, 8, tie_embeddings=tied), FamConfig(4, 1, 2), gain=3.0)
    tokens, targets = torch.randint(0, 50, (2, 12)), torch.randint(0, 50, (2, 12))
    weights = torch.rand(2, 12) + 0.1
    weights[1, 3] = 0  # read, not learned
    targets[0, 5:], weights[0, 5:] = IGNORE, 0
    hidden, _ = network.read(tokens, network.start(2))
    logits = network.logits(hidden)
    nats = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(2, 12)
    loss = (nats * weights).sum()
    (loss * 0.25).backward()
    expected = {name: value.grad for name, value in network.named_parameters()}
    network.zero_grad()
    hidden, _ = network.read(tokens, network.start(2))
    answers = torch.rand(2, 12) < 0.5
    found = language_model_gradient(network, hidden, targets, weights, 0.25, answers)
    weighted, found_nats, right = found
    assert weighted == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(found_nats, nats.detach() * (weights > 0), rtol=1e-4, atol=1e-5)
    assert torch.equal(right, (logits.argmax(-1) == targets) & answers & (weights > 0))
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)


def test_a_step_of_padding_alone_adds_nothing() -> None:
    network = random_network(DecoderConfig(50, 16, 24, 1, 2, 1, 8), FamConfig(4, 1, 2))
    hidden, _ = network.read(torch.zeros(1, 4, dtype=torch.int64), network.start())
    found = language_model_gradient(network, hidden, torch.full((1, 4), IGNORE), torch.zeros(1, 4), 1.0)
    assert found[0] == 0.0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_tally_tells_text_from_answers_and_counts_whole_answers() -> None:
    nothing, targets = torch.zeros(2, 6, dtype=torch.int64), torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, IGNORE]])
    answers = torch.tensor([[False, True, True, False, True, True], [False] * 6])
    weights = torch.tensor([[1.0, 2, 2, 0, 2, 2], [0.5, 0.5, 0.5, 0.5, 0.5, 0]])
    right = torch.tensor([[False, True, True, False, True, False], [False] * 6])
    group = LaneGroup((0, 1), nothing, targets, weights, answers, (1, 0), (None, None))
    loss: Loss = (0.0, torch.full((2, 6), 2.0) * (weights > 0), right)
    widths = np.arange(7)
    tally = tally_group(group, loss, widths, 3)
    losses = objective_losses(("books", "keys", "none"), tally + tally)
    assert set(losses) == {"books", "keys"}
    keys, books = losses["keys"], losses["books"]
    counted = ("num_text_tokens", "num_answers", "answers_right", "answer_loss")
    assert tuple(keys[name] for name in ("num_text_tokens", "num_answers", "answers_right", "answer_loss")) == (
        2,
        4,
        0.5,
        2.0,
    )
    assert keys["bits_per_byte"] == pytest.approx(2.0 / math.log(2))  # one text token, of one byte
    assert tuple(books[name] for name in counted) == (
        10,
        0,
        None,
        None,
    )
    assert books["text_loss"] == 2.0
    assert books["bits_per_byte"] == pytest.approx(10.0 / math.log(2) / 15)


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
