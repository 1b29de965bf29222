"""Numbers that are spelled out, and those in digits, are the same."""

from __future__ import annotations

import pytest

from famcli.tasks.ask.expecting import all_numbers_in, numbers_in
from famcli.text.numbers import in_words, numbers_in_words
from famcli.text.words import names_in, similarity, terms, variants, word_set


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("two or three men", [2, 3]),
        ("Twenty-one rooms, and thirty five doors", [21, 35]),
        ("three hundred and sixty-five days", [365]),
        ("a hundred men and two\nthousand and five horses", [100, 2005]),
        ("nineteen eighty-four", [19, 84]),
        ("forty-two million", [42_000_000]),
        ("one of the men, no one else, a man", []),
        ("the network weighed a ton, often", []),
    ],
)
def test_numbers_in_words_are_found(text: str, found: list[int]) -> None:
    assert list(numbers_in_words(text)) == found


def test_a_number_in_words_is_the_word_that_it_is_in_digits() -> None:
    assert terms("Two men and twenty-one dogs") == terms("2 men and 21 dogs")
    assert similarity(word_set("within twenty one days"), word_set("within 21 days")) == pytest.approx(1)
    assert terms("no one") == ["no", "one"]
    assert terms("300") in variants("300")
    assert terms("three hundred") in variants("300")
    # The halves of a number are no names.
    assert names_in("Who sings for Twenty-One Pilots?") == ["Pilots"]


@pytest.mark.parametrize("number", [0, 7, 13, 20, 21, 99, 100, 101, 365, 999, 1000, 21_000])
def test_words_and_back(number: int) -> None:
    words = in_words(number)
    assert words is not None
    assert list(numbers_in_words(words)) == [number]


def test_a_question_in_digits_is_met_by_words() -> None:
    assert numbers_in("within 21 days") <= all_numbers_in("within twenty-one days")
    assert not numbers_in("within 22 days") <= all_numbers_in("within twenty-one days")
