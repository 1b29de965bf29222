"""What was read, kept for the next question: a folder for each text, found by its content and by what read it.

An entry holds the memory file (`state.fam`), the passage index (`passages.sqlite`, with the text) and what the reading
reported (`entry.json`). It is put in place whole or not at all, is readable by its owner only, and the entries that
were asked longest ago go when the cache outgrows its limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from famcli.checkpoint.model import Model
from famcli.documents.formats import CONVERSION
from famcli.documents.opening import hash_prefix, shown_path
from famcli.documents.source import PLAIN_TEXT
from famcli.documents.writing import put_in_place
from famcli.errors import DocumentError, FamcliError, UsageError
from famcli.nn import MemoryMode
from famcli.plain import to_json
from famcli.reading.cursor import SourceRecord
from famcli.reading.memory_file import load_memory, save_memory
from famcli.tasks.ask.asked_text import AskedText, TextReader, resumed_text
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.task import ReadCounts, SourceCounts

DEFAULT_LIMIT = 1_000_000_000
"""Bytes that all entries may take together."""

# Part of the key: entries of another format are never found, and go when they were not asked for long enough.
_FORMAT = 4
_STATE, _INDEX, _ENTRY = "state.fam", "passages.sqlite", "entry.json"
_TEMPORARY = ".making-"
# A killed process leaves a folder in the making; after a day no reading is still at it.
_STALE_SECONDS = 86_400.0


@dataclass(frozen=True)
class CachedReading:
    """One entry. names: the files, with their folders, where they were read. num_bytes, num_tokens: of the text.
    size: bytes on the disk.

    created, used: seconds since 1970.
    """

    key: str
    names: tuple[str, ...]
    model: str
    memory_mode: str
    num_bytes: int
    num_tokens: int
    size: int
    created: float
    used: float


TextKey = tuple[str, tuple[str, ...]]
"""Which reading a text needs: a digest of its content and of all that shapes what is read, and each file's sha256."""


