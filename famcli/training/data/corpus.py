"""Corpora as tokens on disk: each is tokenized once, into one memory-mapped file, and never held in memory.

A packed corpus is a folder: `tokens.bin` (uint16 or int32), `offsets.npy` (document boundaries), `num_bytes.npy`
(UTF-8 bytes of each document, for bits per byte) and `meta.json`. It is written beside its final name and renamed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from famcli.documents.opening import open_source
from famcli.documents.records import Record, holds_records, read_records
from famcli.documents.writing import atomic_folder
from famcli.errors import RecipeError
from famcli.tokens.tokenizer import Tokenizer, without_surrogates
from famcli.training.recipe.recipe import CorpusRecipe

_FORMAT = 2
_PROGRESS_CHARACTERS = 2_000_000


@dataclass(frozen=True)
class PackProgress:
    """How far the tokenizing of one corpus is, in characters of the documents chosen."""

    corpus: str
    done: int
    total: int


@dataclass(frozen=True)
class EncodingGuessed:
    """Files of a corpus that are no UTF-8: how many, and as what they are read, which is a guess."""

    corpus: str
    num_files: int
    encodings: tuple[str, ...]


OnProgress = Callable[[PackProgress | EncodingGuessed], None]
OnGuess = Callable[[Path, str], None]


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


def read_documents(path: Path, on_guess: OnGuess = lambda path, encoding: None) -> Iterator[Record]:
    """Documents of a .jsonl or .jsonl.zst file, of a folder of .txt files (id: the path inside it), or one text file.

    Of texts whose encoding is a guess, `on_guess` is told it. Raises DocumentError or RecipeError for what is missing,
    or is no text.
    """
    if holds_records(path):
        for record in read_records(path):
            yield replace(record, text=without_surrogates(record.text))
        return
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise RecipeError(f"{path}: no .txt files in this folder; give a folder of texts or a .jsonl file")
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        with open_source(file) as document:
            text = "".join(piece.text for piece in document.pieces())
            if document.is_guessed:
                on_guess(file, document.encoding)
        yield Record(name, text, {})


def pack(
    corpus: CorpusRecipe,
    tokenizer: Tokenizer,
    cache: Path,
    seed: int,
    *,
    validation: bool = False,
    on_progress: OnProgress = lambda progress: None,
) -> PackedCorpus:
    """The corpus as tokens, from the cache if it is there: what training reads, or what `validation` keeps from it.

    The cache is keyed by the tokenizer and the recipe's rules, and renewed when the file changes. Where there is no
    file, what the cache holds is used as it is. Raises RecipeError if there is no text, or the rules leave none.
    """
    rules = (corpus.where, corpus.exclude_ids, corpus.validation_hash_below, corpus.validation_documents)
    key = cache_key(tokenizer.fingerprint, rules, corpus.max_characters, seed)
    folder = cache / f"{corpus.name}-{'validation' if validation else 'train'}-{key}"
    if not is_current(folder, corpus.path):
        guessed: dict[Path, str] = {}
        chosen = choose_documents(corpus, seed, validation, guessed.__setitem__)
        if not chosen:
            if not any(record.text for record in read_documents(corpus.path)):
                raise RecipeError(f"{corpus.path}: there is no text in it; give another")
            raise RecipeError(f"{corpus.path}: the rules of corpus {corpus.name!r} leave no document; relax them")
        if guessed:
            on_progress(EncodingGuessed(corpus.name, len(guessed), tuple(sorted(set(guessed.values())))))
        texts = ((item.id, item.text) for item in read_documents(corpus.path) if item.id in chosen)

        def report(done: int) -> None:
            on_progress(PackProgress(corpus.name, done, sum(chosen.values())))

        write_packed(folder, corpus.path, tokenizer, texts, report)
    return open_packed(folder, corpus.name)


def open_packed(folder: Path, name: str) -> PackedCorpus:
    """A packed corpus by memory map."""
    meta = json.loads((folder / "meta.json").read_text())
    tokens = np.memmap(folder / "tokens.bin", dtype=meta["dtype"], mode="r", shape=(meta["num_tokens"],))
    return PackedCorpus(name, tokens, np.load(folder / "offsets.npy"), np.load(folder / "num_bytes.npy"), meta["ids"])


def choose_documents(
    corpus: CorpusRecipe, seed: int, validation: bool, on_guess: OnGuess = lambda path, encoding: None
) -> dict[str, int]:
    """{id: characters} of the documents to train on, or of those held out for validation.

    Whole documents; `max_characters` takes them in an order drawn by hashing, not from the head of the file.
    """
    lengths = {
        record.id: len(record.text)
        for record in read_documents(corpus.path, on_guess)
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


def write_packed(
    folder: Path,
    source: Path,
    tokenizer: Tokenizer,
    texts: Iterable[tuple[str, str]],
    on_progress: Callable[[int], None] = lambda characters: None,
    **files: str,
) -> None:
    """Tokenize `texts`, (id, text) each, into `folder`: all of it or nothing. Progress is told in characters.

    source: the file they come from, whose time and size are kept with them. files: more files by name, as they are.
    """
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<i4")
    stamps = _stamps(source)
    offsets, num_bytes, ids = [0], [], []
    done, reported = 0, 0
    with atomic_folder(folder) as made:
        with (made / "tokens.bin").open("wb") as file:
            for name, text in texts:
                tokens = np.asarray(tokenizer.encode(tokenizer.opening(text) + text), dtype=dtype)
                file.write(tokens.tobytes())
                offsets.append(offsets[-1] + len(tokens))
                num_bytes.append(len(text.encode("utf-8")))
                ids.append(name)
                done += len(text)
                if done - reported >= _PROGRESS_CHARACTERS:
                    on_progress(done)
                    reported = done
            on_progress(done)
        np.save(made / "offsets.npy", np.array(offsets, dtype=np.int64))
        np.save(made / "num_bytes.npy", np.array(num_bytes, dtype=np.int64))
        for name, content in files.items():
            (made / name).write_text(content, encoding="utf-8")
        meta = {"format": _FORMAT, "dtype": dtype.str, "num_tokens": offsets[-1], "ids": ids, "source": stamps}
        (made / "meta.json").write_text(json.dumps(meta))


def is_current(folder: Path, source: Path) -> bool:
    """Whether `folder` was packed, from what `source` is now; if there is no such file any more, that it was packed."""
    if not (folder / "meta.json").is_file():
        return False
    stamps = json.loads((folder / "meta.json").read_text())["source"]
    return not source.exists() or stamps == _stamps(source)


def cache_key(*parts: Any) -> str:
    """A short name for what `parts` (plain values) say."""
    return hashlib.sha256(json.dumps([_FORMAT, *parts]).encode()).hexdigest()[:16]


def _stamps(source: Path) -> list[list[Any]]:
    """Name, size and time of the source's files."""
    try:
        files = sorted(source.rglob("*.txt")) if source.is_dir() else [source]
        return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    except OSError as error:
        raise RecipeError(f"{source}: cannot be read ({error.strerror}); check data.folder") from error


def _sha256(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8")).digest()
