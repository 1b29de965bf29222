"""Weights in int8 and int4 against bfloat16 on a CPU: speed at the 100M shape, and what they cost in quality.

Each engine runs in a process of its own and all are timed in turn: reading a block, and greedy decoding after a prompt.
llama.cpp at Q8_0 takes part where llama-cpp-python is installed. Ratios are medians over rounds of runs made next to
one another, with a bootstrap interval. Then the checkpoint that ships scores a text in each of the three. The bars:
int8 decodes at least 1.5 times as fast as bfloat16, and its bits per byte are within 1 %.

    python -m benchmarks.quantized [--threads 1] [--rounds 15] [--prompt 128] [--bytes 100000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import EXAMPLE, FAM_TINY, print_table, verdict
from benchmarks.peers import Famcli, LlamaCpp, Worker, deviations, plain_logits, time_length, write_checkpoint

READ = 1024
FASTER, WORSE = 1.5, 1.01  # the bars
CHOICES = ("none", "int8", "int4")


def engines() -> dict[str, tuple[str, Callable[[Path, str], Any]]]:
    """By name: the type of its weights, and how it is made."""
    found: dict[str, tuple[str, Callable[[Path, str], Any]]] = {
        "bfloat16" if choice == "none" else choice: ("bfloat16", partial(Famcli, quantize=choice)) for choice in CHOICES
    }
    if find_spec("llama_cpp") is not None:
        found["llama.cpp Q8_0"] = ("Q8_0", partial(LlamaCpp, flash=False))
        found["llama.cpp Q8_0, flash"] = ("Q8_0", partial(LlamaCpp, flash=True))
    return found


def ratio(slower: Sequence[float], faster: Sequence[float]) -> tuple[float, float, float]:
    """Median of the ratios round by round, and its 95 % bootstrap interval."""
    ratios = np.array(slower) / np.array(faster)
    drawn = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


def speed(folder: Path, threads: int, prompt: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each engine, compared with bfloat16."""
    workers = {name: Worker(make, folder, dtype, threads) for name, (dtype, make) in engines().items()}
    logits, taken = plain_logits(workers), time_length(workers, READ, rounds, prompt)
    for worker in workers.values():
        worker.stop()
    return [
        {
            "engine": name,
            "off": deviations(logits[name], logits["bfloat16"]),
            **{f"{job}_per_second": 1 / statistics.median(taken[job, name]) for job in ("read", "decode")},
            **{f"{job}_ratio": ratio(taken[job, "bfloat16"], taken[job, name]) for job in ("read", "decode")},
        }
        for name in workers
    ]


def bits_per_byte(num_bytes: int) -> dict[str, float]:
    """Of the first bytes of the example, by the checkpoint that ships, in bfloat16 and in fewer bits."""
    from famcli.checkpoint.open import open_model
    from famcli.tasks.perplexity.perplexity import Perplexity
    from famcli.tasks.task import open_documents

    found = {}
    with tempfile.TemporaryDirectory() as made:
        text = Path(made) / "text"
        text.write_bytes(EXAMPLE.read_bytes()[:num_bytes])
        for choice in CHOICES:
            task = Perplexity(open_model(FAM_TINY, device="cpu", dtype="bfloat16", quantize=choice))
            for _ in task.events(open_documents([str(text)], None)):
                pass
            score = task.result().total[0].bits_per_byte
            assert score is not None
            found["bfloat16" if choice == "none" else choice] = score
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15, help="0 leaves the speed out")
    parser.add_argument("--prompt", type=int, default=128, help="tokens that are read before decoding")
    parser.add_argument("--bytes", type=int, default=100_000, help="of the text that is scored; 0 leaves that out")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    figures: dict[str, Any] = {"threads": options.threads, "prompt": options.prompt, "rounds": options.rounds}
    torch.set_num_threads(options.threads)
    if options.rounds:
        with tempfile.TemporaryDirectory() as made:
            write_checkpoint(Path(made), "bfloat16")
            figures["speed"] = speed(Path(made), options.threads, options.prompt, options.rounds)
        print_speed(figures["speed"], options.threads, options.prompt)
    if options.bytes:
        figures["bits_per_byte"] = bits_per_byte(options.bytes)
        print_bits(figures["bits_per_byte"], options.bytes)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def print_speed(rows: Sequence[Mapping[str, Any]], threads: int, prompt: int) -> None:
    cells = []
    for row in rows:
        told = f" (bar {FASTER:g}: {verdict(row['decode_ratio'][0], FASTER, at_least=True)})"
        cells.append(
            (
                row["engine"],
                f"{row['off']:.4f}",
                f"{row['read_per_second']:.0f}",
                "{:.2f} [{:.2f}, {:.2f}]".format(*row["read_ratio"]),
                f"{row['decode_per_second']:.1f}",
                "{:.2f} [{:.2f}, {:.2f}]".format(*row["decode_ratio"]) + (told if row["engine"] == "int8" else ""),
            )
        )
    columns = ["engine", "logits off, in deviations", "read, tokens/s", "x bfloat16", "decode, tokens/s", "x bfloat16"]
    print_table(
        f"100M shape, {threads} thread(s): reading {READ} tokens, decoding after {prompt}; medians", columns, cells
    )


def print_bits(found: Mapping[str, float], num_bytes: int) -> None:
    rows = []
    for name, bits in found.items():
        worse = bits / found["bfloat16"]
        told = f" (bar {WORSE:g}: {verdict(worse, WORSE)})" if name == "int8" else ""
        rows.append((name, f"{bits:.4f}", f"{worse:.4f}{told}"))
    print_table(f"fam-tiny, first {num_bytes:,} bytes of the example", ["weights", "bits/byte", "x bfloat16"], rows)


if __name__ == "__main__":
    main()
