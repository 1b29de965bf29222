from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from famcli.documents.source import Piece
from famcli.errors import DocumentError
from famcli.tasks.ask import passage_index
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.ask.question import Question
from famcli.tasks.ask.ranking import FEATURES, NUM_WEIGHED, Terms, Weighed, best_sentence, ranked_by_network, weigh
from famcli.text.passages import MAX_CHARACTERS, Passage, PassageBuilder
from famcli.text.sentences import Sentence
from tests.tasks.support import prose


def passages_of(text: str, source: int = 0) -> list[Passage]:
    builder = PassageBuilder(source)
    builder.feed(Piece(text, 0, len(text.encode())))
    return builder.take(None)


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


# --------------------------------------------------------------------------------------------------- passages


def test_passages_are_verbatim_and_cover_the_text_once() -> None:
    text = prose(60) + "Caf\u00e9 \u201cend\u201d.\n"
    raw, found = text.encode(), passages_of(text)
    assert len(found) > 5
    assert all(raw[slice(*passage.span)].decode() == passage.text for passage in found)
    assert all(len(passage.text) <= MAX_CHARACTERS for passage in found)
    assert (
        "".join(p.text for p in found).split() == text.split()
        or " ".join(p.text for p in found).split() == text.split()
    )
    assert [p.line for p in found] == [1 + raw[: p.span[0]].count(b"\n") for p in found]


def test_passages_do_not_depend_on_how_the_text_arrives() -> None:
    text, builder = prose(40), PassageBuilder(0)
    found: list[Passage] = []
    for start in range(0, len(text), 37):
        part = text[start : start + 37]
        builder.feed(Piece(part, start, start + len(part)))
        found += builder.take(start + len(part) // 2)
    assert found + builder.take(None) == passages_of(text)


def test_a_passage_does_not_reach_across_a_wide_gap_nor_far_beyond_a_blank_line() -> None:
    assert len(passages_of("One is here." + " " * 99 + "Two is there.")) == 2
    first = "A sentence of some length stands here for once. " * 8
    assert len(passages_of(f"{first}\n\nAnother paragraph.")) == 2
    assert len(passages_of("Short heading\n\nAnother paragraph.")) == 1


def test_what_was_read_so_far_can_be_taken_before_the_end() -> None:
    builder = PassageBuilder(0)
    text = "The first one came. The second one went. The third one stayed. "
    builder.feed(Piece(text * 2, 0, 2 * len(text)))
    assert builder.take(45) == []
    (passage,) = builder.take(45, last=True)
    assert passage.text == "The first one came. The second one went."


def test_a_sentence_without_an_end_is_cut_and_found() -> None:
    text = "word " * 50_000 + "golden key " + "word " * 50_000
    index = index_of(text)
    assert index.num_passages > 400
    assert "golden key" in weigh(index, Question.parse("Where is the golden key?"))[0].passage.text


# ------------------------------------------------------------------------------------------------------ index


def test_the_index_gives_back_passages_and_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(passage_index, "PART", 4)
    path = tmp_path / "passages.sqlite"
    found = passages_of(prose(200))
    with PassageIndex(path) as index:
        for passage in found:
            index.add(passage)
    with PassageIndex(path, must_exist=True) as index:
        assert index.num_passages == len(found) > 12
        assert [index.passage(number) for number in range(len(found))] == found
        words = found[7].text.lower().replace(".", "").split()[:2]
        wanted = [passage_index.terms(word)[0] for word in words] + ["absent"]
        parts = list(index.parts(wanted))
        assert [part.first for part in parts] == list(range(0, len(found), 4))
        counts = np.concatenate([part.counts for part in parts], axis=1)
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
            PassageIndex(tmp_path / name, must_exist=True)


# ---------------------------------------------------------------------------------------------------- weighing


def test_the_best_passage_is_first_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passage_index, "PART", 8)
    for place in (0, 7, 8, 50, 99):
        texts = [f"A key number {number} is not it." for number in range(100)]
        texts[place] = "The golden key is in the well behind the old house."
        found = weigh(index_of(*texts), Question.parse("Where is the golden key?"), 10)
        assert len(found) == 10
        assert "well" in found[0].passage.text


