"""Corpora as tokens on disk: each is tokenized once, into one memory-mapped file, and never held in memory.

A packed corpus is a folder: `tokens.bin` (uint16 or int32), `offsets.npy` (document boundaries), `num_bytes.npy`
(UTF-8 bytes of each document, for bits per byte) and `meta.json`. It is written beside its final name and renamed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from famcli.errors import RecipeError
from famcli.tokens.tokenizer import Tokenizer, without_surrogates
from famcli.training.recipe import CorpusRecipe

_FORMAT = 1
_PROGRESS_CHARACTERS = 2_000_000


@dataclass(frozen=True)
class Record:
    """One document of a corpus file. `fields` holds the other strings of its record (`split`, `title`, ...)."""

    id: str
    text: str
    fields: dict[str, str]


@dataclass(frozen=True)
class PackProgress:
    """How far the tokenizing of one corpus is, in characters of the documents chosen."""

    corpus: str
    done: int
    total: int


@dataclass(frozen=True)
class TokenDocument:
    """One packed document: `tokens` is a view of the file, without BOS or EOS."""

    id: str
    tokens: NDArray[Any]
    num_bytes: int


@dataclass(frozen=True)
class PackedCorpus:
    """Tokens of one corpus by memory map. `ids` are the documents' names, in the order of the file."""

    name: str
    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    def document(self, index: int) -> TokenDocument:
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        return TokenDocument(self.ids[index], self.tokens[start:end], int(self.num_bytes[index]))

    @property
    def num_tokens(self) -> int:
        return int(self.offsets[-1])


