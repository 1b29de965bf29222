"""What all tasks share: progress events, what was read, and opening documents one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

from famcli.checkpoint.model import Model
from famcli.documents.document import Document, open_document
from famcli.nn import MEMORY_MODES, MemoryMode
from famcli.errors import UsageError

Documents = Iterable["Document | str | PathLike[str]"]


@dataclass(frozen=True)
class Stage:
    """A new stage of the work begins. total_bytes: what will be read in it, None if unknown (a pipe)."""

    name: str
    total_bytes: int | None = None


@dataclass(frozen=True)
class Advance:
    """So many more source bytes and tokens were read."""

    num_bytes: int
    num_tokens: int


@dataclass(frozen=True)
class Notice:
    """A warning for the user, as it arises; results repeat it in `warnings`."""

    text: str


@dataclass(frozen=True)
class SourceRead:
    """One document, as far as it was read. num_replaced: invalid byte sequences that became U+FFFD."""

    name: str
    encoding: str
    num_bytes: int
    num_replaced: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "encoding": self.encoding,
            "bytes": self.num_bytes,
            "replaced": self.num_replaced,
        }


@dataclass(frozen=True)
class ReadCounts:
    """All that a task has read: every result says so, because nothing may be truncated silently.

    num_bytes: of the sources. num_tokens: without BOS. num_blocks: closed blocks, and the open one if it holds tokens.
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


def open_documents(documents: Documents, encoding: str | None = None) -> Iterator[Document]:
    """The documents, each opened when its turn comes; paths and "-" (stdin) are opened here."""
    for document in documents:
        yield document if isinstance(document, Document) else open_document(document, encoding=encoding)


def chosen_memory_mode(model: Model, mode: MemoryMode | None) -> MemoryMode:
    """`mode`, or the checkpoint's default. Raises UsageError for what is not a mode."""
    if mode is not None and mode not in MEMORY_MODES:
        raise UsageError(f"memory mode '{mode}' is unknown: use one of {', '.join(MEMORY_MODES)}")
    return mode or model.default_memory_mode
