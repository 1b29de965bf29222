"""Texts to be scored, or to hide statements in, as tokens in a temporary file: memory does not grow with them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from famcli.documents.opening import open_source
from famcli.documents.records import holds_records, read_records
from famcli.errors import DocumentError
from famcli.plain import shipped_folders
from famcli.synthetic.streams import Filler
from famcli.tokens.stream import StreamEncoder
from famcli.tokens.tokenizer import Ids, Tokenizer

POOL_TOKENS = 8_000_000
"""The most tokens of filler that streams are drawn from, about forty novels. It is a constant, so that a stream depends
on its seed and the files alone."""

EXAMPLE = "the-man-who-was-thursday.txt"
# Characters that are encoded in one call.
_CHARACTERS = 1 << 16


@dataclass(frozen=True, eq=False)
class TokenCorpus:
    """Documents as tokens, one after the other, usually a memory map.

    ids: the documents' names. offsets [documents + 1]: where each one begins, and where the last one ends.
    """

    ids: tuple[str, ...]
    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    name: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_tokens(self) -> int:
        return int(self.offsets[-1])

    def document(self, index: int) -> NDArray[Any]:
        """The tokens [n] of the document at `index`, without BOS or EOS, as a view of the corpus."""
        return self.tokens[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def documents(self) -> list[NDArray[Any]]:
        return [self.document(index) for index in range(len(self))]

    def filler(self, rng: np.random.Generator) -> Filler:
        """An endless stream of these documents."""
        return Filler(self.tokens, self.offsets, rng)


def token_dtype(tokenizer: Tokenizer) -> np.dtype[Any]:
    """The smallest integer type that holds every token of `tokenizer`, little-endian as in the files."""
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<i4")


def read_texts(
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    *,
    max_tokens: int | None = None,
    max_document_tokens: int | None = None,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> TokenCorpus:
    """Tokenize text files, and .jsonl(.zst) files of documents (lines with `id` and `text`), in order.

    Stops at `max_tokens`, even within a document, and takes at most `max_document_tokens` of each. `on_tokens` is
    called with the number of tokens as they are made. Raises DocumentError for a file that cannot be read, and if there
    is no text at all.
    """
    dtype, ids, offsets, total = token_dtype(tokenizer), list[str](), [0], 0
    with tempfile.TemporaryFile() as file:
        for name, runs in _documents(paths, tokenizer):
            end = min(max_tokens or math.inf, total + (max_document_tokens or math.inf))
            for run in runs:
                kept = run if end == math.inf else run[: int(end) - total]
                file.write(kept.astype(dtype).tobytes())
                total += len(kept)
                on_tokens(len(kept))
                if total == end:
                    break
            # Empty documents are left out, as nothing of them could be scored.
            if total > offsets[-1]:
                ids.append(name)
                offsets.append(total)
            if total == max_tokens:
                break
        if not total:
            raise DocumentError(f"{', '.join(map(str, paths))}: there is no text in it")
        file.flush()
        # The map keeps the file's contents alive after its name is gone.
        tokens = np.memmap(file, dtype=dtype, mode="r", shape=(total,))
    return TokenCorpus(tuple(ids), tokens, np.array(offsets, dtype=np.int64))


def example_book() -> Path | None:
    """The novel that comes with famcli: inside the wheel, or in `examples/` of a source checkout."""
    return next((path for folder in shipped_folders("examples") if (path := folder / EXAMPLE).is_file()), None)


def _documents(paths: Sequence[Path], tokenizer: Tokenizer) -> Iterator[tuple[str, Iterator[Ids]]]:
    for path in paths:
        if holds_records(path):
            for record in read_records(path):
                yield record.id, _encode_record(tokenizer.opening(record.text) + record.text, tokenizer)
        else:
            yield path.name, _encode_file(path, tokenizer)


def _encode_record(text: str, tokenizer: Tokenizer) -> Iterator[Ids]:
    """The tokens of a text, part by part, cut where the tokenizer cannot merge across."""
    place = 0
    while place < len(text):
        window = text[place : place + _CHARACTERS]
        # A text without any safe cut is cut anyway, rather than held whole.
        end = len(window) if len(window) < _CHARACTERS else tokenizer.safe_cut(window) or len(window)
        yield np.array(tokenizer.encode(window[:end]), dtype=np.int32)
        place += end


def _encode_file(path: Path, tokenizer: Tokenizer) -> Iterator[Ids]:
    encoder = StreamEncoder(tokenizer)
    with open_source(path, as_is=True) as document:
        for piece in document.pieces():
            yield encoder.feed(piece.text, piece.char_offsets()).ids
    yield encoder.flush().ids
