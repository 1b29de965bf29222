"""Read documents once and keep the network's state in a memory file, which can be continued when they grow."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

from famcli.checkpoint.model import Model
from famcli.documents.locking import sole_writer
from famcli.documents.opening import open_source
from famcli.documents.source import Source
from famcli.errors import MemoryFileError, UsageError
from famcli.nn import MemoryMode
from famcli.reading.append import open_append
from famcli.reading.cursor import Progress
from famcli.reading.events import BlockEvent, Event
from famcli.reading.memory_file import MemoryKind, inspect_memory_file, load_memory, save_memory
from famcli.reading.memory_format import check_save
from famcli.reading.reader import Reader
from famcli.tasks.task import Advance, Documents, Notice, ReadCounts, ReadingTracker, Stage, chosen_memory_mode, run

POLL_SECONDS = 0.5
_COMPARED_BYTES = 4096


@dataclass(frozen=True)
class ReadConfig:
    """How to read and what to save. Raises UsageError for options that contradict each other.

    save: the memory file, None for none. kind: None is "full", or with `append` the kind of the file. append: continue
    from the memory file at `save`. Its last source, given again as a whole, is checked and read from where it ended;
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
        for option, is_given in (("append", self.append), ("force", self.force), ("kind", self.kind is not None)):
            if is_given and self.save is None:
                raise UsageError(f"{option} is about a memory file: name one to save to")
        if self.append and self.force:
            raise UsageError("append continues the memory file, force replaces it: choose one")
        if self.save_every <= 0:
            raise UsageError(f"save_every is {self.save_every}, it must be positive")


@dataclass(frozen=True)
class Saved:
    """An event: what was read so far is in the memory file. The numbers are of all that it holds.

    num_bytes, num_tokens, num_blocks: read (see `Progress`). bytes_unread: kept as text that is still to be read.
    """

    path: Path
    num_bytes: int
    num_tokens: int
    num_blocks: int
    bytes_unread: int = field(metadata={"json": "unread"})
    file_size: int


@dataclass(frozen=True)
class ReadResult:
    """counts: what was read in this run. total: of all that the state knows, earlier runs included.

    saved: the last save, None without one. stopped: Ctrl-C ended the wait for more, as it should with `follow`.
    """

    model: str
    memory_mode: MemoryMode
    saved: Saved | None
    counts: ReadCounts = field(metadata={"json": "read"})
    total: Progress
    warnings: tuple[str, ...]
    partial: bool
    stopped: bool = field(default=False, metadata={"json": None})


ReadEvent = Stage | Advance | Notice | Saved


class Read:
    """Reads documents as one text and saves the network's state. Use one object for one run.

    After an interruption call `save`, then `result`. Until it is closed no other process may write the memory file.
    """

    def __init__(self, model: Model, config: ReadConfig | None = None) -> None:
        """Raises, before anything is read, UsageError if the memory file exists and neither `append` nor `force` is
        given, MemoryFileError if it cannot be continued, and BusyError if another process is at it."""
        self.model, self.config = model, config or ReadConfig()
        self._tracker = ReadingTracker(model.tokenizer.vocab_size)
        self._saved: Saved | None = None
        self._last_save = time.monotonic()
        self._finished = False
        self._before = Progress(0, 0, 0)
        self._growth: _Growth | None = None
        self._problems: list[str] = []
        self._alone = ExitStack()
        # Whoever forgets to close this object must not keep others from the file.
        weakref.finalize(self, self._alone.close)
        if self.config.save is not None:
            check_save(self.config.save, self.config.append, self.config.force)
            self._be_alone(self.config.save)
            # Again: another process may have saved there just now.
            check_save(self.config.save, self.config.append, self.config.force)
        if self.config.append and self.config.save is not None:
            resume = load_memory(self.config.save, model)
            self._before = resume.progress
            there = inspect_memory_file(self.config.save).kind
            self._kind: MemoryKind = self.config.kind or there
            if there == "memory" and self._kind == "full":
                raise UsageError(
                    f"{self.config.save} is of kind 'memory', without the blocks that 'full' has: read the text again"
                )
            self._reader = Reader(model, memory_mode=self.config.memory_mode, resume=resume, whole_calls=True)
        else:
            self._kind = self.config.kind or "full"
            mode = chosen_memory_mode(model, self.config.memory_mode)
            self._reader = Reader(model, memory_mode=mode, whole_calls=True)

    def events(self, documents: Documents) -> Iterator[ReadEvent]:
        """Read the documents, saving every few minutes and at the end."""
        if not self.config.append:
            yield from self._tracker.warn_untrained(self.model, self.config.memory_mode)
        self._last_save = time.monotonic()
        for event in self._read(list(documents)):
            yield from self._tracker.record(event)
            is_due = time.monotonic() - self._last_save >= self.config.save_every
            if isinstance(event, BlockEvent) and is_due and (saved := self._try_to_save()):
                yield saved
            for problem in self._problems:
                yield from self._tracker.warn(problem)
            self._problems.clear()
        self._finished = True
        if self._growth is not None and self._growth.problem:
            yield from self._tracker.warn(f"{self._growth.problem}: following has ended with what was read until then")
        if saved := self.save():
            yield saved

    def save(self) -> Saved | None:
        """Write the memory file now; None if there is none to write, or nothing was read yet."""
        if self.config.save is None or not self._reader.sources(hashed=False):
            return None
        info = save_memory(self.config.save, self._reader, self._kind)
        self._last_save = time.monotonic()
        seen, size = info.progress, self.config.save.stat().st_size
        self._saved = Saved(self.config.save, seen.num_bytes, seen.num_tokens, seen.num_blocks, seen.bytes_unread, size)
        return self._saved

    def close(self) -> None:
        """Nothing more will be saved: let other processes write the memory file."""
        self._alone.close()

    def result(self) -> ReadResult:
        """What was read so far; partial until `events` is exhausted."""
        seen, before = self._reader.progress, self._before
        counts = replace(
            self._tracker.counts(),
            num_bytes=max(0, seen.num_bytes - before.num_bytes),
            num_tokens=max(0, seen.num_tokens - before.num_tokens),
            num_blocks=max(0, seen.num_blocks - before.num_blocks),
        )
        return ReadResult(
            model=self.model.name,
            memory_mode=self._reader.state.memory_mode,
            saved=self._saved,
            counts=counts,
            total=seen,
            warnings=tuple(self._tracker.warnings),
            partial=not self._finished,
            stopped=self._growth is not None and self._growth.stopped,
        )

    def _read(self, documents: list[Source | str | PathLike[str]]) -> Iterator[Event]:
        last = len(documents) - 1
        if not self.config.append:
            yield from self._reader.read(self._open(each, number == last) for number, each in enumerate(documents))
            return
        for index, document in enumerate(documents):
            cursor = self._reader.cursor()
            added, continues = open_append(cursor, _given(document), encoding=self.config.encoding)
            if continues:
                seen, start = cursor.progress, cursor.end_byte - cursor.progress.bytes_unread
                known = (seen.num_tokens - cursor.num_tokens, seen.num_blocks - cursor.num_blocks)
                self._tracker.resume_source(start, *known)
            else:
                before = cursor.sources[-1].name
                self._problems.append(f"{added.name} is a new source after {before}, and does not continue it")
            yield from self._reader.read([self._open(added, index == last)], continues=continues)

    def _open(self, document: Source | str | PathLike[str], is_last: bool) -> Source:
        if not isinstance(document, Source):
            document = open_source(document, encoding=self.config.encoding)
        if self.config.follow and is_last:
            if document.is_converted:
                document.close()
                raise UsageError(f"only plain text can be followed, and {document.name} is {document.format}")
            if document.size is None or document.path is None:
                raise UsageError(f"only a file can be followed; {document.name} is read while it is open anyway")
            document.wait_for_more = self._growth = _Growth(document, self._save_if_due)
        return document

    def _save_if_due(self) -> None:
        saved = self._saved
        has_more = saved is None or saved.num_bytes + saved.bytes_unread != self._reader.num_bytes
        if has_more and time.monotonic() - self._last_save >= self.config.save_every:
            self._try_to_save()

    def _try_to_save(self) -> Saved | None:
        """Save on the way: where that fails the reading goes on, and the next time is tried again."""
        try:
            return self.save()
        except MemoryFileError as error:
            self._last_save = time.monotonic()
            self._problems.append(f"{error}. Reading goes on, and saving is tried again")
            return None

    def _be_alone(self, path: Path) -> None:
        try:
            self._alone.enter_context(sole_writer(path))
        except OSError as error:
            raise MemoryFileError(f"cannot save to {path}: {error.strerror}; choose another place") from error


