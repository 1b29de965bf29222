"""The mean of two checkpoints of the same shape, weight by weight (model soups, arXiv 2203.05482).

    python -m benchmarks.mean_of_checkpoints ONE OTHER OUT

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
    arguments = parser.parse_args()
    if arguments.out.exists():
        raise SystemExit(f"{arguments.out} exists; remove it or choose another name")
    shutil.copytree(arguments.other, arguments.out)
    for path in sorted(arguments.other.glob("*.safetensors")):
        one, other = load_file(arguments.one / path.name), load_file(path)
        if {name: t.shape for name, t in one.items()} != {name: t.shape for name, t in other.items()}:
            raise SystemExit(f"{arguments.one} and {arguments.other} have different weights")
        mean = {name: ((one[name].float() + other[name].float()) / 2).to(other[name].dtype) for name in other}
        save_file(mean, arguments.out / path.name, metadata={"format": "pt"})
    print(f"{arguments.out}: the mean of {arguments.one} and {arguments.other}")


if __name__ == "__main__":
    main()
