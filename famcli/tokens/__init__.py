"""Text to token ids and back, as streams, with spans of source bytes."""

from __future__ import annotations

import os
import re
from pathlib import Path

from famcli.errors import TokenizerError
from famcli.tokens.gguf_file import is_gguf
from famcli.tokens.stream import StreamDecoder, StreamEncoder, TokenRun, encode_text
from famcli.tokens.tokenizer import BYTES_FILE, JSON_FILE, MODEL_FILE, ByteTokenizer, Tokenizer

__all__ = [
    "ByteTokenizer",
    "StreamDecoder",
    "StreamEncoder",
    "TokenRun",
    "Tokenizer",
    "encode_text",
    "holds_tokenizer",
    "open_tokenizer",
]


def holds_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (MODEL_FILE, JSON_FILE, BYTES_FILE))


def open_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """Open `tokenizer.model`, else `tokenizer.json` (needs the `hf` extra), else the byte tokenizer's marker file; or
    the tokenizer inside a GGUF file. A `tokenizer.model` that is none of sentencepiece's (tiktoken's is a list of
    words) gives way to a `tokenizer.json`.

    Raises TokenizerError when there is none, when it is damaged, or when the extra is missing.
    """
    folder = Path(folder)
    if is_gguf(folder):
        from famcli.tokens.gguf_file import open_gguf_tokenizer

        return open_gguf_tokenizer(folder)
    # The sentencepiece model goes first: it needs no extra, and old tokenizer.json files beside one were converted
    # from it, not always faithfully.
    if (folder / MODEL_FILE).is_file() and not (_is_list(folder / MODEL_FILE) and (folder / JSON_FILE).is_file()):
        from famcli.tokens.sentencepiece import SentencePieceTokenizer

        return SentencePieceTokenizer(folder / MODEL_FILE)
    if (folder / JSON_FILE).is_file():
        from famcli.tokens.huggingface import HuggingFaceTokenizer

        return HuggingFaceTokenizer(folder / JSON_FILE)
    if (folder / BYTES_FILE).is_file():
        return ByteTokenizer()
    raise TokenizerError(
        f"no tokenizer in {folder}: it needs a {MODEL_FILE} or a {JSON_FILE}; copy one from the original checkpoint"
    )


def _is_list(path: Path) -> bool:
    """True for tiktoken's format: on each line a word in base64 and its number."""
    with path.open("rb") as file:
        line = file.readline(1 << 16)
    return re.fullmatch(rb"[A-Za-z0-9+/=]+ \d+\r?\n?", line) is not None
