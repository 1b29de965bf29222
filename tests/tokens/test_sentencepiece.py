"""sentencepiece models: exactness of ours, faithfulness to foreign ones, control tokens, damaged files."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from famcli.errors import TokenizerError
from famcli.tokens import open_tokenizer
from famcli.tokens.sentencepiece import SentencePieceTokenizer, sample_windows, train_sentencepiece
from famcli.tokens.tokenizer import control_ids
from tests.tokens.conftest import SENTENCES, SHIPPED
from tests.tokens.texts import NASTY, plain_texts, texts


@given(text=st.one_of(texts, st.text()))
def test_ours_keep_every_text_exactly(
    shipped: SentencePieceTokenizer, small_bpe: SentencePieceTokenizer, text: str
) -> None:
    assert shipped.decode(shipped.encode(text)) == text
    assert small_bpe.decode(small_bpe.encode(text)) == text


@given(text=texts)
def test_no_text_becomes_a_control_token(
    shipped: SentencePieceTokenizer, llama_like: SentencePieceTokenizer, text: str
) -> None:
    for tokenizer in (shipped, llama_like):
        assert not set(tokenizer.encode(text)) & control_ids(tokenizer)
    assert llama_like.decode(llama_like.encode(text)) == text


@pytest.mark.parametrize("text", NASTY)
def test_offsets_agree_with_ids(shipped: SentencePieceTokenizer, text: str) -> None:
    ids, ends = shipped.encode_offsets(text)
    assert ids.tolist() == shipped.encode(text)
    assert ends[-1] == len(text)


def test_the_shipped_vocabulary(shipped: SentencePieceTokenizer) -> None:
    assert shipped.vocab_size == 4096
    assert (shipped.bos_id, shipped.eos_id) == (1, 2)
    assert shipped.decode([1, 2]) == ""
    assert len(shipped.encode("\n")) == len(shipped.encode("\t")) == len(shipped.encode("\r")) == 1
    assert len(shipped.encode("It was the best of times")) <= 7


def test_lone_surrogates_become_replacement_characters(shipped: SentencePieceTokenizer) -> None:
    ids, ends = shipped.encode_offsets("a\ud800b")
    assert shipped.decode(ids.tolist()) == "a\ufffdb"
    assert ends[-1] == 3


@given(text=plain_texts)
def test_foreign_models_give_the_library_s_own_tokens(llama_like: SentencePieceTokenizer, text: str) -> None:
    library = sentencepiece.SentencePieceProcessor(model_file=str(llama_like.path))
    assert llama_like.encode(llama_like.opening(text) + text) == library.encode(text)


@given(words=st.lists(st.sampled_from(["the", "times", "was", "ﬁne", "½", "naïve", "日本"]), min_size=1, max_size=9))
def test_normalised_texts_have_spans_of_the_source(
    normalising_unigram: SentencePieceTokenizer, words: list[str]
) -> None:
    text = " ".join(words)
    library = sentencepiece.SentencePieceProcessor(model_file=str(normalising_unigram.path))
    ids, ends = normalising_unigram.encode_offsets(" " + text)
    assert ids.tolist() == library.encode(text)
    word_ends = [len(" " + " ".join(words[: count + 1])) for count in range(len(words))]
    assert set(word_ends) <= set(ends.tolist())


def test_symbols_that_name_a_role_are_control_tokens(llama_like: SentencePieceTokenizer) -> None:
    assert "<|user|>" in llama_like.control_tokens
    assert "\n" not in llama_like.control_tokens
    assert llama_like.decode(llama_like.encode("<|user|>")) == "<|user|>"


def test_opening_is_said_once(llama_like: SentencePieceTokenizer, shipped: SentencePieceTokenizer) -> None:
    assert (llama_like.opening("the"), llama_like.opening(""), shipped.opening("the")) == (" ", "", "")
    assert llama_like.decode(llama_like.encode("the")) == "the"


def test_saving_and_opening_again(shipped: SentencePieceTokenizer, tmp_path: Path) -> None:
    shipped.save(tmp_path)
    again = open_tokenizer(tmp_path)
    assert again.fingerprint == shipped.fingerprint == open_tokenizer(SHIPPED).fingerprint
    again.save(tmp_path)  # onto itself
    assert again.encode("the times") == shipped.encode("the times")


def test_training_twice_gives_the_same_file(tmp_path: Path) -> None:
    first, second = (train_sentencepiece(SENTENCES, 330, tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_training_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no text"):
        train_sentencepiece([], 300, tmp_path)
    with pytest.raises(TokenizerError, match="another size"):
        train_sentencepiece(["too little"], 4096, tmp_path)


def test_a_window_of_each_text() -> None:
    windows = list(sample_windows(["abcdefghij", "xy", ""], 3))
    assert [len(window) for window in windows] == [3, 2, 0]
    assert windows[0] in "abcdefghij"
    assert windows == list(sample_windows(["abcdefghij", "xy", ""], 3))


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"not a model", b"\x0a\x05ab", b"\x0a\x02\x0a\x00\xff\xff"])
def test_damaged_models(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.model"):
        open_tokenizer(tmp_path)


@given(data=st.data())
def test_cut_and_flipped_models_raise_one_kind_of_error(data: st.DataObject, tmp_path_factory) -> None:
    content = bytearray((SHIPPED / "tokenizer.model").read_bytes())
    size = data.draw(st.integers(0, len(content)))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "tokenizer.model"
    path.write_bytes(content[:size])
    with contextlib.suppress(TokenizerError):  # any other error is a bug
        SentencePieceTokenizer(path).encode("the times")


def test_models_of_words_are_refused(tmp_path: Path) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_prefix=str(tmp_path / "tokenizer"),
        model_type="char",
        vocab_size=40,
        minloglevel=2,
    )
    with pytest.raises(TokenizerError, match="characters"):
        open_tokenizer(tmp_path)


def test_a_missing_model(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no tokenizer"):
        open_tokenizer(tmp_path)
    with pytest.raises(TokenizerError, match="cannot read"):
        SentencePieceTokenizer(tmp_path / "tokenizer.model")
