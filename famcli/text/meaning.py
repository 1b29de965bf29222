"""How alike texts are in meaning, by the mean of their word vectors: "teeth" is near "dental", which no word tells.

The vectors are WordLlama's (256 numbers for each of 32,000 word pieces, MIT licence), read from the files of its
package. Its code is not imported: it would look for a hub in the network, and a mean is one line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from famcli.text.words import plain_spelling

WIDTH = 256
Meanings = NDArray[np.float32]
"""Rows of texts [n, WIDTH]."""

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Shorter words in capitals are mostly acronyms, which have pieces of their own.
_CAPITALS = re.compile(r"\b[^\W\d_a-z]{5,}\b")
_WEIGHTS = Path("weights") / "l2_supercat_256.safetensors"
_PIECES = Path("tokenizers") / "l2_supercat_tokenizer_config.json"


def meanings(texts: Sequence[str]) -> Meanings | None:
    """A row of length 1 for each text, or of 0 for one without a word [n, WIDTH]; products of rows say how alike two
    texts are, -1 to 1. None where the package of vectors is not installed."""
    if (opened := _opened()) is None:
        return None
    tokenizer, vectors = opened
    rows = np.zeros((len(texts), WIDTH), np.float32)
    pieces = tokenizer.encode_batch_fast(list(map(_spelled, texts)), add_special_tokens=False)
    for row, found in zip(rows, pieces, strict=True):
        if found.ids:
            row[:] = vectors[found.ids].mean(0, dtype=np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return rows


def _spelled(text: str) -> str:
    """The text as the pieces know words: names in capitals as other names, and no bytes that are not text."""
    text = plain_spelling(text).encode("utf-8", "replace").decode("utf-8")
    return _CAPITALS.sub(lambda match: match[0].capitalize(), text)


@cache
def _opened() -> tuple[Tokenizer, NDArray[np.float16]] | None:
    found = find_spec("wordllama")
    if found is None or not found.submodule_search_locations or find_spec("tokenizers") is None:
        return None
    from tokenizers import Tokenizer

    folder = Path(found.submodule_search_locations[0])
    tokenizer = Tokenizer.from_file(str(folder / _PIECES))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, load_file(folder / _WEIGHTS)["embedding.weight"]
