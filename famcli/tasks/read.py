"""Read documents once and keep what the network knows of them in a memory file, which can go on when they grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from famcli.checkpoint.model import Model
from famcli.documents.document import Document, open_document
from famcli.errors import MemoryFileError, UsageError
from famcli.nn import MemoryMode
from famcli.reading.append import open_append
from famcli.reading.events import BlockEvent, Event
from famcli.reading.memory_file import MemoryKind, inspect_memory_file, load_memory, save_memory
from famcli.reading.reader import Reader
from famcli.tasks.common import Advance, Documents, Ledger, Notice, ReadCounts, Stage, chosen_memory_mode

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class ReadConfig:
    """What to do with what is read. Raises UsageError for options that make no sense together.

    save: the memory file, None for none. kind: None is "full", and with `append` what the file is. append: go on from
    the memory file at `save`: its last source given again, as a whole, is checked and read on from where it had ended;
    "-" is text that follows directly; another file is a new source. force: replace `save`. follow: at the end of the
    last file wait for more, until interrupted. save_every: seconds between saves while reading. encoding: of the
    documents given as paths. memory_mode: None is the checkpoint's default, and with `append` the file's.
    """

    save: Path | None = None
    kind: MemoryKind | None = None
    append: bool = False
    force: bool = False
    follow: bool = False
    save_every: float = 180.0
    encoding: str | None = None
    memory_mode: MemoryMode | None = None

    def __post_init__(self) -> None:
        for option, given in (("--append", self.append), ("--force", self.force), ("--kind", self.kind is not None)):
            if given and self.save is None:
                raise UsageError(f"{option} is about a memory file: name it with --save")
        if self.append and self.force:
            raise UsageError("--append goes on with the memory file, --force replaces it: choose one")
        if self.save_every <= 0:
            raise UsageError(f"save_every is {self.save_every}, it must be positive")


@dataclass(frozen=True)
class Saved:
    """An event: what was read so far is in the memory file. The numbers are of all that it holds."""

    path: Path
    num_bytes: int
    num_tokens: int
    num_blocks: int
    file_size: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "path": str(self.path),
            "bytes": self.num_bytes,
            "tokens": self.num_tokens,
            "blocks": self.num_blocks,
            "file_size": self.file_size,
        }


@dataclass(frozen=True)
class ReadResult:
    """counts: what was read in this run. total_...: of all that the state knows, earlier runs included.

    saved: the last save, None without one.
    """

    model: str
    memory_mode: MemoryMode
    saved: Saved | None
    counts: ReadCounts
    total_bytes: int
    total_tokens: int
    total_blocks: int
    warnings: tuple[str, ...]
    partial: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "memory_mode": self.memory_mode,
            "saved": None if self.saved is None else self.saved.to_json(),
            "read": self.counts.to_json(),
            "total": {"bytes": self.total_bytes, "tokens": self.total_tokens, "blocks": self.total_blocks},
            "warnings": list(self.warnings),
            "partial": self.partial,
        }


ReadEvent = Stage | Advance | Notice | Saved


class Read:
    """Reads documents as one text and saves what is left of them. Use one object for one run.

    After an interruption call `save`, then `result`.
    """

    def __init__(self, model: Model, config: ReadConfig | None = None) -> None:
        """Raises UsageError when the memory file is there and neither `append` nor `force` is given, and
        MemoryFileError when it cannot be gone on with, before anything is read."""
        self.model, self.config = model, config or ReadConfig()
        self._ledger = Ledger()
        self._saved: Saved | None = None
        self._last_save = time.monotonic()
        self._finished = False
        if self.config.save is not None:
            _check_target(self.config.save, self.config)
        if self.config.append and self.config.save is not None:
            resume = load_memory(self.config.save, model)
            self._kind: MemoryKind = self.config.kind or inspect_memory_file(self.config.save).kind
            self._reader = Reader(model, memory_mode=self.config.memory_mode, resume=resume)
        else:
            self._kind = self.config.kind or "full"
            self._reader = Reader(model, memory_mode=chosen_memory_mode(model, self.config.memory_mode))

    @property
    def memory_mode(self) -> MemoryMode:
        """How the text is read."""
        return self._reader.state.memory_mode

    def events(self, documents: Documents) -> Iterator[ReadEvent]:
        """Read the documents, saving every few minutes and at the end."""
        if not self.config.append:
            yield from self._ledger.warn_untrained(self.model, self.config.memory_mode)
        self._last_save = time.monotonic()
        for event in self._read(list(documents)):
            yield from self._ledger.record(event)
            is_due = time.monotonic() - self._last_save >= self.config.save_every
            if isinstance(event, BlockEvent) and is_due and (saved := self.save()):
                yield saved
        self._finished = True
        if saved := self.save():
            yield saved

    def save(self) -> Saved | None:
        """Write the memory file now; None if there is none to write, or nothing was read yet."""
        if self.config.save is None or not self._reader.sources:
            return None
        info = save_memory(self.config.save, self._reader, self._kind)
        self._last_save = time.monotonic()
        size = self.config.save.stat().st_size
        self._saved = Saved(self.config.save, info.num_bytes, info.num_tokens, info.num_blocks, size)
        return self._saved

    def result(self) -> ReadResult:
        """What was read so far; partial until `events` is exhausted."""
        return ReadResult(
            model=self.model.name,
            memory_mode=self.memory_mode,
            saved=self._saved,
            counts=self._ledger.counts(),
            total_bytes=self._reader.num_bytes,
            total_tokens=self._reader.num_tokens,
            total_blocks=self._reader.num_blocks,
            warnings=tuple(self._ledger.warnings),
            partial=not self._finished,
        )

    def _read(self, documents: list[Document | str | PathLike[str]]) -> Iterator[Event]:
        last = len(documents) - 1
        if not self.config.append:
            yield from self._reader.read(
                self._open(document, index == last) for index, document in enumerate(documents)
            )
            return
        for index, document in enumerate(documents):
            added, continues = open_append(self._reader.bookmark(), _given(document), encoding=self.config.encoding)
            yield from self._reader.read([self._open(added, index == last)], continues=continues)

    def _open(self, document: Document | str | PathLike[str], is_last: bool) -> Document:
        if not isinstance(document, Document):
            document = open_document(document, encoding=self.config.encoding)
        if self.config.follow and is_last:
            if document.size is None or document.source is None:
                raise UsageError(f"--follow waits for a file to grow; {document.name} is read while it is open anyway")
            document.wait_for_more = _Growth(document, self._save_if_due)
        return self._ledger.watch(document)

    def _save_if_due(self) -> None:
        has_more = self._saved is None or self._saved.num_bytes != self._reader.num_bytes
        if has_more and time.monotonic() - self._last_save >= self.config.save_every:
            self.save()


class _Growth:
    """Waits a moment at the end of a file, and says whether to look again: until the file is gone or has shrunk."""

    def __init__(self, document: Document, meanwhile: Callable[[], None]) -> None:
        self._document, self._meanwhile = document, meanwhile

    def __call__(self) -> bool:
        self._meanwhile()
        time.sleep(POLL_SECONDS)
        source = self._document.source
        assert source is not None
        try:
            return source.stat().st_size >= self._document.start + self._document.bytes_read
        except OSError:
            return False


def read(model: Model, documents: Documents, config: ReadConfig | None = None) -> ReadResult:
    """Read `documents` (paths, "-" for stdin, or opened ones) to their end, and save what `config` says."""
    task = Read(model, config)
    for _ in task.events(documents):
        pass
    return task.result()


def _given(document: Document | str | PathLike[str]) -> str | PathLike[str]:
    """What `document` was opened from: to go on with it, it has to be opened anew where the old text ends."""
    if not isinstance(document, Document):
        return document
    document.close()
    return document.source or "-"


def _check_target(path: Path, config: ReadConfig) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a directory: name a file in it")
    if config.append and not path.exists():
        raise UsageError(f"{path} does not exist, so there is nothing to append to: leave --append out")
    if path.exists() and not (config.append or config.force):
        raise UsageError(f"{path} exists: go on with it by --append, or replace it by --force")
    if not path.absolute().parent.is_dir():
        raise MemoryFileError(f"cannot save to {path}: its directory does not exist; create it first")
