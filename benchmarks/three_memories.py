"""Three memories side by side: FAM, the Feedback Transformer, and none but a sliding window of blocks.

    python -m benchmarks.three_memories [--seeds 0 1 2] [--steps 240] [--folder runs/three-memories]
    python -m benchmarks.three_memories --table       # print what the log holds

All have the same data, tokens, and parameters but for what makes the memory (a prompt of 16 rows, or 4 layer weights).
The text runs begin from benchmarks/recipes/toy-text and train as benchmarks/recipes/toy.toml says; those of the
algorithmic task begin from drawn weights (benchmarks/recipes/algorithmic.toml). What a run gave is a line of
docs/experiments/three-memories.jsonl, and a run that is there is not made again; one that was stopped goes on. On a
core of its own a run of text takes 3 minutes and one of programs 3; of text by the Feedback Transformer, token by token
and compiled, 15. Seed by seed, so that one is whole before the next begins.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.ablations import RECIPE, judge
from benchmarks.algorithmic import write_programs
from benchmarks.common import ROOT, add_rows, print_table, read_rows
from famcli.checkpoint.inspect import state_bytes
from famcli.checkpoint.open import open_model
from famcli.evaluation.positions import Subject
from famcli.evaluation.sequences import score_sequences
from famcli.reading.engine import read_any, start_state
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import load_recipe

LOG = ROOT / "docs" / "experiments" / "three-memories.jsonl"
ALGORITHMIC = ROOT / "benchmarks" / "recipes" / "algorithmic.toml"
ALONE = ("network.fam_length=0", "schedule.segment_dropout=0", "schedule.random_state_passing=0")
MEMORIES: dict[str, tuple[str, ...]] = {
    "FAM": (),
    "sliding window": ALONE,
    "Feedback Transformer": (*ALONE, "network.architecture=feedback", "network.memory_update=additive"),
}
# The algorithmic recipe is a Feedback Transformer's, without rows of a memory.
PROGRAMS: dict[str, tuple[str, ...]] = {
    "FAM": ("network.architecture=fam", "network.fam_length=8", "network.memory_update=gated"),
    "sliding window": ("network.architecture=fam",),
    "Feedback Transformer": (),
}
COLUMNS = {
    "bits_per_byte": "bits per byte",
    "passkey": "passkey 256",
    "passkey_far": "passkey 1,024",
    "qa1": "where is 256",
    "qa1_far": "where is 1,024",
    "algorithmic": "algorithmic",
    "reading": "reading, ms",
    "training": "training, ms",
    "decoding": "decoding, ms",
    "state_bytes": "state, KB",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "three-memories")
    parser.add_argument("--data", type=Path, help="the folder of the corpora; default: as the recipe says")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        for seed in arguments.seeds:
            for name in MEMORIES:
                for kind, run in (("text", run_text), ("algorithmic", run_algorithmic)):
                    key = {"memory": name, "seed": seed, "kind": kind, "steps": arguments.steps}
                    if not any(entry.items() >= key.items() for entry in read_rows(LOG)):
                        folder = arguments.folder / f"{name.replace(' ', '-')}-{kind}-{seed}-{arguments.steps}"
                        entry = key | run(name, seed, arguments.steps, folder, arguments.data)
                        add_rows(LOG, entry)
                        print(json.dumps(entry), flush=True)
    print_results([entry for entry in read_rows(LOG) if entry["steps"] == arguments.steps])


def run_text(name: str, seed: int, steps: int, folder: Path, data: Path | None) -> dict[str, Any]:
    """Train on text with something to recall, judge recall in other text, and measure what a token costs."""
    settings = [*MEMORIES[name], f"schedule.seed={seed}", f"data.seed={seed + 1}", f"schedule.steps={steps}"]
    # Compiled where it pays: the exact loop of feedback, more than twice as fast, and not runs of five minutes.
    compiled = "true" if name == "Feedback Transformer" else "false"
    settings += ["schedule.lanes=16", f"hardware.compile={compiled}", "hardware.dtype=float32", "checks.save_minutes=2"]
    settings += [] if data is None else [f"data.folder={data}"]
    recipe = load_recipe(RECIPE, settings)
    ended = train(recipe, folder)
    assert ended.exported is not None
    streams = {"passkey": 32, "qa1": 8}
    found = judge(recipe, ended.exported, folder, (1, 4), streams, 1024)
    near, far = (str(factor * recipe.longest_distance) for factor in (1, 4))
    return {
        "bits_per_byte": found["bits_per_byte"],
        **{
            f"{task}{place}": _share(found[task][length])
            for task in ("passkey", "qa1")
            for place, length in (("", near), ("_far", far))
        },
        "training": 1e3 * ended.seconds / ended.tokens,
        **costs(ended.exported),
    }


def run_algorithmic(name: str, seed: int, steps: int, folder: Path, data: Path | None) -> dict[str, Any]:
    """Train on programs, and count the right answers in others."""
    programs = write_programs(folder.parent / "programs")
    settings = [*PROGRAMS[name], f"data.folder={programs.parent}", f"schedule.seed={seed}", f"data.seed={seed}"]
    settings += [f"schedule.steps={2 * steps}"]
    ended = train(load_recipe(ALGORITHMIC, settings), folder)
    assert ended.exported is not None
    model = open_model(ended.exported, device="cpu")
    subject = Subject(name, model.network, "on")
    *_, cell = score_sequences("algorithmic", 3, subject, model.tokenizer, num_tokens=256, streams=64, batch=32)
    return {"algorithmic": cell.right / cell.total, "answers": cell.total}


@torch.inference_mode()
def costs(exported: Path) -> dict[str, float]:
    """Milliseconds of a token in reading 1,024 at once and in decoding, and the bytes of the largest state."""
    model = open_model(exported, device="cpu", dtype="float32")
    network = model.network
    tokens = torch.randint(3, network.config.vocab_size, (1024,), generator=torch.Generator().manual_seed(0))
    read_any(network, tokens[:128], start_state(network))
    times = []
    for part in (tokens[None], tokens[:256, None, None]):
        state, began = start_state(network), time.process_time()
        for run in part:
            _, state = read_any(network, run if run.dim() == 2 else run[None], state)
        times.append(1e3 * (time.process_time() - began) / part.numel())
    reading, decoding = times
    return {
        "reading": reading,
        "decoding": decoding,
        "state_bytes": state_bytes(network.config, network.fam, "float32") / 1e3,
    }


def _share(counts: list[int]) -> float:
    return counts[0] / counts[1]


def print_results(entries: list[dict[str, Any]]) -> None:
    """Mean and, in brackets, largest less smallest over the seeds."""
    rows = []
    for name in MEMORIES:
        own = [entry for entry in entries if entry["memory"] == name]
        cells = []
        for column in COLUMNS:
            values = [entry[column] for entry in own if column in entry]
            cells.append(f"{statistics.mean(values):.3g} ({max(values) - min(values):.2g})" if values else "")
        rows.append([name, str(len({entry["seed"] for entry in own})), *cells])
    print_table("three memories: mean of seeds (spread)", ["memory", "seeds", *COLUMNS.values()], rows)


if __name__ == "__main__":
    main()
