"""`famcli readings`: what earlier questions have left for later ones."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from famcli.cli.failures import interrupts_raise
from famcli.cli.options import MEGABYTE, OutputOptions, ReadingsLimitOption, ReadingsOption, open_readings
from famcli.cli.render import Output, describe_bytes, plural


def readings(
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Remove everything that is kept.")] = False,
    readings: ReadingsOption = None,
    readings_limit: ReadingsLimitOption = 1000,
    output: OutputOptions,
) -> None:
    """Show or clear what was read for questions.

    `famcli ask` and `famcli chat` keep what they read of a file (its memory, its passages and their text), so that the
    next question about the same content need not read it again. It is readable by its owner only.
    """
    # Names and sizes as they lie in the cache: `num_bytes` keeps its prefix here, as scripts know it.
    form, out, cache = output.form, Output(), open_readings(readings, readings_limit)
    interrupts_raise()
    removed = cache.clear() if clear else 0
    entries = cache.entries()
    size = sum(entry.size for entry in entries)
    values = {"folder": cache.folder, "size": size, "limit": cache.limit, "removed": removed}
    if form == "json":
        out.json({**values, "readings": [asdict(entry) for entry in entries]})
    elif form == "jsonl":
        for entry in entries:
            out.json({"event": "reading", **asdict(entry)})
        out.json({"event": "result", **values})
    elif clear:
        out.line(f"Removed {plural(removed, 'reading')} from {cache.folder}.")
    else:
        for entry in entries:
            out.line(", ".join(entry.names), "bold")
            out.line(
                f"  {describe_bytes(entry.num_bytes)} read by {entry.model}, memory {entry.memory_mode}, "
                f"{_when(entry.created)}; last asked {_when(entry.used)}; takes {describe_bytes(entry.size)}"
            )
        limit = describe_bytes(cache.limit)
        out.line(f"{plural(len(entries), 'reading')}, {describe_bytes(size)} of {limit}, in {cache.folder}", "dim")
        if cache.limit < MEGABYTE:
            out.line("The limit is 0: nothing is kept.", "yellow")


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
