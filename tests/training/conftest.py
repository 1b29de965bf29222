"""A toy recipe over a folder of texts: byte tokens, one or two narrow layers, seconds to train."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from famcli.tokens.tokenizer import ByteTokenizer
from famcli.training.recipe.recipe import Recipe, load_recipe

TOY = """
name = "toy"
[network]
hidden_size = 16
num_layers = 2
num_heads = 2
num_key_value_heads = 1
head_dim = 8
intermediate_size = 24
block_size = 8
memory_segments = 1
fam_length = 2
[tokenizer]
path = "tokenizer"
[data]
folder = "."
seed = 3
[[corpora]]
name = "tales"
path = "tales.jsonl"
weight = 3
validation_documents = 2
[[corpora]]
name = "notes"
path = "notes"
weight = 1
[schedule]
lanes = 3
blocks_per_step = 2
steps = 6
warmup_steps = 1
[hardware]
dtype = "float32"
threads = 1
[checks]
every_steps = 0
documents = 2
tokens = 40
"""


@pytest.fixture(autouse=True)
def _keep_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The path of the recipe, with its corpora and tokenizer beside it."""
    return make_toy(tmp_path)


def make_toy(tmp_path: Path) -> Path:
    """Write the recipe, its corpora and its tokenizer into a folder; returns the recipe's path."""
    (tmp_path / "tokenizer").mkdir()
    ByteTokenizer().save(tmp_path / "tokenizer")
    (tmp_path / "notes").mkdir()
    for number in range(3):
        (tmp_path / "notes" / f"{number}.txt").write_text(f"note {number}: " + "buy milk, " * (number + 2))
    with (tmp_path / "tales.jsonl").open("w") as file:
        for number in range(8):
            text = f"Tale {number}. " + " ".join(f"{word} {number}" for word in ("once", "there", "was") * (number + 2))
            split = "train" if number % 2 else "val"
            file.write(json.dumps({"id": f"tale-{number}", "text": text, "split": split}) + "\n")
    path = tmp_path / "toy.toml"
    path.write_text(TOY)
    return path


@pytest.fixture
def recipe(toy: Path) -> Callable[..., Recipe]:
    """Makes the toy recipe with some keys changed."""
    return lambda *changes: load_recipe(toy, changes)
