"""The contract that every tokenizer meets.

Text in a document stays text: no tokenizer here turns it into a control token. A tokenizer that changes the text it is
given (puts a space before the first word, say) declares that in `opening`; it is added once, at the start of a stream,
so that the parts of a stream can be encoded one by one.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]

MODEL_FILE, JSON_FILE, BYTES_FILE = "tokenizer.model", "tokenizer.json", "tokenizer.bytes"

_SURROGATE = re.compile("[\ud800-\udfff]")
# The last code point of all, for private use: no vocabulary holds it.
_OUTSIDE_VOCABULARY = "\U0010fffd"


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
    """

    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def eos_id(self) -> int | None: ...
    @property
    def control_tokens(self) -> Mapping[str, AddedToken]: ...
    @property
    def fingerprint(self) -> str: ...

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
        ...

    def section_opening(self, text: str) -> str:
        """The text that it puts before a part of a prompt that follows a control token: usually nothing."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`. Control tokens are empty, invalid UTF-8 becomes U+FFFD."""
        ...

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
        """Write the files that define the tokenizer into `folder`."""
        ...


def control_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids of all control tokens."""
    return frozenset(token.id for token in tokenizer.control_tokens.values())


def unknown_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that characters outside the vocabulary become; empty where such characters are spelled in bytes."""
    ids = tokenizer.encode(_OUTSIDE_VOCABULARY)
    return frozenset(each for each in ids if tokenizer.token_bytes(each) == "\ufffd".encode())


def fingerprint_of(*contents: bytes) -> str:
    """The sha256 of the contents one after the other, in hexadecimal."""
    return hashlib.sha256(b"".join(contents)).hexdigest()


def copy_files(files: Sequence[Path], folder: Path) -> None:
    """Copy `files` into `folder`, leaving those that are already there alone."""
    for file in files:
        target = folder / file.name
        if not (target.exists() and target.samefile(file)):
            shutil.copyfile(file, target)


def without_surrogates(text: str) -> str:
    """`text` with each lone surrogate, which no encoding can hold, replaced by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