def test_neighbours_help() -> None:
    texts = [f"Nothing of it number {number} stands here at all." for number in range(40)]
    texts[10] = "The castle was dark."
    texts[30], texts[31] = "The castle was dark.", "In it there lived a dragon by the name of Fridolin."
    found = weigh(index_of(*texts), Question.parse("Who lived in the castle with Fridolin?"))
    castles = [one for one in found if "castle" in one.passage.text]
    assert [one.features[FEATURES.index("around")] > 0 for one in castles] == [True, False]


@pytest.mark.parametrize("question", ["Who sells whale oil?", "???", "\u2026"])
def test_without_a_shared_word_there_is_no_evidence(question: str) -> None:
    assert weigh(index_of("The golden key is in the well."), Question.parse(question)) == []
    assert weigh(PassageIndex(), Question.parse(question)) == []


def test_function_words_alone_are_no_evidence_to_be_sure_of() -> None:
    index = index_of("Who are you and how is it?", *(f"The clerk {n} went home early." for n in range(30)))
    sure, unsure = (weigh(index, Question.parse(text))[0] for text in ("Which clerk 7 is at home?", "Who are you?"))
    assert "Who are you" in unsure.passage.text
    assert unsure.confidence < 0.25 < sure.confidence


def test_confidence_grows_with_what_is_shared() -> None:
    texts = [f"Nothing of it number {number} stands here." for number in range(50)]
    index = index_of(*texts, "The golden key of Queen Isolde lies in the well.", "A golden day came.")
    found = weigh(index, Question.parse("Where does the golden key of Queen Isolde lie?"))
    confidences = [one.confidence for one in found]
    assert "Isolde" in found[0].passage.text
    assert 1 > confidences[0] > max(confidences[1:]) > 0


def test_gain_is_bounded_and_changes_the_order() -> None:
    passage = passages_of("The golden key is in the well.")[0]
    ones = [Weighed(passage, (0.5,) * 5 + (0.0,)), Weighed(passage, (0.5,) * 5 + (0.0,))]
    ranked = ranked_by_network(ones, [-50.0, 50.0])
    assert sorted(one.features[-1] for one in ranked) == [-1.0, 1.0]
    assert ranked[0].score >= ranked[1].score
    assert ranked[0].margin == -ranked[1].margin == ranked[0].score - ranked[1].score
    assert ranked[0].lead == pytest.approx(ranked[0].score - (ranked[0].score + ranked[1].score) / NUM_WEIGHED)
    assert ranked_by_network(ones, [0.5])[1] is ones[1]
    moved = [one.features for one in ranked_by_network(ones, [7.1, 7.3])]
    assert sorted(features[-1] for features in moved) == pytest.approx([-0.1, 0.1])


def test_a_question_is_one_line_of_words() -> None:
    question = Question.parse("Where is\nthe golden  key, the key?")
    assert question.text == "Where is the golden key, the key?"
    assert question.terms == ("golden", "key")


# --------------------------------------------------------------------------------------------------- sentences


def answer_in(text: str, question: str = "Where is the golden key?") -> str:
    index, asked = index_of(text, *(f"Nothing at all {number} here." for number in range(9))), Question.parse(question)
    return best_sentence(weigh(index, asked)[0].passage, asked, index).text


def test_the_sentence_that_shares_most_answers() -> None:
    text = "He looked. The golden key is in the well behind the old house. She laughed."
    assert answer_in(text) == "The golden key is in the well behind the old house."


def test_headings_and_questions_are_rarely_the_answer() -> None:
    text = "Where is the golden key of the old king now? The golden key lies in the old king's well."
    assert answer_in(text) == "The golden key lies in the old king's well."


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
    found = Terms(Question.parse("king France"), index)
    assert found.coverage(["king", "franc", "france", "France".lower()]) == pytest.approx(1.0)
    assert 0 < found.coverage(["king"]) < 0.2
    assert found.likeness(["francisco"]) == pytest.approx(1 - found.coverage(["king"]))
