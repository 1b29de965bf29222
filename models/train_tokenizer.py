"""Train the tokenizer that fam-tiny's recipe names: one window of each document that the recipe may train on.

    python models/train_tokenizer.py models/fam-tiny/recipe.toml FOLDER

The windows are as long as makes the kinds of text weigh alike; two runs write the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from famcli.tokens.train import sample_windows, train_sentencepiece
from famcli.training.corpus import choose_documents, read_records
from famcli.training.recipe import CorpusRecipe, load_recipe

VOCAB_SIZE = 4096
WINDOW_CHARACTERS = {
    "books": 16000,
    "wikipedia": 1200,
    "openstax": 8000,
    "kids": 1000,
    "onestop": 2000,
    "blog": 2000,
    "speeches": 4000,
    "fairytales": 4000,
}


def texts(corpora: tuple[CorpusRecipe, ...]) -> Iterator[str]:
    """The windows of all corpora, in their order; whole files but for what a recipe holds out by rule."""
    for corpus in corpora:
        chosen = choose_documents(replace(corpus, max_characters=None, validation_documents=0), 0, validation=False)
        documents = (record.text for record in read_records(corpus.path) if record.id in chosen)
        yield from sample_windows(documents, WINDOW_CHARACTERS[corpus.name])


if __name__ == "__main__":
    recipe = load_recipe(sys.argv[1])
    print(train_sentencepiece(texts(recipe.corpora), VOCAB_SIZE, Path(sys.argv[2]), num_threads=2))
