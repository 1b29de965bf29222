from __future__ import annotations

import pytest

from famcli.text.words import content_terms, terms


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Failed password for root from 10.9.8.7 port 49116 ssh2", ["10.9.8.7"]),
        ("Served block blk_-1608999687919862906 to USER_42.", ["blk_-1608999687919862906", "user_42"]),
        ("Mail of anna@example.org, request req-38101a0b-2096.", ["anna@example.org", "req-38101a0b-2096"]),
        ("It is well-known that 3.5 of 1914 and/or so were e.g. the U.S. ones.", []),
    ],
)
def test_codes_are_terms_as_a_whole_too(text: str, codes: list[str]) -> None:
    assert terms(text)[len(terms(text)) - len(codes) :] == codes
    assert set(codes) <= set(content_terms(text))
    assert all(any(mark in term for mark in ".:@_-") == (term in codes) for term in terms(text))
