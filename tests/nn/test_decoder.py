"""The FAM decoder against its reductions (arXiv 2404.09173) and against itself in other calls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from famcli.nn import MEMORY_MODES, DecoderConfig, FamConfig, MemoryMode, State
from famcli.nn.decoder import Decoder
from famcli.nn.layers import RMSNorm
from famcli.nn.rope import rotation
from famcli.nn.rope_scaling import inverse_frequencies
from famcli.nn.shapes import parameter_shapes, state_shapes
from tests.nn.reference import attend_reference

CONFIG = DecoderConfig(
    vocab_size=61,
    hidden_size=32,
    intermediate_size=48,
    num_layers=3,
    num_heads=4,
    num_key_value_heads=2,
    head_dim=8,
)
FAM = FamConfig(block_size=8, memory_segments=2, fam_length=3, sink_tokens=2)


def make(fam: FamConfig = FAM, config: DecoderConfig = CONFIG) -> Decoder:
    network = Decoder(config, fam)
    network.reset_parameters(seed=3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)  # far from the linear regime, so that a wrong key shows
    return network


NETWORK = make()


def tokens_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, CONFIG.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def read(network: Decoder, tokens: Tensor, state: State, cuts: list[int]) -> tuple[Tensor, State]:
    """Read in calls of the given sizes; a size that would be no legal call is cut at the block's end."""
    hidden, at, c = [torch.empty(len(tokens), 0, network.config.hidden_size)], 0, network.fam.block_size
    sizes = [*cuts, tokens.shape[1]]
    while at < tokens.shape[1]:
        n = min(sizes.pop(0) if sizes else tokens.shape[1], tokens.shape[1] - at)
        room = c - state.fill
        if n > room or (state.fill == 0 and n >= c):
            n = room if state.fill else n // c * c
        h, state = network.read(tokens[:, at : at + n], state)
        hidden.append(h)
        at += n
    return torch.cat(hidden, dim=1), state


