"""How close reading comes to its own kernels.

The 100M shape reads blocks of 1,024 tokens with three segments and 64 memory rows. The sum it is held against is
timed in the same run, in turn with it: the same matrix products, each the fastest of those torch offers, and the
fastest attention found at the same shapes. Bar: reading takes at most 1.2 times that sum. The rate for scoring
(logits and cross-entropy of every token) is stated too.

    python -m benchmarks.near_the_machine [--threads 2] [--repeats 7]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import FAM_100M, SHAPE_100M, interleaved, pairwise, print_table, verdict
from benchmarks.networks import attention_candidates, filled_state, network_100m, random_tokens, reading_parts
from famcli.nn import DecoderConfig
from famcli.reading.scoring import cross_entropy

BAR = 1.2


def layer_products(config: DecoderConfig) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(inputs, outputs) of a layer's products: each by itself, and those of one input joined."""
    width, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    gates = [(width, inner)] * (2 if config.gated else 1)
    shared = [(queries, width), (inner, width)]
    alone = [(width, queries), (width, keys), (width, keys), *gates, *shared]
    return alone, [(width, queries + 2 * keys), (width, inner * len(gates)), *shared]


def product_candidates(x: Tensor, weight: Tensor) -> dict[str, Callable[[], Tensor]]:
    """x @ weight.T in every way torch has."""
    onednn = torch.ops.mkldnn._linear_pointwise
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, x.shape[0])
    return {
        "linear": lambda: F.linear(x, weight),
        "oneDNN": lambda: onednn(x, weight, None, "none", [], ""),
        "oneDNN, packed": lambda: onednn(x, packed, None, "none", [], ""),
    }


class Kernels:
    """One layer's products and attention, each timed alone, over tensors that are as large as in reading."""

    def __init__(self, dtype: torch.dtype, repeats: int) -> None:
        rows = FAM_100M["block_size"] + FAM_100M["fam_length"]
        products, _ = layer_products(DecoderConfig(**SHAPE_100M))
        inputs = {i: torch.randn(rows, i).to(dtype) for i, _ in products}
        self.chosen: dict[str, str] = {}
        self.products = [
            self._best("products", product_candidates(inputs[i], torch.randn(o, i).to(dtype)), repeats)
            for i, o in products
        ]
        queries, parts, memory_queries, memory_parts = reading_parts(dtype)
        self.tokens = self._best("tokens' attention", attention_candidates(queries, parts, True), repeats)
        self.memory = self._best(
            "memory's attention", attention_candidates(memory_queries, memory_parts, False), repeats
        )

    def _best(self, name: str, candidates: dict[str, Callable[[], Any]], repeats: int) -> Callable[[], Any]:
        taken = {key: statistics.median(values) for key, values in interleaved(candidates, repeats).items()}
        best = min(taken, key=taken.__getitem__)
        self.chosen[name] = best
        return candidates[best]

    def run_products(self) -> None:
        """All products of a block, layer after layer."""
        for _ in range(SHAPE_100M["num_layers"]):
            for product in self.products:
                product()

    def run_attention(self) -> None:
        """All attention of a block, layer after layer."""
        for _ in range(SHAPE_100M["num_layers"]):
            self.tokens()
            self.memory()


def measure(dtype: torch.dtype, repeats: int) -> tuple[object, ...]:
    """One row of the table."""
    network = network_100m(dtype)
    state = filled_state(network, 5)
    tokens = random_tokens(network, network.fam.block_size)
    kernels = Kernels(dtype, max(3, repeats // 2))

    def read() -> Tensor:
        return network.read(tokens, state)[0]

    taken = interleaved(
        {
            "read": read,
            "products": kernels.run_products,
            "attention": kernels.run_attention,
            "score": lambda: cross_entropy(network, read(), tokens),
        },
        repeats,
    )
    kernel_sum = [a + b for a, b in zip(taken["products"], taken["attention"], strict=True)]
    ratio = pairwise(taken["read"], kernel_sum)
    middle = {name: statistics.median(values) for name, values in taken.items()}
    n = network.fam.block_size
    return (
        str(dtype).removeprefix("torch."),
        f"{middle['read'] * 1e3:.0f} ms",
        f"{middle['products'] * 1e3:.0f} ms",
        f"{middle['attention'] * 1e3:.0f} ms",
        kernels.chosen["tokens' attention"],
        f"{ratio:.2f}",
        verdict(ratio, BAR),
        f"{n / middle['read']:.0f} tok/s",
        f"{n / middle['score']:.0f} tok/s",
    )


def attention_table(dtype: torch.dtype, repeats: int) -> list[tuple[object, ...]]:
    """What attention was chosen from: milliseconds and the share of scores actually needed, in GFLOP/s."""
    queries, parts, memory_queries, memory_parts = reading_parts(dtype)
    rows: list[tuple[object, ...]] = []
    for name, q, p, causal in (("tokens", queries, parts, True), ("memory rows", memory_queries, memory_parts, False)):
        candidates = attention_candidates(q, p, causal)
        taken = interleaved(candidates, repeats)
        n, total = q.shape[2], sum(key.shape[2] for key, _ in p)
        needed = 4 * q.shape[1] * q.shape[3] * (n * total - (n * (n - 1) / 2 if causal else 0))
        exact = candidates["fused call with mask"]().double()
        for candidate, seconds in taken.items():
            middle = statistics.median(seconds)
            off = (candidates[candidate]().double() - exact).abs().max().item()
            cells = (f"{middle * 1e3:.1f} ms", f"{needed / middle / 1e9:.0f}", f"{off:.1e}")
            rows.append((str(dtype).removeprefix("torch."), name, candidate, *cells))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with torch.inference_mode():
        types = (torch.float32, torch.bfloat16)
        columns = ["type", "queries", "attention", "time", "GFLOP/s", "from the fused call"]
        print_table(
            f"One layer's attention, C 1024, m 3, f 64, {options.threads} threads",
            columns,
            [row for dtype in types for row in attention_table(dtype, options.repeats)],
        )
        columns = ["type", "reading a block", "products", "attention", "best attention", "ratio", "bar 1.2", "reading"]
        print_table(
            f"Reading against its own kernels, 100M shape, {options.threads} threads",
            [*columns, "scoring"],
            [measure(dtype, options.repeats) for dtype in types],
        )


if __name__ == "__main__":
    main()
