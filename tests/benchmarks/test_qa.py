"""Question sets placed in text, how answers are scored, and what `benchmarks.quality qa` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality.qa import (
    AnswerScore,
    DocumentOutcome,
    QaConfig,
    QuestionOutcome,
    judge,
)
from benchmarks.quality.qa_rankers import ranked_by_gain
from benchmarks.quality.qa_results import qa_figures
from benchmarks.quality.qa_sets import (
    Rules,
    by_group,
    byte_spans,
    filler_texts,
    index_without_network,
    place,
    placed_documents,
    read_items,
)
from famcli.errors import DocumentError, UsageError
from famcli.evaluation.overlap import best_f1, exact_match, token_f1
from famcli.nn import FamConfig
from famcli.tasks.ask.asked_text import TextReader
from tests.tasks.support import byte_model, prose

FILLER = prose(300, 5)
BLOCK = FamConfig(block_size=128, memory_segments=1, fam_length=4)


def records(number: int = 3) -> list[dict[str, Any]]:
    """Titles with two passages each and a question about either."""
    things = ["umbrella", "lantern", "compass", "violin", "teapot", "ladder"]
    found = []
    for title in range(number):
        for part in range(2):
            thing = f"{things[2 * title % 6 + part]}{title}"
            found.append(
                {
                    "id": f"{title}-{part}",
                    "title": f"T{title}",
                    "split": "val" if title else "train",
                    "context": f"Nobody came. Captain Caf\u00e9 left the {thing} under the bridge. Then he went away.",
                    "question": f"Where did Captain Caf\u00e9 leave the {thing}?",
                    "answers": ["under the bridge"],
                }
            )
    return found


def write_set(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------------- sets


def test_rules_choose_records(tmp_path: Path) -> None:
    path = write_set(tmp_path / "set.jsonl", [*records(), records()[0] | {"id": "x", "unanswerable": True}])
    assert [item.id for item in read_items(path, Rules())] == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1", "x"]
    assert [item.unanswerable for item in read_items(path, Rules())] == [False] * 6 + [True]
    assert len(read_items(path, Rules(where=(("split", ("val",)),)))) == 4
    low, high = (read_items(path, Rules(hash_from=a, hash_below=b)) for a, b in ((0, 128), (128, 256)))
    assert len(low) + len(high) == 7
    assert {item.group for item in low}.isdisjoint({item.group for item in high})
    assert {len(items) for items in by_group(read_items(path, Rules())).values()} == {2, 3}
    with pytest.raises(UsageError, match="no question"):
        read_items(path, Rules(where=(("split", ("test",)),)))
    with pytest.raises(DocumentError, match="'context'"):
        read_items(write_set(tmp_path / "bad.jsonl", [{"id": 1}]), Rules())


def test_contexts_stand_in_the_filler_where_it_says(tmp_path: Path) -> None:
    items = read_items(write_set(tmp_path / "set.jsonl", records()), Rules())
    document = place(by_group(items), FILLER, np.random.default_rng(3))
    assert len(document.asked) == 6
    for asked in document.asked:
        ((first, last),) = asked.spans
        assert document.text[first:last] == asked.item.contexts[0]
        assert document.text[last : last + 2] == "\n\n"
    rest = document.text
    for asked in document.asked:
        rest = rest.replace(asked.item.contexts[0] + "\n\n", "")
    assert rest == FILLER
    order = sorted(document.asked, key=lambda asked: asked.spans)
    for group in ("T0", "T1", "T2"):
        assert [a.item.id for a in order if a.item.group == group] == [f"{group[1]}-0", f"{group[1]}-1"]
    assert [a.item.group for a in order] != sorted(a.item.group for a in order)  # groups are mixed
    raw = document.text.encode()
    for spans, asked in zip(byte_spans(document), document.asked, strict=True):
        assert raw[slice(*spans[0])].decode() == asked.item.contexts[0]


def test_contexts_made_of_others_and_of_several_are_placed_once(tmp_path: Path) -> None:
    one, two = (f"Part {number} of the story tells something of its own." for number in (1, 2))
    values = [
        {"id": 1, "title": "T", "context": one, "question": "One?", "answers": ["1"]},
        {"id": 2, "title": "T", "context": two, "question": "Two?", "answers": ["2"]},
        {"id": 3, "title": "T", "context": f"{one}\n{two}", "question": "Both?", "answers": ["3"]},
        {"id": 4, "title": "T", "context": [one, two], "question": "Far apart?", "answers": ["4"]},
    ]
    items = read_items(write_set(tmp_path / "set.jsonl", values), Rules())
    document = place(by_group(items), FILLER, np.random.default_rng(0))
    assert document.text.count(one) == document.text.count(two) == 1
    first, second, both, apart = (asked.spans for asked in document.asked)
    assert both == apart == first + second


def test_what_is_left_out_is_not_there(tmp_path: Path) -> None:
    items = read_items(write_set(tmp_path / "set.jsonl", records()), Rules())
    document = place(by_group(items), FILLER, np.random.default_rng(1), absent=0.5)
    gone = [asked for asked in document.asked if not asked.spans]
    assert 0 < len(gone) < 6
    assert all(asked.item.contexts[0] not in document.text for asked in gone)


def test_documents_have_enough_questions_and_tokens(tmp_path: Path) -> None:
    groups = by_group(read_items(write_set(tmp_path / "set.jsonl", records(7)), Rules()))
    book = tmp_path / "book.txt"
    book.write_text(FILLER)
    tokenizer = byte_model().tokenizer
    documents = list(placed_documents(groups, [book], 5000, tokenizer, questions=4, seed=2))
    assert sorted(len(document.asked) for document in documents) == [4, 4, 6]
    assert sorted(one.item.id for document in documents for one in document.asked) == sorted(
        item.id for items in groups.values() for item in items
    )
    assert all(len(document.text) > 5000 for document in documents)
    drawn = list(placed_documents(groups, [book], 5000, tokenizer, questions=4, most=4, seed=2))
    assert [len(document.asked) for document in drawn] == [4, 4, 4]
    assert all(
        document.text[slice(*one.spans[0])] == one.item.contexts[0] for document in drawn for one in document.asked
    )
    (only,) = placed_documents(groups, [book], 100_000, tokenizer, questions=99, seed=2)
    assert len(only.text) > 100_000
    with pytest.raises(DocumentError, match="cannot be read"):
        next(filler_texts([tmp_path / "absent.txt"]))


def test_indexing_without_the_network_is_that_of_reading(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(FILLER + "Caf\u00e9. " * 99)
    index = index_without_network(path)
    reading = TextReader(byte_model(BLOCK))
    for _ in reading.events([path]):
        pass
    assert index.num_passages == reading.text().index.num_passages > 10
    for number in range(index.num_passages):
        assert index.passage(number) == reading.text().index.passage(number)


# ----------------------------------------------------------------------------------------------------- scores


def test_answers_are_scored_as_squad_does() -> None:
    assert exact_match(["the Oak Tree"], "oak tree.") == 1
    assert exact_match(["oak"], "an oak tree") == 0
    assert token_f1("under the old bridge", "the bridge") == pytest.approx(2 * 1 / (3 + 1))
    assert token_f1("under the old bridge", "a bridge far away", recall=True) == pytest.approx(1 / 3)
    assert token_f1("the", "a") == 1
    assert token_f1("oak", "") == 0
    assert best_f1(["oak", "old oak"], "old oak") == 1
    assert best_f1([], "oak") == 0


def outcome(group: str, rank: int | None, bm25: int | None, kind: str = "answerable", found: bool = True) -> Any:
    scores = (AnswerScore("famcli", "sentence", "on", 1.0, 1.0), AnswerScore("bm25", "sentence", "on", 0.0, 0.5))
    ranks = {"famcli": rank, "bm25": bm25}
    return QuestionOutcome("q", group, kind, ranks, scores if kind == "answerable" else (), found, 0.5)  # type: ignore[arg-type]


def test_figures_and_paired_differences() -> None:
    questions = [
        outcome("a", 0, None),
        outcome("a", 4, 0),
        outcome("b", 9, 9),
        outcome("b", None, 5, found=False),
        outcome("b", None, None, "absent", found=False),
        outcome("c", None, None, "unanswerable"),
    ]
    figures = qa_figures([DocumentOutcome("d", 100, 50, tuple(questions), 7, 7)])
    recall = {one.name: one for one in figures.recall}
    assert [recall["famcli", f"at {k}"].value for k in (1, 5, 10)] == [0.25, 0.5, 0.75]
    assert [recall["bm25", f"at {k}"].value for k in (1, 5, 10)] == [0.25, 0.25, 0.75]
    assert (recall["famcli", "at 1"].questions, recall["famcli", "at 1"].groups) == (4, 2)
    gaps = {(one.name, one.minus): one for one in figures.gaps}
    five = gaps[("famcli", "at 5"), ("bm25", "at 5")]
    assert five.value == 0.25
    assert five.standard_error == pytest.approx((2 * (0.5**2 + 0.5**2)) ** 0.5 / 4)  # groups: +1 of 2, 0 of 2
    answers = {one.name: one.value for one in figures.answers}
    assert answers["famcli", "sentence", "on", "F1"] == 1
    (gap,) = (one for one in figures.answer_gaps if one.name[-1] == "F1")
    assert (gap.minus[0], gap.value) == ("bm25", 0.5)
    silence = {one.name: one.value for one in figures.silence}
    assert silence == {
        ("answered", "answerable"): 0.75,
        ("precision", "absent"): 0.5,
        ("recall", "absent"): 1.0,
        ("precision", "unanswerable"): 0.0,
        ("recall", "unanswerable"): 0.0,
    }
    assert (figures.citations, figures.verified) == (7, 7)


def test_passages_of_the_block_with_most_gain_come_first(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(FILLER)
    index = index_without_network(path)
    ends = [index.passage(number).span[1] for number in (3, 7, index.num_passages - 1)]
    order = ranked_by_gain(index, np.array(ends), np.array([0.1, 0.5, -1.0]), 6)
    assert order == [4, 5, 6, 7, 0, 1]


# ---------------------------------------------------------------------------------------------------- judging


def test_a_document_is_judged(tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    items = read_items(write_set(tmp_path / "set.jsonl", records()), Rules())
    document = place(by_group(items), FILLER[:9000], np.random.default_rng(3))
    config = QaConfig(styles=("sentence", "span"), network=True, question_first=True, max_answer_tokens=12)
    tokens: list[int] = []
    judged = judge(byte_model(BLOCK), document, config, tokens.append)
    assert judged.num_bytes == judged.num_tokens == len(document.text.encode())
    assert sum(tokens) >= 4 * judged.num_tokens  # on, frozen, network, question first
    assert {question.kind for question in judged.questions} == {"answerable"}
    assert [question.ranks["famcli"] for question in judged.questions] == [0] * 6
    assert [question.ranks["bm25"] for question in judged.questions] == [0] * 6
    assert set(judged.questions[0].ranks) == {"famcli", "words", "bm25", "network", "famcli, frozen"}
    assert all(question.found for question in judged.questions)
    kinds = {(one.system, one.style, one.memory_mode) for one in judged.questions[0].answers}
    assert kinds == {
        (system, style, mode)
        for style in ("sentence", "span")
        for system, mode in (
            ("famcli", "on"),
            ("famcli", "frozen"),
            ("bm25", "on"),
            ("famcli, question first", "on"),
        )
    }
    sentences = [one for q in judged.questions for one in q.answers if one.style == "sentence"]
    assert all(0 < (one.f1 or 0) < 1 and one.match == 0 for one in sentences)
    assert judged.citations == judged.verified > 50
