"""`famcli eval algorithmic`: an answer is right if greedy decoding writes exactly it."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from famcli.errors import UsageError
from famcli.evaluation.positions import Subject
from famcli.evaluation.sequences import score_sequences
from famcli.nn import FamConfig
from famcli.synthetic.sequences import SEQUENCES, sequence
from famcli.tokens.tokenizer import ByteTokenizer
from tests.helpers import TINY_CONFIG, TINY_FAM, random_network

TOKENIZER = ByteTokenizer()


@pytest.mark.parametrize("fam", [TINY_FAM, FamConfig(16, 2, 0, architecture="feedback")])
@torch.no_grad()
def test_what_is_right_is_what_a_network_would_write(fam: FamConfig) -> None:
    """A random network guesses; each guess is made again, alone, token by token."""
    # Logits of digits alone are raised, so that some guesses of one digit are right.
    network = random_network(replace(TINY_CONFIG, tie_embeddings=False), fam)
    *_, cell = score_sequences(
        "algorithmic", 2, Subject("x", network, "on"), TOKENIZER, num_tokens=200, streams=5, batch=2
    )
    right = total = 0
    for number in range(5):
        ids, answers = sequence("algorithmic", TOKENIZER, 200, np.random.default_rng([0, 4, number]), 2)
        bos = [] if TOKENIZER.bos_id is None else [TOKENIZER.bos_id]
        text = torch.tensor([*bos, *ids.tolist()])[None]
        state, guessed = network.start(1), []
        for token in text.split(1, dim=1):
            hidden, state = network.read(token, state)
            guessed.append(int(network.logits(hidden)[0, -1].argmax()))
        for answer in range(answers.max() + 1):
            at = np.flatnonzero(answers == answer)
            total += 1
            right += all(guessed[place + len(bos) - 1] == ids[place] for place in at)
    assert (cell.right, cell.total) == (right, total)
    assert (cell.task, cell.length, cell.streams) == ("algorithmic 2", 200, 5)


def test_programs_of_evaluation_are_not_those_of_training() -> None:
    first = ["".join(a + b for a, b in islice(SEQUENCES["algorithmic"](np.random.default_rng(seed), 3), 40))
             for seed in ([0, 4, 0], [0, 0, 0, 2])]  # fmt: skip
    assert first[0] != first[1]


def test_what_cannot_be_is_refused() -> None:
    subject = Subject("x", random_network(TINY_CONFIG, TINY_FAM), "on")
    for task, size, length, words in (
        ("sort", 3, 100, "unknown task: sort; use one of algorithmic"),
        ("algorithmic", 11, 100, "at most 10 variables"),
        ("copy", 0, 100, "give 1 or more"),
        ("algorithmic", 3, 5, "hold no answer"),
    ):
        with pytest.raises(UsageError, match=words):
            next(score_sequences(task, size, subject, TOKENIZER, num_tokens=length, streams=1))
