from __future__ import annotations

import math

import numpy as np
import pytest

from famcli.text.words import bm25_share, content_terms, term_weights, terms


def test_words_lose_case_and_endings() -> None:
    assert terms("painted paintings, PAINTING paints!") == ["paint"] * 4
    assert terms("city cities") == ["cit"] * 2
    assert terms("Gregory\u2019s Gregory's Gregory") == ["gregor"] * 3


def test_east_asian_words_are_pairs() -> None:
    assert terms("東京都") == ["東京", "京都"]


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
