"""A text that can be asked: read once, with an index of its passages and the state that the network was left in.

It comes from documents, from a memory file (whose sources are indexed again, without the network), or from the cache
of earlier readings (`reading_cache`).
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.documents.opening import open_source
from famcli.documents.source import PLAIN_TEXT, Source
from famcli.nn import MemoryMode, State
from famcli.reading.cursor import Cursor, SourceRecord, record_of
from famcli.reading.events import BlockEvent, Event, SourceEnd, SourceStart, TextEvent, read_text
from famcli.reading.memory_file import load_memory
from famcli.reading.reader import Reader
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.ask.rereading import where_it_is, why_not_readable
from famcli.tasks.prompts import QUESTION_FIRST, fill
from famcli.tasks.report.record import Recorder
from famcli.tasks.task import (
    Advance,
    Documents,
    Notice,
    ReadCounts,
    ReadingTracker,
    SourceCounts,
    Stage,
    chosen_memory_mode,
    open_documents,
)
from famcli.text.passages import PassageBuilder

ReadingEvent = Stage | Advance | Notice


@dataclass(frozen=True, eq=False)
class AskedText:
    """What questions are put to. Close it when nothing more is going to be asked.

    state, last_hidden: after the last token. sources: what was read, with where each can be quoted from. counts: what
    was read, now or then. readable: False where no source can be read again (a memory file whose texts are gone):
    nothing can be quoted then. searched: the index has every source that was read. origin: "read" in this run, or
    "cache" or "memory file".
    """

    model: Model
    memory_mode: MemoryMode
    index: PassageIndex
    state: State
    last_hidden: Tensor | None
    sources: tuple[SourceRecord, ...]
    counts: ReadCounts
    warnings: tuple[str, ...] = ()
    readable: bool = True
    searched: bool = True
    origin: str = "read"

    def has_text(self) -> bool:
        """True if there is any text, as far as that can be told."""
        return not self.readable or self.index.num_passages > 0

    def close(self) -> None:
        """Close the index; a temporary one is gone then."""
        self.index.close()


class TextReader:
    """Reads documents to be asked: follow `events`, then take `text()`. Use one object for one run.

    Interrupted, `text()` is what was read until then.
    """

    def __init__(
        self,
        model: Model,
        memory_mode: MemoryMode | None = None,
        recorder: Recorder | None = None,
        skims: bool = False,
    ) -> None:
        """recorder: keeps the text and the memory's attention to it for a report. skims: index the text without the
        network, which takes a small part of the time. Raises UsageError for a mode that does not exist, DocumentError
        where no index can be written."""
        self.model, self.memory_mode = model, chosen_memory_mode(model, memory_mode)
        self._asked_mode = memory_mode
        self._tracker = ReadingTracker(model.tokenizer.vocab_size, without_network=skims)
        self._documents: list[Source] = []
        self._num_before = 0  # sources that the network read before the documents
        self._builder: PassageBuilder | None = None
        self.index = PassageIndex()
        shows = recorder is not None
        self.reader = Reader(model, memory_mode=self.memory_mode, attention=shows, whole_calls=not shows)
        self._recorder, self.skims = recorder, skims

    def events(self, documents: Documents, first: Sequence[str] = ()) -> Iterator[ReadingEvent]:
        """Read the documents. first: questions that the network reads before them."""
        if not self.skims:
            yield from self._tracker.warn_untrained(self.model, self._asked_mode)
        names, opened = None, open_documents(documents)
        if first:
            documents = list(documents)
            names, opened = len(documents) > 1, open_documents(documents)
            self._read_first(first)
        for event in read_text(opened) if self.skims else self.reader.read(opened, names=names):
            self._gather(event)
            if self._recorder is not None:
                self._recorder.record(event, self.model.network.fam.block_size)
            yield from self._tracker.record(event)

    def text(self) -> AskedText:
        """What was read so far, to be asked."""
        counts = self._tracker.counts()
        if self._builder is not None and len(counts.sources) == len(self._documents):
            # Interrupted: what was read of the open source counts.
            self._add(counts.sources[-1].num_bytes, last=True)
            self._builder = None
        if self.skims:
            pairs = zip(self._documents, counts.sources, strict=False)
            records = tuple(record_of(document, read.num_bytes) for document, read in pairs)
        else:
            records = self.reader.sources()[self._num_before :]
        return AskedText(
            model=self.model,
            memory_mode=self.memory_mode,
            index=self.index,
            state=self.reader.state,
            last_hidden=self.reader.last_hidden,
            # What has no size is a pipe, which has a path at most while it is open.
            sources=tuple(
                record if document.size is not None else replace(record, path=None)
                for record, document in zip(records, self._documents, strict=False)
            ),
            counts=counts,
            warnings=tuple(self._tracker.warnings),
        )

    def _read_first(self, questions: Sequence[str]) -> None:
        """Questions as text of their own, before the documents: they belong to no source that is cited."""
        text = "".join(fill(QUESTION_FIRST, {"question": question}) for question in questions)
        stream = io.BytesIO(text.encode("utf-8", "replace"))
        for _ in self.reader.read([open_source("-", encoding="utf-8", stdin=stream, format=PLAIN_TEXT)], names=False):
            pass
        self._num_before = len(self.reader.sources())

    def _gather(self, event: Event) -> None:
        """Put the passages into the index as their text is read."""
        if isinstance(event, SourceStart):
            self._documents.append(event.source)
            self._builder = PassageBuilder(len(self._documents) - 1)
        elif isinstance(event, TextEvent):
            assert self._builder is not None, "a source begins before its text"
            self._builder.feed(event.piece)
            if self.skims:
                self._add(event.piece.end)
        elif isinstance(event, BlockEvent) and event.closed:
            # Not before: an interrupted reading must not cite what the network has not read.
            self._add(event.span[1])
        elif isinstance(event, SourceEnd):
            self._add(None)
            self._builder = None

    def _add(self, end: int | None, last: bool = False) -> None:
        """Index what ends before source byte `end`, or (None) the rest of a source that is over."""
        assert self._builder is not None
        for passage in self._builder.take(end, last):
            self.index.add(passage)


# ------------------------------------------------------------------------------------------------ read by another run


def resumed_text(
    model: Model, cursor: Cursor, index: PassageIndex, sources: Sequence[SourceRecord], counts: ReadCounts, origin: str
) -> AskedText:
    """A text that was read by another run, up to its end."""
    reader = Reader(model, resume=cursor)
    state = reader.finish()
    return AskedText(
        model=model,
        memory_mode=cursor.state.memory_mode,
        index=index,
        state=state,
        last_hidden=reader.last_hidden,
        sources=tuple(sources),
        counts=counts,
        origin=origin,
    )


def text_of_memory_file(model: Model, path: str | PathLike[str]) -> AskedText:
    """The text that a memory file keeps; its sources are yet to be indexed, by `index_sources`.

    Raises MemoryFileError for a file that is damaged or of another model.
    """
    cursor = load_memory(path, model)
    sources = tuple(
        SourceCounts(each.name, each.encoding, each.num_bytes, None, each.num_replaced, each.format)
        for each in cursor.sources
    )
    counts = ReadCounts(
        num_bytes=cursor.progress.num_bytes,
        num_tokens=cursor.progress.num_tokens,
        num_blocks=cursor.progress.num_blocks,
        num_replaced=sum(each.num_replaced for each in sources),
        seconds=0.0,
        sources=sources,
    )
    return resumed_text(model, cursor, PassageIndex(), cursor.sources, counts, "memory file")


def index_sources(
    text: AskedText, memory_file: str, folders: Sequence[Path] = ()
) -> Generator[ReadingEvent, None, AskedText]:
    """Index the sources of a memory file in one pass over their text, without the network; returns the text anew.

    A source that is gone or is no longer what was read gives a Notice and is left out. So is one that is neither below
    the folder of the memory file, nor the current one, nor one of `folders`.
    """
    tracker, readable, searched = ReadingTracker(), False, True
    folders, sources = (Path(memory_file).absolute().parent, Path(), *folders), list(text.sources)
    for number, record in enumerate(text.sources):
        yield Stage(f"searching {record.name}", record.num_bytes)
        record = sources[number] = where_it_is(record, folders)
        if (why_not := why_not_readable(record, folders)) is not None:
            searched, (reason, remedy) = False, why_not
            # Nothing else may open it either.
            sources[number] = replace(record, path=None)
            yield from tracker.warn(f"nothing of {record.name} can be quoted: {reason}", remedy)
            continue
        readable = True
        more = yield from _index_again(record, number, text.index)
        # `read --append` goes on with the last source only.
        if more and number == len(text.sources) - 1:
            yield from tracker.warn(_told_more(record, memory_file))
    warnings = tuple(tracker.warnings)
    return replace(text, sources=tuple(sources), warnings=warnings, readable=readable, searched=searched)


def _index_again(record: SourceRecord, number: int, index: PassageIndex) -> Generator[Advance, None, bool]:
    """Index what was read of a file, in one pass over it without the network. Returns whether it has more text now."""
    assert record.path is not None, "a pipe cannot be read again"
    builder, taken, more = PassageBuilder(number), 0, False
    with open_source(record.path, encoding=record.encoding, format=record.format) as source:
        for piece in source.pieces():
            more = piece.end > record.num_bytes
            known = piece.up_to(record.num_bytes)
            builder.feed(known)
            for passage in builder.take(known.end):
                index.add(passage)
            yield Advance(known.end - taken, 0)
            taken = known.end
            if more:
                break
    for passage in builder.take(None):
        index.add(passage)
    yield Advance(record.num_bytes - taken, 0)
    return more


def _told_more(record: SourceRecord, memory_file: str) -> str:
    """What to say where a source goes on behind what was read: it has grown, or reading was interrupted."""
    assert record.path is not None
    if record.format == PLAIN_TEXT:
        more = Path(record.path).stat().st_size - record.num_bytes
        behind = f"for {more:,} bytes that were not read"
    else:
        # How much text there is can only be told by converting all of it.
        behind = f"behind the {record.num_bytes:,} bytes of text that were read"
    command = shlex.join(["famcli", "read", record.path, "--save", memory_file, "--append"])
    return f"{record.name} goes on {behind}; to read on: {command}"
