"""What all tasks share: progress events, what was read, warnings, and opening documents one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any, cast

from famcli.checkpoint.model import Model
from famcli.documents.opening import open_source
from famcli.documents.source import Piece, Source
from famcli.errors import UsageError
from famcli.nn import MEMORY_MODES, MemoryMode
from famcli.reading.events import BlockEvent, Event, ReadingWarning, SourceEnd, SourceStart

Documents = Iterable[Source | str | PathLike[str]]
FEW_BYTES = 1.5
"""Bytes a token below which a text is not what a tokenizer is made for; judged after `_TOKENS_TO_JUDGE`."""

_TOKENS_TO_JUDGE = 4096
_VOCABULARY_TO_JUDGE = 1024  # a smaller one has no words: few bytes a token are its nature


@dataclass(frozen=True)
class Stage:
    """A new stage of the work begins. total_bytes: what will be read in it, None if unknown (a pipe)."""

    name: str
    total_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "total_bytes": self.total_bytes}


@dataclass(frozen=True)
class Advance:
    """So many more source bytes and tokens were read.

    memory_share: of the memory's attention while it took in the block that closed, what went to the block and not to
    what it held; None where the reading does not measure that.
    """

    num_bytes: int
    num_tokens: int
    memory_share: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"bytes": self.num_bytes, "tokens": self.num_tokens, "memory_share": self.memory_share}


@dataclass(frozen=True)
class Notice:
    """A warning for the user, as it arises; results repeat it in `warnings`."""

    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"text": self.text}


@dataclass(frozen=True)
class SourceRead:
    """One document, as far as it was read. num_replaced: invalid byte sequences that became U+FFFD.

    num_tokens: None where it was read earlier, by another run.
    """

    name: str
    encoding: str
    num_bytes: int
    num_tokens: int | None
    num_replaced: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "encoding": self.encoding,
            "bytes": self.num_bytes,
            "tokens": self.num_tokens,
            "replaced": self.num_replaced,
        }


@dataclass(frozen=True)
class ReadCounts:
    """All that a task has read: every result says so, because nothing may be truncated silently.

    num_blocks: full blocks; the one that was being filled at the end is not counted. seconds: since reading began.
    """

    num_bytes: int
    num_tokens: int
    num_blocks: int
    sources: tuple[SourceRead, ...]
    seconds: float

    @property
    def num_replaced(self) -> int:
        """Invalid byte sequences that became U+FFFD."""
        return sum(source.num_replaced for source in self.sources)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "bytes": self.num_bytes,
            "tokens": self.num_tokens,
            "blocks": self.num_blocks,
            "replaced": self.num_replaced,
            "seconds": self.seconds,
            "sources": [source.to_json() for source in self.sources],
        }


class Ledger:
    """Keeps count of what a reading reports, and turns its events into those of a task.

    vocab_size: of the tokenizer, to judge by whether it suits the text; 0 for no judgement.
    """

    def __init__(self, vocab_size: int = 0) -> None:
        self._judges = vocab_size >= _VOCABULARY_TO_JUDGE
        self._started = time.monotonic()
        self._sources: list[SourceRead] = []
        self._document: Source | None = None
        self._start = self._bytes = self._tokens = 0  # of the open source: where reading began and is, its tokens
        self._num_blocks = 0
        self._resumed: tuple[int, int, int] | None = None
        self._has_text = False  # whether the open source has more than white space
        self.warnings: list[str] = []

    def watch(self, document: Source, on_piece: Callable[[Piece], None] | None = None) -> Source:
        """`document`, to be read in its place: its pieces are shown to `on_piece` before they are read."""

        def see(piece: Piece) -> None:
            self._see(piece)
            if on_piece is not None:
                on_piece(piece)

        return cast(Source, _Watched(document, self._open, see))

    def go_on(self, start: int, num_tokens: int, num_blocks: int) -> None:
        """The source that comes next was read up to its byte `start` by another run, which counted so many of the
        tokens and blocks that are going to come."""
        self._resumed = start, num_tokens, num_blocks

    def record(self, event: Event) -> Iterator[Stage | Advance | Notice]:
        """What a task says of an event of a `Reader`."""
        if isinstance(event, SourceStart):
            self._start, known_tokens, known_blocks = self._resumed or (event.start, 0, 0)
            self._resumed, self._has_text = None, False
            self._bytes, self._tokens = self._start, -known_tokens
            self._num_blocks -= known_blocks
            yield Stage(event.name, None if event.size is None else max(0, event.size - self._start))
        elif isinstance(event, BlockEvent):
            self._num_blocks += event.closed
            num_bytes = max(0, event.bytes_read - self._bytes)
            self._bytes, self._tokens = max(self._bytes, event.bytes_read), self._tokens + event.num_tokens
            share = None if event.attention is None else float(event.attention.sum())
            yield Advance(num_bytes, event.num_tokens, share)
            yield from self._judge(event.source)
            yield from self._tell_guess()
        elif isinstance(event, SourceEnd):
            self._bytes = event.num_bytes
            if (reason := self._why_nothing(event.name)) is not None:
                yield from self.warn(reason)
            self._close()
        else:
            assert isinstance(event, ReadingWarning)
            yield from self.warn(event.message)

    def warn(self, text: str) -> Iterator[Notice]:
        """Say something once."""
        if self.note(text):
            yield Notice(text)

    def warn_untrained(self, model: Model, mode: str | None) -> Iterator[Notice]:
        """Say of a memory that is not trained that it is left out, or where a `mode` was asked for what it is worth."""
        if not model.sidecar.fam.fam_length or model.sidecar.memory_trained or mode == "none":
            return
        meaning = "and what it adds means nothing yet"
        if mode is None:
            meaning = "so the text is read without it; --memory-mode on reads with it"
        yield from self.warn(f"the memory of {model.name} is not trained, {meaning}")

    def note(self, text: str) -> bool:
        """Keep a warning for the result; False if it was there already."""
        is_new = text not in self.warnings
        if is_new:
            self.warnings.append(text)
        return is_new

    def counts(self) -> ReadCounts:
        """What was read so far, the open source included."""
        sources = (*self._sources, *self._open_source())
        return ReadCounts(
            num_bytes=sum(source.num_bytes for source in sources),
            num_tokens=sum(source.num_tokens or 0 for source in sources),
            num_blocks=self._num_blocks,
            sources=sources,
            seconds=time.monotonic() - self._started,
        )

    def _judge(self, name: str) -> Iterator[Notice]:
        """Say why reading is slow, where a text has many tokens for its size."""
        num_bytes = self._bytes - self._start
        if self._judges and self._tokens >= _TOKENS_TO_JUDGE and num_bytes < FEW_BYTES * self._tokens:
            self._judges = False
            yield from self.warn(
                f"{name} has few bytes a token ({num_bytes / self._tokens:.1f}), so reading it takes long for its "
                "size: probably it is not prose, or not in a language that the tokenizer knows"
            )

    def _tell_guess(self) -> Iterator[Notice]:
        """Say which encoding the open source is read in, where that is a guess."""
        document = self._document
        if document is not None and document.is_guessed:
            yield from self.warn(
                f"{document.name} is no UTF-8; it is read as {document.encoding}, which is a guess (--encoding NAME)"
            )

    def _why_nothing(self, name: str) -> str | None:
        """Why nothing was read of the open source, where there was nothing."""
        if self._has_text:
            return None
        if self._bytes > self._start:
            return f"{name} holds nothing but white space" if self._start == 0 else None
        return f"nothing to read: {name} {'has nothing new' if self._start else 'is empty'}"

    def _see(self, piece: Piece) -> None:
        self._has_text = self._has_text or not piece.text.isspace()

    def _open(self, document: Source) -> None:
        self._document = document

    def _close(self) -> None:
        self._sources += self._open_source()
        self._document = None

    def _open_source(self) -> list[SourceRead]:
        document, num_bytes = self._document, self._bytes - self._start
        if document is None:
            return []
        return [SourceRead(document.name, document.encoding, num_bytes, max(0, self._tokens), document.num_replaced)]


class _Watched:
    """A document whose pieces are seen on their way."""

    def __init__(self, document: Source, opened: Callable[[Source], None], on_piece: Callable[[Piece], None]) -> None:
        self._document, self._opened, self._on_piece = document, opened, on_piece

    def __enter__(self) -> _Watched:
        self._document.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._document.__exit__(*error)

    def pieces(self) -> Iterator[Piece]:
        """The document's."""
        self._opened(self._document)
        for piece in self._document.pieces():
            self._on_piece(piece)
            yield piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._document, name)


def open_documents(documents: Documents, encoding: str | None = None) -> Iterator[Source]:
    """The documents, each opened when its turn comes; paths and "-" (stdin) are opened here."""
    for document in documents:
        yield document if isinstance(document, Source) else open_source(document, encoding=encoding)


def chosen_memory_mode(model: Model, mode: MemoryMode | None) -> MemoryMode:
    """`mode`, or the checkpoint's default. Raises UsageError for what is not a mode."""
    if mode is not None and mode not in MEMORY_MODES:
        raise UsageError(f"memory mode '{mode}' is unknown: use one of {', '.join(MEMORY_MODES)}")
    return mode or model.default_memory_mode
