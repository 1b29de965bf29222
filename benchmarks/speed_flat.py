"""Reading must not slow down: CPU time per block late in a text against early in it.

Reads 10 MB and compares the median CPU time per block over the last tenth with that over the second tenth (the first
warms up). Bar: 1.05. With fam-tiny if it is there, else with its shape and random weights of one layer.

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
    has_fam_tiny,
    make_checkpoint,
    make_text,
    print_table,
    shipped_fam,
    small_shape,
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
        folder = Path(made)
        text = make_text(folder / "text.txt", int(options.size * 1e6))
        model = FAM_TINY
        if not has_fam_tiny():
            tokenizer = FAM_TINY if (FAM_TINY / "tokenizer.model").exists() else None
            model = make_checkpoint(
                folder / "one random layer", small_shape(4096 if tokenizer else 257), shipped_fam(), tokenizer
            )
        taken = cpu_per_block(model, text, options.score)
    tenth = len(taken) // 10
    tenths = [statistics.median(taken[i * tenth : (i + 1) * tenth]) for i in range(10)]
    ratio = tenths[9] / tenths[1]
    print_table(
        f"CPU time per block, {model.name}, {len(taken)} blocks of a {options.size:g} MB text (medians by tenth)",
        ["", *(str(i + 1) for i in range(10)), "last / second", "bar 1.05"],
        [("ms per block", *(f"{x * 1e3:.1f}" for x in tenths), f"{ratio:.3f}", verdict(ratio, BAR))],
    )


if __name__ == "__main__":
    main()
