"""Line numbers of byte offsets while the text flows by."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from famcli.documents import LineCounter, Piece
from famcli.documents.piece import utf8_widths

texts = st.lists(st.sampled_from(["a", "\n", "\r\n", "\r", "é", "😀", "\u2028"]), max_size=30).map("".join)


@given(text=texts, size=st.integers(1, 8), known=st.booleans(), line=st.sampled_from([1, 7]))
def test_lines_are_counted_by_newlines(text: str, size: int, known: bool, line: int) -> None:
    source = text.encode()
    counter, start = LineCounter(line), 0
    for place in range(0, len(text), size):
        part = text[place : place + size]
        end = start + len(part.encode())
        counter.feed(Piece(part, start, end, utf8_widths(part) if known else None))
        for offset in range(start, end):
            assert counter.line_at(offset) == line + source[:offset].count(b"\n")
        start = end


@given(text=texts)
def test_offsets_may_lag_behind(text: str) -> None:
    source = text.encode()
    counter = LineCounter()
    counter.feed(Piece(text, 0, len(source)))
    for offset in range(0, len(source), 3):
        assert counter.line_at(offset) == 1 + source[:offset].count(b"\n")


@given(text=st.text(max_size=20))
def test_character_offsets_follow_utf8(text: str) -> None:
    piece = Piece(text, 5, 5 + len(text.encode()))
    ends = [5 + len(text[:count].encode()) for count in range(len(text) + 1)]
    assert piece.char_offsets().tolist() == ends
    doubled = Piece(text, 0, 2 * len(text), np.full(len(text), 2, dtype=np.int64))
    assert doubled.char_offsets().tolist() == list(range(0, 2 * len(text) + 1, 2))
