"""The answers of made sequences are what an interpreter that knows nothing of the generator computes."""

from __future__ import annotations

import re
from itertools import islice

import numpy as np
import pytest

from famcli.synthetic.sequences import SEQUENCES, sequence
from famcli.tokens.tokenizer import ByteTokenizer


def pairs_of(task: str, size: int, seed: int, count: int = 400) -> list[tuple[str, str]]:
    return list(islice(SEQUENCES[task](np.random.default_rng(seed), size), count))


@pytest.mark.parametrize("size", [1, 3, 5, 10])
def test_programs_print_what_they_compute(size: int) -> None:
    text = "".join(text + answer for text, answer in pairs_of("algorithmic", size, size))
    # Values follow without a space.
    text = re.sub(r"(print \w|=)", r"\1 ", text)
    values: dict[str, int] = {}
    kinds = set()
    for statement in text.split(";")[:-1]:
        words = statement.split()
        kinds.add(words[0] if words[0] in ("if", "print") else words[1])
        if words[0] == "if":
            left, right = values[words[1]], values[words[3]]
            words = words[5:] if (left > right if words[2] == ">" else left < right) else []
        if words[:1] == ["print"]:
            assert values[words[1]] == int(words[2])
        elif words and words[1] == "=":
            values[words[0]] = int(words[2])
        elif words:
            values[words[0]] += {"++": 1, "--": -1}[words[1]]
        assert all(1 <= value <= 10 for value in values.values())
    assert len(values) == size
    assert kinds == {"=", "++", "--", "print"} | ({"if"} if size > 1 else set())


def test_copies_reversals_and_walks() -> None:
    for task, direction in (("copy", 1), ("reverse", -1)):
        asked = [(text, answer) for text, answer in pairs_of(task, 6, 1) if answer]
        assert len({text for text, _ in asked}) > 100
        for text, answer in asked:
            assert text.split()[:-1] == answer.split()[::direction]
            assert len(answer.split()) == 6
    x = y = moves = 0
    for text, answer in pairs_of("random_walk", 7, 2):
        words = text.split()
        if words[0] == "from":
            (x, y), moves = map(int, words[1:3]), 0
        elif words[0] == "at":
            assert (answer, moves) == (f" {x} {y}", 7)
        elif words[0] != ";":
            moves += 1
            x += {"left": -1, "right": 1}.get(words[0], 0)
            y += {"down": -1, "up": 1}.get(words[0], 0)
            assert 0 <= x < 8
            assert 0 <= y < 8


@pytest.mark.parametrize("task", SEQUENCES)
def test_a_sequence_has_the_length_it_should_and_marks_its_answers(task: str) -> None:
    tokenizer = ByteTokenizer()
    for num_tokens in (1, 90, 91, 92, 93, 400):
        ids, answers = sequence(task, tokenizer, num_tokens, np.random.default_rng(3), 4)
        assert len(ids) == len(answers) == num_tokens
        again, _ = sequence(task, tokenizer, num_tokens + 50, np.random.default_rng(3), 4)
        assert (again[:num_tokens] == ids).all()
        expected = [answer for _, answer in pairs_of(task, 4, 3) if answer]
        for number in range(answers.max() + 1):
            assert tokenizer.decode(ids[answers == number].tolist()) == expected[number]