def read_records(path: Path) -> Iterator[Record]:
    """Documents of a .jsonl or .jsonl.zst file, or of a folder of .txt files (id: the path inside it), in order.

    Raises RecipeError for what is missing, or is not such a file.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.txt"))
        if not files:
            raise RecipeError(f"{path}: no .txt files in this folder; give a folder of texts or a .jsonl file")
        for file in files:
            yield Record(file.relative_to(path).as_posix(), file.read_text(encoding="utf-8", errors="replace"), {})
        return
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            record_id, text = fields.pop("id"), fields.pop("text")
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
            raise RecipeError(f"{path}: line {number} is not an object with `id` and `text`; correct it") from error
        strings = {key: value for key, value in fields.items() if isinstance(value, str)}
        yield Record(str(record_id), without_surrogates(str(text)), strings)


def _lines(path: Path) -> Iterator[str]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise RecipeError(
            f"{path}: cannot be read ({error.strerror}); check data.folder and the corpus path"
        ) from error
    with file:
        if path.suffix != ".zst":
            yield from _decoded(file)
            return
        try:
            import zstandard
        except ImportError as error:
            raise RecipeError(f"{path}: needs the package zstandard; pip install 'famcli[train]'") from error
        try:
            with zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file) as reader:
                yield from _decoded(reader)
        except zstandard.ZstdError as error:
            raise RecipeError(f"{path}: damaged zstd file ({error}); fetch it again") from error


def _decoded(file: BinaryIO) -> Iterator[str]:
    with io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="\n") as lines:
        yield from lines


def pack(
    corpus: CorpusRecipe,
    tokenizer: Tokenizer,
    cache: Path,
    seed: int,
    *,
    validation: bool = False,
    on_progress: Callable[[PackProgress], None] = lambda progress: None,
) -> PackedCorpus:
    """The corpus as tokens, from the cache if it is there: what training reads, or what `validation` keeps from it.

    The cache is keyed by the tokenizer, the file (size and time) and the recipe's rules. Raises RecipeError if the
    rules leave no document.
    """
    folder = cache / f"{corpus.name}-{'validation' if validation else 'train'}-{_cache_key(corpus, tokenizer, seed)}"
    if not (folder / "meta.json").is_file():
        chosen = choose_documents(corpus, seed, validation)
        if not chosen:
            raise RecipeError(f"{corpus.path}: the rules of corpus {corpus.name!r} leave no document; relax them")
        _write_packed(folder, corpus, tokenizer, chosen, on_progress)
    return open_packed(folder, corpus.name)


def open_packed(folder: Path, name: str) -> PackedCorpus:
    """A packed corpus by memory map."""
    meta = json.loads((folder / "meta.json").read_text())
    tokens = np.memmap(folder / "tokens.bin", dtype=meta["dtype"], mode="r", shape=(meta["num_tokens"],))
    return PackedCorpus(name, tokens, np.load(folder / "offsets.npy"), np.load(folder / "num_bytes.npy"), meta["ids"])


def choose_documents(corpus: CorpusRecipe, seed: int, validation: bool) -> dict[str, int]:
    """{id: characters} of the documents to train on, or of those held out for validation.

    Whole documents; `max_characters` takes them in an order drawn by hashing, not from the head of the file.
    """
    lengths = {
        record.id: len(record.text)
        for record in read_records(corpus.path)
        if record.text
        and record.id not in corpus.exclude_ids
        and all(record.fields.get(key) == value for key, value in (corpus.where or {}).items())
    }
    held = {name for name in lengths if _sha256(name)[0] < corpus.validation_hash_below}
    rest = sorted((name for name in lengths if name not in held), key=_sha256)
    held.update(rest[: corpus.validation_documents])
    if validation:
        return {name: length for name, length in lengths.items() if name in held}
    candidates = sorted((name for name in lengths if name not in held), key=lambda name: _sha256(f"{seed}:{name}"))
    chosen: dict[str, int] = {}
    left = corpus.max_characters if corpus.max_characters is not None else sum(lengths.values())
    for name in candidates:
        if left <= 0:
            break
        chosen[name] = lengths[name]
        left -= lengths[name]
    return chosen


def token_num_bytes(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """UTF-8 bytes that each token stands for, [v]; 0 for control tokens."""
    return np.array([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)], dtype=np.int64)


def _write_packed(
    folder: Path,
    corpus: CorpusRecipe,
    tokenizer: Tokenizer,
    chosen: dict[str, int],
    on_progress: Callable[[PackProgress], None],
) -> None:
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<i4")
    offsets, num_bytes, ids = [0], [], []
    done, reported, total = 0, 0, sum(chosen.values())
    with (temporary / "tokens.bin").open("wb") as file:
        for record in read_records(corpus.path):
            if record.id not in chosen:
                continue
            tokens = np.asarray(tokenizer.encode(tokenizer.opening(record.text) + record.text), dtype=dtype)
            file.write(tokens.tobytes())
            offsets.append(offsets[-1] + len(tokens))
            num_bytes.append(len(record.text.encode("utf-8")))
            ids.append(record.id)
            done += len(record.text)
            if done - reported >= _PROGRESS_CHARACTERS or done == total:
                on_progress(PackProgress(corpus.name, done, total))
                reported = done
        file.flush()
        os.fsync(file.fileno())
    np.save(temporary / "offsets.npy", np.array(offsets, dtype=np.int64))
    np.save(temporary / "num_bytes.npy", np.array(num_bytes, dtype=np.int64))
    meta = {"format": _FORMAT, "dtype": dtype.str, "num_tokens": offsets[-1], "ids": ids}
    (temporary / "meta.json").write_text(json.dumps(meta))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _cache_key(corpus: CorpusRecipe, tokenizer: Tokenizer, seed: int) -> str:
    try:
        files = sorted(corpus.path.rglob("*.txt")) if corpus.path.is_dir() else [corpus.path]
        stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise RecipeError(f"{corpus.path}: cannot be read ({error.strerror}); check data.folder") from error
    rules = (corpus.where, corpus.exclude_ids, corpus.validation_hash_below, corpus.validation_documents)
    key = [_FORMAT, tokenizer.fingerprint, stamps, rules, corpus.max_characters, seed]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def _sha256(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8")).digest()
