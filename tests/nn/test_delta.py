"""A memory of associations, written by the delta rule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from famcli.nn import DecoderConfig, FamConfig, State
from famcli.nn.delta import features, write
from famcli.nn.rope import rotation
from famcli.nn.rope_scaling import inverse_frequencies
from famcli.nn.shapes import state_shapes
from tests.nn.reference import attend_reference
from tests.nn.test_decoder import CONFIG, assert_same_state, make, read, tokens_of

DELTA = FamConfig(8, 1, 3, memory_update="delta")


def test_features_are_products_of_halves_and_of_length_one() -> None:
    x = torch.tensor([1.0, -2.0, 3.0, 0.5])
    halves = [1.0, 0.0, 3.0, 0.5, 0.0, 2.0, 0.0, 0.0]
    products = [halves[i] * halves[i - shift] for shift in (1, 2, 3) for i in range(8)]
    length = math.sqrt(sum(each * each for each in products))
    torch.testing.assert_close(features(x), torch.tensor(products) / length)
    assert float(features(torch.zeros(4)).abs().max()) == 0


@torch.no_grad()
def test_a_memory_of_associations_follows_its_equations_written_out() -> None:
    """One layer, three blocks, no segments: what is read token by token, and what is written row by row."""
    config = DecoderConfig(61, 32, 48, 1, 4, 2, 8)
    network, tokens = make(FamConfig(8, 0, 3, memory_update="delta"), config), tokens_of(1, 24)
    layer, attention = network.layers[0], network.layers[0].self_attn
    asked, keyed, weighed, valued = network.memory_maps[0].split_with_sizes([8, 8, 1, 32])
    frequencies, gain = inverse_frequencies(config.rope, 8, 24)

    def projected(rows: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        rotate = rotation(torch.arange(first, first + rows.shape[1])[None], frequencies, gain, torch.float32)
        normed = layer.input_layernorm(rows)
        keys, values = attention.keys_values(normed)
        return rotate(attention.queries(normed)), rotate(keys), values

    q, k, v = projected(network.memory_prompt[None], -3)
    first_rows = layer.attention_output_and_mlp(
        network.memory_prompt[None], attend_reference(q, [(k, v)], causal=False)
    )
    held, norm, expected = torch.zeros(48, 32), torch.zeros(48), []
    for t in range(3):
        x = network.model.embed_tokens(tokens[:, t * 8 : t * 8 + 8])
        recalled = []
        for token in x[0]:
            key = features(asked @ layer.input_layernorm(token))
            recalled.append(held.T @ key / max(1.0, float(norm @ key)))
        x = x + torch.stack(recalled)
        q, k, v = projected(x, t * 8)
        expected.append(layer.attention_output_and_mlp(x, attend_reference(q, [(k, v)], causal=True)))
        _, kf, vf = projected(first_rows, t * 8 - 3)
        qf, _, _ = projected(first_rows, t * 8 + 5)
        made = attend_reference(qf, [(kf, vf), (k, v)], causal=False)
        rows = layer.attention_output_and_mlp(torch.zeros(1, 3, 32), made)
        for row in layer.input_layernorm(rows[0]):
            key = features(keyed @ row)
            norm = norm + max(0.0, 1 - float(norm @ key)) * key
            replaced = valued @ row - held.T @ key / (norm @ key)
            held = held + torch.outer(key, torch.sigmoid(weighed @ row) * replaced)
    hidden, state = network.read(tokens, network.start())
    torch.testing.assert_close(hidden, torch.cat(expected, dim=1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state.memories[0][0], torch.cat((held, norm[:, None]), dim=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cuts", [[8] * 6, [1] * 48, [24, 5, 3, 8, 8]])
@pytest.mark.parametrize("mode", ["on", "frozen", "none"])
@torch.no_grad()
def test_the_paths_agree_for_a_memory_of_associations(cuts: list[int], mode: str) -> None:
    network, tokens = make(DELTA), tokens_of(2, 48)
    together = read(network, tokens, network.start(2, mode), [48])  # type: ignore[arg-type]
    other = read(network, tokens, network.start(2, mode), cuts)  # type: ignore[arg-type]
    torch.testing.assert_close(other[0], together[0], rtol=2e-4, atol=2e-4)
    assert_same_state(other[1], together[1])
    tensors, meta = together[1].to_tensors()
    assert {name: tuple(each.shape) for name, each in tensors.items()} == state_shapes(CONFIG, DELTA, meta, 2)


@torch.no_grad()
def test_an_empty_memory_gives_nothing_and_a_passed_on_one_is_read_beside_it() -> None:
    network, tokens = make(DELTA), tokens_of(2, 24)
    frozen, _ = network.read(tokens, network.start(2, "frozen"))
    torch.testing.assert_close(frozen, network.read(tokens, network.start(2, "none"))[0])
    hidden, state = network.read(tokens, network.start(2))
    assert torch.equal(hidden[:, :8], frozen[:, :8])
    assert float((hidden - frozen)[:, 8:].abs().min(-1).values.max()) > 1e-3
    passed = state.split()[0].memory_alone()
    both, _ = network.read(tokens, State.stack([passed, network.start()]))
    torch.testing.assert_close(both[:1], network.read(tokens[:1], passed)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both[1:], hidden[1:], rtol=1e-4, atol=1e-4)
    assert float((both - hidden)[0, :8].abs().max()) > 1e-3


@torch.no_grad()
def test_associations_stay_bounded_where_all_rows_write_alike() -> None:
    """Sixteen rows under almost one key, block after block: written side by side they would overshoot ever further."""
    generator, sizes = torch.Generator().manual_seed(0), list[float]()
    memory, centre = torch.zeros(1, 48, 9), torch.randn(8, generator=generator)
    for _ in range(200):
        keys = features(centre + 0.3 * torch.randn(1, 16, 8, generator=generator))
        values = torch.randn(1, 16, 8, generator=generator)
        memory = write(memory, keys, torch.full((1, 16, 1), 0.9), values)
        sizes.append(float(memory.abs().max()))
        found = keys @ memory
        assert float(found[..., -1].min()) > 0.99  # every key is known now
    assert max(sizes[100:]) < 1.5 * max(sizes[:100])
    # What was written last is found under its key.
    torch.testing.assert_close(found[0, -1, :-1] / found[0, -1, -1], values[0, -1], rtol=0.5, atol=0.5)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_every_parameter_of_associations_learns_from_two_blocks_later(checkpointed: bool) -> None:
    network, tokens = make(FamConfig(8, 0, 3, memory_update="delta")), tokens_of(2, 24)
    network.checkpoint_gradients = checkpointed
    hidden, _ = network.read(tokens, network.start(2))
    network.logits(hidden[:, -1:]).logsumexp(-1).sum().backward()
    assert network.memory_maps.grad is not None
    for gradient in (network.memory_prompt.grad, *network.memory_maps.grad[0].split_with_sizes([8, 8, 1, 32])):
        assert gradient is not None
        assert float(gradient.abs().sum()) > 0
