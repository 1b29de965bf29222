"""The tokenizer of a run: one that is there, or one that is trained on the recipe's own corpora."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from famcli.documents.writing import atomic_folder
from famcli.errors import RecipeError
from famcli.tokens import holds_tokenizer, open_tokenizer
from famcli.tokens.tokenizer import Tokenizer
from famcli.tokens.train_sentencepiece import sample_windows, train_sentencepiece
from famcli.training.data.corpus import OnProgress, PackProgress, cache_key, choose_documents, read_documents
from famcli.training.recipe.recipe import Recipe


def recipe_tokenizer(recipe: Recipe, cache: Path, on_progress: OnProgress = lambda progress: None) -> Tokenizer:
    """The tokenizer at `tokenizer.path`, else one of `tokenizer.vocab_size` pieces, trained once and kept in `cache`.

    Raises TokenizerError where there is neither, or training fails.
    """
    path, vocab_size = recipe.tokenizer.path, recipe.tokenizer.vocab_size
    if path is not None and (vocab_size is None or holds_tokenizer(path)):
        return open_tokenizer(path)
    assert vocab_size is not None, "load_recipe requires one of the two"
    rules = [
        (item.name, item.where, item.exclude_ids, item.validation_hash_below, item.validation_documents, item.weight)
        for item in recipe.corpora
    ]
    key = cache_key(vocab_size, recipe.tokenizer.characters, recipe.data.seed, rules)
    folder = cache / f"tokenizer-{key}"
    if not holds_tokenizer(folder):
        with atomic_folder(folder) as made:
            train_sentencepiece(_sample(recipe, on_progress), vocab_size, made, num_threads=os.cpu_count() or 1)
    return open_tokenizer(folder)


def _sample(recipe: Recipe, on_progress: OnProgress) -> Iterator[str]:
    """Text of all corpora by their weights: a window of each document that may be trained on, as long as fits."""
    total, done = recipe.tokenizer.characters, 0
    weights = sum(corpus.weight for corpus in recipe.corpora)
    for corpus in recipe.corpora:
        if not corpus.weight:
            continue
        chosen = choose_documents(corpus, recipe.data.seed, validation=False)
        if not chosen:
            raise RecipeError(f"{corpus.path}: the rules of corpus {corpus.name!r} leave no document; relax them")
        texts = (record.text for record in read_documents(corpus.path) if record.id in chosen)
        for window in sample_windows(texts, max(1, round(total * corpus.weight / weights / len(chosen)))):
            yield window
            done += len(window)
        on_progress(PackProgress("tokenizer", done, total))
