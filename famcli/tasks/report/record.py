"""The text of documents and the heat of its words, kept on disk while a reading goes on: a pipe comes only once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from famcli.documents.opening import open_source
from famcli.documents.source import Piece
from famcli.tasks.report.heat import Heat

HEAT = np.dtype([("start", "<i8"), ("end", "<i8"), ("value", "<f4")])
"""A token's source bytes, and how hot it is: any number, the more the hotter; NaN where nobody knows."""

_CHUNK = 1 << 16  # characters, and tokens


class Recorder:
    """Keeps what a reading is given and what is found hot in it. Nothing of it stays in memory.

    A context manager: what it keeps is gone when it is closed.
    """

    def __init__(self) -> None:
        self.histogram = Heat()
        self._texts: list[RecordedText] = []

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        for text in self._texts:
            text.close()

    @property
    def texts(self) -> list[RecordedText]:
        """One for each source, in their order."""
        return list(self._texts)

    def begin(self, name: str) -> None:
        """A source begins."""
        self._texts.append(RecordedText(name))

    def see(self, piece: Piece) -> None:
        """Text of the last source."""
        self._texts[-1].see(piece)

    def heat(
        self, source: int, starts: NDArray[np.int64], ends: NDArray[np.int64], values: NDArray[np.float64]
    ) -> None:
        """The next tokens of a source [n] and their heat."""
        self.histogram.add(values)
        self._texts[source].add_heat(starts, ends, values)


class RecordedText:
    """One source: characters, the source bytes of each, and hot tokens, in three temporary files."""

    def __init__(self, name: str) -> None:
        self.name, self.size = name, 0
        self._start: int | None = None
        self._files = ExitStack()
        self._text, self._widths, self._heat = (self._temporary() for _ in range(3))

    def _temporary(self) -> IO[bytes]:
        return self._files.enter_context(tempfile.TemporaryFile())

    def close(self) -> None:
        """Delete the files."""
        self._files.close()

    def see(self, piece: Piece) -> None:
        """The next text."""
        self._start = piece.start if self._start is None else self._start
        self.size = piece.end
        self._text.write(piece.text.encode("utf-32-le", "surrogatepass"))
        self._widths.write(np.diff(piece.char_offsets()).astype("<i4").tobytes())

    def add_heat(self, starts: NDArray[np.int64], ends: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """The next tokens."""
        rows = np.empty(len(starts), HEAT)
        rows["start"], rows["end"], rows["value"] = starts, ends, values
        self._heat.write(rows.tobytes())

    def chunks(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """The text in parts, each with the source bytes where its characters begin, and that of its end."""
        self._text.seek(0)
        self._widths.seek(0)
        start = self._start or 0
        while raw := self._text.read(4 * _CHUNK):
            text = raw.decode("utf-32-le", "surrogatepass")
            widths = np.frombuffer(self._widths.read(4 * len(text)), "<i4")
            offsets = start + np.concatenate(([0], np.cumsum(widths, dtype=np.int64)))
            yield text, offsets
            start = int(offsets[-1])

    def hot(self) -> Iterator[NDArray[np.void]]:
        """The tokens in parts, as rows of `HEAT`."""
        self._heat.seek(0)
        while raw := self._heat.read(HEAT.itemsize * _CHUNK):
            yield np.frombuffer(raw, HEAT)


@dataclass(frozen=True)
class FileText:
    """A source that can be read again, without heat: what a result that was kept from an earlier reading is about.

    size: how much of it was read.
    """

    name: str
    path: str
    encoding: str
    size: int

    def chunks(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """As `RecordedText.chunks`, up to the end of what was read."""
        with open_source(self.path, encoding=self.encoding) as document:
            for piece in document.pieces():
                if (read := piece.up_to(self.size)).text:
                    yield read.text, read.char_offsets()
                if piece.end >= self.size:
                    return

    def hot(self) -> Iterator[NDArray[np.void]]:
        """Nothing."""
        return iter(())
