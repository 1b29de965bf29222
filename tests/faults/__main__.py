"""`make test-faults`: all campaigns at full size, their figures in docs/experiments/faults.json and docs/promises.md.

    python -m tests.faults [--share 1.0] [--minutes 30] [--seed 1] [--only kills ...] [--write]

Ends with exit code 1 if anything failed. The first failures are printed; a seed gives the same campaign again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tests.faults.children import Figures
from tests.faults.disks import disks
from tests.faults.fuzz import fuzz
from tests.faults.hostile import hostile
from tests.faults.kills import kills
from tests.faults.power import power
from tests.faults.signals import signals
from tests.faults.steps import steps
from tests.faults.writers import writers

ROOT = Path(__file__).parents[2]
_TURNS = 5
FIGURES = ROOT / "docs" / "experiments" / "faults.json"
PROMISES = ROOT / "docs" / "promises.md"
CAMPAIGNS: dict[str, tuple[Callable[[int, int, Path], Figures], int]] = {
    "kills": (kills, 100),
    "steps": (steps, 100),
    "power": (power, 40),
    "disks": (disks, 4000),
    "fuzz": (fuzz, 10_000),
    "hostile": (hostile, 100),
    "signals": (signals, 300),
    "writers": (writers, 60),
}
README = ROOT / "README.md"
_README_BEGIN, _README_END = "<!-- figures of make test-faults: begin -->", "<!-- end -->"
_IN_WORDS = {
    "kills": "kills",
    "steps": "kills before a system call of a save",
    "power": "losses of power",
    "disks": "full disks",
    "fuzz": "damaged or hostile inputs",
    "hostile": "cases that are made to harm",
    "signals": "signals",
    "writers": "pairs of writers",
}
_BEGIN, _END = "<!-- figures: begin (python -m tests.faults --write) -->", "<!-- figures: end -->"


def main() -> int:
    """Run the campaigns that are asked for, in turns, so that all get their share of the time there is."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the full size of each campaign")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing more after that")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(CAMPAIGNS), choices=list(CAMPAIGNS))
    parser.add_argument("--write", action="store_true", help="put the figures into the documentation")
    chosen = parser.parse_args()
    until = time.monotonic() + 60 * chosen.minutes
    found = {name: Figures(name) for name in chosen.only}
    for turn in range(_TURNS):
        for name, so_far in found.items():
            campaign, size = CAMPAIGNS[name]
            if time.monotonic() > until:
                break
            began = time.monotonic()
            # In memory where that can be: what is tried is order, not the speed of a disk.
            shared = Path("/dev/shm")
            with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
                figures = campaign(
                    max(1, round(size * chosen.share / _TURNS)), _TURNS * chosen.seed + turn, Path(folder)
                )
            _add(so_far, figures)
            told = f"{so_far.trials:,} trials, {len(so_far.failures)} failures; {so_far.counts}"
            print(f"{name}, turn {turn + 1} of {_TURNS} in {time.monotonic() - began:.0f} s: {told}")
            for failure in figures.failures[:20]:
                print(f"    {failure}")
            sys.stdout.flush()
            if chosen.write:
                _write({name: asdict(so_far) | {"seed": chosen.seed}})
    return int(any(one.failures for one in found.values()))


def _add(so_far: Figures, more: Figures) -> None:
    so_far.trials += more.trials
    so_far.failures += more.failures
    for what, number in more.counts.items():
        before = so_far.counts.get(what, 0)
        so_far.counts[what] = max(before, number) if what in ("slowest, s", "formats") else before + number


def _write(found: dict[str, dict[str, object]]) -> None:
    before = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    values = {name: (before | found)[name] for name in CAMPAIGNS if name in before | found}
    FIGURES.write_text(json.dumps(values, indent=1) + "\n")
    text = PROMISES.read_text()
    head, _, rest = text.partition(_BEGIN)
    PROMISES.write_text(f"{head}{_BEGIN}\n{table(values)}{_END}{rest.partition(_END)[2]}")
    head, _, rest = README.read_text().partition(_README_BEGIN)
    README.write_text(f"{head}{_README_BEGIN}\n{sentence(values)}{_README_END}{rest.partition(_README_END)[2]}")


def sentence(values: dict[str, dict[str, object]]) -> str:
    """The figures in a sentence for the README."""
    tried = ", ".join(f"{values[name]['trials']:,} {what}" for name, what in _IN_WORDS.items() if name in values)
    num_failures = sum(len(one["failures"]) for one in values.values())  # type: ignore[misc, arg-type]
    return f"`make test-faults` tries that: {tried}; {num_failures or 'no'} failure{'s' * (num_failures != 1)}.\n"


def table(values: dict[str, dict[str, object]]) -> str:
    """The figures as a table in Markdown."""
    lines = ["| campaign | trials | failures | what came of them |", "|---|---:|---:|---|"]
    for name, one in values.items():
        counts = one["counts"]
        assert isinstance(counts, dict)
        told = ", ".join(f"{what} {number:,}" for what, number in counts.items())
        lines.append(f"| {name} | {one['trials']:,} | {len(one['failures'])} | {told} |")  # type: ignore[arg-type]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
