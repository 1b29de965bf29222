"""tokenizer.json files of pretrained decoders, through the `tokenizers` library (the `hf` extra, imported on use).

The file is rearranged before the library sees it (`famcli.tokens.json_file`), so that text never becomes a control
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
from famcli.tokens.json_file import StreamingJson, prepare
from famcli.tokens.tokenizer import Ids, Offsets, copy_files, fingerprint_of, without_surrogates

_CONFIG_FILE = "tokenizer_config.json"


class HuggingFaceTokenizer:
    """A byte-level or sentencepiece-like tokenizer.json.

    `bos_id` and `eos_id` are those that tokenizer_config.json beside it names. Raises TokenizerError when the file is
    missing, damaged, of another kind, or the `tokenizers` package is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        library = _library(self._path)
        contents = _read_all(self._path)
        self._json: StreamingJson = prepare(_parse(contents[0], self._path), str(self._path))
        try:
            self._tokenizer = library.Tokenizer.from_str(json.dumps(self._json.data, ensure_ascii=False))
        except Exception as error:  # the library raises Exception itself
            raise TokenizerError(f"{self._path} is no tokenizer that `tokenizers` can read: {error}") from error
        self._tokenizer.encode_special_tokens = True
        self.vocab_size: int = max(self._json.token_bytes, default=-1) + 1
        self.control_ids: Mapping[str, int] = self._json.control_ids
        self.fingerprint = fingerprint_of(*contents)
        config = _parse(contents[1], self._path.with_name(_CONFIG_FILE)) if len(contents) > 1 else {}
        self.bos_id: int | None = self._named(config, "bos_token")
        self.eos_id: int | None = self._named(config, "eos_token")

    @property
    def files(self) -> list[Path]:
        return [path for path in (self._path, self._path.with_name(_CONFIG_FILE)) if path.is_file()]

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
        copy_files(self.files, folder)

    def _named(self, config: dict[str, Any], key: str) -> int | None:
        name = config.get(key)
        if isinstance(name, dict):
            name = name.get("content")
        return self.control_ids.get(name) if isinstance(name, str) else None


def _library(path: Path) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise TokenizerError(f"{path} needs the `tokenizers` package: install famcli[hf]") from error
    return tokenizers


def _read_all(path: Path) -> list[bytes]:
    """The file's content, and that of the configuration beside it if there is one."""
    try:
        contents = [path.read_bytes()]
        config = path.with_name(_CONFIG_FILE)
        if config.is_file():
            contents.append(config.read_bytes())
    except OSError as error:
        raise TokenizerError(f"cannot read the tokenizer {path}: {error.strerror}; check the path") from error
    return contents


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except ValueError as error:
        raise TokenizerError(f"{path} is not valid JSON: fetch or copy the file again") from error
    if not isinstance(data, dict):
        raise TokenizerError(f"{path} is no tokenizer: it must hold a JSON object; fetch or copy the file again")
    return data
