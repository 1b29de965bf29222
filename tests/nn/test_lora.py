"""Updates of low rank: off they are the base network exactly, on they are what merging gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from famcli.nn.decoder import Decoder
from famcli.nn.lora import LoraConfig, LoraLinear, add_lora, lora_updates
from tests.helpers import TINY_CONFIG, TINY_FAM, random_network

TOKENS = torch.randint(0, TINY_CONFIG.vocab_size, (2, 48), generator=torch.Generator().manual_seed(1))


def logits(network: Decoder) -> torch.Tensor:
    with torch.no_grad():
        hidden, _ = network.read(TOKENS, network.start(2))
        return network.logits(hidden)


def with_updates(lora: LoraConfig, deviation: float = 0.1) -> Decoder:
    network = random_network(TINY_CONFIG, TINY_FAM)
    add_lora(network, lora, seed=4)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("lora_b"):
                parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("targets", [("q_proj",), ("gate_proj", "down_proj"), LoraConfig().targets])
def test_an_update_is_what_is_added_to_the_weight(targets: tuple[str, ...]) -> None:
    network = with_updates(LoraConfig(rank=3, alpha=6.0, targets=targets))
    updates = lora_updates(network)
    assert len(updates) == len(targets) * TINY_CONFIG.num_layers
    merged = random_network(TINY_CONFIG, TINY_FAM)
    with torch.no_grad():
        for name, parameter in merged.named_parameters():
            if name in updates:
                parameter.copy_(updates[name].added_to(parameter, torch.float32))
    adapted = logits(network)
    torch.testing.assert_close(adapted, logits(merged), atol=2e-4, rtol=1e-4)
    assert not torch.allclose(adapted, logits(random_network(TINY_CONFIG, TINY_FAM)), atol=1e-2)


def test_before_training_and_switched_off_it_is_exactly_the_base_network() -> None:
    base = random_network(TINY_CONFIG, TINY_FAM)
    plain = logits(with_updates(LoraConfig(rank=3), deviation=0.0))
    network = with_updates(LoraConfig(rank=3))
    for module in network.modules():
        if isinstance(module, LoraLinear):
            module.active = False
    # one product for several matrices, or one for each, differ by rounding
    torch.testing.assert_close(plain, logits(base), atol=1e-4, rtol=1e-5)
    assert torch.equal(logits(network), plain)


def test_only_updates_and_the_prompt_are_trained() -> None:
    network = with_updates(LoraConfig(rank=3))
    hidden, _ = network.read(TOKENS, network.start(2))
    network.logits(hidden).square().mean().backward()
    for name, parameter in network.named_parameters():
        is_trained = name == "memory_prompt" or name.endswith(("lora_a", "lora_b"))
        assert parameter.requires_grad == is_trained
        assert (parameter.grad is not None) == is_trained
        assert not is_trained or bool(parameter.grad.abs().sum() > 0)


def test_the_update_stays_float32_beside_a_bfloat16_weight() -> None:
    network = random_network(TINY_CONFIG, TINY_FAM).to(torch.bfloat16)
    add_lora(network, LoraConfig(rank=3), seed=1)
    assert {p.dtype for name, p in network.named_parameters() if "lora" in name} == {torch.float32}
    assert network.dtype == torch.bfloat16
    assert logits(network).dtype == torch.bfloat16


def test_a_matrix_with_a_bias() -> None:
    config = replace(TINY_CONFIG, attention_bias=True)
    network = random_network(config, TINY_FAM)
    before = logits(network)
    add_lora(network, LoraConfig(rank=2), seed=1)
    torch.testing.assert_close(logits(network), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"targets": ("q_proj", "head")}, "targets name head"),
        ({"targets": ()}, "targets name nothing"),
    ],
)
def test_numbers_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LoraConfig(), **changes)  # type: ignore[arg-type]


def test_targets_that_the_network_has_not() -> None:
    network = random_network(replace(TINY_CONFIG, gated=False, activation="gelu"), TINY_FAM)
    with pytest.raises(ValueError, match="has none of the targets gate_proj"):
        add_lora(network, LoraConfig(targets=("gate_proj",)), seed=0)
