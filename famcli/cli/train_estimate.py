"""`famcli train --dry-run`: what a run will need, as a table or as JSON."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from famcli.cli.render import Output, describe_bytes, describe_seconds

if TYPE_CHECKING:
    from famcli.training.estimate import Estimate
    from famcli.training.recipe.recipe import Recipe


def show_estimate(recipe: Recipe, run_folder: Path, as_json: bool, goes_to: str | None = None) -> None:
    """Measure, and print on stdout. goes_to: where what is made will be copied to, in words."""
    from famcli.training.estimate import estimate, expected_vocab_size

    found = estimate(recipe, expected_vocab_size(recipe))
    output = Output()
    if as_json:
        output.json({"run": str(run_folder), "estimate": asdict(found), "recipe": recipe.to_json()})
        return
    made = "adapter" if recipe.trains_updates else "checkpoint"
    for name, text in [*_lines(found, recipe, run_folder), *([] if goes_to is None else [(made, goes_to)])]:
        output.write(f"{name:<14}", "bold")
        output.line(text)


def _of_which_trained(found: Estimate) -> str:
    return "" if found.trained == found.parameters else f", of which {found.trained:,} are trained"


def _lines(found: Estimate, recipe: Recipe, run_folder: Path) -> list[tuple[str, str]]:
    schedule = recipe.schedule
    limit = " (the minutes end it)" if schedule.steps is None or found.steps < schedule.steps else ""
    distance = f"{found.training_distance:,} tokens from a key to its question" if found.training_distance else "none"
    what = "the adapter in float32;" if recipe.trains_updates else f"the checkpoint in {recipe.export.storage};"
    total = found.fixed_bytes + found.step_bytes
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else total
    too_much = f"; more than the {describe_bytes(there)} of this machine" if total > there else ""
    return [
        ("recipe", f"{recipe.name}, {recipe.path}"),
        ("run", str(run_folder)),
        ("parameters", f"{found.parameters:,}" + _of_which_trained(found)),
        ("steps", f"{found.steps:,} of about {found.tokens_per_step:,.0f} tokens{limit}"),
        ("tokens", f"{found.tokens:,}"),
        ("distance", distance),
        ("operations", f"{found.flops_per_token:.3g} a token, {found.flops_per_token * found.tokens:.3g} in all"),
        (
            "memory",
            f"{describe_bytes(total)}: {describe_bytes(found.fixed_bytes)} weights and optimiser, "
            f"{describe_bytes(found.step_bytes)} the longest step{too_much}",
        ),
        ("speed", f"{found.tokens_per_second:,.0f} tokens/s, {found.peak_share:.0%} of this machine's peak"),
        ("time", f"{describe_seconds(found.seconds)}, checks not counted"),
        (
            "disk",
            f"{describe_bytes(found.export_bytes)} {what} while training "
            f"{describe_bytes(found.checkpoint_bytes)}, twice that for a moment",
        ),
        ("measured", found.measured),
    ]