def text_key(model: Model, mode: MemoryMode, paths: Sequence[Path], encoding: str | None) -> TextKey:
    """The key of files read one after the other. Raises DocumentError for a file that cannot be read."""
    hashes = []
    for path in paths:
        try:
            hashes.append(hash_prefix(path, path.stat().st_size))
        except OSError as error:
            raise DocumentError(f"cannot read {path}: {error.strerror}; check the path") from error
    # All that shapes the state: the same text read by another model or in another mode is another reading.
    settings = {
        "format": _FORMAT,
        "model": asdict(model.fingerprints),
        "fam": asdict(model.network.fam),
        "dtype": str(model.dtype),
        "memory_mode": mode,
        "encoding": encoding,
        # Another version may make another text out of the same file.
        "conversion": CONVERSION,
        # The network reads names between several files, so there they shape what is read.
        "names": [shown_path(path) for path in paths] if len(paths) > 1 else [],
        "hashes": hashes,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()
    return digest, tuple(hashes)


class ReadingCache:
    """Entries in a folder, which is made when there is something to keep. limit: bytes of all entries together."""

    def __init__(self, folder: Path, limit: int = DEFAULT_LIMIT) -> None:
        if limit < 0:
            raise UsageError(f"the limit of the cache is {limit}, it must be at least 0")
        self.folder, self.limit = folder, limit

    def find(self, model: Model, key: TextKey, paths: Sequence[Path]) -> AskedText | None:
        """The text of that key, which now lies at `paths`; None if it is not there. A damaged entry is removed."""
        digest, _ = key
        entry = self.folder / digest
        if not (entry / _ENTRY).is_file():
            return None
        try:
            values = json.loads((entry / _ENTRY).read_text(encoding="utf-8"))
            counts, warnings = _counts(values["read"]), tuple(map(str, values["warnings"]))
            cursor = load_memory(entry / _STATE, model)
            index = PassageIndex(index_path(entry), must_exist=True)
        except (FamcliError, OSError, ValueError, KeyError, TypeError):
            self.remove([digest])
            return None
        # The time of this file says when an entry was asked last; `_shrink` goes by it.
        with contextlib.suppress(OSError):
            os.utime(entry / _ENTRY)
        names = [shown_path(path) for path in paths]
        # The same text may lie elsewhere by now.
        records = [replace(one, name=name, path=name) for name, one in zip(names, cursor.sources, strict=True)]
        sources = tuple(replace(one, name=name) for name, one in zip(names, counts.sources, strict=True))
        text = resumed_text(model, cursor, index, records, replace(counts, sources=sources), "cache")
        return replace(text, warnings=warnings)

    def begin(self) -> Path:
        """A new folder for an entry in the making: the index goes to `index_path` of it, then comes `keep` and at last
        `drop`. Raises DocumentError if it cannot be made."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Of mode 0700: an entry holds the text, which may be private.
            return Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self.folder))
        except OSError as error:
            raise DocumentError(
                f"nothing can be kept in {self.folder}: {error.strerror}; name another place"
            ) from error

    def keep(self, folder: Path, key: TextKey, reading: TextReader, text: AskedText) -> AskedText:
        """Put what was read to its end in place; returns the text with its index where that is now.

        Nothing is kept of files that were changed while they were read, nor what is larger than the limit. Raises
        DocumentError or MemoryFileError where it cannot be written.
        """
        digest, hashes = key
        if any(_original_hash(source) != known for source, known in zip(text.sources, hashes, strict=True)):
            return text
        save_memory(folder / _STATE, reading.reader)
        values = {
            "format": _FORMAT,
            "names": [os.path.abspath(source.name) for source in text.counts.sources],
            "model": text.model.name,
            "memory_mode": text.memory_mode,
            "read": to_json(text.counts),
            "warnings": list(text.warnings),
            "created": time.time(),
        }
        (folder / _ENTRY).write_text(json.dumps(values), encoding="utf-8")
        # Windows does not move a file that is open.
        text.index.close()
        place, entry = folder, self.folder / digest
        # Another process may have been faster; its entry may be open, and is as good.
        if _size(folder) <= self.limit and not entry.exists():
            with contextlib.suppress(OSError):
                put_in_place(folder, entry)
                place = entry
                self._shrink()
        return replace(text, index=PassageIndex(index_path(place), must_exist=True))

    def drop(self, folder: Path) -> None:
        """Remove an entry in the making, if it was not kept."""
        shutil.rmtree(folder, ignore_errors=True)

    def entries(self) -> list[CachedReading]:
        """What is kept, the most recently asked first."""
        found = []
        for path in self.folder.glob(f"*/{_ENTRY}"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                values = json.loads(path.read_text(encoding="utf-8"))
                found.append(
                    CachedReading(
                        key=path.parent.name,
                        names=tuple(map(str, values["names"])),
                        model=str(values["model"]),
                        memory_mode=str(values["memory_mode"]),
                        num_bytes=int(values["read"]["bytes"]),
                        num_tokens=int(values["read"]["tokens"]),
                        size=_size(path.parent),
                        created=float(values["created"]),
                        used=path.stat().st_mtime,
                    )
                )
        return sorted((one for one in found if not one.key.startswith(_TEMPORARY)), key=lambda one: -one.used)

    def remove(self, keys: Sequence[str]) -> None:
        """Remove these entries; those that are not there are no error."""
        for key in keys:
            shutil.rmtree(self.folder / key, ignore_errors=True)

    def clear(self) -> int:
        """Remove all entries, and what broken runs left; returns how many entries there were."""
        found = self.entries()
        self.remove([path.name for path in self._folders()])
        return len(found)

    def _folders(self) -> list[Path]:
        """Entries, damaged ones too, and those in the making. Nothing else that lies here is touched."""
        if not self.folder.is_dir():
            return []
        # The names of entries are digests of 64 characters.
        return [
            path
            for path in self.folder.iterdir()
            if path.is_dir() and (path.name.startswith(_TEMPORARY) or len(path.name) == 64)
        ]

    def _shrink(self) -> None:
        """Drop what was asked longest ago until the rest fits, and folders that a killed process left behind."""
        kept = 0
        for entry in self.entries():
            kept += entry.size
            if kept > self.limit:
                self.remove([entry.key])
        for folder in self._folders():
            with contextlib.suppress(OSError):
                if folder.name.startswith(_TEMPORARY) and time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                    self.remove([folder.name])


def index_path(folder: Path) -> Path:
    """Where an entry's passage index lies."""
    return folder / _INDEX


def _counts(values: dict[str, Any]) -> ReadCounts:
    """What `to_json` made of counts; reading took no time in this run."""
    sources = tuple(
        SourceCounts(one["name"], one["encoding"], one["bytes"], one["tokens"], one["replaced"], one["format"])
        for one in values["sources"]
    )
    return ReadCounts(
        num_bytes=values["bytes"],
        num_tokens=values["tokens"],
        num_blocks=values["blocks"],
        num_replaced=sum(source.num_replaced for source in sources),
        seconds=0.0,
        sources=sources,
    )


def _original_hash(source: SourceRecord) -> str | None:
    """sha256 of the file as it is; the record itself has that of the text that was read, which may be made of it."""
    if source.format == PLAIN_TEXT or source.path is None:
        return source.sha256
    with contextlib.suppress(OSError, DocumentError):
        return hash_prefix(source.path, Path(source.path).stat().st_size)
    return None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
