"""Reading must not slow down: CPU time per block late in a text against early in it.

Reads 10 MB and compares the median CPU time per block over the last tenth with that over the second tenth (the first
warms up). Bar: 1.05.

    python -m benchmarks.speed_flat [--size 10] [--score]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.common import (
    FAM_TINY,
    make_text,
    print_table,
    verdict,
)

BAR = 1.05


def cpu_per_block(model_path: Path, text: Path, score: bool) -> list[float]:
    """CPU seconds of each whole block: its text, tokens and network."""
    import torch

    from famcli.checkpoint.open import open_model
    from famcli.documents.opening import open_source
    from famcli.reading.events import BlockEvent
    from famcli.reading.reader import Reader

    torch.set_num_threads(1)
    reader = Reader(open_model(model_path, device="cpu"), score=score)
    taken, before = [], time.process_time()
    for event in reader.read([open_source(text)]):
        now = time.process_time()
        if isinstance(event, BlockEvent) and event.closed:
            taken.append(now - before)
        before = now
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=10, help="MB")
    parser.add_argument("--score", action="store_true", help="score as it reads, as `famcli ppl` does")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        text = make_text(Path(made) / "text.txt", int(options.size * 1e6))
        taken = cpu_per_block(FAM_TINY, text, options.score)
    tenth = len(taken) // 10
    tenths = [statistics.median(taken[i * tenth : (i + 1) * tenth]) for i in range(10)]
    ratio = tenths[9] / tenths[1]
    print_table(
        f"CPU time per block, {FAM_TINY.name}, {len(taken)} blocks of a {options.size:g} MB text (medians by tenth)",
        ["", *(str(i + 1) for i in range(10)), "last / second", "bar 1.05"],
        [("ms per block", *(f"{x * 1e3:.1f}" for x in tenths), f"{ratio:.3f}", verdict(ratio, BAR))],
    )


if __name__ == "__main__":
    main()
