"""The Feedback Transformer against its equations in a loop, a public implementation, and itself in other calls."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from feedback_transformer_pytorch import FeedbackTransformer
from torch import Tensor, nn
from torch.nn import functional

from famcli.nn import DecoderConfig, FamConfig, State
from famcli.nn.decoder import Decoder
from famcli.nn.feedback import FeedbackDecoder
from famcli.nn.kernels import native
from famcli.nn.rope_scaling import inverse_frequencies
from famcli.nn.shapes import parameter_shapes, state_shapes
from tests.nn.test_decoder import CONFIG, assert_same_state, read, tokens_of
from tests.nn.test_write import CONFIGS as WRITING

FAM = FamConfig(block_size=4, memory_segments=1, fam_length=0, architecture="feedback")
SHARED = replace(FAM, feedback_projections="shared")
FAMS = {"layer": FAM, "shared": SHARED}
LENGTH = 19  # more than two windows of 8


def make(fam: FamConfig = FAM, config: DecoderConfig = CONFIG) -> FeedbackDecoder:
    network = FeedbackDecoder(config, fam)
    network.reset_parameters(seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)  # far from the linear regime, so that a wrong key shows
            else:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def loop_oracle(network: FeedbackDecoder, tokens: Tensor) -> Tensor:
    """The paper's equations, token by token, layer by layer and head by head: hidden rows [b, n, d]."""
    config, fam = network.config, network.fam
    frequencies, _ = inverse_frequencies(config.rope, config.head_dim, 100)
    e, groups = config.head_dim, config.num_heads // config.num_key_value_heads

    def rotated(x: Tensor, t: int) -> Tensor:  # [e]
        angle = torch.tensor(t * frequencies)
        cos, sin = angle.cos().float(), angle.sin().float()
        first, second = x[: e // 2], x[e // 2 :]
        return torch.cat((first * cos - second * sin, second * cos + first * sin))

    def norm(x: Tensor, module: Any) -> Tensor:
        return x / (x.square().mean() + config.norm_eps).sqrt() * module.weight

    rows = []
    for text in tokens:
        memories: list[Tensor] = []
        hidden = []
        for t, token in enumerate(text):
            x = network.model.embed_tokens.weight[token]
            levels = [x]
            for layer in network.layers:
                attention, mlp = layer.self_attn, layer.mlp
                queries = (attention.q_proj.weight @ norm(x, layer.input_layernorm)).view(-1, e)
                attended = []
                for head, query in enumerate(queries):
                    total, weighted = torch.zeros(()), torch.zeros(e)
                    for s in range(max(0, t - fam.visible_tokens), t):
                        shared = fam.feedback_projections == "shared"
                        normed = norm(memories[s], network.memory_norm if shared else layer.input_layernorm)
                        key = (attention.k_proj.weight @ normed).view(-1, e)[head // groups]
                        value = (attention.v_proj.weight @ normed).view(-1, e)[head // groups]
                        score = (rotated(query, t) @ rotated(key, s) / e**0.5).exp()
                        total, weighted = total + score, weighted + score * value
                    attended.append(weighted / total if t else weighted)
                x = x + attention.o_proj.weight @ torch.cat(attended)
                normed = norm(x, layer.post_attention_layernorm)
                gated = functional.silu(mlp.gate_proj.weight @ normed) * (mlp.up_proj.weight @ normed)
                x = x + mlp.down_proj.weight @ gated
                levels.append(x)
            shares = network.layer_weights.softmax(0)
            memories.append(sum(share * level for share, level in zip(shares, levels, strict=True)))
            hidden.append(x)
        rows.append(torch.stack(hidden))
    return torch.stack(rows)


def gradients(network: FeedbackDecoder, hidden: Tensor) -> dict[str, Tensor]:
    """Of a loss that weighs every number of the hidden rows differently."""
    wanted = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
    named = {name: value for name, value in network.named_parameters() if not name.startswith(("model.norm", "lm_"))}
    found = torch.autograd.grad((hidden * wanted).sum(), list(named.values()))
    return dict(zip(named, found, strict=True))


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    for name, gradient in expected.items():
        error = torch.linalg.vector_norm(found[name] - gradient) / torch.linalg.vector_norm(gradient)
        assert error < tolerance, f"{name}: {error}"


@pytest.mark.parametrize("passes", [0, LENGTH])
@pytest.mark.parametrize("fam", FAMS)
def test_it_is_the_papers_equations_written_out(fam: str, passes: int) -> None:
    """Exactly, and in as many passes as there are tokens; gradients run through the states between calls."""
    network, tokens = make(replace(FAMS[fam], feedback_passes=passes)), tokens_of(2, LENGTH)
    for length in (1, LENGTH):
        hidden, _ = read(network, tokens[:, :length], network.start(2), [])
        oracle = loop_oracle(network, tokens[:, :length])
        torch.testing.assert_close(hidden, oracle, rtol=1e-5, atol=1e-5)
    assert_same_gradients(gradients(network, hidden), gradients(network, oracle))


def test_it_is_the_public_implementation_one_token_at_a_time() -> None:
    """feedback-transformer-pytorch: shared projections, no norm of the memory, layer norms, and no positions.

    Read one token at a time its relative positions are all the same. It leaves attention out for the first token, bias
    and all, so that bias is 0.
    """
    depth, size, heads = 3, 32, 4
    torch.manual_seed(0)
    oracle = FeedbackTransformer(
        num_tokens=61, dim=size, depth=depth, mem_len=8, seq_len=1, heads=heads, dim_head=size // heads
    )
    config = DecoderConfig(
        61, size, 4 * size, depth, heads, heads, size // heads, norm="layer", activation="gelu", mlp_bias=True,
        output_bias=True, unrotated_layers=tuple(range(depth)),
    )  # fmt: skip
    network = make(SHARED, config)
    network.memory_norm = nn.Identity()
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
        oracle.to_logits[1].bias.zero_()
        layers = {}
        for index, (attention, feed_forward) in enumerate(oracle.layers):
            attention = attention.fn  # without `SkipIf`
            to_out, projection = attention.fn.fn.to_out, feed_forward.fn.fn.net
            to_out.bias.zero_()
            up, gate = projection[0].weight.chunk(2)
            up_bias, gate_bias = projection[0].bias.chunk(2)
            layers |= {
                f"layers.{index}.{name}": value
                for name, value in {
                    "input_layernorm.weight": attention.fn.norm.weight,
                    "input_layernorm.bias": attention.fn.norm.bias,
                    "self_attn.q_proj.weight": attention.fn.fn.to_q.weight,
                    "self_attn.k_proj.weight": oracle.shared_kv_proj.weight.chunk(2)[0],
                    "self_attn.v_proj.weight": oracle.shared_kv_proj.weight.chunk(2)[1],
                    "self_attn.o_proj.weight": to_out.weight,
                    "self_attn.o_proj.bias": to_out.bias,
                    "post_attention_layernorm.weight": feed_forward.fn.norm.weight,
                    "post_attention_layernorm.bias": feed_forward.fn.norm.bias,
                    "mlp.up_proj.weight": up,
                    "mlp.up_proj.bias": up_bias,
                    "mlp.gate_proj.weight": gate,
                    "mlp.gate_proj.bias": gate_bias,
                    "mlp.down_proj.weight": projection[3].weight,
                    "mlp.down_proj.bias": projection[3].bias,
                }.items()
            }
        norm = oracle.to_logits[0]
        embedding = {"embed_tokens.weight": oracle.token_emb.weight}
        network.model.load_state_dict(layers | embedding | {"norm.weight": norm.weight, "norm.bias": norm.bias})
        network.lm_head.weight.copy_(oracle.to_logits[1].weight)
        network.layer_weights.copy_(oracle.layer_weight)
        tokens = tokens_of(2, LENGTH)
        hidden, _ = read(network, tokens, network.start(2), [])
        torch.testing.assert_close(network.logits(hidden), oracle(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fam", FAMS)
@torch.no_grad()
def test_a_stream_is_the_same_however_it_is_cut(fam: str) -> None:
    network, tokens = make(FAMS[fam]), tokens_of(2, LENGTH)
    one, state = read(network, tokens, network.start(2), [])
    for cuts in ([4] * 5, [1] * LENGTH, [3, 1, 4, 8, 2]):
        hidden, end = read(network, tokens, network.start(2), cuts)
        torch.testing.assert_close(hidden, one, rtol=1e-5, atol=1e-5)
        assert_same_state(end, state, 1e-5)
        tensors, meta = end.to_tensors()
        assert {name: tuple(t.shape) for name, t in tensors.items()} == state_shapes(CONFIG, FAMS[fam], meta, 2)


@pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
@pytest.mark.parametrize("fam", FAMS)
@pytest.mark.parametrize("name", ["plain", "as one call", "windows", "after"])
@torch.inference_mode()
def test_compiled_kernels_read_what_float32_does(name: str, fam: str) -> None:
    """As far as kernels know the layers; what is written and read at once is the same to rounding."""
    with torch.inference_mode(False):
        config = replace(WRITING[name], sliding_window=None, local_layers=(), unrotated_layers=(), local_rope=None)
        wide, narrow = make(FAMS[fam], config), FeedbackDecoder(config, FAMS[fam])
        with torch.no_grad():
            for parameter in wide.model.parameters():
                parameter.copy_(parameter.bfloat16())
        narrow.load_state_dict(wide.state_dict())
        narrow.model.bfloat16()
        narrow.lm_head.bfloat16()
    tokens = tokens_of(2, LENGTH) % config.vocab_size
    # Rows at places of their own, and the first token, which sees nothing.
    start = replace(narrow.start(2), position=torch.tensor([0, 5]))
    expected, end = read(wide, tokens, replace(wide.start(2), position=start.position), [])
    for cuts in ([], [1] * LENGTH):
        hidden, after = read(narrow, tokens, start, cuts)
        pairs = [
            (after.to_tensors()[0][key], value)
            for key, value in end.to_tensors()[0].items()
            if key.startswith("windows")
        ]
        for one, other in [(hidden, expected), *pairs]:
            assert float((one.float() - other).norm() / other.norm()) < (0.05 if name == "after" else 0.02)
    assert narrow.read(tokens[:, :1], start)[0].dtype is torch.bfloat16
    assert narrow.write(tokens[:, :1], start)[0].dtype is (torch.bfloat16 if name == "after" else torch.float32)
    assert not narrow.writes_ahead


@pytest.mark.parametrize("fam", FAMS)
@torch.no_grad()
def test_a_state_is_a_value(fam: str) -> None:
    """Forks do not disturb one another, rows are split and stacked, and what is saved reads on as before."""
    network, tokens = make(FAMS[fam]), tokens_of(2, LENGTH)
    _, state = read(network, tokens[:, :14], network.start(2), [])
    before = {name: tensor.clone() for name, tensor in state.to_tensors()[0].items()}
    expected, _ = read(network, tokens[:, 14:], state, [1] * 9)
    other, _ = read(network, tokens_of(2, 5, seed=9), state, [1] * 5)
    again, _ = read(network, tokens[:, 14:], state, [2])
    torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(other, expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.to_tensors()[0].items())
    loaded = State.from_tensors(*state.to_tensors())
    assert torch.equal(read(network, tokens[:, 14:], loaded, [2])[0], again)
    apart = State.stack(state.split()[::-1])
    torch.testing.assert_close(read(network, tokens[:, 14:].flip(0), apart, [2])[0].flip(0), again)
    start = network.start(2)
    assert start.is_memory_alone
    assert not state.is_memory_alone
    assert state.memory_alone().kind == start.kind
    assert state.without_segments().kind == (2, "on", (2,) * len(state.windows))
    assert not state.has_memory


@torch.no_grad()
def test_far_into_a_stream_positions_are_exact() -> None:
    """Only distances count: 10^12 tokens later the same tokens give the same rows."""
    network, tokens = make(), tokens_of(1, LENGTH)
    near, _ = read(network, tokens, network.start(), [])
    far, _ = read(network, tokens, replace(network.start(), position=torch.tensor([10**12])), [])
    torch.testing.assert_close(far, near, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fam", FAMS)
def test_parameters_have_the_declared_shapes(fam: str) -> None:
    network = make(FAMS[fam])
    assert parameter_shapes(CONFIG, FAMS[fam]) == {name: tuple(p.shape) for name, p in network.named_parameters()}
    plain = replace(FAMS[fam], architecture="fam")
    assert parameter_shapes(CONFIG, plain) == {
        name: tuple(p.shape) for name, p in Decoder(CONFIG, plain).named_parameters()
    }
    whole = network.start().windows
    assert len(whole) == (1 if fam == "shared" else CONFIG.num_layers)


def test_more_passes_come_closer_and_a_few_give_the_gradient() -> None:
    tokens = tokens_of(2, 64)
    fam = replace(FAM, block_size=64, memory_segments=0)
    exact = FeedbackDecoder(CONFIG, fam)
    exact.reset_parameters(seed=3)
    hidden, _ = exact.read(tokens, exact.start(2))
    expected = gradients(exact, hidden)
    errors, cosines = [], []
    for passes in (1, 2, 4, 8):
        exact.fam = replace(fam, feedback_passes=passes)
        found, _ = exact.read(tokens, exact.start(2))
        errors.append((found - hidden).detach().abs().max().item())
        flat = [torch.cat([each[name].flatten() for name in expected]) for each in (gradients(exact, found), expected)]
        cosines.append(float(functional.cosine_similarity(*flat, dim=0)))
    assert all(after < before for before, after in pairwise(errors))
    assert errors[-1] < 1e-4
    assert cosines[2] > 0.999


@torch.no_grad()
def test_reading_is_exact_unless_an_opened_network_says_otherwise() -> None:
    tokens = tokens_of(2, 8)
    exact, passing = make(), make(replace(FAM, feedback_passes=1))
    expected, _ = exact.read(tokens, exact.start(2))
    # While it is trained, what is measured without gradients is exact.
    assert torch.equal(passing.read(tokens, passing.start(2))[0], expected)
    assert not torch.allclose(passing.eval().read(tokens, passing.start(2))[0], expected, atol=1e-2)
    passing.fam = replace(FAM, feedback_passes=8)
    hidden, state = passing.read(tokens, passing.start(2))
    torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)
    assert_same_state(state, exact.read(tokens, exact.start(2))[1], 1e-5)


def test_gradient_checkpoints_change_nothing() -> None:
    network, tokens = make(replace(FAM, feedback_passes=8)), tokens_of(2, 8)
    expected = gradients(network, network.read(tokens, network.start(2))[0])
    network.checkpoint_gradients = True
    assert_same_gradients(gradients(network, network.read(tokens, network.start(2))[0]), expected, 1e-5)


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match="'fam_length' must be 0 for architecture 'feedback'"):
        replace(FAM, fam_length=3)
    with pytest.raises(ValueError, match="sliding window of their own"):
        FeedbackDecoder(replace(CONFIG, sliding_window=4, local_layers=(0,)), FAM)
    with pytest.raises(ValueError, match="must all have rotary positions, or none"):
        FeedbackDecoder(replace(CONFIG, unrotated_layers=(1,)), SHARED)
    network = make()
    with pytest.raises(ValueError, match="do not fit a block of 4"):
        network.read(tokens_of(1, 5), network.start())
