"""Networks and attention candidates that several benchmarks time, without any file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import FAM_100M, SHAPE_100M
from famcli.nn import DecoderConfig, FamConfig, Network, State, make_network
from famcli.nn.kernels.attention import attend, joined
from famcli.reading.engine import as_batch, read_calls
from famcli.reading.scoring import score_call

Part = tuple[Tensor, Tensor]


def network_100m(dtype: torch.dtype, **fam: int) -> Network:
    """The 100M shape with random weights, for inference. Options override block size, segments and memory length."""
    with torch.inference_mode(False):
        network = make_network(DecoderConfig(**SHAPE_100M), FamConfig(**(FAM_100M | fam)))
        network.reset_parameters(0)
        return network.to(dtype).requires_grad_(False).eval()


def filled_state(network: Network, num_blocks: int) -> State:
    """The state after so many random blocks."""
    state = network.start()
    for _ in range(num_blocks):
        _, state = network.read(random_tokens(network, network.fam.block_size), state)
    return state


def random_tokens(network: Network, n: int) -> Tensor:
    return torch.randint(0, network.config.vocab_size, (1, n))


# ------------------------------------------------------------------------------------------------ attention candidates


def fused_with_mask(queries: Tensor, parts: Sequence[Part], mask: Tensor | None) -> Tensor:
    """One fused call over joined keys; the mask [n, k] is made once, outside the timing."""
    keys, values = joined(parts)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=True)


def flash_by_part(queries: Tensor, parts: Sequence[Part], causal: bool) -> Tensor:
    """A fused call for each part, merged by its log-sum-exp; only the last part is causal, and square."""
    outputs, sums = [], []
    group = queries.shape[1] // parts[0][0].shape[1]
    for index, (key, value) in enumerate(parts):
        key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
        last = causal and index == len(parts) - 1
        output, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(queries, key, value, 0.0, last)
        outputs.append(output)
        sums.append(log_sum)
    weights = torch.softmax(torch.stack(sums), dim=0).unsqueeze(-1).to(queries.dtype)
    return torch.stack([output * weight for output, weight in zip(outputs, weights, strict=True)]).sum(0)


def attention_candidates(queries: Tensor, parts: Sequence[Part], causal: bool) -> dict[str, Callable[[], Tensor]]:
    """Everything attention was chosen from, at one shape."""
    n, total = queries.shape[2], sum(key.shape[2] for key, _ in parts)
    mask = torch.ones(n, total, dtype=torch.bool).tril(total - n) if causal else None
    return {
        "fused call with mask": lambda: fused_with_mask(queries, parts, mask),
        "fused call by part, merged": lambda: flash_by_part(queries, parts, causal),
        "famcli's tiles": lambda: attend(queries, parts, causal=causal),
    }


def reading_parts(dtype: torch.dtype, generator: Any = None) -> tuple[Tensor, list[Part], Tensor, list[Part]]:
    """Queries and parts of a block of the 100M shape, and of its memory rows, with all segments there."""
    heads, key_heads, e = SHAPE_100M["num_heads"], SHAPE_100M["num_key_value_heads"], SHAPE_100M["head_dim"]
    c, f = FAM_100M["block_size"], FAM_100M["fam_length"]

    def normal(h: int, k: int) -> Tensor:
        return torch.randn(1, h, k, e, generator=generator).to(dtype)

    segments, memory, block = (
        (normal(key_heads, k), normal(key_heads, k)) for k in (c * FAM_100M["memory_segments"], f, c)
    )
    return normal(heads, c), [segments, memory, block], normal(heads, f), [memory, block]


@torch.inference_mode()
def score_continuation(
    network: Network, state: State, tokens: Sequence[int], last_hidden: Tensor | None = None
) -> Tensor:
    """The negative log-likelihood (nats) of each of `tokens` [n] read after `state`; NaN for the first one without
    `last_hidden` [1, 1, d], the hidden row of the token before it."""
    parts = [torch.empty(1, 0)]
    for ids, hidden, _ in read_calls(network, as_batch(tokens, network), state):
        parts.append(score_call(network, last_hidden, hidden, ids)[0])
        last_hidden = hidden[:, -1:]
    return torch.cat(parts, 1)[0]
