"""A memory that keeps the tokens that score highest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from famcli.nn import DecoderConfig, FamConfig
from famcli.nn.config import RopeConfig
from famcli.nn.kept import token_rows
from famcli.nn.shapes import state_shapes
from tests.nn.test_decoder import CONFIG, make, read, tokens_of

KEPT = FamConfig(8, 1, 5, sink_tokens=2, memory_update="kept")
YARN = RopeConfig(scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256})


@pytest.mark.parametrize("cuts", [[40], [8] * 5, [1] * 40])
@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, rope=YARN)], ids=["plain", "yarn"])
@pytest.mark.parametrize("segments", [0, 1, 3])
@torch.no_grad()
def test_a_layer_keeps_the_tokens_that_score_highest_in_the_order_of_the_text(
    segments: int, config: DecoderConfig, cuts: list[int]
) -> None:
    """The first layer's keys and values depend on the tokens alone: all that left compete but sinks."""
    fam = replace(KEPT, memory_segments=segments)
    # No token twice, so that no two score alike.
    generator = torch.Generator().manual_seed(0)
    tokens = torch.stack([torch.randperm(config.vocab_size, generator=generator)[:40] for _ in range(2)])
    network = make(fam, config)
    _, state = read(network, tokens, network.start(2), cuts)
    first = network.layers[0]
    keys, values = first.self_attn.keys_values(first.attention_input(network.embed(tokens)))
    rows = token_rows(keys, values)
    left = 40 - 8 * segments
    best = (rows[:, 2:left] @ network.memory_scores[0]).topk(5).indices.sort().values + 2
    expected = rows.gather(1, best[..., None].expand(-1, -1, rows.shape[2]))
    torch.testing.assert_close(state.memories[0], expected, rtol=1e-4, atol=1e-5)
    shapes = state_shapes(config, fam, state.to_tensors()[1], 2)
    assert {name: tuple(tensor.shape) for name, tensor in state.to_tensors()[0].items()} == shapes


@torch.no_grad()
def test_sinks_are_never_kept() -> None:
    """Nor where the first block has just as many tokens as there are rows, and sinks that score highest."""
    with pytest.raises(ValueError, match="'fam_length' must be at most 6"):
        replace(KEPT, fam_length=7)
    network, tokens = make(replace(KEPT, fam_length=6)), torch.arange(48)[None]
    _, first = network.read(tokens[:, :16], network.start())
    rows = _rows(network, tokens)[0]
    torch.testing.assert_close(first.memories[0][0], rows[2:8], rtol=1e-4, atol=1e-5)
    network.memory_scores[0] = rows[0] / rows[0].norm()
    _, later = network.read(tokens, network.start())
    distances = (later.memories[0][0][:, None] - rows[None, :2]).abs().amax(-1)
    assert float(distances.min()) > 1e-3


@pytest.mark.parametrize("cuts", [[32], [8] * 4, [3, 5, 16, 1, 7]])
@pytest.mark.parametrize("segments", [0, 2])
@torch.no_grad()
def test_where_all_tokens_are_kept_attention_is_full(segments: int, cuts: list[int]) -> None:
    """As many rows as a block has tokens: until two blocks have left the window nothing is lost, nor moved."""
    length = 8 * (segments + 2)
    tokens = tokens_of(2, 32)[:, :length]
    network = make(replace(KEPT, memory_segments=segments, fam_length=8, sink_tokens=0))
    full = make(replace(KEPT, memory_segments=3, fam_length=0, sink_tokens=0))
    full.load_state_dict(network.state_dict(), strict=False)
    expected, _ = full.read(tokens, full.start(2))
    if sum(cuts) != length:
        cuts = [length] if len(cuts) == 1 else [8] * (length // 8)
    hidden, _ = read(network, tokens, network.start(2), cuts)
    torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_frozen_memory_is_none_and_distances_alone_matter() -> None:
    network, tokens = make(KEPT), tokens_of(2, 40)
    frozen, state = network.read(tokens, network.start(2, "frozen"))
    without, _ = network.read(tokens, network.start(2, "none"))
    # Where nothing is kept the sinks still leave it room.
    torch.testing.assert_close(frozen, without)
    assert bool(state.memory_is_initial.all())
    hidden, _ = network.read(tokens, network.start(2))
    assert float((hidden - frozen)[:, :16].abs().max()) == 0
    assert float((hidden - frozen)[:, 16:].abs().max()) > 1e-3
    start = network.start(2)
    far, _ = network.read(tokens, replace(start, position=start.position + 10**9))
    torch.testing.assert_close(far, hidden, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_memory_is_passed_on_and_is_not_read_beside_none() -> None:
    network, tokens = make(KEPT), tokens_of(1, 40)
    _, state = network.read(tokens, network.start())
    alone = state.memory_alone()
    other = tokens_of(1, 8).flip(1)
    hidden, _ = network.read(other, alone)
    fresh, _ = network.read(other, network.start())
    assert float((hidden - fresh).abs().max()) > 1e-3
    both = type(state).stack([alone, network.start()])
    with pytest.raises(ValueError, match="cannot be read together"):
        network.read(torch.cat((other, other)), both)


@torch.no_grad()
def test_a_fact_that_scores_high_is_there_after_a_thousand_blocks() -> None:
    """What is kept does not fade: rows stay as they are, bit for bit, until others score higher."""
    network = make(replace(KEPT, memory_segments=0, sink_tokens=0))
    tokens = tokens_of(1, 8 * 1000) % 30
    special = torch.tensor([40, 41, 42, 43, 44])
    rows = _rows(network, special[None])
    direction = torch.linalg.lstsq(
        torch.cat((rows[0], _rows(network, torch.arange(30)[None])[0])),
        torch.cat((torch.ones(5), -torch.ones(30)))[:, None],
    ).solution[:, 0]
    network.memory_scores[0] = direction
    tokens[0, 8:13] = special
    _, early = network.read(tokens[:, :16], network.start())
    _, late = network.read(tokens, network.start())
    assert torch.equal(early.memories[0], late.memories[0])
    torch.testing.assert_close(late.memories[0], rows, rtol=1e-4, atol=1e-5)


def _rows(network: object, tokens: Tensor) -> Tensor:
    layer = network.layers[0]  # type: ignore[attr-defined]
    return token_rows(*layer.self_attn.keys_values(layer.attention_input(network.embed(tokens))))  # type: ignore[attr-defined]
