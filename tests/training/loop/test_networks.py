"""Operations as torch counts them."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from famcli.nn import DecoderConfig, FamConfig
from famcli.training.loop.networks import flops_per_token, machine_flops
from tests.helpers import random_network

CONFIG = DecoderConfig(300, 64, 160, 2, 4, 2, 16, tie_embeddings=True)


@pytest.mark.parametrize("fam", [FamConfig(32, 1, 8), FamConfig(32, 2, 0), FamConfig(32, 0, 4)])
def test_operations_of_a_step_are_those_of_its_matrix_products(fam: FamConfig) -> None:
    network = random_network(CONFIG, fam)
    tokens = torch.randint(0, 300, (2, 4 * 32))
    with torch.no_grad():
        _, state = network.read(tokens[:, : 32 * (fam.memory_segments or 1)], network.start(2))  # all segments there
    with FlopCounterMode(display=False) as counter:
        hidden, _ = network.read(tokens, state)
        network.logits(hidden).sum().backward()
    prompt = flops_per_token(CONFIG, fam, 4) - flops_per_token(CONFIG, fam, 10**9)  # not run here
    expected = (flops_per_token(CONFIG, fam, 4) - prompt) * tokens.numel()
    # half of a block's scores are masked, but computed
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.12)


def test_the_machine_does_more_than_nothing() -> None:
    assert machine_flops(torch.device("cpu"), torch.float32) > 1e8
