"""The tokenizer that needs no file: one token per UTF-8 byte, and one that begins a text.

For tests and random checkpoints. Every place between two characters is a safe cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from famcli.tokens.tokenizer import ControlToken, Ids, Offsets, control_tokens, fingerprint_of, without_surrogates

BYTES_FILE = "tokenizer.bytes"
_CONTENT = b"256 bytes, then bos\n"


class ByteTokenizer:
    """Ids 0 to 255 are bytes, 256 begins a text."""

    vocab_size = 257
    bos_id: int | None = 256
    eos_id: int | None = None

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    @property
    def control_ids(self) -> Mapping[str, int]:
        return {"<s>": 256}

    @property
    def control_tokens(self) -> Mapping[str, ControlToken]:
        return control_tokens(self.control_ids)

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(_CONTENT)

    @property
    def files(self) -> list[Path]:
        return [] if self._path is None else [self._path]

    def encode(self, text: str) -> list[int]:
        """One id per UTF-8 byte."""
        return list(without_surrogates(text).encode())

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        """One id per UTF-8 byte; the bytes of a character all end where it ends."""
        raw = np.frombuffer(without_surrogates(text).encode(), dtype=np.uint8)
        return raw.astype(np.int32), np.cumsum((raw & 0xC0) != 0x80, dtype=np.int64)

    def opening(self, text: str) -> str:
        """Nothing is put before a text."""
        return ""

    def section_opening(self, text: str) -> str:
        """Nothing either."""
        return ""

    def decode(self, ids: Sequence[int]) -> str:
        """The bytes as UTF-8, invalid ones as U+FFFD."""
        return bytes(token for token in ids if token < 256).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The byte itself; nothing for the token that begins a text."""
        return bytes([token]) if token < 256 else b""

    def safe_cut(self, text: str, final: bool = False, low: int = 0) -> int:
        """The end of the text: no token spans two characters."""
        return len(text) if final or len(text) > low else 0

    def save(self, folder: Path) -> None:
        """Write a file that says that this is the tokenizer."""
        (folder / BYTES_FILE).write_bytes(_CONTENT)
