"""The mean of two checkpoints of the same shape, weight by weight (model soups, arXiv 2203.05482).

    python -m benchmarks.mean_of_checkpoints ONE OTHER OUT [--share 0.5]

Everything but the weights is copied from OTHER. fam-tiny is made with it: its third run recalled better, its fourth
predicted text better, and their mean does nearly as well as each (docs/experiments.md).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("one", "other", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of ONE in the mean")
    arguments = parser.parse_args()
    if arguments.out.exists():
        raise SystemExit(f"{arguments.out} exists; remove it or choose another name")
    mean(arguments.one, arguments.other, arguments.out, arguments.share)
    print(f"{arguments.out}: {arguments.share:g} of {arguments.one}, the rest of {arguments.other}")


def mean(one: Path, other: Path, out: Path, share: float = 0.5) -> None:
    """Writes a copy of OTHER with the mean of the weights; a memory that ONE lacks is taken from OTHER as it is."""
    shutil.copytree(other, out)
    for path in sorted(other.glob("*.safetensors")):
        if not (one / path.name).exists():
            continue
        theirs, ours = load_file(one / path.name), load_file(path)
        if {name: t.shape for name, t in theirs.items()} != {name: t.shape for name, t in ours.items()}:
            raise SystemExit(f"{one} and {other} have different weights")
        mixed = {name: (t.float() + share * (theirs[name].float() - t.float())).to(t.dtype) for name, t in ours.items()}
        save_file(mixed, out / path.name, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
