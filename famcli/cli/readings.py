"""Options about the cache of readings, which `ask`, `chat` and `cache` share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from famcli.tasks.ask.reading_cache import ReadingCache

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class ReadingsOptions:
    """Where what was read is kept for the next question."""

    readings: Annotated[
        Path | None,
        typer.Option(
            "--readings",
            envvar="FAMCLI_READINGS",
            metavar="DIR",
            help="Where what was read of files is kept, with their text. Default: the user's cache folder.",
        ),
    ] = None
    readings_limit: Annotated[
        int,
        typer.Option(
            "--readings-limit",
            envvar="FAMCLI_READINGS_LIMIT",
            min=0,
            metavar="MB",
            help="What all kept readings may take together; those asked longest ago go first. 0 keeps nothing.",
        ),
    ] = 1000

    def open(self) -> ReadingCache:
        """The cache in that folder."""
        from famcli.tasks.ask.reading_cache import ReadingCache

        return ReadingCache(self.folder, self.readings_limit * MEGABYTE)

    @property
    def folder(self) -> Path:
        """Where it is, made or not."""
        if self.readings is not None:
            return self.readings
        from platformdirs import user_cache_path

        return user_cache_path("famcli") / "readings"
