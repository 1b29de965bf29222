"""A draft against its equations in a loop, and the steps it is trained in against those in which it drafts."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from famcli.nn import FamConfig, Network, make_network
from famcli.nn.draft import Draft, DraftConfig, draft_shapes
from famcli.nn.kernels import native
from famcli.nn.rope_scaling import inverse_frequencies
from famcli.training.draft import draft_logits, draft_loss, read_levels
from tests.nn.test_decoder import CONFIG, tokens_of
from tests.nn.test_write import CONFIGS, made
from tests.nn.test_write import FAM as WRITING

FAM = FamConfig(block_size=8, memory_segments=1, fam_length=2)
SHAPE = DraftConfig(num_layers=2, window=6, sink_tokens=1, drafted_tokens=3)


def make(shape: DraftConfig = SHAPE) -> tuple[Network, Draft]:
    target = make_network(CONFIG, FAM)
    target.reset_parameters(seed=3)
    draft = Draft(CONFIG, FAM, shape)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for network in (target, draft):
            for name, parameter in network.named_parameters():
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.3 * drawn + (1 if "norm" in name else 0))
    return target, draft


def loop_oracle(target: Network, draft: Draft, tokens: Tensor, levels: list[Tensor], first: int) -> list[Tensor]:
    """Hidden rows [d] of the tokens of one text that are drafted from `first` on, head by head."""
    shape, config, e = draft.draft, CONFIG, CONFIG.head_dim
    frequencies, _ = inverse_frequencies(config.rope, e, 100)
    old = [[level[0, t] for level in levels] for t in range(first)]

    def rotated(x: Tensor, t: int) -> Tensor:
        angle = torch.tensor(t * frequencies)
        cos, sin = angle.cos().float(), angle.sin().float()
        left, right = x[: e // 2], x[e // 2 :]
        return torch.cat((left * cos - right * sin, right * cos + left * sin))

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean() + config.norm_eps).sqrt() * weight

    kept = [(s, each) for s, each in enumerate(old) if s >= first - shape.window]
    # Sinks that the window has left stand directly before it.
    lost = [each for s, each in enumerate(old[: shape.sink_tokens]) if s < first - shape.window]
    kept = [(first - shape.window - len(lost) + i, each) for i, each in enumerate(lost)] + kept
    rows = []
    for t in range(first, first + shape.drafted_tokens):
        x = target.embed(tokens[:, t])[0]
        own = [x]
        for index, layer in enumerate(draft.own_layers):
            attention, mlp = layer.self_attn, layer.mlp
            queries = (attention.q_proj.weight @ norm(x, layer.input_layernorm.weight)).view(-1, e)
            attended = []
            for head, query in enumerate(queries):
                group = head // (config.num_heads // config.num_key_value_heads)
                scores, values = [], []
                for s, each in kept:
                    share = torch.softmax(draft.layer_weights[index], 0)
                    memory = sum(w * level for w, level in zip(share, each, strict=True))
                    normed = norm(memory, layer.input_layernorm.weight)
                    key = (attention.k_proj.weight @ normed).view(-1, e)[group]
                    values.append((attention.v_proj.weight @ normed).view(-1, e)[group])
                    scores.append(rotated(query, t) @ rotated(key, s) / e**0.5)
                attended.append(torch.softmax(torch.stack(scores), 0) @ torch.stack(values))
            x = x + attention.o_proj.weight @ torch.cat(attended)
            normed = norm(x, layer.post_attention_layernorm.weight)
            gated = functional.silu(mlp.gate_proj.weight @ normed) * (mlp.up_proj.weight @ normed)
            x = x + mlp.down_proj.weight @ gated
            own.append(x)
        kept.append((t, own))
        rows.append(x)
    return rows


@pytest.mark.parametrize("sinks", [0, 1, 2])
def test_drafted_logits_are_those_of_the_equations_in_training_and_in_drafting(sinks: int) -> None:
    shape = DraftConfig(2, window=6, sink_tokens=sinks, drafted_tokens=3)
    target, draft = make(shape)
    tokens = tokens_of(2, 26)
    levels, _ = read_levels(target, tokens, draft.num_levels, 0)
    trained = draft_logits(draft, target, tokens, levels)
    assert trained.shape[:3] == (2, 5, 3)
    for place in range(5):
        first = 9 + 3 * place
        for row in range(2):
            own = [level[row : row + 1] for level in levels]
            text = tokens[row : row + 1]
            expected = target.logits(torch.stack(loop_oracle(target, draft, text, own, first))[None])[0]
            # Logits of up to 8, from rows of which some are nearly cancelled: processors differ by 2e-5.
            torch.testing.assert_close(trained[row, place], expected, atol=1e-4, rtol=1e-5)
            with torch.no_grad():
                torch.testing.assert_close(drafted(target, draft, text, own, first), expected, atol=1e-4, rtol=1e-5)


def drafted(target: Network, draft: Draft, tokens: Tensor, levels: list[Tensor], first: int) -> Tensor:
    """Logits [k, v], where the target read in calls of 4 and the draft goes on token by token."""
    state = draft.start()
    for begin, end in pairwise([*range(0, first, 4), first]):
        state = draft.read([level[:, begin:end] for level in levels], state)
    seen = [[part] for part in draft.seen(state)]
    place, rows = seen[0][0][0].shape[2], []
    for index in range(draft.draft.drafted_tokens):
        made = draft.levels(target.embed(tokens[:, first + index : first + index + 1]), seen, place + index)
        rows.append(made[-1])
        for parts, part in zip(seen, draft.rotated(draft.keys_values(made), place + index), strict=True):
            parts.append(part)
    return target.logits(torch.cat(rows, dim=1))[0]


@pytest.mark.parametrize("read", [1, 2, 5, 6, 7, 8])
def test_few_tokens_read_are_all_seen_once(read: int) -> None:
    target, draft = make()
    tokens = tokens_of(1, read + 3)
    levels, _ = read_levels(target, tokens, draft.num_levels, 0)
    own = [level[:, :read] for level in levels]
    expected = target.logits(torch.stack(loop_oracle(target, draft, tokens, own, read))[None])[0]
    with torch.no_grad():
        torch.testing.assert_close(drafted(target, draft, tokens, own, read), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(native.library() is None, reason="needs a C compiler")
@pytest.mark.parametrize("name", CONFIGS)
def test_compiled_kernels_draft_what_float32_does(name: str) -> None:
    config, logits = CONFIGS[name], list[Tensor]()
    for target in made(config):
        draft = Draft(config, WRITING, SHAPE)
        draft.begin(target)
        with torch.no_grad():
            draft.layer_weights.copy_(torch.linspace(-1, 1, draft.layer_weights.numel()).view_as(draft.layer_weights))
        draft.layers.to(target.dtype)
        tokens, rows, levels = tokens_of(1, 12) % config.vocab_size, list[Tensor](), list[Tensor]()
        with torch.inference_mode():
            assert target.writes_ahead is (target.dtype == torch.bfloat16)
            target.read(tokens, target.start(), levels=levels)
            state = draft.start()
            for part in (slice(0, 9), slice(9, 12)):
                state = draft.read([level[:, part].float() for level in levels[-draft.num_levels :]], state)

            def choose(row: Tensor, rows: list[Tensor] = rows) -> int:
                rows.append(row)
                return 5

            draft.propose(target, 7, state, choose, 3)
        logits.append(torch.stack(rows).float())
    narrow, wide = logits
    # Levels and what is kept of them are rounded.
    assert float((narrow - wide).norm() / wide.norm()) < 0.02


def test_the_loss_is_half_of_each_and_its_gradient_stays_in_the_draft() -> None:
    target, draft = make()
    target.requires_grad_(False)
    tokens = tokens_of(2, 26)
    loss, acceptance = draft_loss(draft, target, tokens)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in draft.parameters())
    levels, wanted = read_levels(target, tokens, draft.num_levels, 9)
    chances = draft_logits(draft, target, tokens, levels).softmax(-1).flatten(1, 2)
    expected = -(wanted[:, :15] * chances.log()).sum(-1).mean() / 2
    shares = torch.minimum(wanted[:, :15], chances).sum(-1)
    torch.testing.assert_close(loss, expected - shares.mean() / 2)
    torch.testing.assert_close(acceptance, shares.unflatten(1, (5, 3)).mean((0, 1)))


def test_shapes_are_those_of_the_network_and_too_many_layers_are_refused() -> None:
    _, draft = make()
    shapes = draft_shapes(CONFIG, FAM, SHAPE)
    assert shapes == {name: tuple(value.shape) for name, value in draft.named_parameters()}
    with pytest.raises(ValueError, match="cannot be made"):
        draft_shapes(CONFIG, FAM, DraftConfig(CONFIG.num_layers + 1))
