"""Tokens from a stream equal tokens from the whole text, for every kind of tokenizer."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from famcli.documents.source import Piece
from famcli.tokens import ByteTokenizer, StreamDecoder, StreamEncoder, Tokenizer, TokenRun, encode_text
from famcli.tokens.tokenizer import unknown_ids
from tests.tokens.texts import Cut, assert_equal, cut_texts, feed, pieces_of, stream, texts

KINDS = [
    *("shipped", "small_bpe", "llama_like", "exact_unigram", "normalising_unigram"),
    *("byte_level", "metaspace", "llama2_json", "bytes"),
]


@pytest.fixture(scope="session")
def kinds(request: pytest.FixtureRequest) -> dict[str, Tokenizer]:
    made = {name: request.getfixturevalue(name) for name in KINDS if name != "bytes"}
    return {**made, "bytes": ByteTokenizer()}


@pytest.fixture(scope="session", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, kinds: dict[str, Tokenizer]) -> Tokenizer:
    return kinds[request.param]


@given(cut=cut_texts(), start=st.sampled_from([0, 3]))
def test_any_split_gives_the_tokens_and_spans_of_the_whole(tokenizer: Tokenizer, cut: Cut, start: int) -> None:
    whole = stream(tokenizer, pieces_of(Cut(cut.text, []), start))
    assert_equal(stream(tokenizer, pieces_of(cut, start)), whole)


@given(cut=cut_texts())
def test_cuts_without_a_safe_place_do_not_depend_on_the_split_either(tokenizer: Tokenizer, cut: Cut) -> None:
    for max_uncut in (1, 2, 5):
        with patch("famcli.tokens.stream.MAX_UNCUT", max_uncut):
            assert_equal(stream(tokenizer, pieces_of(cut)), encode_text(tokenizer, cut.text))


@given(text=texts)
def test_the_stream_is_one_call_of_the_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    assert encode_text(tokenizer, text).ids.tolist() == tokenizer.encode(tokenizer.opening(text) + text)


@given(text=texts, more=texts)
def test_a_safe_cut_is_safe(tokenizer: Tokenizer, text: str, more: str) -> None:
    place = tokenizer.safe_cut(text)
    assert 0 <= place <= len(text)
    together = tokenizer.encode(text[:place]) + tokenizer.encode(text[place:] + more)
    assert together == tokenizer.encode(text + more)


@given(text=texts, low=st.integers(0, 30))
def test_low_hides_the_cuts_up_to_it(tokenizer: Tokenizer, text: str, low: int) -> None:
    place = tokenizer.safe_cut(text)
    assert tokenizer.safe_cut(text, low=low) == (place if place > low else 0)


@given(text=texts)
def test_spans_cover_the_source_in_order(tokenizer: Tokenizer, text: str) -> None:
    run = encode_text(tokenizer, text)
    assert run.ids.dtype == np.int32
    assert run.starts.dtype == run.ends.dtype == np.int64
    end, start = 0, 0
    for first, last in zip(run.starts.tolist(), run.ends.tolist(), strict=True):
        assert first == (start if last == end else end)  # shared with the token before, or right behind it
        start, end = first, last
    if len(run):
        assert end == len(text.encode())


@given(text=texts)
def test_spans_hold_what_the_tokens_spell(shipped: Tokenizer, text: str) -> None:
    source = text.encode()
    run = encode_text(shipped, text)
    for token, start, end in zip(run.ids.tolist(), run.starts.tolist(), run.ends.tolist(), strict=True):
        spelled = shipped.token_bytes(token)
        assert spelled == source[start:end] or (len(spelled) == 1 and spelled in source[start:end])


def test_spans_are_those_of_the_source_where_characters_have_other_widths(shipped: Tokenizer) -> None:
    piece = Piece("ab é", 2, 10, np.full(4, 2, dtype=np.int64))  # UTF-16 after its mark
    run = stream(shipped, [piece])
    assert (run.starts[0], run.ends[-1]) == (2, 10)
    assert set(run.ends.tolist()) <= {4, 6, 8, 10}


@given(cut=cut_texts())
def test_a_later_encoder_goes_on_at_the_pending_text(tokenizer: Tokenizer, cut: Cut) -> None:
    encoder, runs, source = StreamEncoder(tokenizer), [], cut.text.encode()
    for piece in pieces_of(cut):
        runs.append(feed(encoder, piece))
        pending = source[encoder.pending_start : piece.end].decode()
        later = StreamEncoder(tokenizer, encoder.pending_start, begun=encoder.begun)
        if pending:
            runs.append(feed(later, Piece(pending, encoder.pending_start, piece.end)))
        encoder = later
    assert_ids(TokenRun.join([*runs, encoder.flush()]), encode_text(tokenizer, cut.text))


def assert_ids(first: TokenRun, second: TokenRun) -> None:
    assert first.ids.tolist() == second.ids.tolist()


@given(cut=cut_texts())
def test_flushing_a_copy_leaves_the_original_alone(tokenizer: Tokenizer, cut: Cut) -> None:
    encoder, runs = StreamEncoder(tokenizer), []
    for piece in pieces_of(cut):
        runs.append(feed(encoder, piece))
        twin = encoder.copy()
        ended = TokenRun.join([*runs, twin.flush()])
        assert_ids(ended, encode_text(tokenizer, cut.text.encode()[: piece.end].decode()))
    assert_equal(TokenRun.join([*runs, encoder.flush()]), encode_text(tokenizer, cut.text))


@given(text=texts)
def test_decoding_token_by_token_gives_whole_characters(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    decoder = StreamDecoder(tokenizer)
    parts = [decoder.feed(token) for token in ids]
    assert "".join(parts) + decoder.flush() == tokenizer.decode(ids)
    if "\ufffd" not in tokenizer.decode(ids):
        assert not any("\ufffd" in part for part in parts)


def test_a_broken_character_decodes_to_the_replacement() -> None:
    tokenizer = ByteTokenizer()
    decoder = StreamDecoder(tokenizer)
    assert [decoder.feed(byte) for byte in [0x61, 0xE2, 0x98, 0x62]] == ["a", "", "", "\ufffdb"]
    assert decoder.feed(0xE2) + decoder.flush() == "\ufffd"


@pytest.mark.parametrize("unit", ["a", "é", "日", "=-", " ", "\n", "😀"])
def test_long_texts_without_a_space_keep_little_pending(shipped: Tokenizer, unit: str) -> None:
    text = unit * (60_000 // len(unit))
    encoder, num_tokens = StreamEncoder(shipped), 0
    for piece in pieces_of(Cut(text, list(range(1000, len(text), 1000)))):
        num_tokens += len(feed(encoder, piece))
        assert len(text.encode()[encoder.pending_start : piece.end].decode()) <= 8192
    num_tokens += len(encoder.flush())
    assert num_tokens == len(encode_text(shipped, text))


def test_a_line_is_settled_by_its_newline(shipped: Tokenizer) -> None:
    encoder = StreamEncoder(shipped)
    feed(encoder, Piece("one log line\n", 0, 13))
    assert encoder.pending_start == 13


def test_words_settle_at_the_next_space(tokenizer: Tokenizer) -> None:
    encoder = StreamEncoder(tokenizer)
    feed(encoder, Piece("the times was the", 0, 17))
    assert encoder.pending_start in (13, 17)


def test_ids_that_stand_for_any_character(kinds: dict[str, Tokenizer]) -> None:
    for name, each in kinds.items():
        found = unknown_ids(each)
        assert bool(found) == (name == "normalising_unigram"), name
        assert set(found) <= set(each.encode("\u8a9e"))


@settings(max_examples=20)
@given(text=texts)
def test_runs_can_be_sliced_and_joined(shipped: Tokenizer, text: str) -> None:
    run = encode_text(shipped, text)
    half = len(run) // 2
    assert_equal(TokenRun.join([run[:half], run[half:]]), run)
    assert len(TokenRun.join([])) == 0
