"""What every tokenizer must offer, so that streams, the engine and checkpoints need not know which one they hold.

Text in a document is text: no tokenizer here ever turns it into a control token. Where a tokenizer would change the
text it is given (a space in front of the first word, say), that is said by `opening` and added once, at the start of a
stream, so that the parts of a stream can be encoded one by one.
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

from famcli.tokens.added import AddedToken

Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ControlToken:
    """A control token's id, and whether white space before (lstrip) or after it (rstrip) belongs to it in a prompt."""

    id: int
    lstrip: bool = False
    rstrip: bool = False


class Tokenizer(Protocol):
    """Text to token ids and back.

    vocab_size: ids are 0 to vocab_size - 1.
    bos_id, eos_id: the control tokens that begin and end a text, if there are any.
    control_ids, control_tokens: every control token by its name, for prompts that are built from them.
    fingerprint: hexadecimal sha256 of what defines the tokenizer.
    files: the files it was opened from, which a checkpoint has to hold.
    """

    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def eos_id(self) -> int | None: ...
    @property
    def control_ids(self) -> Mapping[str, int]: ...
    @property
    def control_tokens(self) -> Mapping[str, ControlToken]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def files(self) -> list[Path]: ...

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
        """What the tokenizer puts before a text that begins with `text`: usually nothing, in some a space."""
        ...

    def section_opening(self, text: str) -> str:
        """What it puts before a part of a prompt that follows a control token: usually nothing."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`: control tokens are empty, bytes that are no UTF-8 become U+FFFD."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes that `token` stands for; a text is their concatenation."""
        ...

    def safe_cut(self, text: str, final: bool = False, low: int = 0) -> int:
        """The last place low < p <= len(text) where a stream may be cut, 0 if none is known.

        At such a p, encode(text[:p]) + encode(text[p:] + more) == encode(text + more) whatever `more` is. A place is
        judged by the characters beside it alone, text[p - 1] and text[p] (or by text[p - 1] alone at the end), so it
        does not matter where the text before it was cut. `final`: nothing follows, so p is len(text). `low`: places up
        to there are known to be none.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the files that define the tokenizer into `folder`."""
        ...


def unknown_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that characters outside the vocabulary become, each of which stands for any of them; none where such
    characters are spelled in bytes."""
    ids = tokenizer.encode(_UNHEARD_OF)
    return frozenset(each for each in ids if tokenizer.token_bytes(each) == "\ufffd".encode())


def control_tokens(ids: Mapping[str, int], added: Sequence[AddedToken] = ()) -> dict[str, ControlToken]:
    """The control tokens `ids`, with what `added` says of white space around them."""
    strips = {token.id: token for token in added}
    tokens = {}
    for name, index in ids.items():
        token = strips.get(index)
        tokens[name] = ControlToken(index) if token is None else ControlToken(index, token.lstrip, token.rstrip)
    return tokens


def fingerprint_of(*contents: bytes) -> str:
    """The sha256 of the contents one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def copy_files(files: Sequence[Path], folder: Path) -> None:
    """Copy `files` into `folder`, leaving those that are already there alone."""
    for file in files:
        target = folder / file.name
        if not (target.exists() and target.samefile(file)):
            shutil.copyfile(file, target)


def without_surrogates(text: str) -> str:
    """`text` with each lone surrogate, which no encoding can hold, replaced by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


_SURROGATE = re.compile("[\ud800-\udfff]")
_UNHEARD_OF = "\U0010fffd"  # for private use, the last of all
