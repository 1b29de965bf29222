"""tokenizer.json files of pretrained decoders, through the `tokenizers` library (the `hf` extra, imported on use).

The file is rearranged before the library sees it (`famcli.tokens.tokenizer_json`), so that text never becomes a control
token and parts of a text can be encoded as they stand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from famcli.errors import TokenizerError
from famcli.tokens.added import CONFIG_FILE, named, parse_object, read_bytes
from famcli.tokens.tokenizer import (
    ControlToken,
    Ids,
    Offsets,
    control_tokens,
    copy_files,
    fingerprint_of,
    without_surrogates,
)
from famcli.tokens.tokenizer_json import StreamingJson, prepare


class HuggingFaceTokenizer:
    """A byte-level or sentencepiece-like tokenizer.json.

    `bos_id` and `eos_id` are those that tokenizer_config.json beside it names. `made`: the contents of both files,
    where they were made of another one, `path`. Raises TokenizerError when the file is missing, damaged, of another
    kind, or the `tokenizers` package is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], made: tuple[bytes, bytes] | None = None) -> None:
        self._path, self._made = Path(path), made
        library = _library(self._path)
        contents = list(made) if made is not None else _read_all(self._path)
        data = parse_object(contents[0], self._path)
        self._json: StreamingJson = prepare(data, str(self._path))
        try:
            self._tokenizer = library.Tokenizer.from_str(json.dumps(self._json.data, ensure_ascii=False))
        except Exception as error:  # the library raises Exception itself
            reason = " ".join(str(error).split())[:200]
            raise TokenizerError(f"{self._path} cannot be read by `tokenizers` ({reason}); fetch it again") from error
        self._tokenizer.encode_special_tokens = True
        self.vocab_size: int = max(self._json.token_bytes, default=-1) + 1
        self.control_ids: Mapping[str, int] = self._json.control_ids
        self.fingerprint = fingerprint_of(*contents)
        self.control_tokens: Mapping[str, ControlToken] = control_tokens(self.control_ids, self._json.added)
        config = parse_object(contents[1], self._path.with_name(CONFIG_FILE)) if len(contents) > 1 else {}
        self.bos_id: int | None = self.control_ids.get(named(config, "bos_token") or "")
        self.eos_id: int | None = self.control_ids.get(named(config, "eos_token") or "")

    @property
    def files(self) -> list[Path]:
        if self._made is not None:
            return [self._path]
        return [path for path in (self._path, self._path.with_name(CONFIG_FILE)) if path.is_file()]

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

    def decode(self, ids: Sequence[int]) -> str:
        """The concatenated bytes of the ids as UTF-8."""
        return b"".join(self.token_bytes(token) for token in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """UTF-8 bytes of one id; empty for control tokens, and for ids that stand for nothing."""
        return self._json.token_bytes.get(token, b"")

    def safe_cut(self, text: str, final: bool = False, low: int = 0) -> int:
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
        if final:
            return len(text)
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
        if self._made is None:
            copy_files(self.files, folder)
            return
        for name, content in zip(("tokenizer.json", CONFIG_FILE), self._made, strict=True):
            (folder / name).write_bytes(content)


def _library(path: Path) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise TokenizerError(f"{path} needs the `tokenizers` package: install famcli[hf]") from error
    return tokenizers


def _read_all(path: Path) -> list[bytes]:
    """The file's content, and that of the configuration beside it if there is one."""
    config = path.with_name(CONFIG_FILE)
    return [read_bytes(each) for each in (path, config) if each == path or each.is_file()]
