"""A tokenizer whose tokens depend on what follows: words of up to four letters, or bytes.

"cats" is one token, "cat" another, so that a cut inside a word must wait for its end; everything else is bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from famcli.tokens.tokenizer import AddedToken, Ids, Offsets

_WORD = re.compile("[a-c]{1,4}|\r\n", re.ASCII)
_FIRST_WORD = 257
_NUM_WORDS = 3 + 9 + 27 + 81


class WordTokenizer:
    """Ids 0 to 255 are bytes, 256 begins a text, then come all words over a, b, c of 1 to 4 letters, and CRLF."""

    vocab_size = _FIRST_WORD + _NUM_WORDS + 1
    bos_id: int | None = 256
    eos_id: int | None = None
    fingerprint = "words"
    control_tokens: Mapping[str, AddedToken] = {"<s>": AddedToken("<s>", 256)}

    def __init__(self) -> None:
        words = [""]
        layers = [words]
        for _ in range(4):
            layers.append([word + letter for word in layers[-1] for letter in "abc"])
        self._words = [word for layer in layers[1:] for word in layer] + ["\r\n"]
        self._ids = {word: _FIRST_WORD + index for index, word in enumerate(self._words)}

    def encode(self, text: str) -> list[int]:
        return self.encode_offsets(text)[0].tolist()

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        ids: list[int] = []
        ends: list[int] = []
        place = 0
        while place < len(text):
            if match := _WORD.match(text, place):
                ids.append(self._ids[match.group()])
                place = match.end()
                ends.append(place)
            else:
                raw = text[place].encode("utf-8", "replace")
                place += 1
                ids += raw
                ends += [place] * len(raw)
        return np.array(ids, dtype=np.int32), np.array(ends, dtype=np.int64)

    def opening(self, text: str) -> str:
        return ""

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        if token < 256:
            return bytes([token])
        return b"" if token == 256 else self._words[token - _FIRST_WORD].encode()

    def safe_cut(self, text: str, low: int = 0) -> int:
        """Beside whatever is no word: a word's letters are counted from its beginning."""
        for place in range(len(text), low, -1):
            before, after = text[place - 1], text[place : place + 1]
            if before == "\r" and after in ("", "\n"):
                continue
            if before not in "abc" or (after and after not in "abc"):
                return place
        return 0

    def save(self, folder: Path) -> None:
        (folder / "words").touch()
