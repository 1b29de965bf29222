"""Tokens that are written one by one or on trial: the numbers of reading, and no trace of what is taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from famcli.nn import DecoderConfig, FamConfig, State
from famcli.nn.config import ExpertConfig, RopeConfig
from famcli.nn.decoder import Decoder
from famcli.nn.kernels import few_bits, native
from famcli.nn.kernels.few_bits import FewBits, Grouped

pytestmark = pytest.mark.skipif(native.library() is None, reason="needs a C compiler")


@pytest.fixture(autouse=True)
def few_bits_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_bits, "_are_faster", lambda: True)


PLAIN = DecoderConfig(
    vocab_size=61, hidden_size=64, intermediate_size=96, num_layers=3, num_heads=4, num_key_value_heads=2, head_dim=32
)
FAM = FamConfig(block_size=12, memory_segments=2, fam_length=3, sink_tokens=2)
CONFIGS = {
    "plain": PLAIN,
    "as one call": replace(
        PLAIN, attention_bias=True, output_bias=False, query_key_norm="head", norm="rms_plus_one", rotary_dim=16,
        sliding_window=7, local_layers=(1,), unrotated_layers=(2,), attention_softcap=2.0, attention_scale=0.2,
    ),
    "biases, tied": replace(PLAIN, attention_bias=True, mlp_bias=True, tie_embeddings=True),
    "windows": replace(PLAIN, sliding_window=7, local_layers=(0, 2), local_rope=RopeConfig(theta=100.0)),
    "around": replace(
        PLAIN, norm="rms_plus_one", norm_place="around", attention_softcap=2.0, logits_softcap=3.0, embedding_scale=8.0,
        query_key_norm="head", activation="gelu_tanh",
    ),
    "after": replace(PLAIN, norm_place="after", query_key_norm="all", unrotated_layers=(1,)),
    "parallel": replace(PLAIN, parallel=True, norm="layer", gated=False, rotary_dim=16),
    "in few bits": PLAIN,
    "experts": replace(PLAIN, experts=ExpertConfig(num_experts=3, per_token=2, size=64), residual_scale=0.5),
}  # fmt: skip


@torch.inference_mode(False)
def made(config: DecoderConfig, in_few_bits: bool = False) -> tuple[Decoder, Decoder]:
    """A network in bfloat16, and the same weights in float32; in few bits: the former are rounded, and the latter are
    attached."""
    wide = Decoder(config, FAM)
    wide.reset_parameters(seed=3)
    with torch.no_grad():
        for key, parameter in wide.named_parameters():
            if key != "memory_prompt":
                parameter.mul_(3 if parameter.ndim > 1 else 1).copy_(parameter.bfloat16())
    narrow = Decoder(config, FAM)
    narrow.load_state_dict(wide.state_dict())
    narrow.model.bfloat16()
    if not config.tie_embeddings:
        narrow.lm_head.bfloat16()
    if in_few_bits:
        for key, weight in narrow.named_parameters():
            if "_proj" in key or "lm_head" in key:
                attach(weight, wide.get_parameter(key), updated="mlp" in key)
    return narrow, wide


@torch.no_grad()
def attach(weight: Tensor, exact: Tensor, *, updated: bool) -> None:
    """Attach 4 bits for each number of `exact`, and perhaps an update beside them, which `exact` then becomes."""
    groups = exact.view(len(exact), -1, 32)
    smallest, largest = groups.aminmax(dim=2)
    scale = (largest - smallest) / 15
    numbers = ((groups - smallest[..., None]) / scale[..., None]).round()
    exact.copy_((numbers * scale[..., None] + smallest[..., None]).view_as(exact))
    grouped, update = Grouped(numbers.to(torch.uint8).view_as(exact), scale, smallest, 4), None
    if updated:
        update = (torch.full((len(exact), 2), 0.01).bfloat16(), torch.full((2, exact.shape[1]), 0.5).bfloat16())
        exact += update[0].float() @ update[1].float()
    weight.copy_(exact)
    few_bits.attach(weight, lambda: FewBits(grouped, update))


def tokens_of(*shape: int) -> Tensor:
    return torch.randint(0, PLAIN.vocab_size, shape, generator=torch.Generator().manual_seed(1))


def written(network: Decoder, tokens: Tensor, state: State, sizes: list[int]) -> tuple[Tensor, State]:
    """Logits of all tokens, written in calls of these sizes."""
    logits, first = [], 0
    for size in sizes:
        hidden, state = network.write(tokens[:, first : first + size], state)
        logits.append(network.logits(hidden))
        first += size
    return torch.cat(logits, dim=1), state


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_what_each_layer_makes_of_written_tokens_is_what_it_makes_of_read_ones(name: str) -> None:
    narrow, wide = made(CONFIGS[name], name == "in few bits")
    tokens = tokens_of(1, 3)
    written_levels, read_levels = list[Tensor](), list[Tensor]()
    narrow.write(tokens, narrow.start(), written_levels)
    wide.read(tokens, wide.start(), levels=read_levels)
    assert len(written_levels) == len(read_levels) == len(wide.layers) + 1
    for one, other in zip(written_levels, read_levels, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.02


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_written_rows_are_those_of_reading_however_many_at_once(name: str) -> None:
    narrow, wide = made(CONFIGS[name], name == "in few bits")
    assert narrow.writes_ahead
    assert not wide.writes_ahead
    tokens = tokens_of(2, 40)
    ones, after = written(narrow, tokens, narrow.start(2), [1] * 40)
    # Blocks of 12 end at 12, 24 and 36.
    some, other = written(narrow, tokens, narrow.start(2), [3, 4, 1, 3, 1, 2, 2, 4, 4, 4, 4, 3, 1, 1, 3])
    assert torch.equal(ones, some)
    for key, tensor in after.tensors().items():
        assert torch.equal(tensor, other.tensors()[key]), key
        assert tensor.dtype == (torch.float32 if key.endswith("memory") else torch.bfloat16)
    exact, _ = written(wide, tokens, wide.start(2), [1] * 40)
    assert ones.dtype == torch.float32
    # Keys and values are rounded to bfloat16, and nothing else is.
    narrow_error = (ones - exact).abs().max() / exact.abs().max()
    assert narrow_error < 0.02


@pytest.mark.parametrize("name", ["plain", "in few bits", "windows"])
@pytest.mark.parametrize("read_before", [0, 1, 5, 30])
@torch.inference_mode()
def test_what_is_taken_back_leaves_no_trace(name: str, read_before: int) -> None:
    network, _ = made(CONFIGS[name], name == "in few bits")
    tokens, other = tokens_of(1, 46), torch.full((1, 4), 7)
    begun = network.start()
    for at in range(read_before):
        _, begun = network.write(tokens[:, at : at + 1], begun)
    expected, plain = written(network, tokens[:, read_before:], begun, [1] * (46 - read_before))
    state, logits = begun, list[Tensor]()
    for at in range(read_before, 46):
        room = FAM.block_size - state.fill - 2
        guesses = other[:, : max(0, min(4, room, at % 5))]
        hidden, state = network.write(torch.cat((tokens[:, at : at + 1], guesses), dim=1), state)
        logits.append(network.logits(hidden)[:, :1])
        if guesses.shape[1]:
            state = state.rewound(guesses.shape[1])
    assert torch.equal(torch.cat(logits, dim=1), expected)
    assert state.kind == plain.kind
    assert torch.equal(state.position, plain.position)
    for key, tensor in plain.tensors().items():
        assert torch.equal(tensor, state.tensors()[key]), key
    # A fork from before is untouched.
    again, _ = written(network, tokens[:, read_before:], begun, [1] * (46 - read_before))
    assert torch.equal(again, expected)
