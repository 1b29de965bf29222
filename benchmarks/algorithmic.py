"""What the runs of benchmarks/recipes/algorithmic.toml read besides the programs that are made while they run.

`python -m benchmarks.algorithmic FOLDER` writes `programs.jsonl`, which the tokenizer is trained on: its pieces are the
symbols of the language. The programs to learn from are drawn anew by the objective.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np

from famcli.synthetic.sequences import SEQUENCES

PROGRAMS, STATEMENTS = 400, 100


def write_programs(folder: Path) -> Path:
    """Programs over five variables, one a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "programs.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(PROGRAMS):
            pairs = islice(SEQUENCES["algorithmic"](np.random.default_rng(number), 5), STATEMENTS)
            text = "".join(text + answer for text, answer in pairs)
            file.write(json.dumps({"id": str(number), "text": text}) + "\n")
    return path


if __name__ == "__main__":
    print(write_programs(Path(sys.argv[1])))
