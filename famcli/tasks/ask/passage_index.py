"""An index of passages on disk: which words stand in which of them, and their text.

One SQLite file. Words are counted while a text is read, 1,024 passages at a time; a search goes through the same parts
one after the other. So memory use grows with neither the text nor the number of questions.
"""

from __future__ import annotations

import json
import os
import sqlite3
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from famcli.documents.source import Location
from famcli.errors import DocumentError
from famcli.interrupts import undivided
from famcli.text.headings import title_key
from famcli.text.meaning import WIDTH, Meanings, meanings
from famcli.text.passages import Passage
from famcli.text.sentences import Sentence
from famcli.text.words import halves, terms

PART_SIZE = 1024
"""Passages whose words are counted together."""

_FORMAT = 8
_FIELDS = tuple(field.name for field in fields(Sentence))
_TABLES = f"""
PRAGMA user_version = {_FORMAT};
CREATE TABLE passages (id INTEGER PRIMARY KEY, source INTEGER, start INTEGER, num_pages INTEGER, sentences TEXT,
  headings TEXT);
CREATE TABLE parts (first INTEGER PRIMARY KEY, lengths BLOB, meanings BLOB);
CREATE TABLE postings (term TEXT, first INTEGER, data BLOB, PRIMARY KEY (term, first)) WITHOUT ROWID;
"""


Part = tuple[int, NDArray[np.int64], NDArray[np.int64]]
"""Some passages that follow one another: the number of the first, how many words each has [n], and how often each of
the terms that were asked for stands in each [t, n]."""


class DamagedIndexError(DocumentError):
    """A file that is no index of passages, or can no longer be read."""


