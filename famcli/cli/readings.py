"""`famcli readings`: what earlier questions have left for later ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from famcli.cli.failures import interrupts_raise
from famcli.cli.options import OutputOptions, ReadingsLimitOption, ReadingsOption
from famcli.cli.render import Output, describe_bytes
from famcli.errors import UsageError
from famcli.plain import plural, user_folder

if TYPE_CHECKING:
    from famcli.tasks.ask.reading_cache import ReadingCache

MEGABYTE = 1_000_000


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


def open_readings(folder: Path | None, limit: int) -> ReadingCache:
    """The cache of readings in `folder`, by default the user's, that may take `limit` MB.

    Raises UsageError where the user has no folder, as in a container without a HOME.
    """
    # Imported here: help and completion answer without it.
    from famcli.tasks.ask.reading_cache import ReadingCache

    folder = folder or user_folder("readings")
    if folder is None:
        raise UsageError("this user has no folder for readings: set HOME, or name one", remedy={"readings": "DIR"})
    return ReadingCache(folder, limit * MEGABYTE)


def readings_if_possible(
    folder: Path | None, limit: int, load: Path | None, warn: Callable[[str], None]
) -> ReadingCache | None:
    """`open_readings`, or None where nothing is to be kept; what hinders that is only a warning."""
    # A memory file is such a reading already.
    if not limit or load is not None:
        return None
    try:
        return open_readings(folder, limit)
    except UsageError as error:
        warn(f"what is read is not kept for later questions: {error}")
        return None


def check_sources(sources: Sequence[Path] | None, load: Path | None) -> None:
    """Refuse --sources without a memory file."""
    if sources and not load:
        raise UsageError("--sources says where the texts of a memory file are now: it has no meaning without --load")


def allowed_sources(sources: Sequence[Path] | None) -> list[Path]:
    """Where a memory file may quote from, besides its own folder and the current one: pages were fetched by famcli."""
    pages = user_folder("pages")
    return [*(sources or []), *([] if pages is None else [pages])]
