"""How a memory takes in a block: the gated update and random state passing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from famcli.nn import DecoderConfig, FamConfig, State
from famcli.nn.memory import memory_gate
from famcli.nn.rope import rotation
from famcli.nn.rope_scaling import inverse_frequencies
from tests.nn.test_decoder import CONFIG, assert_same_state, make, read, tokens_of

GATED = FamConfig(8, 1, 3, memory_update="gated")


def test_the_gate_is_shut_up_to_its_threshold_and_open_at_one() -> None:
    share = torch.tensor([0.0, 0.3, 0.5, 0.75, 1.0])
    torch.testing.assert_close(memory_gate(share), torch.tensor([0.0, 0.0, 0.0, 0.5, 1.0]))
    torch.testing.assert_close(memory_gate(share, 0.6), torch.tensor([0.0, 0.0, 0.0, 0.375, 1.0]))


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_a_gated_memory_follows_its_equations_written_out(threshold: float) -> None:
    """One layer, two blocks: the first update has gate 1, the second that of its share, head by head and row by row."""
    config = DecoderConfig(61, 32, 48, 1, 4, 2, 8)
    network, tokens = make(replace(GATED, memory_segments=0, gate_threshold=threshold), config), tokens_of(1, 16)
    layer = network.layers[0]
    frequencies, gain = inverse_frequencies(config.rope, 8, 16)

    def projected(rows: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        rotate = rotation(torch.arange(first, first + rows.shape[1])[None], frequencies, gain, torch.float32)
        normed = layer.input_layernorm(rows)
        keys, values = layer.self_attn.keys_values(normed)
        return rotate(layer.self_attn.queries(normed)), rotate(keys), values

    with torch.no_grad():
        memory = network.start().layers[0].memory
        x = network.model.embed_tokens(tokens)
        for t in range(2):
            _, k, v = projected(x[:, t * 8 : t * 8 + 8], t * 8)
            _, kf, vf = projected(memory, t * 8 - 3)
            qf, _, _ = projected(memory, t * 8 + 5)
            keys, values = torch.cat((kf, k), 2), torch.cat((vf, v), 2)
            rows = []
            for row in range(3):
                heads, block_weight = [], 0.0
                for head in range(4):
                    weights = torch.softmax(keys[0, head // 2] @ qf[0, head, row] / math.sqrt(8), 0)
                    block_weight += float(weights[3:].sum()) / 4
                    heads.append(weights @ values[0, head // 2])
                gate = 1.0 if t == 0 else max(0.0, (block_weight - threshold) / (1 - threshold))
                a = (1 - gate) * memory[0, row] + gate * (layer.self_attn.o_proj(torch.cat(heads)))
                rows.append(a + gate * layer.mlp(layer.post_attention_layernorm(a)))
            memory = torch.stack(rows)[None]
        _, state = network.read(tokens, network.start())
    torch.testing.assert_close(state.layers[0].memory, memory, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cuts", [[8] * 6, [1] * 48, [24, 5, 3, 8, 8]])
def test_the_paths_agree_for_a_gated_memory(cuts: list[int]) -> None:
    network, tokens = make(GATED), tokens_of(2, 48)
    with torch.no_grad():
        together = read(network, tokens, network.start(2), [48])
        other = read(network, tokens, network.start(2), cuts)
    torch.testing.assert_close(other[0], together[0], rtol=2e-4, atol=2e-4)
    assert_same_state(other[1], together[1])


def test_a_row_that_looks_at_itself_is_left_exactly_as_it_was() -> None:
    """More than half of the attention stays with the memory: not one bit changes, for any number of blocks."""
    network = make(GATED)
    with torch.no_grad():
        for layer in network.layers:
            layer.self_attn.q_proj.weight.zero_()
            layer.self_attn.k_proj.weight.zero_()  # all scores equal
        network.fam = replace(GATED, block_size=3)
        first = network.read(tokens_of(1, 3), network.start())[1]
        later = network.read(tokens_of(1, 30, seed=4), first)[1]
    for before, after in zip(first.layers, later.layers, strict=True):
        assert torch.equal(before.memory, after.memory)


def test_a_gated_memory_stays_bounded_where_an_additive_one_grows() -> None:
    tokens = tokens_of(1, 8 * 256)
    size = {}
    for update in ("additive", "gated"):
        network = make(replace(GATED, memory_update=update))
        with torch.no_grad():
            early = network.read(tokens[:, : 8 * 16], network.start())[1]
            late = network.read(tokens[:, 8 * 16 :], early)[1]
        size[update] = [float(s.layers[-1].memory.square().mean().sqrt()) for s in (early, late)]
    assert size["additive"][1] > 4 * size["additive"][0]
    assert size["gated"][1] < 2 * size["gated"][0]


def test_an_unknown_update_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'memory_update' must be one of .*kept, delta, it is \"leaky\""):
        FamConfig(memory_update="leaky")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'gate_threshold' must be between 0 and 0\.999, it is 1\.0"):
        FamConfig(gate_threshold=1.0)


# -------------------------------------------------------------------------------------------- random state passing


@pytest.mark.parametrize("update", ["additive", "gated"])
def test_a_passed_on_memory_begins_a_document(update: str) -> None:
    """It stands where the initial memory would, its residual is kept, and no gradient reaches what made it."""
    network = make(FamConfig(8, 1, 3, memory_update=update))  # type: ignore[arg-type]
    _, ended = network.read(tokens_of(2, 24), network.start(2))
    start = ended.memory_alone()
    assert start.memory_is_initial.tolist() == [False, False]
    assert start.num_closed == start.fill == 0
    assert start.position.tolist() == [0, 0]
    for layer, source in zip(start.layers, ended.layers, strict=True):
        assert torch.equal(layer.memory, source.memory)
        assert not layer.memory.requires_grad
        assert layer.segment_keys.shape[2] == 0
    fresh = network.read(tokens_of(2, 8, seed=1), network.start(2))[0]
    passed, after = network.read(tokens_of(2, 8, seed=1), start)
    assert not torch.allclose(fresh, passed)
    with torch.no_grad():
        zeroed = network.read(tokens_of(2, 8, seed=1), replace(start, memory_is_initial=torch.tensor([True, True])))[1]
    assert not torch.allclose(after.layers[0].memory, zeroed.layers[0].memory)


@pytest.mark.parametrize(
    "fam",
    [
        FamConfig(8, 1, 3),
        FamConfig(8, 1, 3, memory_update="gated"),
    ],
)
@pytest.mark.parametrize("blocks", [1, 3])
def test_rows_that_begin_and_rows_that_go_on_are_read_together(fam: FamConfig, blocks: int) -> None:
    """A first update is one row's own affair: each row, and the prompt's gradient, is what it is alone."""
    network = make(fam)
    with torch.no_grad():
        passed = network.read(tokens_of(1, 24), network.start())[1].memory_alone()
        far = network.read(tokens_of(1, 40), passed)[1].without_segments()
    tokens = tokens_of(4, 8 * blocks, seed=2)

    def read(rows: slice, states: list[State]) -> tuple[torch.Tensor, State, torch.Tensor]:
        hidden, after = network.read(tokens[rows], State.stack(states))
        (gradient,) = torch.autograd.grad(
            network.logits(hidden).logsumexp(-1).sum() + after.layers[-1].memory.sum(), network.memory_prompt
        )
        return hidden, after, gradient

    together = read(slice(None), [network.start(2), passed, far])
    apart = [read(slice(0, 2), [network.start(2)])]
    for row, state in ((2, passed), (3, far)):
        hidden, after = network.read(tokens[row : row + 1], state)
        apart.append((hidden, after, torch.zeros_like(network.memory_prompt)))
    assert not together[1].memory_is_initial.any()
    torch.testing.assert_close(together[0], torch.cat([hidden for hidden, _, _ in apart]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together[2], apart[0][2], rtol=1e-4, atol=1e-4)
    for index, layer in enumerate(together[1].layers):
        memory = torch.cat([state.layers[index].memory for _, state, _ in apart])
        torch.testing.assert_close(layer.memory, memory, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------- gradient checkpoints


@pytest.mark.parametrize("fam", [GATED, FamConfig(8, 1, 3)])
def test_checkpointed_gradients_are_the_same(fam: FamConfig) -> None:
    gradients = []
    for checkpointed in (False, True):
        network = make(fam, CONFIG)
        network.checkpoint_gradients = checkpointed
        hidden, _ = network.read(tokens_of(2, 24), network.start(2))
        network.logits(hidden).logsumexp(-1).sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
