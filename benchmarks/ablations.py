"""The paper's ablations at toy scale: one factor at a time from one base, three seeds each.

    python -m benchmarks.ablations                # train and judge what the log lacks, then print the table
    python -m benchmarks.ablations --table        # print the table of the log alone

Each run starts from one decoder without memory (benchmarks/recipes/toy-text), as the paper's do from a pretrained one,
trains benchmarks/recipes/toy.toml with a few keys changed, and is judged in other text: passkeys (both digits) and the
place of a person (qa1) at 1, 4 and 16 times the training distance, and bits per byte past the window. The results of
every run go to docs/experiments/ablations.jsonl; a run that is there is not made again.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import ROOT, complete_log, print_table, read_rows
from famcli.checkpoint.open import open_model
from famcli.evaluation.positions import Subject, bits_per_byte, bucket_starts, score_documents, token_num_bytes
from famcli.evaluation.recall import babi_trials, passkey_trials, score_trials
from famcli.training.data.objectives import open_data
from famcli.training.loop.train import train
from famcli.training.loop.validation import choose_validation
from famcli.training.recipe.recipe import Recipe, load_recipe

RECIPE = ROOT / "benchmarks" / "recipes" / "toy.toml"
LOG = ROOT / "docs" / "experiments" / "ablations.jsonl"
RUNS = ROOT / "runs" / "ablations"
SEEDS = (0, 1, 2)
MULTIPLES = (1, 4, 16)  # of the training distance
DIGITS = 2
STREAMS = {"passkey": 64, "qa1": 16}  # a story of qa1 is asked about everybody in it
BASE = "base"

FACTORS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "memory 0 (the BSWA twin)": ("network.fam_length=0", "schedule.segment_dropout=0"),
    "memory 4": ("network.fam_length=4",),
    "memory 32": ("network.fam_length=32",),
    "memory 64": ("network.fam_length=64",),
    "segments 0": ("network.memory_segments=0", "schedule.segment_dropout=0"),
    "segments 3": ("network.memory_segments=3",),
    "state passing 0": ("schedule.random_state_passing=0",),
    "state passing 0.8": ("schedule.random_state_passing=0.8",),
    "state passing 0.8, the paper's form": (
        "schedule.random_state_passing=0.8",
        "schedule.state_passing=batch",
        "schedule.random_state_passing_from=0",
    ),
    "additive update (the paper's)": ("network.memory_update=additive",),
    "no segment dropout": ("schedule.segment_dropout=0",),
    "gate from 0.65": ("network.gate_threshold=0.65",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the table of the log alone")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    # not `--only`: what follows that goes into code that torch compiles, where an apostrophe is a syntax error
    parser.add_argument("--factors", nargs="*", default=list(FACTORS), help="their names")
    arguments = parser.parse_args()
    if not arguments.table:
        complete_log(LOG, "factor", arguments.factors, arguments.seeds, _run)
    print_results(read_rows(LOG))


def run_folder(name: str, seed: int) -> Path:
    """Where a run of a factor lies."""
    return RUNS / f"{re.sub('[^a-z0-9]+', '-', name.lower())}-{seed}"


def _run(name: str, seed: int) -> dict[str, Any]:
    settings = [*FACTORS[name], f"schedule.seed={seed}", f"data.seed={seed + 1}"]
    recipe = load_recipe(RECIPE, settings)
    folder = run_folder(name, seed)
    shutil.rmtree(folder, ignore_errors=True)
    ended = train(recipe, folder)
    assert ended.exported is not None
    told = {"settings": FACTORS[name], "seconds": round(ended.seconds, 1)}
    return told | judge(recipe, ended.exported, folder)


def judge(
    recipe: Recipe,
    exported: Path,
    folder: Path,
    multiples: Sequence[int] = MULTIPLES,
    streams: Mapping[str, int] = STREAMS,
    num_tokens: int = 4096,
) -> dict[str, Any]:
    """Recall by length and bits per byte past the window, on the recipe's validation documents."""
    model = open_model(exported, device="cpu", dtype="bfloat16")
    data = open_data(load_recipe(recipe.path), folder.parent / "tokens")
    (corpus,) = data.validation
    lengths = [factor * recipe.longest_distance for factor in multiples]
    trials = passkey_trials(lengths, streams=streams["passkey"], digits=DIGITS)
    trials += babi_trials(["qa1"], lengths, streams=streams["qa1"])
    subject = Subject("toy", model.network, "on")
    *_, cells = score_trials(trials, subject, model.tokenizer, corpus, batch=32)
    entry: dict[str, Any] = {"passkey": {}, "qa1": {}}
    for cell in cells:
        entry[cell.task][str(cell.length)] = [cell.right, cell.total]
    with torch.no_grad():
        documents = choose_validation([corpus], 8, num_tokens)[corpus.name]
        widths = token_num_bytes(model.tokenizer)
        scores = score_documents(subject, documents, widths, model.tokenizer.bos_id, max_tokens=num_tokens)
    starts = bucket_starts(model.network.fam.block_size, num_tokens)
    entry["bits_per_byte"] = round(bits_per_byte(scores), 4)
    entry["by_position"] = [round(bits_per_byte(scores, index), 4) for index in range(len(starts))]
    return entry


def print_results(entries: Sequence[dict[str, Any]]) -> None:
    """Mean and spread (largest less smallest) over seeds; a difference inside the larger spread is a tie."""
    groups = {name: [entry for entry in entries if entry["factor"] == name] for name in FACTORS}
    if not groups[BASE]:
        return
    rows = []
    for name, members in groups.items():
        if members:
            rows.append(
                [name, str(len(members)), *(_cell(members, groups[BASE], column) for column in _columns(entries))]
            )
    print_table("ablations: share right, mean of seeds (spread)", ["factor", "seeds", *_columns(entries)], rows)


def _columns(entries: Sequence[dict[str, Any]]) -> list[str]:
    lengths = sorted(int(length) for length in entries[0]["passkey"])
    return [f"{task} {length:,}" for task in ("passkey", "qa1") for length in lengths] + ["bits per byte"]


def _values(members: Sequence[dict[str, Any]], column: str) -> list[float]:
    if column == "bits per byte":
        return [float(entry["bits_per_byte"]) for entry in members]
    task, length = column.split(" ")
    return [entry[task][length.replace(",", "")][0] / entry[task][length.replace(",", "")][1] for entry in members]


def _cell(members: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]], column: str) -> str:
    values, there = _values(members, column), _values(base, column)
    mean, spread = statistics.mean(values), max(values) - min(values)
    digits = 3 if column == "bits per byte" else 2
    text = f"{mean:.{digits}f} ({spread:.{digits}f})"
    if members is base:
        return text
    tie = abs(mean - statistics.mean(there)) <= max(spread, max(there) - min(there))
    return f"{text} tie" if tie else text


if __name__ == "__main__":
    main()
