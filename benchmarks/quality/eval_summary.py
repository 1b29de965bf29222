"""`python -m benchmarks.quality summary`: summaries by ROUGE, beside LEAD, TextRank and LexRank."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli.options import (
    CommonOptions,
)
from famcli.cli.render import describe_seconds
from famcli.cli.work import Work
from famcli.errors import UsageError
from famcli.plain import plural

if TYPE_CHECKING:
    from benchmarks.quality.summaries import SetScores

_NAMES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeLsum": "ROUGE-L"}


def summary(
    *,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Sets: .jsonl(.zst) with `id`, `text` and `summary`.")
    ],
    split: Annotated[
        Literal["heldout", "train", "all"],
        typer.Option("--split", help="heldout: records whose `split` is not train; without one, a tenth by their id."),
    ] = "heldout",
    texts: Annotated[
        int | None, typer.Option("--texts", min=1, metavar="N", help="So many texts of each set, drawn. Default: all.")
    ] = None,
    words: Annotated[
        int | None,
        typer.Option("--words", min=1, metavar="N", help="Of a summary. Default: the median of the set's references."),
    ] = None,
    focused: Annotated[
        bool,
        typer.Option("--focused", help="Records with a question of their own, which is the focus; else those without."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws texts.")] = 0,
    common: CommonOptions,
) -> None:
    """Judge summaries by ROUGE beside LEAD, TextRank and LexRank.

    All are given the same sentences and the same number of words. LexRank compares all pairs of sentences: very long
    texts take it minutes.
    """
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file} is no file; give .jsonl(.zst) files of texts with summaries")
    with Work(common) as work:
        from benchmarks.quality.summaries import SetScores, median_words, rouge, score_set
        from benchmarks.quality.summary_sets import drawn, rankings, read_items

        peers, began, found = rankings(), time.monotonic(), list[SetScores]()
        rouge()
        model = work.open_model()
        try:
            for file in files:
                items = read_items(file, split, focused=focused)
                if not items:
                    work.notes.warn(f"{file} has no records to summarize with --split {split}")
                    continue
                chosen = drawn(items, texts, seed)
                name, so_far = file.name.split(".")[0], None
                work.progress.stage(f"{name}: {plural(len(chosen), 'text')}")
                for so_far in score_set(name, chosen, words or median_words(items), model, peers):
                    work.progress.advance(len(chosen[so_far.num_texts - 1].text.encode("utf-8", "replace")), 0)
                    found = [*(one for one in found if one.name != name), so_far]
                if so_far is not None and work.form == "jsonl":
                    work.output.json({"event": "set", **so_far.to_json()})
        except KeyboardInterrupt:
            work.interrupted = True
        if found:
            _show(work, found, time.monotonic() - began)
        work.finish()


def _show(work: Work, found: list[SetScores], seconds: float) -> None:
    from benchmarks.quality.summaries import DEFINITION, differences

    overall = differences(found)
    if work.form != "text":
        values: dict[str, Any] = {"event": "result"} if work.form == "jsonl" else {}
        values |= {"benchmark": "summary", "definition": DEFINITION}
        if work.form == "json":
            values["sets"] = [one.to_json() for one in found]
        work.output.json(values | {"differences": overall, "seconds": seconds, "partial": work.interrupted})
        return
    work.make_room()
    for one in found:
        work.output.line(f"{one.name}: {plural(one.num_texts, 'text')}, {one.num_words} words", "bold")
        width = max(len(system.name) for system in one.systems)
        for system in one.systems:
            values = system.to_json()
            cells = [f"{name} {_share(values['scores'][key])}" for key, name in _NAMES.items()]
            quarters = " ".join(f"{100 * share:.0f}" for share in values["quarters"])
            work.output.line(f"  {system.name.ljust(width)}  {'  '.join(cells)}  quarters {quarters} %")
    work.output.line("Differences, mean over sets", "bold")
    for gap in overall:
        cells = [f"{name} {_share(gap['scores'][key], sign='+')}" for key, name in _NAMES.items()]
        work.output.line(f"  {gap['system']} minus {gap['minus']}: {'  '.join(cells)}")
    if not work.notes.quiet:
        work.output.paragraph(DEFINITION, "dim")
    work.output.line(f"{describe_seconds(seconds)} in all.", "dim")
    if work.interrupted:
        work.output.line("Partial: interrupted before all texts were summarized.", "yellow")


def _share(value: dict[str, Any], sign: str = "") -> str:
    """`40.1 (38.9 - 41.2)` of a mean with its interval, in per cent."""
    text = f"{100 * value['mean']:{sign}.1f}"
    if value["interval"] is None:
        return text
    low, high = value["interval"]
    return f"{text} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"
