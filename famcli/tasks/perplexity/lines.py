"""Lines as units of scoring: tokens that never reach across a line break, and where each line lies in the source."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from famcli.tokens.tokenizer import AddedToken, Ids, Offsets, Tokenizer

MAX_LINE_TEXT = 4096
"""Characters of a line's text that are kept to be shown."""

_LINE = re.compile(r"[^\n]*\n|[^\n]+")


class LineTokenizer:
    """A tokenizer that encodes each line, its newline included, as a text of its own.

    All else is the tokenizer's it is made from. Its ids differ from that one's only where a token would have reached
    across a newline.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def vocab_size(self) -> int:
        """As the tokenizer's."""
        return self._tokenizer.vocab_size

    @property
    def bos_id(self) -> int | None:
        """As the tokenizer's."""
        return self._tokenizer.bos_id

    @property
    def eos_id(self) -> int | None:
        """As the tokenizer's."""
        return self._tokenizer.eos_id

    @property
    def control_tokens(self) -> Mapping[str, AddedToken]:
        """As the tokenizer's."""
        return self._tokenizer.control_tokens

    @property
    def fingerprint(self) -> str:
        """As the tokenizer's: the ids mean the same."""
        return self._tokenizer.fingerprint

    def encode(self, text: str) -> list[int]:
        """The ids of each line, one after the other."""
        return [token for line in _LINE.findall(text) for token in self._tokenizer.encode(line)]

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        """The ids of each line, and the characters of `text` spent after each."""
        ids: list[Ids] = [np.empty(0, np.int32)]
        ends: list[Offsets] = [np.empty(0, np.int64)]
        for match in _LINE.finditer(text):
            line_ids, line_ends = self._tokenizer.encode_offsets(match[0])
            ids.append(line_ids)
            ends.append(line_ends + match.start())
        return np.concatenate(ids), np.concatenate(ends)

    def opening(self, text: str) -> str:
        """As the tokenizer's."""
        return self._tokenizer.opening(text)

    def section_opening(self, text: str) -> str:
        """As the tokenizer's."""
        return self._tokenizer.section_opening(text)

    def decode(self, ids: Sequence[int]) -> str:
        """As the tokenizer's."""
        return self._tokenizer.decode(ids)

    def token_bytes(self, token: int) -> bytes:
        """As the tokenizer's."""
        return self._tokenizer.token_bytes(token)

    def safe_cut(self, text: str, low: int = 0) -> int:
        """After the last newline, or where the tokenizer may be cut after that."""
        newline = text.rfind("\n", low) + 1
        return self._tokenizer.safe_cut(text, low=max(low, newline)) or newline

    def save(self, folder: Path) -> None:
        """As the tokenizer's."""
        self._tokenizer.save(folder)


@dataclass(frozen=True)
class Line:
    """number: from 1. start, end: source bytes, line break included. text: without its line break, as far as kept."""

    number: int
    start: int
    end: int
    text: str
    is_cut: bool


class LineCollector:
    """Turns pieces of text into lines as their newlines come. Holds what was not taken, and one unfinished line."""

    def __init__(self) -> None:
        self.waiting: deque[Line] = deque()
        self._number = 1
        self._start: int | None = None
        self._end = 0
        self._text = ""
        self._length = 0

    def feed(self, text: str, offsets: NDArray[np.int64]) -> None:
        """More text; `offsets` [len(text) + 1]: where each character lies in the source."""
        for match in _LINE.finditer(text):
            if self._start is None:
                self._start = int(offsets[match.start()])
            room = MAX_LINE_TEXT - len(self._text)
            self._text += match[0].rstrip("\r\n")[:room] if match[0].endswith("\n") else match[0][:room]
            self._length += len(match[0])
            self._end = int(offsets[match.end()])
            if match[0].endswith("\n"):
                self.flush()

    def flush(self) -> None:
        """The unfinished line, if any, ends here."""
        if self._start is not None:
            text = self._text.removesuffix("\r")
            is_cut = self._length > MAX_LINE_TEXT + 2
            self.waiting.append(Line(self._number, self._start, self._end, text, is_cut))
            self._number += 1
        self._start, self._text, self._length = None, "", 0
