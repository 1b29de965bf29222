"""Read documents once and keep what the network knows of them in a memory file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from famcli.checkpoint.model import Model
from famcli.nn import MemoryMode
from famcli.tasks.common import Advance, Documents, Notice, ReadCounts, Stage


@dataclass(frozen=True)
class ReadConfig:
    """save: where the memory file goes, None for nowhere. kind: as in the memory file's format.

    append: go on from the memory file at `save`; the documents are the grown sources (their old part is checked by
    hash), stdin is all new. force: overwrite `save`. follow: keep polling the last file for more, until interrupted.
    save_every: seconds between periodic saves.
    """

    save: Path | None = None
    kind: Literal["full", "memory"] = "full"
    append: bool = False
    force: bool = False
    follow: bool = False
    memory_mode: MemoryMode | None = None
    save_every: float = 180.0


@dataclass(frozen=True)
class Saved:
    """An event: the state was written."""

    path: Path
    num_bytes: int
    num_tokens: int


@dataclass(frozen=True)
class ReadResult:
    """counts: what was read in this run. total_*: since the memory file began."""

    model: str
    memory_mode: MemoryMode
    saved: Path | None
    counts: ReadCounts
    total_bytes: int
    total_tokens: int
    total_blocks: int
    warnings: tuple[str, ...]
    partial: bool

    def to_json(self) -> dict[str, Any]: ...


ReadEvent = Stage | Advance | Notice | Saved


class Read:
    """Reads documents and saves what is left of them. On KeyboardInterrupt call `.save()`, then `.result()`."""

    def __init__(self, model: Model, config: ReadConfig = ReadConfig()) -> None:
        """Raises UsageError for options that make no sense together, and when `save` exists without append or force."""

    def events(self, documents: Documents) -> Iterator[ReadEvent]: ...

    def save(self) -> Saved | None:
        """Write the memory file now."""

    def result(self) -> ReadResult: ...
