"""What int8 storage costs: bits per byte of texts with a checkpoint's weights as they are, and stored in int8.

Both are read in float32, so that nothing but the storage differs. Bar: 0.5 % more bits per byte.

    python -m benchmarks.int8_storage [TEXT...] [--model models/fam-tiny] [--shard-bytes 15000000]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common import EXAMPLE, FAM_TINY, print_table, verdict
from famcli import open_model, perplexity
from famcli.checkpoint.model import Model
from famcli.checkpoint.save import save_checkpoint

BAR = 1.005


def bits_per_byte(model: Model, texts: Sequence[Path]) -> float:
    """Bits per byte over all texts, memory on."""
    with torch.inference_mode():
        return perplexity(model, [str(path) for path in texts]).total[0].bits_per_byte


def weights_size(folder: Path) -> tuple[int, int]:
    """Bytes of the weights on disk, and of the largest file of them."""
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    return sum(sizes), max(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=Path, default=[EXAMPLE])
    parser.add_argument("--model", type=Path, default=FAM_TINY)
    parser.add_argument("--shard-bytes", type=int, default=15_000_000)
    options = parser.parse_args()
    rows, figures = [], []
    with tempfile.TemporaryDirectory() as made:
        model = open_model(options.model, device="cpu", dtype="float32")
        save_checkpoint(
            made,
            model.network,
            model.tokenizer,
            model.sidecar,
            torch.bfloat16,
            storage="int8",
            shard_bytes=options.shard_bytes,
        )
        for name, folder in (("as it is", options.model), ("int8", Path(made))):
            opened = open_model(folder, device="cpu", dtype="float32")
            figures.append(bits_per_byte(opened, options.texts))
            total, largest = weights_size(folder)
            ratio = figures[-1] / figures[0]
            sizes = f"{total / 1e6:.2f} MB", f"{largest / 1e6:.2f} MB"
            rows.append((name, *sizes, f"{figures[-1]:.5f}", f"{ratio:.5f}", verdict(ratio, BAR)))
    columns = ["storage", "weights", "largest file", "bits/byte", "ratio", f"bar {BAR}"]
    print_table(f"int8 storage of {options.model.name}, {len(options.texts)} text(s)", columns, rows)


if __name__ == "__main__":
    main()
