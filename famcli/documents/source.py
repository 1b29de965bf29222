"""The Source contract: what everything outside `documents/` knows of a document.

A source gives its text once, front to back, as pieces. Every character has an offset, and spans [start, end) of offsets
name parts of the text everywhere in famcli. `open_source` opens a source.

What an offset counts is the source's own affair. Text in any encoding counts the bytes of its file: every span is then
one of the original, with nothing to map back, also in a pipe, which cannot be read twice. A source that makes its text
out of something else counts the bytes of that text in UTF-8; `Piece.locations` say where it is in the original.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

Offsets = npt.NDArray[np.int64]
LocationKind = Literal["line", "page", "time", "row", "path", "message", "section", "paragraph"]
PLAIN_TEXT = "text"
"""The format of a source whose offsets are the bytes of its file."""


RECORD = "record"
"""The detail of a location that is a line with a whole value of JSON."""


@dataclass(frozen=True)
class Location:
    """Where text of a converted document is found in the original.

    kind, value: the place in the format's own terms: page "3", time "0:01:12", row "5", path ".messages[2]", a message
    by its number, a section by its title. detail: more to know it by (a message's sender, date and subject; `RECORD`
    for a line that is one). line: of the original, from 1; None where it has no lines. span: bytes of the original,
    unpacked if it was compressed, that the text was made from; None where there are none that could be read.
    """

    kind: LocationKind
    value: str
    detail: str = ""
    line: int | None = None
    span: tuple[int, int] | None = None

    @property
    def is_of_record(self) -> bool:
        """True for values of a table or of JSON."""
        return self.kind in ("row", "path") or self.detail == RECORD

    @property
    def label(self) -> str:
        """As a person would say it: `page 3`, `0:01:12`, `row 5`, `message 2 (Ann, 2025-03-03, "Re: the pier")`."""
        if self.kind == "line":
            return f"line {self.line:,}" if self.line is not None else f"line {self.value}"
        name = self.value if self.kind in ("time", "path") else f"{self.kind} {self.value}"
        if self.kind == "section":
            name = f'"{self.value}"'
        return f"{name} ({self.detail})" if self.detail else name


@dataclass(frozen=True)
class Piece:
    """The text of the offsets [start, end).

    widths: how many offsets each character takes, int64 [len(text)]; their sum is end - start. None where each
    character takes the bytes of its UTF-8 encoding. tentative: the input ended inside this character; more input would
    make it another one. raw: the bytes that the offsets count, of the original wherever it is text.
    """

    text: str
    start: int
    end: int
    widths: Offsets | None = None
    tentative: bool = False
    raw: bytes = b""
    locations: tuple[tuple[int, Location], ...] = ()

    def char_offsets(self) -> Offsets:
        """The offset of every character, and of the end: int64 [len(text) + 1]."""
        if self.widths is None and self.end - self.start == len(self.text):
            # ASCII, which most text is: one byte each, in less than a tenth of the time.
            return np.arange(self.start, self.end + 1, dtype=np.int64)
        widths = utf8_widths(self.text) if self.widths is None else self.widths
        offsets = np.empty(len(self.text) + 1, dtype=np.int64)
        offsets[0] = self.start
        np.cumsum(widths, out=offsets[1:])
        offsets[1:] += self.start
        return offsets

    def up_to(self, end: int) -> Piece:
        """The characters that end at or before the offset `end`."""
        if self.end <= end:
            return self
        offsets = self.char_offsets()
        count = max(0, int(np.searchsorted(offsets, end, side="right")) - 1)
        raw = self.raw[: int(offsets[count]) - self.start]
        widths, locations = np.diff(offsets[: count + 1]), tuple(one for one in self.locations if one[0] < end)
        return Piece(self.text[:count], self.start, int(offsets[count]), widths, raw=raw, locations=locations)


class Source(ABC):
    """A document that is read once from front to back, in constant memory.

    name: what to call it. path: None for standard input. size: bytes of the original, None for a pipe. start: the
    offset reading began at. encoding: how its bytes become text (a Python codec), to open it the same way again.
    is_named: the encoding is what the user said. is_guessed: the bytes suggest it and do not prove it. num_replaced:
    invalid sequences so far, each read as U+FFFD. bytes_read: bytes of the original taken in since `start`.
    wait_for_more: asked at the end of the input; True to try once more (a file that grows is followed by what waits
    here). format: `PLAIN_TEXT`, or what the text was made from ("html", "pdf"), to open it the same way again. notes:
    what was left out of a converted document, and why, as far as it was read.
    """

    name: str
    path: Path | None
    size: int | None
    start: int
    encoding: str
    is_guessed: bool
    num_replaced: int
    bytes_read: int
    wait_for_more: Callable[[], bool]
    format: str = PLAIN_TEXT
    notes: Sequence[str] = ()
    is_named: bool = False

    @property
    def is_converted(self) -> bool:
        """True if its offsets count the bytes of a text made out of the original, and not those of the original."""
        return self.format != PLAIN_TEXT

    @property
    @abstractmethod
    def end(self) -> int:
        """The offset that `pieces` has reached."""

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """The text from where reading stands. Raises DocumentError if the input cannot be read.

        An unfinished character at the end of the input comes last, as a tentative piece of its own.
        """

    @abstractmethod
    def text(self, span: tuple[int, int]) -> str:
        """The text at `span`, cut from the original once more. Raises DocumentError if it is gone or has changed."""

    @abstractmethod
    def digest(self) -> str:
        """Hexadecimal sha256 of the bytes that the offsets count, from `start` to the end of the last piece."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; standard input stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def utf8_widths(text: str) -> Offsets:
    """Bytes that each character takes in UTF-8, int64 [len(text)]."""
    codes = code_points(text)
    return 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code point of each character, uint32 [len(text)]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
