"""Corpora as tokens on disk: each one is tokenized once into a memory-mapped file, and never held in memory.

A packed corpus is a folder: `tokens.bin` (uint16 or int32), `offsets.npy` (document boundaries) and `meta.json`. It is
written under a temporary name and renamed. The recipe's tokenizer is trained here if there is none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from famcli.documents.opening import open_source
from famcli.documents.records import Record, holds_records, read_records
from famcli.documents.writing import atomic_folder
from famcli.errors import RecipeError
from famcli.evaluation.texts import TokenCorpus, token_dtype
from famcli.plain import user_path
from famcli.tokens import holds_tokenizer, open_tokenizer
from famcli.tokens.sentencepiece import sample_windows, train_sentencepiece
from famcli.tokens.tokenizer import Tokenizer, without_surrogates
from famcli.training.recipe.recipe import Recipe
from famcli.training.recipe.sections import CorpusRecipe

# Raised when the files of a packed corpus change their meaning; it is part of every cache key.
_FORMAT = 2
_PROGRESS_CHARACTERS = 2_000_000
_WAIT_SECONDS = 3600.0


@dataclass(frozen=True)
class PackProgress:
    """Progress of tokenizing one corpus, in characters of the chosen documents."""

    corpus: str
    done: int
    total: int


@dataclass(frozen=True)
class EncodingGuessed:
    """Files of a corpus that are not UTF-8: how many, and the encodings that were guessed for them."""

    corpus: str
    num_files: int
    encodings: tuple[str, ...]


PackEvent = PackProgress | EncodingGuessed
OnProgress = Callable[[PackEvent], None]
OnGuess = Callable[[Path, str], None]


def ignore_progress(progress: object) -> None:
    """The callback for those who do not watch."""


def named(paths: Iterable[Path]) -> list[tuple[str, Path]]:
    """Corpora that were given by their paths alone, each with a name of its own."""
    found, stems = list[tuple[str, Path]](), Counter[str]()
    for path in (user_path(path).resolve() for path in paths):
        stem = path.name.split(".")[0] or "texts"
        stems[stem] += 1
        found.append((stem if stems[stem] == 1 else f"{stem}-{stems[stem]}", path))
    return found


def read_documents(path: Path, on_guess: OnGuess = lambda path, encoding: None) -> Iterator[Record]:
    """Documents of a .jsonl or .jsonl.zst file, of a folder of .txt files (id: the path inside it), or one text file.

    `on_guess` is called for each file whose encoding is guessed. Raises DocumentError or RecipeError for what is
    missing or is not text.
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
        with open_source(file, as_is=True) as document:
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
    on_progress: OnProgress = ignore_progress,
) -> TokenCorpus:
    """The corpus as tokens, from the cache if it is there: its training documents, or those for `validation`.

    The cache is keyed by the tokenizer and the recipe's rules, and renewed when the file changes. If the file is gone,
    the cache is used as it is. Raises RecipeError if there is no text, or if the rules leave no document.
    """
    rules = (corpus.where, corpus.exclude_ids, corpus.validation_hash_below, corpus.validation_documents)
    # The weight is not part of the key: changing it needs no new tokens.
    key = cache_key(tokenizer.fingerprint, rules, corpus.max_characters, seed)
    folder = cache / f"{corpus.name}-{'validation' if validation else 'train'}-{key}"
    if not is_current(folder, corpus.path):
        guessed: dict[Path, str] = {}
        chosen = choose_documents(corpus, seed, validation, guessed.__setitem__)
        if guessed:
            on_progress(EncodingGuessed(corpus.name, len(guessed), tuple(sorted(set(guessed.values())))))
        texts = ((item.id, item.text) for item in read_documents(corpus.path) if item.id in chosen)
        write_packed(folder, corpus.path, tokenizer, texts, corpus.name, sum(chosen.values()), on_progress)
    return open_packed(folder, corpus.name)


def open_packed(folder: Path, name: str) -> TokenCorpus:
    meta = json.loads((folder / "meta.json").read_text())
    tokens = np.memmap(folder / "tokens.bin", dtype=meta["dtype"], mode="r", shape=(meta["num_tokens"],))
    return TokenCorpus(tuple(meta["ids"]), tokens, np.load(folder / "offsets.npy"), name)


def choose_documents(
    corpus: CorpusRecipe, seed: int, validation: bool, on_guess: OnGuess = lambda path, encoding: None
) -> dict[str, int]:
    """{id: characters} of the documents to train on, or of those held out for validation.

    Documents are taken whole. `max_characters` takes them in an order drawn by hashing, not from the head of the file.
    Raises RecipeError if there is no text, or if the rules leave no document.
    """
    lengths = {
        record.id: len(record.text)
        for record in read_documents(corpus.path, on_guess)
        if record.text
        and record.id not in corpus.exclude_ids
        and all(record.fields.get(key) == value for key, value in (corpus.where or {}).items())
    }
    # By hash of the id alone: a document stays held out when the corpus grows or the seed changes.
    held = {name for name in lengths if _sha256(name)[0] < corpus.validation_hash_below}
    rest = sorted((name for name in lengths if name not in held), key=_sha256)
    held.update(rest[: corpus.validation_documents])
    if validation:
        names, limit = [name for name in lengths if name in held], None
    else:
        names, limit = [name for name in lengths if name not in held], corpus.max_characters
        names.sort(key=lambda name: _sha256(f"{seed}:{name}"))
    before = accumulate((lengths[name] for name in names), initial=0)
    chosen = {name: lengths[name] for name, total in zip(names, before, strict=False) if limit is None or total < limit}
    if not chosen and not lengths and not any(record.text for record in read_documents(corpus.path)):
        raise RecipeError(f"{corpus.path}: there is no text in it; give another")
    if not chosen:
        raise RecipeError(f"{corpus.path}: the rules of corpus {corpus.name!r} leave no document; relax them")
    return chosen


