"""Peak memory must not depend on how much is read.

Reads a small and a large text through the real command, from a file and from a pipe, and compares the peaks of
resident memory (bar: 5 %). A random checkpoint of one layer keeps the large text a matter of minutes; fam-tiny reads
2 and 10 MB. What stands beside it in the table: a Python that only imports torch.

    python -m benchmarks.memory_flat [--small 2] [--large 100]      sizes in MB
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.common import (
    FAM_TINY,
    make_small_checkpoint,
    make_text,
    print_table,
    run_child,
    run_famcli,
    verdict,
)

BAR = 1.05
MB = 1_000_000


def compare(model: Path, texts: tuple[Path, Path], folder: Path, jobs: list[str]) -> list[tuple[object, ...]]:
    """One row for each job and way in: peaks for the small and the large text, and their ratio."""
    rows: list[tuple[object, ...]] = []
    for job in jobs:
        for way in ("file", "stdin"):
            peaks, seconds = [], 0.0
            for text in texts:
                memory = folder / f"{job}-{way}-{text.stem}.fam"
                save = ["--save", str(memory), "--force"] if job == "read" else []
                source = [str(text)] if way == "file" else []
                arguments = [job, *source, *save, "--model", str(model), "--threads", "1", "--progress", "none"]
                child = run_famcli(arguments, stdin=text if way == "stdin" else None)
                peaks.append(child.peak_bytes)
                seconds = child.seconds
            ratio = peaks[1] / peaks[0]
            cells = [f"{peak / MB:.0f} MB" for peak in peaks]
            rows.append(
                (model.name, f"famcli {job}", way, *cells, f"{ratio:.3f}", verdict(ratio, BAR), f"{seconds:.0f} s")
            )
            print(".", end="", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=float, default=2, help="MB")
    parser.add_argument("--large", type=float, default=100, help="MB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        torch_alone = run_child([sys.executable, "-c", "import torch"]).peak_bytes
        small = make_text(folder / "small.txt", int(options.small * MB))
        large = make_text(folder / "large.txt", int(options.large * MB))
        random_model = make_small_checkpoint(folder / "one random layer")
        rows = compare(random_model, (small, large), folder, ["ppl", "read"])
        columns = [
            "model",
            "command",
            "from",
            *(f"{x:g} MB" for x in (options.small, options.large)),
            "ratio",
            "bar 1.05",
        ]
        print(file=sys.stderr)
        print_table(f"Peak resident memory (a Python with torch: {torch_alone / MB:.0f} MB)", [*columns, "took"], rows)
        large = make_text(folder / "ten.txt", min(10 * MB, int(options.large * MB)))
        rows = compare(FAM_TINY, (small, large), folder, ["ppl", "read"])
        columns[4] = f"{large.stat().st_size / MB:g} MB"
        print(file=sys.stderr)
        print_table("Peak resident memory of fam-tiny", [*columns, "took"], rows)


if __name__ == "__main__":
    main()
