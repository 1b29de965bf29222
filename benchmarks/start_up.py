"""How long a user waits: for `famcli --help`, and for the first line of progress.

Bars: help under 0.3 s without importing torch; first progress line under 2 s with fam-tiny. Beside them: Python
starting and doing nothing, and Python importing torch.

    python -m benchmarks.start_up [--repeats 9]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import (
    FAM_TINY,
    ROOT,
    interleaved,
    make_text,
    print_table,
    run_child,
    verdict,
)

_HELP_THEN_MODULES = """
import sys
from famcli.cli.main import main
sys.argv = ["famcli", "--help"]
try:
    main()
except SystemExit:
    pass
heavy = sorted({"torch", "numpy", "transformers", "safetensors", "sentencepiece"} & set(sys.modules))
print("imported:", ", ".join(heavy) or "nothing heavy")
"""


def seconds_to_first_progress(model: Path, text: Path) -> float:
    """From the start of `famcli ppl` to its first line on stderr."""
    command = [sys.executable, "-m", "famcli", "ppl", str(text), "--model", str(model), "--progress", "json"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr is not None
        while b'"progress"' not in (line := process.stderr.readline()):
            if not line:
                raise RuntimeError("famcli ended without progress")
        taken = time.perf_counter() - began
        process.kill()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    python = sys.executable
    with tempfile.TemporaryDirectory() as made:
        text = make_text(Path(made) / "text.txt", 2_000_000)
        first_lines: list[float] = []
        taken = interleaved(
            {
                "python that does nothing": lambda: run_child([python, "-c", "pass"]),
                "python that imports torch": lambda: run_child([python, "-c", "import torch"]),
                "famcli --help": lambda: run_child([python, "-m", "famcli", "--help"]),
                "first progress line": lambda: first_lines.append(seconds_to_first_progress(FAM_TINY, text)),
            },
            options.repeats,
        )
    taken["first progress line"] = first_lines
    imported = run_child([python, "-c", _HELP_THEN_MODULES]).stdout.splitlines()[-1]
    bars = {"famcli --help": 0.3, "first progress line": 2.0}
    rows = []
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        bar = bars.get(name)
        told = ("", "") if bar is None else (f"{bar:g} s", verdict(middle, bar))
        rows.append((name, f"{middle:.3f} s", f"{min(seconds):.3f} s", *told))
    print_table(f"Start (`famcli --help` {imported}; {FAM_TINY.name})", ["", "median", "best", "bar", ""], rows)


if __name__ == "__main__":
    main()
