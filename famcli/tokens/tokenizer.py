"""The contract that every tokenizer meets, the JSON files beside one, and the tokenizer of single bytes.

Text in a document stays text: no tokenizer here turns it into a control token. A tokenizer that changes the text it is
given (puts a space before the first word, say) declares that in `opening`; it is added once, at the start of a stream,
so that the parts of a stream can be encoded one by one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from famcli.errors import TokenizerError

Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]

MODEL_FILE, JSON_FILE, BYTES_FILE = "tokenizer.model", "tokenizer.json", "tokenizer.bytes"

_SURROGATE = re.compile("[\ud800-\udfff]")
# The last code point of all, for private use: no vocabulary holds it.
_OUTSIDE_VOCABULARY = "\U0010fffd"
CONFIG_FILE = "tokenizer_config.json"
ADDED_FILE = "added_tokens.json"
MAX_BYTES = 64 << 20
_CONTENT = b"256 bytes, then bos\n"


# The repr of added tokens is part of a tokenizer's fingerprint: renaming the class or a field would make every memory
# file look as if it belonged to another model.
@dataclass(frozen=True)
class AddedToken:
    """A token beside the vocabulary: a control token, or (in a file, `special` false) a symbol that stands for text.

    lstrip, rstrip: in a prompt, white space before or after it belongs to it.
    """

    content: str
    id: int
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False


class Tokenizer(Protocol):
    """Text to token ids and back.

    vocab_size: ids are 0 to vocab_size - 1.
    bos_id, eos_id: the control tokens that begin and end a text, if there are any.
    control_tokens: every control token by its name, for prompts that are built from them.
    fingerprint: hexadecimal sha256 of what defines the tokenizer.
    files: the files that define the tokenizer, by name: where each is, or its content.
    """

    vocab_size: int
    bos_id: int | None
    eos_id: int | None
    control_tokens: Mapping[str, AddedToken]
    fingerprint: str
    files: Mapping[str, Path | bytes]

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as a part of a longer text: nothing added in front, no BOS, no EOS, no control tokens."""
        ...

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        """The ids [n] and, for each, how many characters of `text` are spent once it is read [n].

        The second array never decreases and ends with len(text). Tokens that share a character (its bytes) all end
        where the character ends.
        """
        ...

    def opening(self, text: str) -> str:
        """The text that the tokenizer puts before one that begins with `text`: usually nothing, in some a space."""
        return ""

    def section_opening(self, text: str) -> str:
        """The text that it puts before a part of a prompt that follows a control token: usually nothing."""
        return ""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`. Control tokens are empty, invalid UTF-8 becomes U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes that `token` stands for; a text is their concatenation."""
        ...

    def safe_cut(self, text: str, low: int = 0) -> int:
        """The last place low < p <= len(text) where a stream may be cut, 0 if none is known.

        At such a p, encode(text[:p]) + encode(text[p:] + more) == encode(text + more) whatever `more` is. A place is
        judged by the characters beside it alone, text[p - 1] and text[p] (or by text[p - 1] alone at the end), so it
        does not matter where the text before it was cut. `low`: places up to there are known to be none.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the files that define the tokenizer into `folder`, leaving those that are already there alone."""
        for name, content in self.files.items():
            target = folder / name
            if isinstance(content, bytes):
                target.write_bytes(content)
            elif not (target.exists() and target.samefile(content)):
                shutil.copyfile(content, target)


def begin_ids(tokenizer: Tokenizer) -> list[int]:
    """The control token that begins a text, if there is one."""
    return [] if tokenizer.bos_id is None else [tokenizer.bos_id]


def control_ids(tokenizer: Tokenizer) -> frozenset[int]:
    return frozenset(token.id for token in tokenizer.control_tokens.values())


def unknown_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that characters outside the vocabulary become; empty where such characters are spelled in bytes."""
    ids = tokenizer.encode(_OUTSIDE_VOCABULARY)
    return frozenset(each for each in ids if tokenizer.token_bytes(each) == "\ufffd".encode())


def fingerprint_of(*contents: bytes) -> str:
    """The sha256 of the contents one after the other, in hexadecimal."""
    return hashlib.sha256(b"".join(contents)).hexdigest()


def without_surrogates(text: str) -> str:
    """`text` with each lone surrogate, which no encoding can hold, replaced by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def read_config(folder: Path) -> tuple[dict[str, Any], tuple[AddedToken, ...], tuple[Path, ...]]:
    """`tokenizer_config.json` of `folder` (empty when absent), the added tokens that it and `added_tokens.json` name,
    by id, and the files that were read. Raises TokenizerError."""
    files = tuple(path for name in (CONFIG_FILE, ADDED_FILE) if (path := folder / name).is_file())
    parsed = {path.name: parse_object(read_bytes(path), path) for path in files}
    config = parsed.get(CONFIG_FILE, {})
    try:
        decoder = config.get("added_tokens_decoder") or {}
        found = {int(index): added_token(token, int(index)) for index, token in decoder.items()}
        for text, index in parsed.get(ADDED_FILE, {}).items():
            found.setdefault(index, AddedToken(text, index))
        if any(type(index) is not int or not 0 <= index < 1 << 31 for index in found):
            raise ValueError("an impossible id")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TokenizerError(
            f"{folder}: an added token in {CONFIG_FILE} or {ADDED_FILE} has no text, or an impossible id; fetch the "
            "files again"
        ) from error
    return config, tuple(found[index] for index in sorted(found)), files


def added_token(token: Mapping[str, Any], index: int) -> AddedToken:
    """An added token as tokenizer.json and tokenizer_config.json write it."""
    if not isinstance(token["content"], str):
        raise ValueError("a token without text")
    switches = [bool(token.get(key, False)) for key in ("special", "lstrip", "rstrip")]
    return AddedToken(token["content"], index, *switches)


def token_name(config: Mapping[str, Any], key: str) -> str | None:
    """The text of the token at `key` (bos_token, eos_token): files write a string, or an object with its content."""
    name = config.get(key)
    if isinstance(name, dict):
        name = name.get("content")
    return name if isinstance(name, str) else None


def read_bytes(path: Path) -> bytes:
    """A tokenizer file's content. Raises TokenizerError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # A pipe or a device may never end.
            raise TokenizerError(f"cannot read the tokenizer {path}: it is no regular file; put the file itself there")
        if status.st_size > MAX_BYTES:
            raise TokenizerError(f"{path} is larger than any tokenizer's file ({MAX_BYTES >> 20} MiB)")
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read the tokenizer {path}: {error.strerror}; check the path") from error


def parse_object(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON object in `content` of `path`. Raises TokenizerError."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is not valid JSON: fetch or copy the file again") from error
    if not isinstance(data, dict):
        raise TokenizerError(f"{path} is no tokenizer: it must hold a JSON object; fetch or copy the file again")
    return data


class ByteTokenizer(Tokenizer):
    """Ids 0 to 255 are bytes, 256 begins a text."""

    vocab_size = 257
    bos_id = 256
    eos_id = None

    def __init__(self) -> None:
        self.control_tokens = {"<s>": AddedToken("<s>", 256)}
        self.fingerprint = fingerprint_of(_CONTENT)
        self.files = {BYTES_FILE: _CONTENT}

    def encode(self, text: str) -> list[int]:
        return list(without_surrogates(text).encode())

    def encode_offsets(self, text: str) -> tuple[Ids, Offsets]:
        raw = np.frombuffer(without_surrogates(text).encode(), dtype=np.uint8)
        return raw.astype(np.int32), np.cumsum((raw & 0xC0) != 0x80, dtype=np.int64)

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def safe_cut(self, text: str, low: int = 0) -> int:
        # No token spans two characters.
        return len(text) if len(text) > low else 0
