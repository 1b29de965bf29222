"""Outside famcli/nn the networks are known by their contract alone, and the contract holds for each of them."""

from __future__ import annotations

import ast
from math import prod
from pathlib import Path
from typing import get_args

import pytest
import torch

from famcli.nn import FamConfig, Network, State, make_network
from famcli.nn.config import ARCHITECTURES, MemoryUpdate
from famcli.nn.shapes import memory_shape, state_shapes
from tests.nn.test_decoder import CONFIG, tokens_of

PACKAGE = Path(__file__).parents[2] / "famcli"
CONTRACT = {"famcli.nn", "famcli.nn.config", "famcli.nn.network", "famcli.nn.shapes"}
# Adapters and quantized matrices replace a network's weights, whatever network it is; frequencies know no network.
# A draft is no network: it guesses for one. What a memory should keep of a text is asked of one.
MATRICES = {"famcli.nn.kernels.quantized", "famcli.nn.kernels.few_bits"}
WEIGHTS = {"famcli.nn.lora", "famcli.nn.rope_scaling", "famcli.nn.draft", "famcli.nn.wanted"} | MATRICES
OUTSIDE = sorted(file for file in PACKAGE.rglob("*.py") if file.relative_to(PACKAGE).parts[0] != "nn")


@pytest.mark.parametrize("file", OUTSIDE, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_nothing_outside_knows_a_network_behind_its_contract(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("famcli.nn"):
            assert node.module in CONTRACT | WEIGHTS, f"line {node.lineno} imports {node.module}"
        # A network's `layers` are part of the contract (sharding divides them), an adapter's are numbers.
        if isinstance(node, ast.Attribute) and node.attr == "layers" and isinstance(node.value, ast.Name):
            assert node.value.id in ("network", "adapter"), f"line {node.lineno} opens {node.value.id}.layers"
        assert not isinstance(node, ast.Name) or node.id not in ("LayerState", "OpenRows", "DecoderState")


@pytest.mark.parametrize(
    ("architecture", "update"),
    [*(("fam", update) for update in get_args(MemoryUpdate)), *((each, "additive") for each in ARCHITECTURES)],
)
@torch.no_grad()
def test_every_architecture_keeps_the_contract(architecture: str, update: MemoryUpdate) -> None:
    fam_length = 3 if architecture == "fam" else 0
    fam = FamConfig(8, 2, fam_length, memory_update=update, architecture=architecture)
    network = make_network(CONFIG, fam)
    network.reset_parameters(seed=0)
    assert isinstance(network, Network)
    hidden, state = network.read(tokens_of(2, 8), network.start(2))
    assert hidden.shape == (2, 8, CONFIG.hidden_size)
    assert network.logits(hidden[:, -1:]).shape == (2, 1, CONFIG.vocab_size)
    assert isinstance(state, State)
    assert isinstance(state, network.state_class)
    tensors, meta = state.to_tensors()
    assert meta["architecture"] == architecture
    assert {name: tuple(t.shape) for name, t in tensors.items()} == state_shapes(CONFIG, fam, meta, batch=2)
    assert type(State.from_tensors(tensors, meta)) is type(state)
    assert sum(row[:1].numel() for row in state.memories) == prod(memory_shape(CONFIG, fam))
    assert state.memory_squares().shape == (CONFIG.num_layers, 2)


@pytest.mark.parametrize("decoded", [0, 2])
@torch.no_grad()
def test_other_memories_stand_where_the_old_ones_stood_even_while_a_block_is_open(decoded: int) -> None:
    network = make_network(CONFIG, FamConfig(block_size=8, memory_segments=1, fam_length=3))
    network.reset_parameters(seed=0)
    _, state = network.read(tokens_of(1, 8), network.start())
    _, other = network.read(tokens_of(1, 8, seed=1), network.start())
    _, opened = network.read(tokens_of(1, 3, seed=2), state)
    for _ in range(decoded):  # single tokens keep a copy of the memory's keys before the block's
        _, opened = network.read(tokens_of(1, 1, seed=2), opened)
    swapped = opened.with_memories(other.memories)
    expected = State.from_tensors(*swapped.to_tensors())
    token = tokens_of(1, 1, seed=3)
    assert torch.equal(network.read(token, swapped)[0], network.read(token, expected)[0])
    assert not torch.equal(network.read(token, swapped)[0], network.read(token, opened)[0])
    assert all(map(torch.equal, swapped.memories, other.memories))