def write_packed(
    folder: Path,
    source: Path,
    tokenizer: Tokenizer,
    texts: Iterable[tuple[str, str]],
    name: str,
    num_characters: int,
    on_progress: OnProgress = ignore_progress,
    **files: str,
) -> None:
    """Tokenize `texts`, pairs of id and text, into `folder`: all of it or nothing.

    source: the file that the texts come from; its time and size are stored. name, num_characters: of the corpus, for
    the progress. files: contents of more files, by name.
    """
    # The stamps come first: a source that changes while it is read is packed again the next time.
    dtype, stamps = token_dtype(tokenizer), _stamps(source)
    offsets, ids, done, reported = [0], list[str](), 0, 0
    # Private: it holds the text. Another process may pack the same for long.
    with atomic_folder(folder, private=True, wait=_WAIT_SECONDS) as made:
        with (made / "tokens.bin").open("wb") as file:
            for key, text in texts:
                tokens = np.asarray(tokenizer.encode(tokenizer.opening(text) + text), dtype=dtype)
                file.write(tokens.tobytes())
                offsets.append(offsets[-1] + len(tokens))
                ids.append(key)
                done += len(text)
                if done - reported >= _PROGRESS_CHARACTERS:
                    on_progress(PackProgress(name, done, num_characters))
                    reported = done
            on_progress(PackProgress(name, done, num_characters))
        np.save(made / "offsets.npy", np.array(offsets, dtype=np.int64))
        for file_name, content in files.items():
            (made / file_name).write_text(content, encoding="utf-8")
        meta = {"format": _FORMAT, "dtype": dtype.str, "num_tokens": offsets[-1], "ids": ids, "source": stamps}
        (made / "meta.json").write_text(json.dumps(meta))


def is_current(folder: Path, source: Path) -> bool:
    """True if `folder` was packed from `source` as it is now, or was packed and there is no `source` any more."""
    if not (folder / "meta.json").is_file():
        return False
    stamps = json.loads((folder / "meta.json").read_text())["source"]
    return not source.exists() or stamps == _stamps(source)


def cache_key(*parts: Any) -> str:
    """A short hash of `parts` (plain values)."""
    return hashlib.sha256(json.dumps([_FORMAT, *parts]).encode()).hexdigest()[:16]


def own_tokenizer(recipe: Recipe) -> Tokenizer | None:
    """The tokenizer at `tokenizer.path`; None if there is none and one is to be trained."""
    path = recipe.tokenizer.path
    if path is not None and (recipe.tokenizer.vocab_size is None or holds_tokenizer(path)):
        return open_tokenizer(path)
    return None


def recipe_tokenizer(recipe: Recipe, cache: Path, on_progress: OnProgress = ignore_progress) -> Tokenizer:
    """The tokenizer at `tokenizer.path`; if there is none, one of `tokenizer.vocab_size` pieces, trained into `cache`.

    Raises TokenizerError if there is no tokenizer and no size, or if training fails.
    """
    own = own_tokenizer(recipe)
    if own is not None:
        return own
    vocab_size = recipe.tokenizer.vocab_size
    assert vocab_size is not None, "load_recipe requires one of the two"
    names = ("name", "where", "exclude_ids", "validation_hash_below", "validation_documents", "weight")
    rules = [[getattr(item, name) for name in names] for item in recipe.corpora]
    folder = cache / f"tokenizer-{cache_key(vocab_size, recipe.tokenizer.characters, recipe.data.seed, rules)}"
    if not holds_tokenizer(folder):
        with atomic_folder(folder) as made:
            train_sentencepiece(_sample(recipe, on_progress), vocab_size, made, num_threads=os.cpu_count() or 1)
    return open_tokenizer(folder)


def _sample(recipe: Recipe, on_progress: OnProgress) -> Iterator[str]:
    """Text of all corpora by their weights: a window of each training document, as long as the budget allows."""
    total, done = recipe.tokenizer.characters, 0
    weighted = [corpus for corpus in recipe.corpora if corpus.weight]
    weights = sum(corpus.weight for corpus in weighted)
    for corpus in weighted:
        chosen = choose_documents(corpus, recipe.data.seed, validation=False)
        texts = (record.text for record in read_documents(corpus.path) if record.id in chosen)
        for window in sample_windows(texts, max(1, round(total * corpus.weight / weights / len(chosen)))):
            yield window
            done += len(window)
        on_progress(PackProgress("tokenizer", done, total))


def _stamps(source: Path) -> list[list[Any]]:
    try:
        files = sorted(source.rglob("*.txt")) if source.is_dir() else [source]
        return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    except OSError as error:
        raise RecipeError(f"{source}: cannot be read ({error.strerror}); check data.folder") from error


def _sha256(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8")).digest()
