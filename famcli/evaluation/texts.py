"""Texts to be scored or to hide things in, as tokens in a temporary file: what is held does not grow with them."""

from __future__ import annotations

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
from famcli.synthetic.filler import Filler
from famcli.tokens.stream import StreamEncoder
from famcli.tokens.tokenizer import Ids, Tokenizer

POOL_TOKENS = 8_000_000
"""Tokens of filler that streams are drawn from at most: some forty novels. The same for every run, so that a stream
depends on its seed and the files alone."""

_CHARACTERS = 1 << 16  # encoded in one call
EXAMPLE = "the-man-who-was-thursday.txt"


@dataclass(frozen=True)
class TokenText:
    """One document: `tokens` is a view of the file, without BOS or EOS."""

    id: str
    tokens: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Texts:
    """Documents as tokens, one after the other. ids: their names. offsets [documents + 1]: where each begins."""

    ids: tuple[str, ...]
    tokens: NDArray[Any]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_tokens(self) -> int:
        return int(self.offsets[-1])

    def documents(self) -> list[TokenText]:
        """Each document, in their order."""
        bounds = zip(self.ids, self.offsets[:-1], self.offsets[1:], strict=True)
        return [TokenText(name, self.tokens[start:end]) for name, start, end in bounds]

    def filler(self, rng: np.random.Generator) -> Filler:
        """An endless stream of these documents."""
        return Filler(self.tokens, self.offsets, rng)


def read_texts(
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    *,
    max_tokens: int | None = None,
    max_document_tokens: int | None = None,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> Texts:
    """Tokenize text files, and .jsonl(.zst) files of documents (lines with `id` and `text`), in order.

    Stops, within a document, once there are `max_tokens`; takes at most `max_document_tokens` of each. `on_tokens` is
    told of tokens as they are made. Raises DocumentError for what cannot be read, and where there is no text at all.
    """
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<i4")
    ids, offsets, total = list[str](), [0], 0
    with tempfile.TemporaryFile() as file:
        for name, runs in _documents(paths, tokenizer):
            limits = [limit for limit in (max_tokens, _plus(max_document_tokens, total)) if limit is not None]
            for run in runs:
                kept = run[: min(limits) - total] if limits else run
                file.write(kept.astype(dtype).tobytes())
                total += len(kept)
                on_tokens(len(kept))
                if limits and total == min(limits):
                    break
            if total > offsets[-1]:
                ids.append(name)
                offsets.append(total)
            if total == max_tokens:
                break
        if not total:
            raise DocumentError(f"{', '.join(map(str, paths))}: there is no text in it")
        file.flush()
        tokens = np.memmap(file, dtype=dtype, mode="r", shape=(total,))
    return Texts(tuple(ids), tokens, np.array(offsets, dtype=np.int64))


def example_book() -> Path | None:
    """The novel that comes with famcli: inside the wheel, or in `examples/` of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "examples" / EXAMPLE, package.parent / "examples" / EXAMPLE)
    return next((path for path in places if path.is_file()), None)


def _documents(paths: Sequence[Path], tokenizer: Tokenizer) -> Iterator[tuple[str, Iterator[Ids]]]:
    for path in paths:
        if holds_records(path):
            for record in read_records(path):
                yield record.id, _parts(tokenizer.opening(record.text) + record.text, tokenizer)
        else:
            yield path.name, _file(path, tokenizer)


def _plus(limit: int | None, offset: int) -> int | None:
    return None if limit is None else limit + offset


def _parts(text: str, tokenizer: Tokenizer) -> Iterator[Ids]:
    """The tokens of a text, some at a time, cut where the tokenizer joins nothing."""
    place = 0
    while place < len(text):
        window = text[place : place + _CHARACTERS]
        end = len(window) if len(window) < _CHARACTERS else tokenizer.safe_cut(window) or len(window)
        yield np.array(tokenizer.encode(window[:end]), dtype=np.int32)
        place += end


def _file(path: Path, tokenizer: Tokenizer) -> Iterator[Ids]:
    encoder = StreamEncoder(tokenizer)
    with open_source(path) as document:
        for piece in document.pieces():
            yield encoder.feed(piece).ids
    yield encoder.flush().ids
