"""What was read, kept for the next question: a folder for each text, found by its content and by what read it.

An entry holds the memory file (`state.fam`, unless the network read nothing), the passage index (`passages.sqlite`,
with the text) and what the reading reported (`entry.json`, with checksums). It is put in place whole or not at all, is
readable by its owner only, and the entries that were asked longest ago go when the cache outgrows its limit.

A cache never costs an answer: an entry is used only if it is its user's own and its checksums are right, one with
anything wrong is removed and the text read again, and what cannot be kept is only a warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from famcli.checkpoint.model import Model
from famcli.documents.formats import conversion
from famcli.documents.locking import sole_writer
from famcli.documents.opening import hash_prefix, shown_path
from famcli.documents.source import PLAIN_TEXT
from famcli.documents.writing import make_folder, put_in_place
from famcli.errors import DocumentError, FamcliError, UsageError
from famcli.nn import MemoryMode
from famcli.plain import to_json
from famcli.reading.cursor import SourceRecord
from famcli.reading.engine import start_state
from famcli.reading.memory_file import load_memory, save_memory
from famcli.tasks.ask.asked_text import AskedText, TextReader, resumed_text
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.task import ReadCounts, SourceCounts

DEFAULT_LIMIT = 1_000_000_000
"""Bytes that all entries may take together."""

# Part of the key: entries of another format are never found, and go with the next one that is kept. Rises too when
# sentences or passages are cut in another way.
_FORMAT = 11
_STATE, _INDEX, _ENTRY = "state.fam", "passages.sqlite", "entry.json"
_TEMPORARY, _LOCK = ".making-", "entries"
_KEY_LENGTH = 64
_WAIT_SECONDS = 60.0


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


def text_key(
    model: Model, mode: MemoryMode, paths: Sequence[Path], encoding: str | None, skims: bool = False
) -> TextKey:
    """The key of files read one after the other, by the network or (skims) without it. Raises DocumentError for a file
    that cannot be read."""
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
        "skims": skims,
        "encoding": encoding,
        # Another version, of famcli or of a library, may make another text out of the same file.
        "conversion": conversion(),
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
        """The text of that key, which now lies at `paths`; None if it is not there.

        Raises DocumentError for an entry with anything wrong, which is then removed, if that can be done.
        """
        entry = self.folder / key[0]
        if not os.path.lexists(entry):
            return None
        try:
            return self._open(entry, model, key, paths)
        # Whatever it is: the text can be read again.
        except Exception as error:
            reason = str(error) if isinstance(error, FamcliError) else f"{type(error).__name__}: {error}"
            names = ", ".join(shown_path(path) for path in paths)
            left = "" if _remove(entry) else f" (it cannot be removed: {entry})"
            raise DocumentError(f"what was kept of {names} cannot be used{left}: {reason}; it is read again") from error

    def keep(self, key: TextKey, reading: TextReader, text: AskedText) -> None:
        """Keep what was read to its end.

        Nothing is kept of files that were changed while they were read, nor what is larger than the limit. Raises
        FamcliError or OSError where it cannot be written; the text can be asked all the same.
        """
        digest, hashes = key
        if any(_original_hash(source) != known for source, known in zip(text.sources, hashes, strict=True)):
            return
        make_folder(self.folder, 0o700)
        with self._writing(), self._in_the_making() as made:
            entry = self.folder / digest
            # Another process may have been faster, or a damaged entry could not be removed (a warning said so).
            if os.path.lexists(entry):
                return
            if not reading.skims:
                save_memory(made / _STATE, reading.reader)
            text.index.copy_to(made / _INDEX)
            values = {
                "key": digest,
                "format": _FORMAT,
                "names": [os.path.abspath(source.name) for source in text.counts.sources],
                "model": text.model.name,
                "memory_mode": text.memory_mode,
                "read": to_json(text.counts),
                "warnings": list(text.warnings),
                "sources": [asdict(source) for source in text.sources],
                "created": time.time(),
                "index": _sha256(made / _INDEX),
            }
            with open(made / _ENTRY, "w", encoding="utf-8", opener=_private) as file:
                json.dump({**values, "check": _check(values)}, file)
            if _size(made) <= self.limit:
                put_in_place(made, entry)
                self._shrink()

    def entries(self) -> list[CachedReading]:
        """What is kept, the most recently asked first."""
        found = [one for one in map(_described, self._folders()) if one is not None]
        return sorted(found, key=lambda one: -one.used)

    def remove(self, keys: Sequence[str]) -> None:
        """Remove these entries; those that are not there are no error."""
        for key in keys:
            _remove(self.folder / key)

    def clear(self) -> int:
        """Remove all entries, and what broken runs left; returns how many entries were removed.

        Raises DocumentError if some cannot be removed, once the others are.
        """
        if not self.folder.is_dir():
            return 0
        with self._writing():
            results = [(path, _remove(path)) for path in self._folders()]
        if left := [path for path, is_gone in results if not is_gone]:
            raise DocumentError(
                f"removed {len(results) - len(left)} of {len(results)} readings; {left[0]} cannot be removed: it is "
                "its owner, or the owner of the folder, who can"
            )
        return sum(len(path.name) == _KEY_LENGTH for path, _ in results)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with sole_writer(self.folder / _LOCK, _WAIT_SECONDS):
            # Nobody else is at it, so these are of processes that were killed.
            for path in self.folder.glob(f"{_TEMPORARY}*"):
                _remove(path)
            yield

    @contextlib.contextmanager
    def _in_the_making(self) -> Iterator[Path]:
        # Of mode 0700: an entry holds the text, which may be private.
        made = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self.folder))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _open(self, entry: Path, model: Model, key: TextKey, paths: Sequence[Path]) -> AskedText:
        """The text of an entry. Raises whatever is wrong with it."""
        digest, hashes = key
        values = _read_entry(entry)
        _own(entry / _INDEX)
        counts, warnings = _counts(values["read"]), tuple(map(str, values["warnings"]))
        kept, cursor = tuple(SourceRecord(**one) for one in values["sources"]), None
        if os.path.lexists(entry / _STATE) or values["read"]["tokens"]:
            cursor = load_memory(_own(entry / _STATE), model)
            kept = cursor.sources
        pairs = zip(kept, hashes, strict=True)
        if values["key"] != digest or any(one.sha256 != known for one, known in pairs if one.format == PLAIN_TEXT):
            raise DocumentError(f"{entry} holds another text")
        # Opened first: what is checked is then what is asked, even where another process removes the entry meanwhile.
        index = PassageIndex(entry / _INDEX)
        if _sha256(entry / _INDEX) != values["index"]:
            index.close()
            raise DocumentError(f"{entry / _INDEX} is damaged")
        # The time of this file says when an entry was asked last; `_shrink` goes by it.
        with contextlib.suppress(OSError):
            os.utime(entry / _ENTRY)
        names = [shown_path(path) for path in paths]
        # The same text may lie elsewhere by now.
        records = [replace(one, name=name, path=name) for name, one in zip(names, kept, strict=True)]
        sources = tuple(replace(one, name=name) for name, one in zip(names, counts.sources, strict=True))
        counts = replace(counts, sources=sources)
        if cursor is None:
            mode: MemoryMode = values["memory_mode"]
            text = AskedText(model, mode, index, start_state(model.network, mode), None, tuple(records), counts)
            text = replace(text, origin="cache")
        else:
            text = resumed_text(model, cursor, index, records, counts, "cache")
        return replace(text, warnings=warnings)

    def _folders(self) -> list[Path]:
        """Entries, damaged ones too. Nothing else that lies here is touched."""
        if not self.folder.is_dir():
            return []
        # The names of entries are digests.
        return [path for path in self.folder.iterdir() if len(path.name) == _KEY_LENGTH]

    def _shrink(self) -> None:
        """Drop what is no entry any more, and what was asked longest ago until the rest fits."""
        entries, kept = self.entries(), 0
        for path in set(self._folders()) - {self.folder / one.key for one in entries}:
            _remove(path)
        for entry in entries:
            kept += entry.size
            if kept > self.limit:
                self.remove([entry.key])


def _described(folder: Path) -> CachedReading | None:
    """What an entry says of itself; None where it says nothing that can be relied on."""
    try:
        values = _read_entry(folder)
        return CachedReading(
            key=folder.name,
            names=tuple(map(str, values["names"])),
            model=str(values["model"]),
            memory_mode=str(values["memory_mode"]),
            num_bytes=int(values["read"]["bytes"]),
            num_tokens=int(values["read"]["tokens"]),
            size=_size(folder),
            created=float(values["created"]),
            used=(folder / _ENTRY).stat().st_mtime,
        )
    except (FamcliError, OSError, ValueError, KeyError, TypeError):
        return None


def _read_entry(folder: Path) -> dict[str, Any]:
    """The checked values of an entry's description. Raises what is wrong with it."""
    _own(folder, stat.S_ISDIR)
    values = json.loads(_own(folder / _ENTRY).read_text(encoding="utf-8"))
    if values.pop("check") != _check(values) or values["format"] != _FORMAT:
        raise DocumentError(f"{folder / _ENTRY} is damaged, or of another version")
    return dict(values)


def _check(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hash_prefix(path, path.stat().st_size)


def _own(path: Path, is_kind: Callable[[int], bool] = stat.S_ISREG) -> Path:
    """`path`, if it is a regular file (or what `is_kind` says) of this user. Raises DocumentError, OSError."""
    status = path.lstat()
    if not is_kind(status.st_mode):
        raise DocumentError(f"{path} is something else than famcli wrote")
    # What somebody else put there may say anything.
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        raise DocumentError(f"{path} belongs to another user")
    return path


def _remove(path: Path) -> bool:
    """Remove a file or a folder with all in it; returns whether it is gone."""

    def retry(function: Callable[[str], object], name: str, error: object) -> None:
        # A folder that its owner may not list or change.
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(name), 0o700)
            os.chmod(name, 0o700)
            shutil.rmtree(name, ignore_errors=True) if os.path.isdir(name) else os.unlink(name)

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=retry)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
    return not os.path.lexists(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


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