def assert_same_state(a: State, b: State, tolerance: float = 2e-4) -> None:
    assert a.kind == b.kind
    assert torch.equal(a.memory_is_initial, b.memory_is_initial)
    other = b.to_tensors()[0]
    for name, tensor in a.to_tensors()[0].items():
        assert tensor.shape == other[name].shape, name
        torch.testing.assert_close(
            tensor, other[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def causal_oracle(network: Decoder, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
    """Hidden rows by one masked attention over the whole text; `visible` [n, n] defaults to causal."""
    n, config = tokens.shape[1], network.config
    frequencies, gain = inverse_frequencies(config.rope, config.head_dim, n)
    rotate = rotation(torch.arange(n)[None], frequencies, gain, torch.float32)
    mask = torch.ones(n, n, dtype=torch.bool).tril() if visible is None else visible
    x = network.model.embed_tokens(tokens)
    for layer in network.layers:
        normed = layer.input_layernorm(x)
        q, (k, v) = layer.self_attn.queries(normed), layer.self_attn.keys_values(normed)
        attended = functional.scaled_dot_product_attention(rotate(q), rotate(k), v, attn_mask=mask, enable_gqa=True)
        x = layer.attention_output_and_mlp(x, attended)
    return x


@pytest.mark.parametrize("length", [7, 8, 9, 16, 17, 24, 25, 41])
def test_without_memory_it_is_block_sliding_window_attention(length: int) -> None:
    network, tokens = make(FamConfig(8, 2, 0)), tokens_of(2, length)
    block = torch.arange(length) // 8
    visible = torch.ones(length, length, dtype=torch.bool).tril() & (block[:, None] - block[None] <= 2)
    with torch.no_grad():
        hidden, _ = read(network, tokens, network.start(2), [])
        torch.testing.assert_close(hidden, causal_oracle(network, tokens, visible), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 8, 30])
def test_with_segments_for_everything_it_is_full_attention(length: int) -> None:
    network, tokens = make(FamConfig(8, 10, 0)), tokens_of(2, length)
    with torch.no_grad():
        hidden, _ = read(network, tokens, network.start(2), [3, 5])
        torch.testing.assert_close(hidden, causal_oracle(network, tokens), rtol=1e-4, atol=1e-4)


def test_memory_follows_the_papers_equations_written_out() -> None:
    """One layer, two blocks, no segments: queries, keys and residuals as in section 3.2, row by row."""
    config = DecoderConfig(61, 32, 48, 1, 4, 2, 8)
    network, tokens = make(FamConfig(8, 0, 3), config), tokens_of(1, 16)
    layer = network.layers[0]
    frequencies, gain = inverse_frequencies(config.rope, 8, 16)

    def projected(rows: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        rotate = rotation(torch.arange(first, first + rows.shape[1])[None], frequencies, gain, torch.float32)
        normed = layer.input_layernorm(rows)
        keys, values = layer.self_attn.keys_values(normed)
        return rotate(layer.self_attn.queries(normed)), rotate(keys), values

    with torch.no_grad():
        prompt = network.memory_prompt[None]
        q, k, v = projected(prompt, -3)
        memory = layer.attention_output_and_mlp(prompt, attend_reference(q, [(k, v)], causal=False))
        x = network.model.embed_tokens(tokens)
        expected = []
        for t in range(2):
            block = x[:, t * 8 : t * 8 + 8]
            q, k, v = projected(block, t * 8)
            _, kf, vf = projected(memory, t * 8 - 3)
            qf, _, _ = projected(memory, t * 8 + 5)
            expected.append(layer.attention_output_and_mlp(block, attend_reference(q, [(kf, vf), (k, v)], causal=True)))
            residual = torch.zeros_like(memory) if t == 0 else memory
            memory = layer.attention_output_and_mlp(residual, attend_reference(qf, [(kf, vf), (k, v)], causal=False))
        hidden, state = network.read(tokens, network.start())
    torch.testing.assert_close(hidden, torch.cat(expected, 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state.layers[0].memory, memory, rtol=1e-4, atol=1e-4)


def test_sinks_stand_before_the_oldest_segment_once_block_0_has_left() -> None:
    config = DecoderConfig(61, 32, 48, 1, 4, 2, 8)
    network, tokens = make(FamConfig(8, 1, 0, sink_tokens=2), config), tokens_of(1, 32)
    layer = network.layers[0]
    frequencies, gain = inverse_frequencies(config.rope, 8, 16)
    with torch.no_grad():
        hidden, _ = network.read(tokens, network.start())
        x = network.model.embed_tokens(tokens)
        normed = layer.input_layernorm(x)
        (keys, values), queries = layer.self_attn.keys_values(normed), layer.self_attn.queries(normed)
        for t in range(4):
            block, seen = slice(t * 8, t * 8 + 8), slice(max(0, t - 1) * 8, t * 8 + 8)
            rotate = rotation(torch.arange(t * 8, t * 8 + 8)[None], frequencies, gain, torch.float32)
            rotate_seen = rotation(torch.arange(seen.start, seen.stop)[None], frequencies, gain, torch.float32)
            rotate_sinks = rotation(torch.arange(seen.start - 2, seen.start)[None], frequencies, gain, torch.float32)
            parts = [(rotate_sinks(keys[:, :, :2]), values[:, :, :2])] if t >= 2 else []
            parts += [(rotate_seen(keys[:, :, seen]), values[:, :, seen])]
            attended = attend_reference(rotate(queries[:, :, block]), parts, causal=True)
            expected = layer.attention_output_and_mlp(x[:, block], attended)
            torch.testing.assert_close(hidden[:, block], expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    length=st.sampled_from([7, 8, 9, 17, 24, 25, 43, 64]),
    cuts=st.lists(st.integers(1, 30), max_size=12),
    mode=st.sampled_from(MEMORY_MODES),
)
def test_any_split_equals_one_shot(length: int, cuts: list[int], mode: MemoryMode) -> None:
    tokens = tokens_of(2, length)
    with torch.no_grad():
        one, state = read(NETWORK, tokens, NETWORK.start(2, mode), [])
        other, split_state = read(NETWORK, tokens, NETWORK.start(2, mode), cuts)
    torch.testing.assert_close(NETWORK.logits(one), NETWORK.logits(other), rtol=2e-4, atol=2e-4)
    assert_same_state(state, split_state)


@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_the_three_paths_agree(mode: MemoryMode) -> None:
    tokens = tokens_of(2, 48)
    with torch.no_grad():
        together = read(NETWORK, tokens, NETWORK.start(2, mode), [48])
        by_block = read(NETWORK, tokens, NETWORK.start(2, mode), [8] * 6)
        by_token = read(NETWORK, tokens, NETWORK.start(2, mode), [1] * 48)
    for hidden, state in (by_block, by_token):
        torch.testing.assert_close(hidden, together[0], rtol=2e-4, atol=2e-4)
        assert_same_state(state, together[1])


def test_paths_with_gradient_agree_with_those_without() -> None:
    tokens = tokens_of(2, 29)
    with torch.no_grad():
        plain, _ = read(NETWORK, tokens, NETWORK.start(2), [8, 16, 3, 1, 1])
    graded, state = read(NETWORK, tokens, NETWORK.start(2), [16, 8, 2, 3])
    torch.testing.assert_close(plain, graded, rtol=2e-4, atol=2e-4)
    assert state.layers[0].memory.requires_grad


def test_shifting_positions_by_a_billion_changes_nothing() -> None:
    tokens = tokens_of(1, 29)
    with torch.no_grad():
        here, _ = read(NETWORK, tokens, NETWORK.start(), [])
        start = NETWORK.start()
        moved = replace(start, position=start.position + 10**9)
        there, state = read(NETWORK, tokens, moved, [])
    assert int(state.position) == 10**9 + 29
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("changed", [0, 7, 8, 20, 28])
def test_a_token_changes_nothing_before_it(changed: int) -> None:
    tokens = tokens_of(1, 29)
    other = tokens.clone()
    other[0, changed] = (other[0, changed] + 1) % CONFIG.vocab_size
    with torch.no_grad():
        a, _ = read(NETWORK, tokens, NETWORK.start(), [])
        b, _ = read(NETWORK, other, NETWORK.start(), [])
    assert torch.equal(a[:, :changed], b[:, :changed])
    assert not torch.equal(a[:, changed], b[:, changed])


@pytest.mark.parametrize(("fam_length", "segments", "reaches"), [(3, 0, True), (0, 0, False), (0, 1, True)])
def test_gradient_reaches_block_1_only_through_what_carries_it(fam_length: int, segments: int, reaches: bool) -> None:
    """The loss of block 3 and block 1's embeddings, where a one-layer window of m = 1 spans two blocks."""
    network = make(FamConfig(8, segments, fam_length))
    embedded: list[Tensor] = []
    hook = network.model.embed_tokens.register_forward_hook(lambda _m, _i, out: embedded.append(out))
    hidden, _ = network.read(tokens_of(1, 24), network.start())
    hook.remove()
    (gradient,) = torch.autograd.grad(network.logits(hidden[:, 16:]).logsumexp(-1).sum(), embedded[0])
    assert bool(gradient[:, :8].abs().sum() > 0) == reaches
    assert gradient[:, 16:].abs().sum() > 0


def test_the_memory_prompt_learns_and_the_last_block_s_memory_gets_no_gradient() -> None:
    network = make()
    hidden, state = network.read(tokens_of(1, 24), network.start())
    network.logits(hidden).logsumexp(-1).sum().backward()
    assert network.memory_prompt.grad is not None
    assert network.memory_prompt.grad.abs().sum() > 0
    assert all(not layer.memory.requires_grad for layer in state.detach().layers)


def test_frozen_memory_stays_initial_and_none_has_no_rows() -> None:
    tokens = tokens_of(1, 32)
    with torch.no_grad():
        for mode, rows in (("frozen", 3), ("none", 0)):
            start = NETWORK.start(1, mode)
            _, state = read(NETWORK, tokens, start, [])
            assert state.memory_is_initial
            assert all(torch.equal(a.memory, b.memory) for a, b in zip(start.layers, state.layers, strict=True))
            assert state.layers[0].memory.shape[1] == rows


def test_initial_memory_is_cached_only_until_weights_change() -> None:
    network = make()
    with torch.no_grad():
        before = network.start().layers[-1].memory
        assert network.start().layers[-1].memory.data_ptr() == before.data_ptr()
        network.memory_prompt.add_(1.0)
        assert not torch.equal(network.start().layers[-1].memory, before)
    assert network.start().layers[0].memory.requires_grad


@pytest.mark.parametrize("cuts", [[], [8, 1, 1, 1, 1]])
def test_forks_do_not_disturb_one_another(cuts: list[int]) -> None:
    tokens = tokens_of(3, 40)
    with torch.no_grad():
        _, trunk = read(NETWORK, tokens[:1, :12], NETWORK.start(), cuts)
        kept = {name: tensor.clone() for name, tensor in trunk.to_tensors()[0].items()}
        left, left_state = read(NETWORK, tokens[1:2], trunk, [2, 1, 1])
        right, _ = read(NETWORK, tokens[2:3], trunk, [1, 1, 1])
        again, again_state = read(NETWORK, tokens[1:2], trunk, [2, 1, 1])
    assert torch.equal(left, again)
    assert not torch.equal(left, right)
    assert_same_state(left_state, again_state, 0)
    assert all(torch.equal(kept[name], tensor) for name, tensor in trunk.to_tensors()[0].items())


def test_segments_that_are_taken_away_while_decoding_are_not_seen() -> None:
    tokens = tokens_of(1, 19)
    with torch.no_grad():
        _, state = read(NETWORK, tokens[:, :18], NETWORK.start(), [16, 1, 1])
        seen, _ = NETWORK.read(tokens[:, 18:], state)
        unseen, after = NETWORK.read(tokens[:, 18:], state.without_segments())
        fresh, expected = NETWORK.read(tokens[:, 18:], State.from_tensors(*state.without_segments().to_tensors()))
    assert state.layers[0].open.lead
    assert torch.equal(unseen, fresh)
    assert not torch.equal(unseen, seen)
    assert_same_state(after, expected, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_of_one_row_is_that_of_many(dtype: torch.dtype) -> None:
    norm = RMSNorm(CONFIG.hidden_size, 1e-5).to(dtype)
    rows = 30 * torch.randn(5, 1, CONFIG.hidden_size, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, CONFIG.hidden_size))
        torch.testing.assert_close(torch.stack([norm(row) for row in rows]), norm(rows))


def test_rows_of_different_position_stack_and_split() -> None:
    with torch.no_grad():
        states = [read(NETWORK, tokens_of(1, n, seed=n), NETWORK.start(), [])[1] for n in (27, 35, 51)]
        more = tokens_of(3, 13, seed=9)
        stacked = State.stack(states)
        assert stacked.position.tolist() == [27, 35, 51]
        hidden, state = read(NETWORK, more, stacked, [5])
        for row, alone in enumerate(states):
            expected, expected_state = read(NETWORK, more[row : row + 1], alone, [5])
            torch.testing.assert_close(hidden[row : row + 1], expected, rtol=2e-4, atol=2e-4)
            assert_same_state(state.split()[row], expected_state)


def test_states_that_differ_cannot_be_stacked() -> None:
    with torch.no_grad():
        _, early = read(NETWORK, tokens_of(1, 3), NETWORK.start(), [])
    with pytest.raises(ValueError, match="different kinds"):
        State.stack([early, NETWORK.start()])


@pytest.mark.parametrize("length", [0, 1, 7, 8, 17, 43])
def test_a_state_survives_tensors_and_has_the_declared_shapes(length: int) -> None:
    with torch.no_grad():
        _, state = read(NETWORK, tokens_of(2, length), NETWORK.start(2), [])
        tensors, meta = state.to_tensors()
        assert {name: tuple(t.shape) for name, t in tensors.items()} == state_shapes(CONFIG, FAM, meta, batch=2)
        back = State.from_tensors(tensors, meta)
        more = tokens_of(2, 21, seed=5)
        assert torch.equal(read(NETWORK, more, back, [3])[0], read(NETWORK, more, state, [3])[0])


@pytest.mark.parametrize("n", [0, 9, 12])
def test_calls_that_straddle_blocks_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        NETWORK.read(tokens_of(1, n), NETWORK.start())


def test_another_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="2 rows of tokens"):
        NETWORK.read(tokens_of(2, 3), NETWORK.start())


@pytest.mark.parametrize("cuts", [[48], [8] * 6, [5, 3, 1, 7]])
def test_the_attention_that_tokens_receive_is_that_of_the_memory(cuts: list[int]) -> None:
    tokens, state = tokens_of(2, 48), NETWORK.start(2)
    whole: list[Tensor] = []
    seen: list[Tensor] = []
    with torch.no_grad():
        NETWORK.read(tokens, state, whole)
        at = 0
        for n in cuts:
            _, state = NETWORK.read(tokens[:, at : at + n], state, seen)
            at += n
    (expected,) = whole
    assert expected.shape == (2, 48)
    assert bool((expected.unflatten(1, (6, 8)).sum(-1) < 1).all())
    got = torch.cat(seen, dim=1)
    torch.testing.assert_close(got, expected[:, : got.shape[1]], rtol=1e-3, atol=1e-5)


def test_bfloat16_agrees_roughly_and_keeps_its_memory_in_float32() -> None:
    network = make().to(torch.bfloat16)
    tokens = tokens_of(1, 29)
    with torch.no_grad():
        hidden, state = read(network, tokens, network.start(), [])
        by_token, _ = read(network, tokens, network.start(), [1] * 29)
        wide, _ = read(make(), tokens, NETWORK.start(), [])
    assert state.layers[0].memory.dtype == torch.float32
    assert state.layers[0].segment_keys.dtype == torch.bfloat16
    for rows in (hidden, by_token):
        assert functional.cosine_similarity(rows.float(), wide, dim=-1).min() > 0.98


def test_a_state_moves_between_types() -> None:
    with torch.no_grad():
        _, state = read(NETWORK, tokens_of(1, 19), NETWORK.start(), [])
    narrow = state.to(dtype=torch.bfloat16)
    assert narrow.layers[0].segment_keys.dtype == torch.bfloat16
    assert narrow.layers[0].memory.dtype == torch.float32
    assert sum(t.nbytes for t in narrow.tensors().values()) < sum(t.nbytes for t in state.tensors().values())


@pytest.mark.parametrize(("tied", "biased", "fam_length"), [(False, False, 3), (True, True, 0), (False, True, 0)])
def test_the_shapes_of_parameters_are_known_without_the_network(tied: bool, biased: bool, fam_length: int) -> None:
    config = DecoderConfig(61, 24, 48, 2, 4, 2, 8, tie_embeddings=tied, attention_bias=biased, mlp_bias=biased)
    fam = FamConfig(8, 1, fam_length)
    with torch.device("meta"):
        network = Decoder(config, fam)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    assert parameter_shapes(config, fam) == shapes
