"""What a tokenizer.json from a stranger may cost: text that grows while it is normalised, patterns that never end.

The `tokenizers` library bounds neither, and where its patterns give up it panics, which in Python is no Exception.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from famcli.errors import TokenizerError

# Characters that one character may become. Of real normalisers NFKC has the most, 18, and others may come on top.
_MAX_GROWTH = 100.0
_MAX_PREPENDED = 1000
_PROBE_CHARACTERS = 2000
_PROBE_SECONDS = 1.0
_PROBES = ("a", "A", "1", " ", "\n", "\t", ".", "_", "-", "'", "\u00e9", "\u4e2d", "ab ", "a1", "a.", " \n")


def check_growth(normalizers: list[dict[str, Any]], name: str) -> None:
    """Raise TokenizerError if these normalisers, one after the other, could make a text many times longer."""
    growth = 1.0
    for part in normalizers:
        growth *= max(1.0, _growth(part))
    _refuse(growth, name)


def check_character_map(charsmap: bytes, name: str) -> None:
    """The same for the character map of a sentencepiece model."""
    _refuse(_longest_replacement(charsmap), name)


def _refuse(growth: float, name: str) -> None:
    if growth > _MAX_GROWTH:
        raise TokenizerError(f"{name}: its normalizer could make a text {growth:,.0f} times longer: do not use it")


def _growth(part: dict[str, Any]) -> float:
    """How many times longer a normaliser can make a text, in characters."""
    if part["type"] == "Replace":
        text, content = part["pattern"].get("String"), len(part["content"])
        # An expression may match nothing at all, before each character.
        return 1.0 + content if text is None else content / max(1, len(text))
    if part["type"] == "Prepend":
        return 1.0 if len(part["prepend"]) <= _MAX_PREPENDED else float(len(part["prepend"]))
    if part["type"] == "Precompiled":
        return float(_longest_replacement(base64.b64decode(part["precompiled_charsmap"])))
    return 1.0


def _longest_replacement(charsmap: bytes) -> int:
    """Bytes of the longest text that a character map of sentencepiece puts in the place of another.

    The map is the size of a trie, the trie, and the texts, each ended by a zero byte.
    """
    texts = charsmap[4 + int.from_bytes(charsmap[:4], "little") :]
    return max(map(len, texts.split(b"\0")))


def check_patterns(encode: Callable[[str], object], name: str) -> None:
    """Raise TokenizerError if a pattern takes for ever on a short text, as far as some usual ones show that."""
    with silent_stderr():
        for unit in _PROBES:
            text = (unit * _PROBE_CHARACTERS)[:_PROBE_CHARACTERS]
            began = time.monotonic()
            # In steps: what doubles with each character must not begin with thousands.
            for length in (25, 100, 400, _PROBE_CHARACTERS):
                with no_panic(name):
                    encode(text[:length] + "\u0001")
                if time.monotonic() - began > _PROBE_SECONDS:
                    raise TokenizerError(f"{name}: a pattern in it takes for ever on {unit!r} repeated: do not use it")


@contextmanager
def no_panic(name: str) -> Iterator[None]:
    """Turn a panic of the library into a TokenizerError."""
    try:
        yield
    except BaseException as error:
        # It is made while the library is loaded, under no name that could be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"{name}: the tokenizer failed on this text ({error}): do not use it") from None


@contextmanager
def silent_stderr() -> Iterator[None]:
    """What the library itself writes on standard error is lost: it tells a panic in hundreds of lines."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
