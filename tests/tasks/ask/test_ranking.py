"""The index of passages, how they are ranked for a question, and which sentence of one answers it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from famcli.errors import DocumentError
from famcli.interrupts import interrupt
from famcli.tasks.ask import passage_index
from famcli.tasks.ask.best_sentence import best_sentence
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.ask.question import Question, coverage, term_shares
from famcli.tasks.ask.ranking import FEATURES, THRESHOLD, RankedPassage, rank_passages, rerank
from famcli.text.passages import Passage
from famcli.text.sentences import Sentence
from tests.tasks.support import prose
from tests.text.test_passages import passages_of


def index_of(*texts: str) -> PassageIndex:
    """An index in which each text is a passage (or some) of one source."""
    index, start = PassageIndex(), 0
    for text in texts:
        for passage in passages_of(text):
            moved = [
                Sentence(s.text, s.start + start, s.end + start, s.line, s.gap, s.whole) for s in passage.sentences
            ]
            index.add(Passage(0, tuple(moved)))
        start += len(text) + 2
    return index


# ------------------------------------------------------------------------------------------------------ index


def test_a_sentence_without_an_end_is_cut_and_found() -> None:
    text = "word " * 50_000 + "golden key " + "word " * 50_000
    index = index_of(text)
    assert index.num_passages > 400
    assert "golden key" in rank_passages(index, Question.parse("Where is the golden key?"))[0].passage.text


def test_the_index_gives_back_passages_and_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(passage_index, "PART_SIZE", 4)
    path = tmp_path / "passages.sqlite"
    found = passages_of(prose(200))
    with closing(PassageIndex()) as index:
        for passage in found:
            index.add(passage)
        index.copy_to(path)
    with closing(PassageIndex(path)) as index:
        assert index.num_passages == len(found) > 12
        assert [index.passage(number) for number in range(len(found))] == found
        words = found[7].text.lower().replace(".", "").split()[:2]
        wanted = [passage_index.terms(word)[0] for word in words] + ["absent"]
        parts = list(index.parts(wanted))
        assert [first for first, _, _ in parts] == list(range(0, len(found), 4))
        counts = np.concatenate([counts for _, _, counts in parts], axis=1)
        expected = [[passage_index.terms(p.text).count(term) for p in found] for term in wanted]
        assert counts.tolist() == expected
        assert index.frequencies(wanted).tolist() == [sum(map(bool, row)) for row in expected]
        assert index.beside(0, found[7].span[0]) == found[6:9]
        assert index.beside(0, found[0].span[0]) == found[:2]
        assert index.beside(1, found[7].span[0]) == []


def test_another_thread_than_the_one_that_made_it_uses_and_closes_an_index() -> None:
    index = index_of(prose(3))
    passage = index.passage(0)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(index.passage, 0).result() == passage
        pool.submit(index.close).result()


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"no such thing, but long enough to be looked at" * 99)
    for name in ("other", "absent"):
        with pytest.raises(DocumentError, match="index"):
            PassageIndex(tmp_path / name)


# ---------------------------------------------------------------------------------------------------- ranking


def test_the_best_passage_is_first_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passage_index, "PART_SIZE", 8)
    for place in (0, 7, 8, 50, 99):
        texts = [f"A key number {number} is not it." for number in range(100)]
        texts[place] = "The golden key is in the well behind the old house."
        found = rank_passages(index_of(*texts), Question.parse("Where is the golden key?"), 10)
        assert len(found) == 10
        assert "well" in found[0].passage.text


def test_neighbours_help() -> None:
    texts = [f"Nothing of it number {number} stands here at all." for number in range(40)]
    texts[10] = "The castle was dark."
    texts[30], texts[31] = "The castle was dark.", "In it there lived a dragon by the name of Fridolin."
    found = rank_passages(index_of(*texts), Question.parse("Who lived in the castle with Fridolin?"))
    castles = [one for one in found if "castle" in one.passage.text]
    assert [one.features[FEATURES.index("around")] > 0 for one in castles] == [True, False]


@pytest.mark.parametrize("question", ["Who sells whale oil?", "???", "\u2026"])
def test_without_a_shared_word_there_is_no_evidence(question: str) -> None:
    assert rank_passages(index_of("The golden key is in the well."), Question.parse(question)) == []
    assert rank_passages(PassageIndex(), Question.parse(question)) == []


def test_function_words_alone_are_no_evidence_to_be_sure_of() -> None:
    index = index_of("Who are you and how is it?", *(f"The clerk {n} went home early." for n in range(30)))
    texts = ("Which clerk 7 is at home?", "Who are you?")
    sure, unsure = (rank_passages(index, Question.parse(text))[0] for text in texts)
    assert "Who are you" in unsure.passage.text
    assert unsure.confidence < 0.25 < sure.confidence


def test_confidence_grows_with_what_is_shared() -> None:
    texts = [f"Nothing of it number {number} stands here." for number in range(50)]
    index = index_of(*texts, "The golden key of Queen Isolde lies in the well.", "A golden day came.")
    found = rank_passages(index, Question.parse("Where does the golden key of Queen Isolde lie?"))
    confidences = [one.confidence for one in found]
    assert "Isolde" in found[0].passage.text
    assert 1 > confidences[0] > max(confidences[1:]) > 0


def test_gain_is_bounded_and_changes_the_order() -> None:
    passage = passages_of("The golden key is in the well.")[0]
    ones = [
        RankedPassage(passage, (0.5,) * (len(FEATURES) - 1) + (0.0,)),
        RankedPassage(passage, (0.5,) * (len(FEATURES) - 1) + (0.0,)),
    ]
    ranked = rerank(ones, [-50.0, 50.0])
    assert sorted(one.features[-1] for one in ranked) == [-1.0, 1.0]
    assert ranked[0].score >= ranked[1].score
    assert ranked[0].margin == -ranked[1].margin == ranked[0].score - ranked[1].score
    assert 0 < ranked[1].lead < ranked[0].lead == ranked[1].lead + ranked[0].margin
    assert [one.features for one in rerank(ones, [0.5])] == [one.features for one in ones]
    moved = [one.features for one in rerank(ones, [7.1, 7.3])]
    assert sorted(features[-1] for features in moved) == pytest.approx([-0.1, 0.1])


def test_headings_count_for_a_passage() -> None:
    leave = "You may take up to {} weeks after the birth of a child, and ask your manager for more of them."
    text = "".join(f"## {state}\n\n{leave.format(n)}\n\n" for n, state in enumerate(["Oregon", "Texas", "Maine"], 11))
    best = rank_passages(index_of(text), Question.parse("How long is the leave for a child in Texas?"))[0]
    assert "12 weeks" in best.passage.text


def test_what_is_found_by_words_alone_is_never_sure() -> None:
    others = (f"Nothing {number}." for number in range(30))
    index = index_of("The treasurer of the council keeps the golden key in the well.", *others)
    one = rank_passages(index, Question.parse("Who keeps the golden key of the council?"))[0]
    assert replace(one, is_foreign=True).confidence == 0.6 < one.confidence


def test_who_has_a_role_or_a_title_is_said_where_it_is_told() -> None:
    crowd = [f"The Secretary laughed at Dr. Bull, who was pale, and left him {n} times in the rain." for n in range(60)]
    told = ["Anna was the Secretary of the council, and lived by the harbour.", "He saw a doctor by the name of Bull."]
    index = index_of(told[1], *crowd[:9], told[0], *crowd[9:])
    for question, passage in (("Who is the Secretary?", told[0]), ("Who is Dr. Bull?", told[1])):
        assert passage in rank_passages(index, Question.parse(question))[0].passage.text
    unsure = rank_passages(index_of(*crowd), Question.parse("Who is the Secretary?"))[0]
    assert unsure.confidence <= 0.5


def test_another_number_is_never_sure() -> None:
    index = index_of(
        *(f"What was said of item {n} stands here." for n in range(30)), "PRIORITY 1: mend the roof at once."
    )
    right, other = (rank_passages(index, Question.parse(f"What is priority {n}?"))[0] for n in (1, 77))
    assert other.confidence < THRESHOLD < right.confidence


def test_a_question_is_one_line_of_words() -> None:
    question = Question.parse("Where is\nthe golden  key, the key?")
    assert question.text == "Where is the golden key, the key?"
    assert question.terms == ("golden", "key")


# --------------------------------------------------------------------------------------------------- sentences


def answer_in(text: str, question: str = "Where is the golden key?") -> str:
    index, asked = index_of(text, *(f"Nothing at all {number} here." for number in range(9))), Question.parse(question)
    return best_sentence(rank_passages(index, asked)[0], asked, term_shares(asked, index)).text


def test_the_sentence_that_shares_most_answers() -> None:
    text = "He looked. The golden key is in the well behind the old house. She laughed."
    assert answer_in(text) == "The golden key is in the well behind the old house."


def test_headings_and_questions_are_rarely_the_answer() -> None:
    text = "Where is the golden key of the old king now? The golden key lies in the old king's well."
    assert answer_in(text) == "The golden key lies in the old king's well."


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("## The golden key\n\nIt hangs in the well.", "Where is the golden key?"),
        ("He said of the golden key:\n\nIt hangs in the well.", "Where is the golden key?"),
        ("* N-API\n  * It hangs in the well.", "What does N-API do?"),
    ],
)
def test_what_only_announces_an_answer_is_shown_with_it(text: str, question: str) -> None:
    assert answer_in(text, question).endswith("It hangs in the well.")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (
            "\u201cThe golden key is in the well. It is deep,\u201d said she.",
            "\u201cThe golden key is in the well. It is deep,\u201d said she.",
        ),
        (
            'He said: "Look. The golden key is in the well." She laughed.',
            'He said: "Look. The golden key is in the well."',
        ),
        ("\u201cThe golden key is there. A golden key is in the well here.", "A golden key is in the well here."),
    ],
)
def test_a_quotation_is_completed_or_another_sentence_taken(text: str, answer: str) -> None:
    assert answer_in(text) == answer


def test_sentences_are_covered_by_weight() -> None:
    index = index_of("A king came.", "A king went.", "A king of France came.", "The king slept.")
    shares = term_shares(Question.parse("king France"), index)
    assert coverage(shares, ["king", "franc", "france", "France".lower()]) == pytest.approx(1.0)
    assert 0 < coverage(shares, ["king"]) < 0.2


def test_an_interrupted_index_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(index_of(*(f"The lamp of house {number} burns all night." for number in range(5)))) as index:
        count = index.num_passages
        write = index._write

        def interrupted(statement: str, rows: Any) -> None:
            write(statement, rows)
            interrupt()

        monkeypatch.setattr(index, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index.flush()
        monkeypatch.undo()
        index.flush()
        assert index.frequencies(passage_index.terms("lamp")).tolist() == [count]
        assert [len(lengths) for _, lengths, _ in index.parts(["lamp"])] == [count]