class _Growth:
    """Called at the end of a followed file: waits a moment, and returns True if the file should be read further.

    It returns False once the file is gone, was replaced, has shrunk or was written anew (`problem` says so), or when
    Ctrl-C ends the wait (`stopped`): everything in the file was read by then, and the text ends there.
    """

    def __init__(self, document: Source, meanwhile: Callable[[], None]) -> None:
        assert document.path is not None
        self._document, self._source, self._meanwhile = document, document.path, meanwhile
        self._file = self._seen = document.path.stat()
        self._begin = self._bytes(0, _COMPARED_BYTES)
        self.stopped, self.problem = False, ""

    def __call__(self) -> bool:
        try:
            end = self._document.start + self._document.bytes_read
            last = self._bytes(max(0, end - _COMPARED_BYTES), end)
            # Nothing comes while the file does not grow, and the reader reports nothing: saving is due here too.
            self._meanwhile()
            time.sleep(POLL_SECONDS)
            self.problem = self._problem(end, last)
        except OSError:
            self.problem = f"{self._document.name} is not there any more"
        except KeyboardInterrupt:
            self.stopped = True
        return not self.problem and not self.stopped

    def _problem(self, end: int, last: bytes) -> str:
        """What is wrong with the file; "" for nothing. end: how far it was read. last: its last bytes then."""
        name, found = self._document.name, self._source.stat()
        # By device and inode: logs are rotated by renaming, and the new file has the old name.
        if not os.path.samestat(found, self._file):
            return f"{name} was replaced by another file"
        if found.st_size < end:
            return f"{name} became shorter than what was read of it"
        if (found.st_size, found.st_mtime_ns) == (self._seen.st_size, self._seen.st_mtime_ns):
            return ""
        # Or they are copied and cut, and may have outgrown their old size before anybody looks.
        begin = self._bytes(0, _COMPARED_BYTES)
        if not begin.startswith(self._begin) or self._bytes(max(0, end - _COMPARED_BYTES), end) != last:
            return f"{name} was written anew"
        self._seen, self._begin = found, begin
        return ""

    def _bytes(self, start: int, end: int) -> bytes:
        with self._source.open("rb") as file:
            file.seek(start)
            return file.read(end - start)


def read(model: Model, documents: Documents, config: ReadConfig | None = None) -> ReadResult:
    """Read `documents` (paths, "-" for stdin, or opened ones) to their end, and save what `config` says."""
    with closing(Read(model, config)) as task:
        return run(task, documents)


def _given(document: Source | str | PathLike[str]) -> str | PathLike[str]:
    """The path of `document`: to continue it, it has to be opened anew where the old text ends."""
    if not isinstance(document, Source):
        return document
    document.close()
    return document.path or "-"