class PassageIndex:
    """Passages by number, from 0 in the order they were added, and the words in them.

    For one thread at a time, not only for the one that made it.
    """

    def __init__(self, path: Path | None = None) -> None:
        """A new index in a temporary file, gone when it is closed, or the one that `copy_to` wrote to `path`.

        Raises DocumentError where no temporary file can be written, and DamagedIndexError for a file that is no such
        index.
        """
        self._lengths: list[int] = []  # of the part in the making
        self._texts: list[str] = []
        self._titles: tuple[int, frozenset[tuple[str, ...]]] | None = None  # of how many passages, and which
        self._postings: dict[str, list[tuple[int, int]]] = {}
        try:
            if path is not None:
                self._base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
                self._check(path)
            else:
                # SQLite keeps a database without a name on disk, and removes it when it is closed.
                self._base = sqlite3.connect("", check_same_thread=False)
                # No journal: an index that was not written to its end is thrown away, never repaired.
                self._base.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
            (count,) = self._base.execute("SELECT count(*) FROM passages").fetchone()
        except (sqlite3.Error, OSError) as error:
            kind = DocumentError if path is None else DamagedIndexError
            file = "a temporary file" if path is None else path
            raise kind(f"{file}: the passage index cannot be used ({error}); check its folder") from error
        # An index that nobody closes is closed with the process, and a temporary one must not stay on the disk.
        self._close = weakref.finalize(self, self._base.close)
        self.num_passages = int(count)
        self._num_terms = sum(int(_numbers(data).sum()) for (data,) in self._rows("SELECT lengths FROM parts"))

    def close(self) -> None:
        """Write what is not written yet, and close the file."""
        self.flush()
        self._close()

    def copy_to(self, path: Path) -> None:
        """Write the index to a new file, readable by its owner only. Raises DocumentError, OSError."""
        self.flush()
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with closing(sqlite3.connect(path)) as target:
                # Who moves the file in place waits until it is on the disk.
                target.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
                self._base.backup(target)
        except sqlite3.Error as error:
            raise DocumentError(f"the passage index cannot be written ({error}); free some space") from error

    def add(self, passage: Passage) -> None:
        """One more passage. Raises DocumentError where the disk is full."""
        # Headings say what a passage is about, as its own words do.
        found = terms(passage.with_headings)
        # A signal may have ended an earlier call half-way: its length is written last, and what has none is dropped.
        place = len(self._lengths)
        self._texts[place:] = [passage.with_headings]
        # The halves of divided words can be found, but do not make a passage longer than the same text undivided.
        for term, count in Counter(found + halves(passage.text)).items():
            self._postings.setdefault(term, []).append((place, count))
        sentences = [_values(sentence) for sentence in passage.sentences]
        first = passage.sentences[0]
        texts = json.dumps(sentences), json.dumps(passage.headings)
        row = (self.num_passages, passage.source, first.start, passage.num_pages, *texts)
        self._write("INSERT OR REPLACE INTO passages VALUES (?, ?, ?, ?, ?, ?)", [row])
        self._lengths.append(len(found))
        self._num_terms += len(found)
        self.num_passages += 1
        if len(self._lengths) == PART_SIZE:
            self.flush()

    @property
    def mean_length(self) -> float:
        return max(1.0, self._num_terms / max(1, self.num_passages))

    def frequencies(self, wanted: Sequence[str]) -> NDArray[np.int64]:
        """In how many passages each of the terms stands [t]."""
        self.flush()
        return sum((np.sign(counts).sum(1) for _, _, counts in self.parts(wanted)), np.zeros(len(wanted), np.int64))

    def parts(self, wanted: Sequence[str]) -> Iterator[Part]:
        """All passages in their order, with the counts of the terms in them."""
        self.flush()
        for first, data in self._rows("SELECT first, lengths FROM parts ORDER BY first"):
            lengths = _numbers(data)
            counts = np.zeros((len(wanted), len(lengths)), np.int64)
            for row, term in enumerate(wanted):
                query = "SELECT data FROM postings WHERE term = ? AND first = ?"
                for (found,) in self._rows(query, term, first):
                    places, times = _numbers(found).reshape(-1, 2).T
                    counts[row, places] = times
            yield first, lengths, counts

    def holding(self, wanted: Sequence[str]) -> Iterator[int]:
        """The numbers of the passages that have all of these terms, in their order."""
        for first, _, counts in self.parts(wanted):
            yield from (first + int(place) for place in np.flatnonzero(counts.all(0)))

    def meanings(self, first: int) -> Meanings:
        """Of the part whose first passage has this number: a row of `text.meaning` for each passage; none
        where there were no vectors."""
        ((data,),) = self._rows("SELECT meanings FROM parts WHERE first = ?", first)
        return np.frombuffer(data, "<f2").reshape(-1, WIDTH).astype(np.float32)

    def passage(self, number: int) -> Passage:
        query = "SELECT source, sentences, headings FROM passages WHERE id = ?"
        ((source, sentences, headings),) = self._rows(query, number)
        return Passage(source, tuple(map(_sentence, json.loads(sentences))), tuple(json.loads(headings)))

    def titles(self) -> frozenset[tuple[str, ...]]:
        """The headings of all sources, as `title_key` has them."""
        if self._titles is None or self._titles[0] != self.num_passages:
            rows = self._rows("SELECT DISTINCT headings FROM passages")
            found = frozenset(title_key(title) for (text,) in rows for title in json.loads(text))
            self._titles = self.num_passages, found - {()}
        return self._titles[1]

    def has_pages(self, source: int) -> bool:
        ((last,),) = self._rows("SELECT max(num_pages) FROM passages WHERE source = ?", source)
        return last is not None and int(last) > 1

    def beside(self, source: int, start: int, reach: int = 1) -> list[Passage]:
        """The passage of a source that begins at byte `start`, with `reach` of those before and after it in that
        source."""
        rows = list(self._rows("SELECT id FROM passages WHERE source = ? AND start = ?", source, start))
        numbers = [near for (row,) in rows[:1] for near in self._around(row, reach)]
        return [passage for passage in map(self.passage, numbers) if passage.source == source]

    def _around(self, number: int, reach: int) -> range:
        return range(max(0, number - reach), min(self.num_passages, number + reach + 1))

    def flush(self) -> None:
        if not self._lengths:
            return
        first = self.num_passages - len(self._lengths)
        found = meanings(self._texts[: len(self._lengths)])
        rows = b"" if found is None else found.astype("<f2").tobytes()
        whole = {term: [one for one in found if one[0] < len(self._lengths)] for term, found in self._postings.items()}
        postings = [(term, first, _blob(found)) for term, found in sorted(whole.items()) if found]
        # Whoever interrupts it asks the index once more, for what was read: nothing may be written twice.
        with undivided():
            self._write("INSERT INTO parts VALUES (?, ?, ?)", [(first, _blob(self._lengths), rows)])
            self._write("INSERT INTO postings VALUES (?, ?, ?)", postings)
            self._base.commit()
            self._lengths, self._texts, self._postings = [], [], {}

    def _rows(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._base.execute(query, values)
        except sqlite3.Error as error:
            raise DamagedIndexError(f"the passage index cannot be read ({error})") from error

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        try:
            self._base.executemany(statement, rows)
        except sqlite3.Error as error:
            raise DocumentError(f"the passage index cannot be written ({error}); free some space") from error

    def _check(self, file: Path) -> None:
        (found,) = self._base.execute("PRAGMA user_version").fetchone()
        if found != _FORMAT:
            raise DamagedIndexError(f"{file}: not a passage index of this version; remove it")


def _values(sentence: Sentence) -> list[Any]:
    """The fields of a sentence, as JSON can hold them."""
    *plain, location = (getattr(sentence, name) for name in _FIELDS)
    return [*plain, None if location is None else astuple(location)]


def _sentence(values: list[Any]) -> Sentence:
    *plain, location = values
    if location is not None:
        kind, value, detail, line, span = location
        location = Location(kind, value, detail, line, None if span is None else (span[0], span[1]))
    return replace(Sentence(*plain), location=location)


def _blob(numbers: Sequence[int] | Sequence[tuple[int, int]]) -> bytes:
    # In one byte order, whatever the machine: a kept reading may be moved.
    return np.asarray(numbers, dtype="<u4").tobytes()


def _numbers(data: bytes) -> NDArray[np.int64]:
    return np.frombuffer(data, dtype="<u4").astype(np.int64)
