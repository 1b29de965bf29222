"""fam-tiny's block-sliding-window twin: its chain of runs once more, without the memory.

    python -m benchmarks.tiny_twin START          # what is not yet in runs/twin, in order; a stopped run goes on
    famcli eval ppl ../shared/corpus/books_heldout.jsonl.zst --twin runs/twin/last/export
    famcli eval passkey --filler ../shared/corpus/books_heldout.jsonl.zst --lengths 2k,8k --twin runs/twin/last/export

START is the checkpoint from which the run that taught the memory began (models/fam-tiny/recipe-text.toml); both
networks share it, as the paper's share a pretrained one. From there on the twin has the same recipes, documents and
number of steps (docs/experiments/fam-tiny-*.jsonl.gz), but no memory rows and its segments in every step.
"""

from __future__ import annotations

import argparse
import gzip
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.common import ROOT
from benchmarks.mean_of_checkpoints import mean
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import load_recipe
from famcli.training.recipe.sections import ChecksRecipe

RUNS = ROOT / "runs" / "twin"
# the run, its recipe, the log that says how long it was
CHAIN = (
    ("facts", "recipe-facts.toml", "facts"),
    ("both", "recipe-both.toml", "third"),
    ("more", "recipe-more.toml", "more"),
    ("recall", "recipe-recall.toml", "recall"),
    ("short", "recipe-short.toml", "short"),
    ("polish", "recipe-polish.toml", "polish"),
    ("last", "recipe.toml", "last"),
)
WITHOUT_MEMORY = ("network.fam_length=0", "schedule.segment_dropout=0", "schedule.random_state_passing=0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path, help="checkpoint to start from")
    parser.add_argument("--until", choices=[name for name, *_ in CHAIN], default=CHAIN[-1][0])
    arguments = parser.parse_args()
    before = arguments.start
    for name, recipe, log in CHAIN:
        export = RUNS / name / "export"
        if not export.exists():
            _train(name, recipe, num_steps(log), before)
        before = export
        if name == arguments.until:
            break
        if name == "more":  # as fam-tiny: the next run begins from the mean of these two
            before = RUNS / "mean" / "export"
            if not before.exists():
                mean(RUNS / "both" / "export", export, before)


def num_steps(log: str) -> int:
    """Optimiser steps that a run of fam-tiny made, by its log."""
    with gzip.open(ROOT / "docs" / "experiments" / f"fam-tiny-{log}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return max(int(json.loads(line).get("step", 0)) for line in lines)


def _train(name: str, recipe: str, steps: int, before: Path) -> None:
    """The run, as long as fam-tiny's was by its steps, and without its checks on the way."""
    settings = (*WITHOUT_MEMORY, "hardware.compile=true", f"schedule.steps={steps}", f"schedule.init={before}")
    loaded = load_recipe(ROOT / "models" / "fam-tiny" / recipe, settings)
    schedule, checks = replace(loaded.schedule, max_minutes=None), ChecksRecipe(every_steps=0)
    ended = train(replace(loaded, schedule=schedule, checks=checks), RUNS / name)
    print(f"{name}: {steps} steps, {ended.tokens:,} tokens, {ended.seconds / 60:.0f} minutes", flush=True)


if __name__ == "__main__":
    main()
