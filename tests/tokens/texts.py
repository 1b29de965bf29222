"""Texts that tokenizers trip over, for property tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from famcli.documents.source import Piece
from famcli.tokens import StreamEncoder, Tokenizer, TokenRun

NASTY = [
    *("\0", "\r", "\r\n", "\n", "\n\n", "\t", " ", "  ", "     ", "\u00a0", "\u3000", "\u2028", "\ufffd", "\ufeff"),
    *("\u2581", "\u2581\u2581the", " \u2581", "<s>", "</s>", "<unk>", "<0x41>", "<|user|>", "\ue000", "\uffff"),
    *(
        "é",
        "e\u0301",
        "\u0301",
        " \u0301",
        "\u0308",
        "ﬁ",
        "½",
        "😀",
        "👩\u200d👩\u200d👧",
        "日本語",
        "한국어",
        "𝒳",
        "İ",
        "ς",
    ),
    *("the", " the", "The", " times", "it was", "brother", "1234", " 1", "don't", "'S", "...", "?!", '"', "aaaa", "x"),
]
texts = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=4)), max_size=25).map("".join)
# As above, but nothing that a normaliser or a missing byte could change.
plain_words = st.sampled_from(["the", "times", "was", "brother", "Ishmael", "age", "owner", " ", "  ", ", ", ". ", "!"])
plain_texts = st.lists(plain_words, max_size=25).map("".join)


@dataclass(frozen=True)
class Cut:
    """A text and where to cut it."""

    text: str
    places: list[int]


@st.composite
def cut_texts(draw: st.DrawFn, source: st.SearchStrategy[str] = texts) -> Cut:
    """Texts with up to eight places to cut them at."""
    text = draw(source)
    return Cut(text, sorted(draw(st.lists(st.integers(0, len(text)), max_size=8))))


def pieces_of(cut: Cut, start: int = 0) -> list[Piece]:
    """The text in the pieces it is cut into, as UTF-8 from source byte `start` on."""
    pieces = []
    for first, last in zip([0, *cut.places], [*cut.places, len(cut.text)], strict=True):
        part = cut.text[first:last]
        end = start + len(part.encode())
        pieces.append(Piece(part, start, end))
        start = end
    return pieces


def feed(encoder: StreamEncoder, piece: Piece) -> TokenRun:
    """The tokens that are settled once a piece is read."""
    return encoder.feed(piece.text, piece.char_offsets())


def stream(tokenizer: Tokenizer, pieces: list[Piece]) -> TokenRun:
    """All tokens of the pieces."""
    encoder = StreamEncoder(tokenizer)
    runs = [feed(encoder, piece) for piece in pieces]
    return TokenRun.join([*runs, encoder.flush()])


def assert_equal(first: TokenRun, second: TokenRun) -> None:
    """Same ids, same spans."""
    assert first.ids.tolist() == second.ids.tolist()
    assert np.array_equal(first.starts, second.starts)
    assert np.array_equal(first.ends, second.ends)
