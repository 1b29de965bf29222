"""tokenizer.json: the library's own tokens where text is text, spans of the source, control tokens, missing extra."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given

from famcli.errors import TokenizerError
from famcli.tokens import encode_text, open_tokenizer
from famcli.tokens.huggingface import KNOWN_PATTERNS, HuggingFaceTokenizer
from famcli.tokens.tokenizer import control_ids
from tests.tokens.texts import Cut, assert_equal, cut_texts, pieces_of, plain_texts, stream, texts


def _library(tokenizer: HuggingFaceTokenizer) -> object:
    import tokenizers as hf

    return hf.Tokenizer.from_file(str(tokenizer.path))


@given(text=plain_texts)
def test_plain_texts_get_the_library_s_own_tokens(
    byte_level: HuggingFaceTokenizer,
    metaspace: HuggingFaceTokenizer,
    llama2_json: HuggingFaceTokenizer,
    text: str,
) -> None:
    for tokenizer in (byte_level, metaspace, llama2_json):
        expected = _library(tokenizer).encode(text, add_special_tokens=False).ids
        assert encode_text(tokenizer, text).ids.tolist() == expected


@given(text=texts)
def test_byte_level_keeps_every_text_exactly(byte_level: HuggingFaceTokenizer, text: str) -> None:
    assert byte_level.decode(byte_level.encode(text)) == text


@given(text=texts)
def test_no_text_becomes_a_control_token(
    byte_level: HuggingFaceTokenizer, metaspace: HuggingFaceTokenizer, text: str
) -> None:
    for tokenizer in (byte_level, metaspace):
        assert not set(tokenizer.encode(text)) & control_ids(tokenizer)


def test_control_tokens_are_known_by_name(byte_level: HuggingFaceTokenizer) -> None:
    assert {"<s>", "</s>", "<|user|>"} <= byte_level.control_tokens.keys()
    assert byte_level.bos_id == byte_level.control_tokens["<s>"].id
    assert byte_level.eos_id == byte_level.control_tokens["</s>"].id
    assert byte_level.decode([byte_level.control_tokens["<s>"].id]) == ""
    assert byte_level.decode(byte_level.encode("<s><|user|>")) == "<s><|user|>"


def test_runs_of_spaces_among_the_added_tokens_are_text(byte_level: HuggingFaceTokenizer) -> None:
    (four_spaces,) = byte_level.encode("    ")
    assert byte_level.token_bytes(four_spaces) == b"    "
    assert "    " not in byte_level.control_tokens


def test_normalised_characters_have_spans_of_the_source(metaspace: HuggingFaceTokenizer) -> None:
    run = encode_text(metaspace, "ﬁne ½ the")  # NFKC makes "fine 1/2"
    assert metaspace.decode(run.ids.tolist()) == " fine 1\u20442 the"
    assert {3, 5, 8} <= set(run.ends.tolist())
    assert run.ends[-1] == 12


def test_bytes_of_one_character_share_its_span(byte_level: HuggingFaceTokenizer) -> None:
    run = encode_text(byte_level, "a😀b")
    assert run.starts.tolist() == [0, 1, 1, 1, 1, 5]
    assert run.ends.tolist() == [1, 5, 5, 5, 5, 6]


def test_openings(
    byte_level: HuggingFaceTokenizer, metaspace: HuggingFaceTokenizer, llama2_json: HuggingFaceTokenizer
) -> None:
    assert [tokenizer.opening("the") for tokenizer in (byte_level, metaspace, llama2_json)] == ["", " ", " "]
    assert [tokenizer.opening(" the") for tokenizer in (byte_level, metaspace, llama2_json)] == ["", "", " "]


def _with(tokenizer: HuggingFaceTokenizer, folder: Path, **changes: object) -> HuggingFaceTokenizer:
    data = {**json.loads(tokenizer.path.read_text()), **changes}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    return HuggingFaceTokenizer(folder / "tokenizer.json")


def test_what_is_not_proven_gets_no_cut(byte_level: HuggingFaceTokenizer, tmp_path: Path) -> None:
    assert byte_level.safe_cut("the times was") == 9
    assert byte_level.safe_cut("times\nwas") == 5
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    assert _with(byte_level, tmp_path, normalizer=strip).safe_cut("the times was") == 0
    split = {"type": "Split", "pattern": {"Regex": "(?<=e) t"}, "behavior": "Isolated", "invert": False}
    assert _with(byte_level, tmp_path, pre_tokenizer=split).safe_cut("the times was") == 0


WORD_PATTERNS = sorted(pattern for pattern in KNOWN_PATTERNS if r"\s+(?!\S)" in pattern)


@pytest.fixture(scope="session", params=range(len(WORD_PATTERNS)))
def patterned(
    byte_level: HuggingFaceTokenizer, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> HuggingFaceTokenizer:
    """As Llama 3, Qwen and others: words by a pattern, then bytes; no tokens of spaces among the added ones."""
    split = {"type": "Split", "pattern": {"Regex": WORD_PATTERNS[request.param]}}
    split |= {"behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    both = {"type": "Sequence", "pretokenizers": [split, level]}
    return _with(byte_level, tmp_path_factory.mktemp("patterned"), pre_tokenizer=both, added_tokens=[])


@given(text=texts, more=texts, cut=cut_texts())
def test_every_known_pattern_is_cut_safely(patterned: HuggingFaceTokenizer, text: str, more: str, cut: Cut) -> None:
    assert patterned.safe_cut("the times was") == 9
    place = patterned.safe_cut(text)
    together = patterned.encode(text[:place]) + patterned.encode(text[place:] + more)
    assert together == patterned.encode(text + more)
    assert_equal(stream(patterned, pieces_of(cut)), encode_text(patterned, cut.text))


def test_merges_over_spaces_leave_no_cut(llama2_json: HuggingFaceTokenizer, tmp_path: Path) -> None:
    assert llama2_json.safe_cut("the times was") == 9
    model = json.loads(llama2_json.path.read_text())["model"]
    model["vocab"]["e\u2581"] = max(model["vocab"].values()) + 1
    model["merges"].append(["e", "\u2581"])
    assert _with(llama2_json, tmp_path, model=model).safe_cut("the times was") == 0


def test_saving_and_opening_again(byte_level: HuggingFaceTokenizer, tmp_path: Path) -> None:
    byte_level.save(tmp_path)
    again = open_tokenizer(tmp_path)
    assert again.fingerprint == byte_level.fingerprint
    assert (again.bos_id, again.vocab_size) == (byte_level.bos_id, byte_level.vocab_size)


def test_without_the_extra(byte_level: HuggingFaceTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(TokenizerError, match=r"install famcli\[hf\]"):
        open_tokenizer(byte_level.path.parent)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        *((content, "is not valid JSON") for content in (b"", b"\xff")),
        *((content, "it must hold a JSON object") for content in (b"[]", b"null")),
        (b"{}", "is no tokenizer: it lacks 'model'; fetch"),
        (b'{"model": {}}', "is no tokenizer: it lacks 'vocab'; fetch"),
        (b'{"model": 3}', "is no tokenizer: a part of it is of another kind than belongs there; fetch"),
        (b'{"model": {"vocab": {"a": 0}}}', "neither a byte-level nor a sentencepiece-like"),
        (
            b'{"model": {"type": "WordPiece", "vocab": {"\xe2\x96\x81a": 0}}, "added_tokens": []}',
            "neither a byte-level",
        ),
        (
            b'{"model": {"type": "BPE", "vocab": {"\xe2\x96\x81a": 0}, "merges": ["x"]}, "added_tokens": []}',
            "another kind",
        ),
        (
            b'{"model": {"type": "BPE", "vocab": {"\xe2\x96\x81a": -1}, "merges": []}}',
            r"read by `tokenizers` \(.*\); fetch",
        ),
    ],
)
def test_damaged_and_unknown_files(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=rf"tokenizer\.json .*{problem}"):
        open_tokenizer(tmp_path)
