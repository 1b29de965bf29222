"""Floating-point operations that training needs, and that the machine can do: their ratio is the share of the peak."""

from __future__ import annotations

import time

import torch

from famcli.nn.config import DecoderConfig, FamConfig

# Seconds for which the machine's peak is measured.
_PEAK_SECONDS = 0.3


def flops_per_token(config: DecoderConfig, fam: FamConfig, blocks_per_step: int, *, frozen: bool = False) -> float:
    """Floating-point operations of training on one token, in blocks late enough in a document to see all segments.

    Counts the matrix products that the mathematics needs: two operations a multiplication, the backward pass twice the
    forward pass. What gradient checkpointing recomputes does not count (the "model FLOPs" of arXiv 2204.02311, appendix
    B). frozen: weights get no gradient, but gradients pass through them; low-rank updates are not counted.
    """
    queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * queries + 2 * keys + 3 * config.intermediate_size)
    c, f = fam.block_size, fam.fam_length
    # Memory rows take part in every product of a token.
    rows = 1 + f / c
    # Keys that a token attends to, on average; a memory row sees the memory and the block.
    seen = fam.memory_segments * c + f + (c + 1) / 2
    attention = 2 * queries * (seen + f / c * (f + c))
    products = config.num_layers * (rows * layer + attention) + config.hidden_size * config.vocab_size
    # The memory prompt goes up the layers at most once a step for each lane.
    prompt = config.num_layers * f * layer / (c * blocks_per_step)
    return (4.0 if frozen else 6.0) * (products + prompt)


def machine_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product, the best of several, on the threads in use."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times: list[float] = []
    began = time.monotonic()
    while len(times) < 3 or time.monotonic() - began < _PEAK_SECONDS:
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(times)
