"""tokenizer.json files of pretrained decoders, through the `tokenizers` library (the `hf` extra, imported on use).

The file is rearranged before the library sees it (`famcli.tokens.tokenizer_json`), so that text never becomes a control
token and parts of a text can be encoded as they stand.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from famcli.errors import TokenizerError
from famcli.tokens.tokenizer import (
    CONFIG_FILE,
    JSON_FILE,
    Ids,
    Offsets,
    Tokenizer,
    copy_files,
    fingerprint_of,
    parse_object,
    read_bytes,
    token_name,
    without_surrogates,
)
from famcli.tokens.tokenizer_json import StreamingJson, prepare


class HuggingFaceTokenizer(Tokenizer):
    """A byte-level or sentencepiece-like tokenizer.json.

    `bos_id` and `eos_id` are those that tokenizer_config.json beside it names. converted: the contents of both files,
    when they were made from another one, `path`. Raises TokenizerError when the file is missing, damaged, of another
    kind, or the `tokenizers` package is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], converted: tuple[bytes, bytes] | None = None) -> None:
        self.path, self._converted = Path(path), converted
        library = _library(self.path)
        contents = converted or tuple(read_bytes(each) for each in _files(self.path))
        self._json: StreamingJson = prepare(parse_object(contents[0], self.path), str(self.path))
        try:
            self._tokenizer = library.Tokenizer.from_str(json.dumps(self._json.data, ensure_ascii=False))
        except Exception as error:  # the library raises Exception itself
            reason = " ".join(str(error).split())[:200]
            raise TokenizerError(f"{self.path} cannot be read by `tokenizers` ({reason}); fetch it again") from error
        # Otherwise the library would find control tokens in text.
        self._tokenizer.encode_special_tokens = True
        self.vocab_size = max(self._json.token_bytes, default=-1) + 1
        self.control_tokens = self._json.control_tokens
        self.fingerprint = fingerprint_of(*contents)
        config = parse_object(contents[1], self.path.with_name(CONFIG_FILE)) if len(contents) > 1 else {}
        ids = {name: token.id for name, token in self.control_tokens.items()}
        self.bos_id = ids.get(token_name(config, "bos_token") or "")
        self.eos_id = ids.get(token_name(config, "eos_token") or "")

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as a part of a longer text."""
        ids: list[int] = self._tokenizer.encode(without_surrogates(text), add_special_tokens=False).ids
        return ids

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        """Ids [n] and the character where each ends [n], in the text before any normalisation."""
        encoding = self._tokenizer.encode(without_surrogates(text), add_special_tokens=False)
        ids = np.array(encoding.ids, dtype=np.int32)
        if not len(ids):
            return ids, np.empty(0, dtype=np.int64)
        ends = np.array(encoding.offsets, dtype=np.int64)[:, 1]
        # What a normaliser drops at the end belongs to the last token.
        ends[-1] = len(text)
        # Tokens the normaliser made of nothing have no place, and may report an earlier one.
        return ids, np.maximum.accumulate(ends)

    def opening(self, text: str) -> str:
        """The space that many sentencepiece-like tokenizers put in front of a text."""
        if not self._json.opens_with_space or not text:
            return ""
        return "" if text[0] == " " and self._json.opens_unless_space else " "

    def section_opening(self, text: str) -> str:
        """The same space again, in tokenizers that put one before each part."""
        return self.opening(text) if self._json.opens_each else ""

    def token_bytes(self, token: int) -> bytes:
        """UTF-8 bytes of one id; empty for control tokens, and for unused ids."""
        return self._json.token_bytes.get(token, b"")

    def safe_cut(self, text: str, low: int = 0) -> int:
        """The last space after a visible ASCII character, in tokenizers known to split there.

        Proof. What the normalisers known here make of a character does not depend on a space beside it, and nothing
        composes with a space. Then either a pre-tokenizer is known to end a part between such a character and a space
        whatever surrounds them: the patterns accepted match from left to right, look behind nowhere and ahead past
        whitespace only, and no alternative holds a visible character followed by a space; the next match begins at
        the space either way, and parts become tokens one by one. Or none of them splits there, and no piece of the
        byte-pair vocabulary holds a visible character followed by a space: then no merge joins the two sides (see
        `SentencePieceTokenizer.safe_cut`). The same holds for a newline after a letter or digit under the patterns;
        after punctuation it does not. Any other tokenizer is given no cut.
        """
        if not self._json.cuts_before_spaces:
            return 0
        newlines = self._json.cuts_before_newlines
        for place in range(len(text) - 1, low, -1):
            character, before = text[place], text[place - 1]
            if character == " " and "!" <= before <= "~":
                return place
            if newlines and character == "\n" and before.isascii() and before.isalnum():
                return place
        return 0

    def save(self, folder: Path) -> None:
        """Copy the files into `folder`."""
        if self._converted is None:
            copy_files(_files(self.path), folder)
            return
        for name, content in zip((JSON_FILE, CONFIG_FILE), self._converted, strict=True):
            (folder / name).write_bytes(content)


def _library(path: Path) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise TokenizerError(f"{path} needs the `tokenizers` package: install famcli[hf]") from error
    return tokenizers


def _files(path: Path) -> list[Path]:
    """The file, and the configuration beside it if there is one."""
    config = path.with_name(CONFIG_FILE)
    return [path, config] if config.is_file() else [path]
