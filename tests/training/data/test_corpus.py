"""Corpora: which documents are taken, what is stored of them, and that they are tokenized once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from famcli.errors import DocumentError, FamcliError, RecipeError
from famcli.tokens.tokenizer import ByteTokenizer
from famcli.training.data.corpus import PackProgress, choose_documents, pack, read_documents
from famcli.training.recipe.sections import CorpusRecipe

TEXTS = {f"doc-{number}": f"text {number} – " * (number + 1) for number in range(40)}


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusRecipe:
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"id": name, "text": text, "split": "ab"[len(text) % 2]}) for name, text in TEXTS.items()]
    path.write_text("\n".join(lines) + "\n\n")
    return CorpusRecipe(name="texts", path=path, weight=1.0)


def test_tokens_and_bytes_are_those_of_the_documents(corpus: CorpusRecipe, tmp_path: Path) -> None:
    packed = pack(corpus, ByteTokenizer(), tmp_path, 0)
    assert packed.ids == tuple(TEXTS)
    for index, text in enumerate(TEXTS.values()):
        document = packed.document(index)
        assert bytes(document.tolist()).decode() == text
    assert packed.num_tokens == sum(len(text.encode()) for text in TEXTS.values())


def test_it_is_tokenized_once_and_again_when_anything_changes(corpus: CorpusRecipe, tmp_path: Path) -> None:
    seen: list[PackProgress] = []
    pack(corpus, ByteTokenizer(), tmp_path, 0, on_progress=seen.append)
    assert seen[-1].done == seen[-1].total == sum(map(len, TEXTS.values()))
    again: list[PackProgress] = []
    pack(corpus, ByteTokenizer(), tmp_path, 0, on_progress=again.append)
    assert again == []
    shorter = pack(dataclasses.replace(corpus, exclude_ids=("doc-0",)), ByteTokenizer(), tmp_path, 0)
    assert len(shorter) == len(TEXTS) - 1
    with corpus.path.open("a") as file:
        file.write(json.dumps({"id": "new", "text": "more"}) + "\n")
    assert pack(corpus, ByteTokenizer(), tmp_path, 0).ids[-1] == "new"
    assert not list(tmp_path.glob("*.tmp"))


def test_zstd_files_and_folders_read_alike(corpus: CorpusRecipe, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    packed = tmp_path / "texts.jsonl.zst"
    packed.write_bytes(zstandard.ZstdCompressor().compress(corpus.path.read_bytes()))
    assert list(read_documents(packed)) == list(read_documents(corpus.path))
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_text("second")
    (folder / "deep" / "c.txt").write_text("third")
    assert [(record.id, record.text) for record in read_documents(folder)] == [
        ("b.txt", "second"),
        ("deep/c.txt", "third"),
    ]


def test_validation_is_what_the_hash_says_and_never_trained_on(corpus: CorpusRecipe) -> None:
    rules = dataclasses.replace(corpus, validation_hash_below=26, validation_documents=3, exclude_ids=("doc-7",))
    training, validation = choose_documents(rules, 0, False), choose_documents(rules, 0, True)
    below = {name for name in TEXTS if hashlib.sha256(name.encode()).digest()[0] < 26} - {"doc-7"}
    assert below <= set(validation)
    assert len(validation) == len(below) + 3
    assert set(training) | set(validation) == set(TEXTS) - {"doc-7"}
    assert not set(training) & set(validation)


def test_fields_choose_records(corpus: CorpusRecipe) -> None:
    chosen = choose_documents(dataclasses.replace(corpus, where={"split": "a"}), 0, False)
    assert set(chosen) == {name for name, text in TEXTS.items() if len(text) % 2 == 0}


def test_a_budget_takes_whole_documents_drawn_over_the_file(corpus: CorpusRecipe) -> None:
    budget = dataclasses.replace(corpus, max_characters=3000)
    chosen = choose_documents(budget, 0, False)
    assert all(len(TEXTS[name]) == length for name, length in chosen.items())
    assert 3000 <= sum(chosen.values()) < 3000 + max(map(len, TEXTS.values()))
    assert set(chosen) != set(list(TEXTS)[: len(chosen)])
    assert set(chosen) != set(choose_documents(budget, 1, False))


@pytest.mark.parametrize("content", ["{}", "[1]", "{", '{"id": "a"}'])
def test_a_line_that_is_no_document_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps({"id": "a", "text": "b"}) + "\n" + content + "\n")
    with pytest.raises(DocumentError, match="line 2"):
        list(read_documents(tmp_path / "bad.jsonl"))


def test_missing_damaged_and_empty_corpora_are_refused(corpus: CorpusRecipe, tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    (tmp_path / "bad.jsonl.zst").write_bytes(b"not zstd at all")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none.jsonl", tmp_path / "bad.jsonl.zst", tmp_path / "empty"):
        with pytest.raises(FamcliError, match=path.name):
            list(read_documents(path))
    with pytest.raises(RecipeError, match="leave no document"):
        pack(dataclasses.replace(corpus, where={"split": "none"}), ByteTokenizer(), tmp_path, 0)


def test_lone_surrogates_do_not_stop_a_run(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text('{"id": "a", "text": "x\\ud800y"}\n')
    packed = pack(CorpusRecipe(name="odd", path=path, weight=1.0), ByteTokenizer(), tmp_path, 0)
    assert len(packed.document(0)) == len("x\ufffdy".encode())


def test_without_its_file_a_packed_corpus_is_used_as_it_is(corpus: CorpusRecipe, tmp_path: Path) -> None:
    before = pack(corpus, ByteTokenizer(), tmp_path, 0)
    corpus.path.unlink()
    assert np.array_equal(pack(corpus, ByteTokenizer(), tmp_path, 0).tokens, before.tokens)
    with pytest.raises(FamcliError, match=r"texts\.jsonl"):
        pack(dataclasses.replace(corpus, exclude_ids=("doc-0",)), ByteTokenizer(), tmp_path, 0)
