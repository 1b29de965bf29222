from __future__ import annotations

import math

import pytest

from famcli.tasks.lexical import TermIndex, content_terms, terms


def test_words_lose_case_and_endings() -> None:
    assert terms("painted paintings, PAINTING paints!") == ["paint"] * 4
    assert terms("city cities") == ["cit"] * 2
    assert terms("Gregory\u2019s Gregory's Gregory") == ["gregor"] * 3


def test_east_asian_words_are_pairs() -> None:
    assert terms("東京都") == ["東京", "京都"]


def test_function_words_count_only_where_there_is_nothing_else() -> None:
    assert content_terms("Who is the king of France?") == terms("king France")
    assert content_terms("Who is it?") == ["who", "is", "it"]


def test_bm25_is_the_formula() -> None:
    index = TermIndex("king France")
    blocks = [["king", "x", "y"], ["king", "king"], ["z"] * 4]
    for block in blocks:
        index.add(index.count(block), len(block))
    weight = math.log(1 + (3 - 2 + 0.5) / 2.5)
    assert index.weight("king") == pytest.approx(weight)
    mean, n = 3.0, 2
    expected = weight * n * 2.2 / (n + 1.2 * (0.25 + 0.75 * 2 / mean))
    assert index.bm25(index.count(blocks[1]), 2) == pytest.approx(expected)
    assert index.bm25(index.count(blocks[2]), 4) == 0


def test_coverage_weighs_rare_words_more() -> None:
    index = TermIndex("king France")
    for block in [["king"], ["king"], ["king", "franc"], ["king"]]:
        index.add(index.count(block), len(block))
    assert index.coverage("A king of France.") == pytest.approx(1.0)
    assert 0 < index.coverage("A king.") < 0.2 < 0.8 < index.coverage("In France.")
    assert index.coverage("Nothing.") == 0.0
