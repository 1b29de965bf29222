"""Sentences that turn around what they were written from."""

from __future__ import annotations

import pytest

from benchmarks.turned_sentences import turned
from famcli.tasks.grounding import Sources, sentences_of
from famcli.tasks.turned import Said, turned_around

LEASE = (
    "The tenant may not sublet the flat unless the owner agrees in writing. "
    "Forks are never disabled with their parent. Only members may vote on the budget. "
    "The deposit is returned within two weeks. "
    "The price of the meals is not included in the rent."
)
SOURCES = [Said.of(sentence) for sentence in sentences_of(LEASE)]


@pytest.mark.parametrize(
    "sentence",
    [
        "The tenant may sublet the flat if the owner agrees in writing.",
        "Forks are disabled with their parent.",
        "The deposit is not returned within two weeks.",
        "The deposit isn\u2019t returned within two weeks.",
        "Members may vote on the budget.",
        "The rent included the price of the meals.",
        "The price of the meals is included in the rent.",
        "The caretaker is not required to respond to any of the calls.",
    ],
)
def test_a_sentence_that_is_turned_around_is_flagged(sentence: str) -> None:
    assert turned_around(sentence, SOURCES)
    assert Sources([LEASE]).missing(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Unless the owner agrees, the tenant may not sublet the flat.",
        "Tenants are forbidden to sublet the flat, except with the owner's agreement in writing.",
        "Forks aren't disabled with their parent.",
        "Voting on the budget is limited to members.",
        "The deposit is returned within two weeks.",
        "Meals aren't included in the price of the rent.",
        "Whales sing.",
        "voting of members on the budget",
        "The flat",
        "",
    ],
)
def test_the_same_in_other_words_is_not(sentence: str) -> None:
    assert not turned_around(sentence, SOURCES)


def test_a_sentence_that_another_one_bears_out_is_not() -> None:
    both = [*SOURCES, Said.of("The tenant may sublet the flat while the owner agrees.")]
    assert not turned_around("The tenant may sublet the flat.", both)


def test_the_benchmark_turns_sentences_around() -> None:
    assert list(turned("Members cannot vote twice.")) == [("not, taken out", "Members can vote twice.")]
    assert list(turned("It is free unless it rains, and fun.")) == [
        ("not, put in", "It is not free unless it rains, and fun."),
        ("unless or except, taken out", "It is free, and fun."),
    ]
