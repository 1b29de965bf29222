"""Texts as tokens: those of any stream of the text, from files and from records, as many as were asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from famcli.checkpoint.locate import shipped_models
from famcli.documents.records import read_records
from famcli.errors import DocumentError
from famcli.evaluation.texts import example_book, read_texts
from famcli.tokens import ByteTokenizer, open_tokenizer

TOKENIZER = ByteTokenizer()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    plain, records = tmp_path / "plain.txt", tmp_path / "two.jsonl"
    plain.write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9\r\n" * 1 + b"x" * 100_000)
    records.write_text("".join(json.dumps({"id": name, "text": name * 3, "n": 1}) + "\n" for name in ("ab", "cd")))
    return [plain, records]


def test_texts_are_the_tokens_of_all_documents(files: list[Path]) -> None:
    counted: list[int] = []
    texts = read_texts(files, TOKENIZER, on_tokens=counted.append)
    assert texts.ids == ("plain.txt", "ab", "cd")
    assert sum(counted) == texts.num_tokens == len(texts.tokens)
    first, second, third = (TOKENIZER.decode(document.tolist()) for document in texts.documents())
    assert first == "café\r\n" + "x" * 100_000
    assert (second, third) == ("ababab", "cdcdcd")
    assert len(texts.filler(np.random.default_rng(0)).take(500_000)) == 500_000


def test_no_more_is_read_than_was_asked_for(files: list[Path]) -> None:
    texts = read_texts(files, TOKENIZER, max_tokens=10)
    assert (texts.ids, texts.num_tokens) == (("plain.txt",), 10)
    exact = read_texts(files[1:], TOKENIZER, max_tokens=12)
    assert (exact.ids, exact.num_tokens) == (("ab", "cd"), 12)
    each = read_texts(files, TOKENIZER, max_tokens=12, max_document_tokens=5)
    assert (each.ids, each.offsets.tolist()) == (("plain.txt", "ab", "cd"), [0, 5, 10, 12])
    assert TOKENIZER.decode(each.tokens[5:].tolist()) == "ababacd"


def test_long_records_give_the_tokens_of_their_text(tmp_path: Path) -> None:
    tokenizer = open_tokenizer(shipped_models()["fam-tiny"])
    book = example_book()
    assert book is not None
    text = book.read_text(encoding="utf-8")[:200_000]
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    (tmp_path / "book.jsonl").write_text(json.dumps({"id": "b", "text": text}) + "\n")
    whole = tokenizer.encode(tokenizer.opening(text) + text)
    for name in ("book.txt", "book.jsonl"):
        assert read_texts([tmp_path / name], tokenizer).tokens.tolist() == whole


def test_zstd_records_are_read(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "one.jsonl.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(b'{"id": "a", "text": "hello", "split": "test"}\n\n'))
    (record,) = read_records(path)
    assert (record.id, record.text, record.fields) == ("a", "hello", {"split": "test"})
    assert read_texts([path], TOKENIZER).num_tokens == 5


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("bad.jsonl", b'{"id": "a", "text": "b"}\n{"id": "c"}\n', "line 2"),
        ("bad.jsonl.zst", b"not zstd at all", "damaged zstd"),
        ("empty.txt", b"", "no text"),
        ("book.txt", b"%PDF-1.7\n", "PDF"),
    ],
)
def test_what_holds_no_text_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    pytest.importorskip("zstandard")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DocumentError, match=words):
        read_texts([tmp_path / name], TOKENIZER)
    with pytest.raises(DocumentError, match="none"):
        read_texts([tmp_path / "none.jsonl"], TOKENIZER)


def test_the_example_novel_is_there() -> None:
    book = example_book()
    assert book is not None
    assert book.stat().st_size > 300_000
