"""Feedback memory and sliding windows in layers that are not Llama's: the paper's equations through their own path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from famcli.nn import DecoderConfig, FamConfig
from famcli.nn.config import ExpertConfig, RopeConfig
from famcli.nn.decoder import MemoryMode
from famcli.nn.layers import Layer
from famcli.nn.rope import rotation
from famcli.nn.rope_scaling import inverse_frequencies
from famcli.nn.shapes import memory_layers, parameter_shapes, state_shapes
from tests.nn.reference import attend_reference
from tests.nn.test_decoder import assert_same_state, make, read, tokens_of

ONE = DecoderConfig(61, 32, 48, 1, 4, 2, 8)
EVERYTHING = DecoderConfig(
    61,
    32,
    48,
    4,
    4,
    2,
    8,
    attention_bias=True,
    output_bias=False,
    activation="gelu_tanh",
    norm="rms_plus_one",
    norm_place="around",
    query_key_norm="all",
    attention_scale=0.3,
    attention_softcap=4.0,
    logits_softcap=9.0,
    embedding_scale=3.0,
    residual_scale=0.7,
    logits_scale=2.0,
    rotary_dim=4,
    sliding_window=11,
    local_layers=(0, 2),
    local_rope=RopeConfig(theta=50.0),
    unrotated_layers=(1,),
    experts=ExpertConfig(4, 2, 12, dense_layers=(3,)),
)
FAM = FamConfig(block_size=8, memory_segments=2, fam_length=3, sink_tokens=2)


def _serial(layer: Layer, x: Tensor, residual: Tensor, attended: Tensor) -> Tensor:
    a = residual + attended
    return a + layer.mlp(layer.post_attention_layernorm(a))


def _parallel(layer: Layer, x: Tensor, residual: Tensor, attended: Tensor) -> Tensor:
    return residual + attended + layer.mlp(layer.post_attention_layernorm(x))


def _after(layer: Layer, x: Tensor, residual: Tensor, attended: Tensor) -> Tensor:
    a = residual + layer.post_attention_layernorm(attended)
    return a + layer.post_feedforward_layernorm(layer.mlp(a))


def _around(layer: Layer, x: Tensor, residual: Tensor, attended: Tensor) -> Tensor:
    a = residual + layer.post_attention_layernorm(attended)
    return a + layer.post_feedforward_layernorm(layer.mlp(layer.pre_feedforward_layernorm(a)))


def _shrunk(layer: Layer, x: Tensor, residual: Tensor, attended: Tensor) -> Tensor:
    a = residual + 0.3 * attended
    return a + 0.3 * layer.mlp(layer.post_attention_layernorm(a))


PATHS = {
    "llama": (ONE, _serial),
    "gpt-neox": (replace(ONE, norm="layer", gated=False, parallel=True, mlp_bias=True, attention_bias=True), _parallel),
    "olmo2": (replace(ONE, norm_place="after", query_key_norm="all"), _after),
    "gemma": (replace(ONE, norm="rms_plus_one", norm_place="around", query_key_norm="head"), _around),
    "granite": (replace(ONE, residual_scale=0.3), _shrunk),
    "mixtral": (replace(ONE, experts=ExpertConfig(4, 2, 12)), _serial),
}


@pytest.mark.parametrize("cuts", [[16], [8, 8], [1] * 16], ids=["at once", "by block", "by token"])
@pytest.mark.parametrize("path", PATHS)
def test_a_memory_row_takes_the_layers_own_path(path: str, cuts: list[int]) -> None:
    """One layer, two blocks: F goes in as a token would, and on the first update only the residual's addend is zero."""
    config, finish = PATHS[path]
    network, tokens = make(FamConfig(8, 0, 3), config), tokens_of(1, 16)
    layer, attention = network.layers[0], network.layers[0].self_attn
    frequencies, gain = inverse_frequencies(config.rope, config.rotated_dim, 16)

    def projected(rows: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        rotate = rotation(torch.arange(first, first + rows.shape[1])[None], frequencies, gain, torch.float32)
        normed = rows if config.norm_place == "after" else layer.input_layernorm(rows)
        queries, keys, values = attention.queries_keys_values(normed)
        return rotate(queries), rotate(keys), values

    def attended(queries: Tensor, parts: list[tuple[Tensor, Tensor]], causal: bool) -> Tensor:
        return attention.o_proj(attend_reference(queries, parts, causal=causal).transpose(1, 2).flatten(2))

    with torch.no_grad():
        prompt = network.memory_prompt[None]
        q, k, v = projected(prompt, -3)
        memory = finish(layer, prompt, prompt, attended(q, [(k, v)], False))
        torch.testing.assert_close(network.start().layers[0].memory, memory, rtol=1e-4, atol=1e-4)
        x, expected = network.model.embed_tokens(tokens), []
        for t in range(2):
            block = x[:, t * 8 : t * 8 + 8]
            q, k, v = projected(block, t * 8)
            _, kf, vf = projected(memory, t * 8 - 3)
            qf, _, _ = projected(memory, t * 8 + 5)
            expected.append(finish(layer, block, block, attended(q, [(kf, vf), (k, v)], True)))
            residual = torch.zeros_like(memory) if t == 0 else memory
            memory = finish(layer, memory, residual, attended(qf, [(kf, vf), (k, v)], False))
        hidden, state = read(network, tokens, network.start(), cuts)
    torch.testing.assert_close(hidden, torch.cat(expected, 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state.layers[0].memory, memory, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("update", ["additive", "gated"])
@pytest.mark.parametrize("local_memory", [False, True])
def test_everything_at_once_streams_in_any_split(local_memory: bool, update: str) -> None:
    fam = replace(FAM, local_memory=local_memory, memory_update=update)  # type: ignore[arg-type]
    network, tokens = make(fam, EVERYTHING), tokens_of(2, 45)
    assert memory_layers(EVERYTHING, fam) == ((0, 1, 2, 3) if local_memory else (1, 3))
    with torch.no_grad():
        one, state = read(network, tokens, network.start(2), [])
        for cuts in ([8] * 6, [1] * 45, [3, 1, 4, 16, 5, 9]):
            hidden, end = read(network, tokens, network.start(2), cuts)
            torch.testing.assert_close(network.logits(hidden), network.logits(one), rtol=1e-3, atol=1e-3)
            assert_same_state(end, state, 2e-3)
        moved = replace(network.start(2), position=torch.full((2,), 10**9))
        there, _ = read(network, tokens, moved, [])
    torch.testing.assert_close(there, one, rtol=1e-3, atol=1e-3)
    with_gradient, _ = read(network, tokens, network.start(2), [16, 3, 5])
    torch.testing.assert_close(with_gradient, one, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", [0, 3, 8, 17, 43])
def test_states_and_parameters_have_the_declared_shapes(length: int) -> None:
    network = make(FAM, EVERYTHING)
    assert parameter_shapes(EVERYTHING, FAM) == {name: tuple(p.shape) for name, p in network.named_parameters()}
    with torch.no_grad():
        _, state = read(network, tokens_of(2, length), network.start(2), [])
    tensors, meta = state.to_tensors()
    assert {name: tuple(t.shape) for name, t in tensors.items()} == state_shapes(EVERYTHING, FAM, meta, batch=2)


@pytest.mark.parametrize("cuts", [[], [8] * 6, [1] * 45], ids=["at once", "by block", "by token"])
@pytest.mark.parametrize("window", [1, 5, 8, 12, 17, 30])
@pytest.mark.parametrize(("mode", "local_memory"), [("none", True), ("frozen", True), ("on", False)])
def test_a_local_layer_sees_exactly_its_window(
    mode: MemoryMode, local_memory: bool, window: int, cuts: list[int]
) -> None:
    """One local layer: of tokens and segments it sees its window, of which the segments hold two blocks, and no sinks.

    Where its memory takes blocks in, what is further reaches it through that alone: the next test.
    """
    config = replace(ONE, sliding_window=window, local_layers=(0,))
    network = make(replace(FAM, local_memory=local_memory), config)
    attention, tokens = network.layers[0].self_attn, tokens_of(1, 45)
    attention._joint = _each  # type: ignore[assignment]  # so that the values' product can be listened to
    with torch.no_grad():
        start = network.start(1, mode)
        plain, _ = read(network, tokens, start, cuts)
        for changed in (0, 2, 7, 8, 20):
            handle = attention.v_proj.register_forward_hook(_Spoiled(changed))
            seen, _ = read(network, tokens, start, cuts)
            handle.remove()
            moved = [i for i in range(45) if not torch.allclose(seen[0, i], plain[0, i], rtol=1e-4, atol=1e-4)]
            last = min(changed + window - 1, (changed // 8 + FAM.memory_segments + 1) * 8 - 1, 44)
            assert moved == list(range(changed, last + 1))


class _Spoiled:
    """A hook that makes the values of one token of a text huge, which only what attends to it can see."""

    def __init__(self, token: int) -> None:
        self.token, self.read = token, 0

    def __call__(self, _module: object, _inputs: object, values: Tensor) -> Tensor:
        place, self.read = self.token - self.read, self.read + values.shape[1]
        return values.index_fill(1, torch.tensor([place]), 1e3) if 0 <= place < values.shape[1] else values


def _each(x: Tensor, *maps: Callable[[Tensor], Tensor]) -> list[Tensor]:
    return [each(x) for each in maps]


def test_a_window_is_kept_beside_a_memory() -> None:
    """Changing a token outside the window reaches a local layer's later tokens through its memory alone."""
    config = replace(ONE, sliding_window=4, local_layers=(0,))
    other = tokens_of(1, 32)
    other[0, 1] = (other[0, 1] + 1) % 61
    for local_memory, reaches in ((False, False), (True, True)):
        network = make(replace(FAM, local_memory=local_memory), config)
        with torch.no_grad():
            a, _ = read(network, tokens_of(1, 32), network.start(), [])
            b, _ = read(network, other, network.start(), [])
        assert torch.equal(a[:, 8:], b[:, 8:]) != reaches


def test_gradients_reach_every_parameter() -> None:
    """Router, experts, norms of every kind, biases, and the memory prompt."""
    network = make(replace(FAM, local_memory=True), EVERYTHING)
    hidden, _ = network.read(tokens_of(2, 48), network.start(2))
    network.logits(hidden).logsumexp(-1).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"local_layers": (0,)}, "local layers need at least 1"),
        ({"rotary_dim": 5}, "even number"),
        ({"rotary_dim": 10}, "even number"),
        ({"parallel": True, "norm_place": "after"}, "norms before"),
    ],
)
def test_switches_that_clash(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(ONE, **changes)  # type: ignore[arg-type]


def test_more_experts_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="5 of 4 experts"):
        ExpertConfig(4, 5, 8)


@pytest.mark.parametrize("path", [*PATHS, "everything"])
def test_bfloat16_agrees_roughly_and_keeps_its_memory_in_float32(path: str) -> None:
    config = EVERYTHING if path == "everything" else PATHS[path][0]
    fam, tokens = replace(FAM, local_memory=True), tokens_of(1, 29)
    network = make(fam, config).to(torch.bfloat16)
    with torch.no_grad():
        wide, _ = read(make(fam, config), tokens, make(fam, config).start(), [])
        for cuts in ([], [8] * 4, [1] * 29):
            hidden, state = read(network, tokens, network.start(), cuts)
            assert state.layers[-1].segment_keys.dtype == torch.bfloat16
            assert state.layers[-1].memory.dtype == torch.float32
            # A token whose router is undecided may go through another expert: the middle one of all is looked at.
            assert torch.cosine_similarity(hidden.float(), wide, dim=-1).median() > 0.98
