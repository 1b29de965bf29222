"""Peak memory of the real commands on a short and a long text (`make test-slow`).

benchmarks/memory_flat.py goes further.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.common import make_small_checkpoint, make_text, run_famcli

MB = 1_000_000


@pytest.mark.slow
def test_memory_does_not_depend_on_the_length_of_a_benchmark(tmp_path: Path) -> None:
    model = make_small_checkpoint(tmp_path / "model")
    peaks = []
    for length in ("16k", "2M"):
        arguments = ["eval", "babi", "--tasks", "qa1", "--lengths", length, "--streams", "2", "--model", str(model)]
        peaks.append(run_famcli([*arguments, "--threads", "1", "--progress", "none"]).peak_bytes)
    assert peaks[1] < 1.05 * peaks[0]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ppl", "read", "ask"])
def test_memory_does_not_depend_on_length(command: str, tmp_path: Path) -> None:
    model = make_small_checkpoint(tmp_path / "model")
    peaks = []
    for size in (1, 20):
        text = make_text(tmp_path / f"{size}.txt", size * MB)
        kept = ["-q", "Who?", "--readings", str(tmp_path)]
        options = {"read": ["--save", str(tmp_path / f"{size}.fam")], "ask": kept}
        source = ["--file", str(text)] if command == "ask" else [str(text)]
        arguments = [command, *source, *options.get(command, []), "--model", str(model), "--threads", "1"]
        arguments += ["--progress", "none"]
        peaks.append(run_famcli(arguments).peak_bytes)
    assert peaks[1] < 1.05 * peaks[0]
