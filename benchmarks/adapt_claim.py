"""A plain decoder, trained without FAM on 512 tokens, gains a memory by LoRA: the paper's central claim.

    python -m benchmarks.adapt_claim train plain-text       # then plain-short and plain: the decoder to be adapted
    python -m benchmarks.adapt_claim train task-first       # then task, task-third to -fifth; full-first, full; distill
    python -m benchmarks.adapt_claim judge                  # what is trained so far, on validation text
    python -m benchmarks.adapt_claim judge --heldout        # for the final figures, once

`judge` measures passkeys of five digits at 1 to 16 times the training context and bits per byte of windows of that
length, before and after, with intervals, and prints one table; the figures also go to runs/adapt-claim/. The plain
decoder is read in two ways: with the window it was trained on sliding over the text, and with full attention over all
of it. The goal: at least 95 % at 16 times the context, and bits per byte at most 1 % worse.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import ROOT, print_table, verdict
from benchmarks.mean_of_checkpoints import mean
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.checkpoint.save import merge, write_json
from famcli.checkpoint.sidecar import read_sidecar
from famcli.evaluation.positions import Subject, score_documents, token_num_bytes
from famcli.evaluation.recall import passkey_trials, score_trials
from famcli.evaluation.texts import TokenCorpus, read_texts
from famcli.nn import MemoryMode
from famcli.plain import to_json
from famcli.training.data.corpus import pack
from famcli.training.loop.run_folder import PasskeyDone, StepDone, TrainEvent
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import load_recipe

RECIPES = ROOT / "benchmarks" / "recipes"
RUNS = ROOT / "runs" / "adapt-claim"
HELDOUT = ROOT.parent / "shared" / "corpus" / "books_heldout.jsonl.zst"
PLAIN_EXPORT = RECIPES / "adapt-plain"  # kept in the repository: what `train plain` made
TASK = ("task-first", "task", "task-third", "task-fourth", "task-fifth")  # LoRA's parts, each from the one before
MERGED = {name: RUNS / name / "merged" for name in TASK}
MIXED = {name: RUNS / name / "mixed" for name in ("task", "task-fifth")}
# of the plain weights in them, and where their gate opens: chosen on validation text (docs/experiments.md)
PLAIN_SHARE, LATE_GATE = {"task": 0.2, "task-fifth": 0.12}, 0.95
CONTEXT = 512
MULTIPLES = (1, 2, 4, 8, 16)
ROOM = 32  # tokens left for the question, so that at 1x all of it lies within the training context
PLAIN: dict[str, tuple[str, ...]] = {
    # over 512 tokens nothing was copied after 1,000 steps: text first, then copying over 128 tokens, then both over 512
    "plain-text": ("schedule.steps=1000",),
    "plain-short": (
        f"schedule.init={RUNS / 'plain-text' / 'export'}",
        "network.block_size=128",
        "schedule.lanes=48",
        "objectives.language_modelling.weight=0.1",
        "objectives.passkey.weight=0.35",
        "objectives.needles.weight=0.35",
        "schedule.steps=900",
    ),
    "plain": (f"schedule.init={RUNS / 'plain-short' / 'export'}", "schedule.muon_lr=0.002"),
}
FULL = ("adapt.method=full", "schedule.weight_decay=0.05")
# First a high rate finds the memory; then text counts in full, more documents ask for keys, and the rate falls.
SECOND = (
    *(f"objectives.{name}.text_weight=1.0" for name in ("passkey", "needles", "where")),
    *(f"objectives.{name}.answer_weight=12" for name in ("passkey", "needles", "where")),
    "objectives.language_modelling.weight=0.3",
    "objectives.passkey.weight=0.42",
    "objectives.needles.weight=0.08",
    "objectives.needles.episodes_per_block=0.5",
    "objectives.where.weight=0.2",
    "schedule.min_blocks=2",
    "schedule.max_blocks=7",
    "schedule.curriculum_share=0",
    "schedule.segment_dropout=0.65",
    "schedule.random_state_passing_from=0",
    "schedule.adamw_lr=0.0015",
    "schedule.decay_share=0.8",
    "schedule.seed=2",
)
# What is long read is like what will be read; then keys whose digits repeat, many in short documents.
LATE = (
    *SECOND,
    f"network.gate_threshold={LATE_GATE}",
    "schedule.random_state_passing=0.7",
    "schedule.decay_share=0.9",
    "schedule.muon_lr=0.0007",
    "schedule.adamw_lr=0.0007",
)
DIGITS = (
    *LATE,
    "objectives.language_modelling.weight=0.25",
    "objectives.passkey.weight=0.6",
    "objectives.passkey.distinct_digits=3",
    "objectives.passkey.episodes_per_block=0.7",
    "objectives.needles.weight=0.05",
    "objectives.where.weight=0.1",
    "schedule.max_blocks=5",
)
CHANGES: dict[str, tuple[str, ...]] = {
    "task-first": (),
    "task": (f"adapt.model={MERGED['task-first']}", *SECOND, "schedule.muon_lr=0.0015"),
    "task-third": (
        f"adapt.model={MIXED['task']}",
        *LATE,
        "objectives.language_modelling.weight=0.27",
        "objectives.passkey.weight=0.5",
        "objectives.where.weight=0.15",
        "schedule.steps=700",
        "schedule.seed=5",
    ),
    "task-fourth": (f"adapt.model={MERGED['task-third']}", *DIGITS, "schedule.steps=550", "schedule.seed=6"),
    "task-fifth": (
        f"adapt.model={MERGED['task-fourth']}",
        *DIGITS,
        "objectives.passkey.weight=0.62",
        "objectives.where.weight=0.08",
        "schedule.steps=700",
        "schedule.decay_share=0.95",
        "schedule.muon_lr=0.001",
        "schedule.adamw_lr=0.001",
        "schedule.seed=7",
    ),
    "full-first": (*FULL, "schedule.muon_lr=0.002"),
    "full": (f"adapt.model={RUNS / 'full-first' / 'export'}", *FULL, *SECOND, "schedule.muon_lr=0.001"),
    # the teacher sees 512 tokens, so no question may be further from its answer than that
    "distill": ("adapt.objective=distill", "schedule.max_blocks=4", "schedule.curriculum_share=0.5"),
}


@dataclass(frozen=True)
class Reading:
    """One way of reading with one network. modes: the memory's. short: whether its short text is measured too."""

    name: str
    model: Model
    modes: tuple[MemoryMode, ...]
    short: bool = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("name", choices=(*PLAIN, *CHANGES))
    training.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    judging = commands.add_parser("judge")
    judging.add_argument("--streams", type=int, default=100, help="passkeys at each length")
    judging.add_argument("--windows", type=int, default=400, help="windows of short text")
    judging.add_argument("--heldout", action="store_true", help="on the held-out novels, for the final figures only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.command == "train":
        train_one(arguments.name, arguments.changes)
    else:
        judge(arguments.streams, arguments.windows, arguments.heldout)


def train_one(name: str, changes: Sequence[str]) -> None:
    """One run, from where it stopped; a line now and then."""
    file = RECIPES / ("adapt-plain.toml" if name in PLAIN else "adapt.toml")
    recipe = load_recipe(file, [*(PLAIN | CHANGES)[name], *changes])

    def show(event: TrainEvent) -> None:
        if isinstance(event, PasskeyDone):
            print(f"step {event.step}: passkeys of {event.total} at {event.distances}: {event.right}", flush=True)
        elif isinstance(event, StepDone) and event.step % 25 == 0:
            shares = {kind: loss["answers_right"] for kind, loss in event.by_objective.items()}
            right = ", ".join(f"{kind} {share:.2f}" for kind, share in shares.items() if share is not None)
            print(
                f"step {event.step}, {event.progress:.0%}: loss {event.loss:.3f}, {event.bits_per_byte:.3f} bits/byte, "
                f"blocks {event.num_blocks}, {event.tokens_per_second:,.0f} tokens/s; answers right: {right}",
                flush=True,
            )

    ended = train(recipe, RUNS / name, show)
    if ended.exported is None:
        return
    if name == "plain":
        left_out = shutil.ignore_patterns("recipe.toml")  # it names folders of the machine that it was trained on
        shutil.copytree(ended.exported, PLAIN_EXPORT, ignore=left_out, dirs_exist_ok=True)
    elif name in MERGED and recipe.adapt is not None:
        shutil.rmtree(MERGED[name], ignore_errors=True)
        merge(Path(recipe.adapt.model), ended.exported, MERGED[name])
    if name in MIXED:
        shutil.rmtree(MIXED[name], ignore_errors=True)
        mean(PLAIN_EXPORT, MERGED[name], MIXED[name], PLAIN_SHARE[name])
        sidecar = read_sidecar(MIXED[name])
        late = replace(sidecar, fam=replace(sidecar.fam, gate_threshold=LATE_GATE))
        write_json(MIXED[name] / "fam.json", late.to_json())


def judge(streams: int, windows: int, heldout: bool) -> None:
    readings = list(_readings())
    tokenizer = readings[0].model.tokenizer
    texts = read_texts([HELDOUT], tokenizer) if heldout else _validation_texts()
    pieces = _windows(texts, windows)
    widths = token_num_bytes(tokenizer)
    rows, results, before = [], list[dict[str, Any]](), None
    for reading in readings:
        for mode in reading.modes:
            cells = _passkeys(reading, mode, streams, texts)
            short = None
            if reading.short:
                subject = Subject(reading.name, reading.model.network, mode)
                scores = score_documents(subject, pieces, widths, tokenizer.bos_id, max_tokens=CONTEXT)
                short = np.array([[score.nats.sum() / math.log(2), score.num_bytes.sum()] for score in scores])
                before = short if before is None else before
            row, result = _row(reading.name, mode, cells, short, before)
            rows.append(row)
            results.append(result)
            print(f"{reading.name}, memory {mode}: done", flush=True)
    where = "held-out novels" if heldout else "validation text"
    lengths = [f"passkey at {multiple}x ({length:,})" for multiple, length in zip(MULTIPLES, _lengths(), strict=True)]
    columns = ["network", "memory", *lengths, "bits per byte", "against before, %", "goal"]
    print_table(f"{streams} passkeys at each length, {windows} windows of {CONTEXT} tokens of {where}", columns, rows)
    target = RUNS / ("judged-heldout.json" if heldout else "judged.json")
    target.write_text(json.dumps({"streams": streams, "windows": windows, "text": where, "rows": results}, indent=2))


def _readings() -> Iterator[Reading]:
    def opened(folder: Path, **options: Any) -> Model:
        return open_model(folder, dtype="bfloat16", device="cpu", **options)

    own = opened(PLAIN_EXPORT)
    sliding = opened(PLAIN_EXPORT, block_size=128, memory_segments=3)
    everything = opened(PLAIN_EXPORT, block_size=128, memory_segments=4 * MULTIPLES[-1])
    yield Reading("plain, windows of 512 cut at their ends", own, ("none",))
    yield Reading("plain, sliding window of 512", sliding, ("none",))
    yield Reading("plain, full attention", everything, ("none",), short=False)
    for name in (*MERGED, *(name for name in CHANGES if name not in MERGED)):
        made = RUNS / name / "export"
        if made.exists():
            model = opened(PLAIN_EXPORT, adapter=made) if name == "distill" else opened(MERGED.get(name, made))
            yield Reading(f"adapted, {name}", model, ("on",) if name in MERGED else ("on", "frozen"))
    for name, folder in MIXED.items():
        if folder.exists():
            yield Reading(
                f"adapted, {name}, {PLAIN_SHARE[name]:.0%} plain, late gate", opened(folder), ("on", "frozen")
            )


def _validation_texts() -> TokenCorpus:
    """The longest of the validation corpora, as the runs held it out."""
    from famcli.tokens import open_tokenizer

    recipe = load_recipe(RECIPES / "adapt-plain.toml")
    assert recipe.tokenizer.path is not None
    tokenizer, cache = open_tokenizer(recipe.tokenizer.path), recipe.data.cache or RUNS
    return pack(recipe.corpora[0], tokenizer, cache, recipe.data.seed, validation=True)


def _windows(texts: TokenCorpus, count: int) -> list[Any]:
    """`count` windows of CONTEXT tokens, evenly over all texts, none over the end of one."""
    found = []
    for place in np.linspace(0, texts.num_tokens - CONTEXT - 1, count).astype(int).tolist():
        end = int(texts.offsets[np.searchsorted(texts.offsets, place, side="right")])
        start = min(place, end - CONTEXT)
        found.append(texts.tokens[max(0, start) : max(0, start) + CONTEXT])
    return found


def _lengths() -> list[int]:
    return [CONTEXT * multiple - ROOM for multiple in MULTIPLES]


def _passkeys(reading: Reading, mode: MemoryMode, streams: int, texts: TokenCorpus) -> list[Any]:
    trials = passkey_trials(_lengths(), streams=streams)
    network, tokenizer = reading.model.network, reading.model.tokenizer
    *_, cells = score_trials(trials, Subject(reading.name, network, mode), tokenizer, texts, batch=10)
    return sorted(cells, key=lambda cell: cell.length)


def _row(
    name: str, mode: str, cells: Sequence[Any], short: Any, before: Any
) -> tuple[list[str], dict[str, Any]]:  # fmt: skip
    """A row of the table, and the same for the file. short, before: bits and bytes of each window [w, 2]."""
    shares = [f"{c.right}/{c.total} ({c.interval[0]:.0%}-{c.interval[1]:.0%})" for c in cells]
    result: dict[str, Any] = {"network": name, "memory": mode, "passkey": to_json(cells)}
    if short is None:
        return [name, mode, *shares, "", "", ""], result
    bits = short[:, 0].sum() / short[:, 1].sum()
    base = before[:, 0].sum() / before[:, 1].sum()
    worse = 100 * (bits / base - 1)
    # of a ratio of sums over the same windows: the deviation of what each adds to the difference
    error = 100 * float(np.std(short[:, 0] - before[:, 0], ddof=1)) * len(short) ** 0.5 / before[:, 0].sum()
    result |= {"bits_per_byte": bits, "worse_percent": worse, "worse_standard_error": error}
    goal = ""
    if mode == "on":
        goal = f"recall {verdict(cells[-1].share, 0.95, at_least=True)}, text {verdict(worse, 1.0)}"
    return [name, mode, *shares, f"{bits:.4f}", f"{worse:+.2f} +- {error:.2f}", goal], result


if __name__ == "__main__":
    main()
