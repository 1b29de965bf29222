"""Pieces: characters and their offsets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from famcli.documents import Piece


@given(text=st.text(max_size=20))
def test_character_offsets_follow_utf8(text: str) -> None:
    piece = Piece(text, 5, 5 + len(text.encode()))
    ends = [5 + len(text[:count].encode()) for count in range(len(text) + 1)]
    assert piece.char_offsets().tolist() == ends
    doubled = Piece(text, 0, 2 * len(text), np.full(len(text), 2, dtype=np.int64))
    assert doubled.char_offsets().tolist() == list(range(0, 2 * len(text) + 1, 2))


@given(text=st.text(max_size=20), end=st.integers(0, 90), width=st.sampled_from([None, 1, 2, 3]))
def test_a_piece_is_cut_after_the_last_whole_character(text: str, end: int, width: int | None) -> None:
    raw = text.encode() if width is None else bytes(width * len(text))
    widths = None if width is None else np.full(len(text), width, dtype=np.int64)
    piece = Piece(text, 5, 5 + len(raw), widths, raw=raw)
    offsets = piece.char_offsets().tolist()
    count = sum(offset <= end for offset in offsets[1:])
    cut = piece.up_to(end)
    assert (cut.text, cut.start, cut.end) == (text[:count], 5, offsets[count])
    assert cut.raw == raw[: cut.end - 5]
    assert cut.char_offsets().tolist() == offsets[: count + 1]
