"""The tokenizer of a checkpoint, by the files it holds."""

from __future__ import annotations

import os
from pathlib import Path

from famcli.errors import TokenizerError
from famcli.tokens.bytes import BYTES_FILE, ByteTokenizer
from famcli.tokens.gguf_file import is_gguf
from famcli.tokens.tokenizer import Tokenizer

MODEL_FILE = "tokenizer.model"
JSON_FILE = "tokenizer.json"


def holds_tokenizer(folder: Path) -> bool:
    """Whether there is something in `folder` that `open_tokenizer` takes."""
    return any((folder / name).is_file() for name in (MODEL_FILE, JSON_FILE, BYTES_FILE))


def open_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """Open `tokenizer.model`, else `tokenizer.json` (needs the `hf` extra), else the byte tokenizer's mark; or, of a
    GGUF file, what it holds.

    Raises TokenizerError when there is none, when it is damaged, or when the extra is missing.
    """
    folder = Path(folder)
    if is_gguf(folder):
        from famcli.tokens.gguf_tokenizer import open_gguf_tokenizer

        return open_gguf_tokenizer(folder)
    if (folder / MODEL_FILE).is_file():
        from famcli.tokens.sentencepiece import SentencePieceTokenizer

        return SentencePieceTokenizer(folder / MODEL_FILE)
    if (folder / JSON_FILE).is_file():
        from famcli.tokens.huggingface import HuggingFaceTokenizer

        return HuggingFaceTokenizer(folder / JSON_FILE)
    if (folder / BYTES_FILE).is_file():
        return ByteTokenizer(folder / BYTES_FILE)
    raise TokenizerError(
        f"no tokenizer in {folder}: it needs a {MODEL_FILE} or a {JSON_FILE}; copy one from the original checkpoint"
    )
