"""How many floating-point operations training takes, and how many the machine can do: their ratio is a run's share of
the peak.

Counted are the matrix products that the mathematics needs, two operations a multiplication, backward twice as much as
forward; what gradient checkpointing computes again counts for nothing (the "model FLOPs" of arXiv 2204.02311,
appendix B).
"""

from __future__ import annotations

import time

import torch

from famcli.nn.config import DecoderConfig, FamConfig

_BUDGET = 0.3  # seconds


def flops_per_token(config: DecoderConfig, fam: FamConfig, blocks_per_step: int, *, frozen: bool = False) -> float:
    """Operations of training on one token, in blocks far enough from the document's start to see all segments.

    frozen: weights get no gradient, only what goes through them does (updates of low rank beside them are not counted).
    """
    queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * queries + 2 * keys + 3 * config.intermediate_size)
    c, f = fam.block_size, fam.fam_length
    rows = 1 + f / c  # memory rows take every product of a token
    seen = fam.memory_segments * c + f + (c + 1) / 2  # keys a token attends to, on average
    attention = 2 * queries * (seen + f / c * (f + c))  # scores and sums; a memory row sees the memory and the block
    products = config.num_layers * (rows * layer + attention) + config.hidden_size * config.vocab_size
    prompt = config.num_layers * f * layer / (c * blocks_per_step)  # at most once a step for each lane
    return (4.0 if frozen else 6.0) * (products + prompt)


def machine_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second in a large matrix product, the best of what fits into a moment, on the threads in use."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times: list[float] = []
    began = time.monotonic()
    while len(times) < 3 or time.monotonic() - began < _BUDGET:
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(times)
