"""Which passkeys a checkpoint misses: where they stand in their blocks, and what was written instead.

    python -m benchmarks.missed_passkeys [--model FOLDER] [--length 2048] [--streams 320] [--seed 7]

On the validation novels of fam-tiny's recipe, by which it may be chosen how to train on. If what is missed stands at
the ends of blocks it was never written whole; if it is what was read longest ago it was lost.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import FAM_TINY, ROOT, print_table
from famcli.checkpoint.open import Model, open_model
from famcli.evaluation.positions import Subject
from famcli.evaluation.recall import Trial, passkey_trials, run_trials
from famcli.evaluation.texts import TokenCorpus
from famcli.synthetic.episodes import statements_of
from famcli.synthetic.streams import layout
from famcli.tokens.tokenizer import Tokenizer, begin_ids
from famcli.training.data.corpus import pack
from famcli.training.recipe.recipe import load_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=FAM_TINY)
    for name, default in (("--length", 2048), ("--streams", 320), ("--seed", 7), ("--threads", None)):
        parser.add_argument(name, type=int, default=default)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    model = open_model(arguments.model, device="cpu", dtype="bfloat16")
    texts = validation_novels(model.tokenizer)
    trials = passkey_trials([arguments.length], streams=arguments.streams, seed=arguments.seed)
    right, divided, rows, missed_divided = 0, 0, [], 0
    for group in run_trials(Subject("m", model.network, "on"), model.tokenizer, texts, trials, batch=32):
        for answer in group:
            trial = trials[answer.trial]
            first, last = place_of_key(model, texts, trial, arguments.length)
            block_size = model.network.fam.block_size
            is_divided = first // block_size < last // block_size
            divided, right = divided + is_divided, right + answer.right
            if not answer.right:
                missed_divided += is_divided
                where = f"{first // block_size}, tokens {first % block_size} to {last % block_size}"
                rows.append([where, trial.questions[0].answer, answer.written])
    print_table(f"missed at {arguments.length:,} tokens", ["block", "key", "written"], rows)
    print(f"{right} of {len(trials)} right; {divided} stood in two blocks, of which {missed_divided} were missed")


def validation_novels(tokenizer: Tokenizer) -> TokenCorpus:
    """The novels that fam-tiny's recipe keeps from training."""
    recipe = load_recipe(FAM_TINY / "recipe.toml")
    books = next(corpus for corpus in recipe.corpora if corpus.name == "books")
    return pack(books, tokenizer, ROOT / "runs" / "tokens", recipe.data.seed, validation=True)


def place_of_key(model: Model, texts: TokenCorpus, trial: Trial, length: int) -> tuple[int, int]:
    """The first and the last token of the key's statement in the stream, which is made again."""
    tokenizer, rng = model.tokenizer, np.random.default_rng(trial.seed)
    begin = begin_ids(tokenizer)
    pieces = layout(trial.episode, tokenizer, texts.filler(rng), length - len(begin), rng, trial.depths)
    stream = np.concatenate([np.array(begin, dtype=np.int64), *pieces])
    statement = tokenizer.encode(" " + statements_of(trial.episode)[0])
    windows = np.lib.stride_tricks.sliding_window_view(stream, len(statement))
    first = int((windows == statement).all(1).nonzero()[0][0])
    return first, first + len(statement) - 1


if __name__ == "__main__":
    main()
