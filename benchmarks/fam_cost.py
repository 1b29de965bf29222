"""What the memory costs: reading with FAM against block sliding window attention, the same network without memory.

The 100M shape, C 1,024, m 3, f 64; blocks read in turn. Bar: 8 % more time (counting operations gives about 5 %).

    python -m benchmarks.fam_cost [--threads 2] [--repeats 9]
"""

from __future__ import annotations

import argparse
import statistics

import torch

from benchmarks.common import interleaved, pairwise, print_table, verdict
from benchmarks.networks import filled_state, network_100m, random_tokens

BAR = 1.08


def measure(dtype: torch.dtype, repeats: int) -> tuple[object, ...]:
    """One row of the table."""
    with_memory, without = network_100m(dtype), network_100m(dtype, fam_length=0)
    states = filled_state(with_memory, 5), filled_state(without, 5)
    tokens = random_tokens(without, without.fam.block_size)
    taken = interleaved(
        {"fam": lambda: with_memory.read(tokens, states[0]), "bswa": lambda: without.read(tokens, states[1])}, repeats
    )
    ratio = pairwise(taken["fam"], taken["bswa"])
    cells = [f"{statistics.median(taken[name]) * 1e3:.0f} ms" for name in ("fam", "bswa")]
    return (str(dtype).removeprefix("torch."), *cells, f"{ratio:.3f}", verdict(ratio, BAR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        rows = [measure(dtype, options.repeats) for dtype in (torch.float32, torch.bfloat16)]
    columns = ["type", "FAM, a block", "BSWA, a block", "ratio", "bar 1.08"]
    print_table(f"The cost of memory, 100M shape, C 1024, m 3, f 64, {options.threads} threads", columns, rows)


if __name__ == "__main__":
    main()
