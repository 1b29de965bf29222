"""The contract of a task, and what all tasks share: progress events, counts of what was read, warnings.

A task is given what a `Reader` reports (`famcli.reading.events`), in one stream: `SourceStart`, then each piece of text
(`TextEvent`) before the tokens and values that it becomes (`BlockEvent`), then `SourceEnd`. There is no other way for
text to reach a task.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from typing import Protocol, TypeVar

from famcli.checkpoint.model import Model
from famcli.documents.opening import open_source
from famcli.documents.source import PLAIN_TEXT, Source
from famcli.errors import Remedy, UsageError
from famcli.nn import MEMORY_MODES, MemoryMode
from famcli.reading.events import BlockEvent, Event, ReadingWarning, SourceEnd, SourceStart, TextEvent

Documents = Iterable[Source | str | PathLike[str]]
FEW_BYTES = 1.5
"""Bytes a token below which a text is not what a tokenizer is made for; judged after `_TOKENS_TO_JUDGE`."""

Result = TypeVar("Result", covariant=True)

# A beginning with tables and addresses has few bytes a token too, but not as few as a foreign script.
_TOKENS_TO_JUDGE, _TOKENS_TO_JUDGE_SOON, _FEW_BYTES_SOON = 4096, 1024, 1.1
# A smaller vocabulary has no words: few bytes a token are its nature.
_VOCABULARY_TO_JUDGE = 1024


class Task(Protocol[Result]):
    """Work on documents: a summary, figures, answers, a memory file. Use one object for one run."""

    def events(self, documents: Documents) -> Iterator[object]:
        """Read the documents; yields `Stage`, `Advance`, `Notice` and the task's own events.

        May be left at any event, and interrupted (KeyboardInterrupt) between two.
        """
        ...

    def result(self) -> Result:
        """The result so far; marked partial until `events` is exhausted."""
        ...


def run(task: Task[Result], documents: Documents) -> Result:
    """The result of a task once it has read the documents to their end."""
    for _ in task.events(documents):
        pass
    return task.result()


@dataclass(frozen=True)
class Stage:
    """A new stage of the work begins. total_bytes: what will be read in it, None if unknown (a pipe)."""

    name: str
    total_bytes: int | None = None


@dataclass(frozen=True)
class Advance:
    """More was read. num_bytes, num_tokens: source bytes and tokens since the last event.

    memory_share: the share of the memory's attention that went to the block that closed, and not to what the memory
    held before; None if the reading does not measure it.
    """

    num_bytes: int
    num_tokens: int
    memory_share: float | None = None


@dataclass(frozen=True)
class Notice:
    """A warning for the user, as soon as it is known; results repeat it in `warnings`. remedy: as of a FamcliError."""

    text: str
    remedy: Remedy = field(default_factory=dict)


@dataclass(frozen=True)
class SourceCounts:
    """One document, as far as it was read. num_replaced: invalid byte sequences that became U+FFFD.

    num_tokens: None where it was read earlier, by another run. format: "text", or what the text was made from, whose
    bytes and encoding are then told.
    """

    name: str
    encoding: str
    num_bytes: int
    num_tokens: int | None
    num_replaced: int
    format: str = PLAIN_TEXT


@dataclass(frozen=True)
class ReadCounts:
    """Everything that a task has read. Every result reports it, because nothing may be truncated silently.

    num_blocks: full blocks; the one that was being filled at the end is not counted. num_replaced: invalid byte
    sequences that became U+FFFD. seconds: since reading began.
    """

    num_bytes: int
    num_tokens: int
    num_blocks: int
    num_replaced: int
    seconds: float
    sources: tuple[SourceCounts, ...]


class ReadingTracker:
    """Counts what a `Reader` reports, collects warnings, and turns the reader's events into those of a task.

    vocab_size: of the tokenizer, to judge by whether it suits the text; 0 for no judgement. without_network: what is
    reported comes from `read_text`.
    """

    def __init__(self, vocab_size: int = 0, without_network: bool = False) -> None:
        self._without_network = without_network
        self._judges = vocab_size >= _VOCABULARY_TO_JUDGE
        self._started = time.monotonic()
        self._sources: list[SourceCounts] = []
        self._document: Source | None = None
        # Of the open source: the byte at which reading began, the byte it has reached, and the tokens read.
        self._start = self._bytes = self._tokens = 0
        self._shown = 0  # of the bytes of a converted document
        self._num_blocks = 0
        self._resumed: tuple[int, int, int] | None = None
        self._has_text = False  # whether the open source has more than white space
        self.warnings: list[str] = []

    def resume_source(self, start: int, num_tokens: int, num_blocks: int) -> None:
        """Another run read the next source up to its byte `start`.

        It counted `num_tokens` and `num_blocks` of what the reader is going to report.
        """
        self._resumed = start, num_tokens, num_blocks

    def record(self, event: Event) -> Iterator[Stage | Advance | Notice]:
        """The task events that follow from an event of a `Reader`."""
        if isinstance(event, SourceStart):
            self._document = event.source
            self._start, known_tokens, known_blocks = self._resumed or (event.start, 0, 0)
            self._resumed, self._has_text, self._shown = None, False, 0
            self._bytes, self._tokens = self._start, -known_tokens
            self._num_blocks -= known_blocks
            size = event.source.size
            yield Stage(event.source.name, None if size is None else max(0, size - self._start))
        elif isinstance(event, TextEvent):
            self._has_text = self._has_text or not event.piece.text.isspace()
            if self._without_network:
                num_bytes, self._bytes = event.piece.end - self._bytes, event.piece.end
                yield Advance(self._progress(num_bytes), 0)
                yield from self._tell_guess()
        elif isinstance(event, BlockEvent):
            self._num_blocks += event.num_closed
            # A source that continues reports tokens again of which an earlier run had told.
            num_bytes = max(0, event.span[1] - self._bytes)
            self._bytes, self._tokens = max(self._bytes, event.span[1]), self._tokens + event.num_tokens
            share = None if event.attention is None else float(event.attention.sum())
            yield Advance(self._progress(num_bytes), event.num_tokens, share)
            yield from self._judge(event.source)
            yield from self._tell_guess()
        elif isinstance(event, SourceEnd):
            self._bytes = event.num_bytes
            if (reason := self._why_nothing(event.name)) is not None:
                yield from self.warn(reason)
            for note in self._document.notes if self._document is not None else ():
                yield from self.warn(note)
            self._close()
        else:
            assert isinstance(event, ReadingWarning)
            yield from self.warn(event.message)

    def warn(self, text: str, remedy: Remedy | None = None) -> Iterator[Notice]:
        """Give a warning, unless it was given before."""
        if text not in self.warnings:
            self.warnings.append(text)
            yield Notice(text, remedy or {})

    def warn_untrained(self, model: Model, mode: str | None) -> Iterator[Notice]:
        """Warn that an untrained memory is left out, or, if a `mode` was chosen, that it means nothing yet."""
        if not model.sidecar.fam.fam_length and mode in ("on", "frozen"):
            yield from self.warn(f"{model.name} has no memory, so memory mode '{mode}' changes nothing")
        if not model.sidecar.fam.fam_length or model.sidecar.memory_trained or mode == "none":
            return
        meaning = "and what it adds means nothing yet"
        if mode is None:
            meaning = "so the text is read without it; memory mode 'on' reads with it"
        yield from self.warn(f"the memory of {model.name} is not trained, {meaning}")

    def counts(self) -> ReadCounts:
        """The counts so far, including the open source."""
        sources = (*self._sources, *self._open_source())
        return ReadCounts(
            num_bytes=sum(source.num_bytes for source in sources),
            num_tokens=sum(source.num_tokens or 0 for source in sources),
            num_blocks=self._num_blocks,
            num_replaced=sum(source.num_replaced for source in sources),
            seconds=time.monotonic() - self._started,
            sources=sources,
        )

    def _progress(self, num_bytes: int) -> int:
        """Bytes of the original that were read since the last event, for `num_bytes` of text."""
        document = self._document
        if document is None or not document.is_converted:
            return num_bytes
        before, self._shown = self._shown, document.bytes_read
        return max(0, self._shown - before)

    def _judge(self, name: str) -> Iterator[Notice]:
        """Warn of a text with many tokens for its size: reading it is slow."""
        num_bytes = self._bytes - self._start
        few = FEW_BYTES if self._tokens >= _TOKENS_TO_JUDGE else _FEW_BYTES_SOON
        if self._judges and self._tokens >= _TOKENS_TO_JUDGE_SOON and num_bytes < few * self._tokens:
            self._judges = False
            yield from self.warn(
                f"{name} has few bytes a token ({num_bytes / self._tokens:.1f}), so reading it takes long for its "
                "size: probably it is not prose, or not in a language that the tokenizer knows; another model may know "
                "it, and what is quoted needs no language"
            )

    def _tell_guess(self) -> Iterator[Notice]:
        """Warn if the encoding of the open source is a guess."""
        document = self._document
        if document is not None and document.is_guessed:
            yield from self.warn(
                f"{document.name} is not UTF-8; it is read as {document.encoding}, which is a guess: name the encoding "
                "if it is wrong"
            )

    def _why_nothing(self, name: str) -> str | None:
        """The reason why nothing was read of the open source; None if there was text."""
        if self._has_text:
            return None
        if self._bytes > self._start:
            return f"{name} holds nothing but white space" if self._start == 0 else None
        return f"nothing to read: {name} {'has nothing new' if self._start else 'is empty'}"

    def _close(self) -> None:
        self._sources += self._open_source()
        self._document = None

    def _open_source(self) -> list[SourceCounts]:
        document, num_bytes = self._document, self._bytes - self._start
        if document is None:
            return []
        name, encoding, tokens = document.name, document.encoding, max(0, self._tokens)
        return [SourceCounts(name, encoding, num_bytes, tokens, document.num_replaced, document.format)]


def open_documents(documents: Documents, encoding: str | None = None, as_is: bool = False) -> Iterator[Source]:
    """The documents, each opened when its turn comes; paths and "-" (stdin) are opened here.

    as_is: see `open_source`.
    """
    for document in documents:
        yield document if isinstance(document, Source) else open_source(document, encoding=encoding, as_is=as_is)


def chosen_memory_mode(model: Model, mode: MemoryMode | None) -> MemoryMode:
    """`mode`, or the checkpoint's default. Raises UsageError for what is not a mode."""
    if mode is not None and mode not in MEMORY_MODES:
        raise UsageError(f"memory mode '{mode}' is unknown: use one of {', '.join(MEMORY_MODES)}")
    return mode or model.default_memory_mode
