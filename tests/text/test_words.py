from __future__ import annotations

import math
import unicodedata

import numpy as np
import pytest

from famcli.text.words import (
    bm25_share,
    content_terms,
    halves,
    names_in,
    num_words,
    plain_spelling,
    term_weights,
    terms,
)


def test_words_lose_case_and_endings() -> None:
    assert terms("painted paintings, PAINTING paints!") == ["paint"] * 4
    assert terms("city cities") == ["cit"] * 2
    assert terms("Gregory\u2019s Gregory's Gregory") == ["gregor"] * 3


def test_east_asian_words_are_pairs() -> None:
    assert terms("東京都") == ["東京", "京都"]


def test_a_title_is_no_name_and_ends_no_sentence() -> None:
    assert names_in("Who is Dr. Bull?") == ["Bull"]


def test_function_words_count_only_where_there_is_nothing_else() -> None:
    assert content_terms("Who is the king of France?") == terms("king France")
    assert content_terms("Who is it?") == ["who", "is", "it"]


def test_bm25_is_the_formula_as_a_share_of_its_limit() -> None:
    weights = term_weights(np.array([2, 1]), 3)
    assert weights[0] == pytest.approx(math.log(1 + (3 - 2 + 0.5) / 2.5))
    counts, lengths = np.array([[1, 2, 0], [0, 0, 3]]), np.array([3, 2, 4])
    share = bm25_share(counts, lengths, weights, 3.0)
    expected = weights[0] * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 2 / 3))
    assert share[1] == pytest.approx(expected / (2.2 * weights.sum()))
    many = bm25_share(np.array([[10**9], [10**9]]), np.array([3]), weights, 3.0)
    assert many[0] == pytest.approx(1.0)
    assert bm25_share(counts[:0], lengths, weights[:0], 3.0).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Jos\u00e9 Pe\u00f1arol", "Jose\u0301 Pen\u0303arol"),
        ("STRASSE", "Stra\u00dfe"),
        ("office 42", "o\ufb03ce \uff14\uff12"),
        ("Rotherham", "Rother\u00adham"),
        ("Rotherham", "Rother\u200bham"),
        ("Rotherham", "Rother-\nham"),
        ("Rotherham", "Rother-  \r\n  ham"),
        ("Rotherham", "Rother\u2010\rham"),
        ("Rotherham", "Rother\u00ad\nham"),
        ("Jean-Paul", "Jean-\nPaul"),
        ("O'Brien", "O\u2019Brien"),
        ("\u0645\u06cc\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd"),
        ("\uac00\ub098", unicodedata.normalize("NFD", "\uac00\ub098")),
    ],
)
def test_spellings_of_a_word_are_equal(one: str, other: str) -> None:
    assert terms(one) == terms(other)
    assert len(terms(one)) == len(terms(other)) > 0


def test_both_halves_of_a_divided_word_are_found_too() -> None:
    assert halves("a well-\nknown Rother-\nham") == terms("well known Rother ham")
    assert halves("well-known\n- item 1914-\n18 word -\nword") == []
    assert plain_spelling("1914-\n18, JEAN-\nPAUL, Jean-\nPaul") == "1914-\n18, JEANPAUL, Jean-Paul"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("\u0935\u093f\u0928\u092e\u094d\u0930\u0924\u093e \u0938\u0947", 2),
        ("\u0b85\u0bb0\u0b9a\u0ba9\u0bcd \u0b95\u0bc7\u0b9f\u0bcd\u0b9f\u0bbe\u0ba9\u0bcd", 2),
        ("\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd \u05e2\u05b2\u05dc\u05b5\u05d9\u05db\u05b6\u05dd", 2),
        (unicodedata.normalize("NFD", "Ti\u1ebfng Vi\u1ec7t"), 2),
        ("well-known Rother-\nham", 2),
        ("\u0e1b\u0e23\u0e30\u0e40\u0e17\u0e28\u0e44\u0e17\u0e22", 3),
        ("\u4eca\u5929\u5f88\u597d", 2),
    ],
)
def test_marks_are_parts_of_words(text: str, count: int) -> None:
    assert num_words(text) == count


def test_names_keep_their_marks() -> None:
    assert names_in("Where was Jose\u0301 Pen\u0303arol born?") == ["Jos\u00e9", "Pe\u00f1arol"]
