"""A tokenizer without a vocabulary file: one token per UTF-8 byte, and one that begins a text.

For tests and random checkpoints. Every place between two characters is a safe cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from famcli.tokens.tokenizer import BYTES_FILE, AddedToken, Ids, Offsets, fingerprint_of, without_surrogates

_CONTENT = b"256 bytes, then bos\n"


class ByteTokenizer:
    """Ids 0 to 255 are bytes, 256 begins a text."""

    vocab_size = 257
    bos_id: int | None = 256
    eos_id: int | None = None

    def __init__(self) -> None:
        self.control_tokens = {"<s>": AddedToken("<s>", 256)}
        self.fingerprint = fingerprint_of(_CONTENT)

    def encode(self, text: str) -> list[int]:
        """One id per UTF-8 byte."""
        return list(without_surrogates(text).encode())

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        """One id per UTF-8 byte; the bytes of a character all end where it ends."""
        raw = np.frombuffer(without_surrogates(text).encode(), dtype=np.uint8)
        return raw.astype(np.int32), np.cumsum((raw & 0xC0) != 0x80, dtype=np.int64)

    def opening(self, text: str) -> str:
        """Empty: this tokenizer puts nothing before a text."""
        return ""

    section_opening = opening

    def decode(self, ids: Sequence[int]) -> str:
        """The bytes as UTF-8, invalid ones as U+FFFD."""
        return bytes(token for token in ids if token < 256).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The byte itself; nothing for the token that begins a text."""
        return bytes([token]) if token < 256 else b""

    def safe_cut(self, text: str, low: int = 0) -> int:
        """The end of the text: no token spans two characters."""
        return len(text) if len(text) > low else 0

    def save(self, folder: Path) -> None:
        """Write the marker file of this tokenizer."""
        (folder / BYTES_FILE).write_bytes(_CONTENT)
