from __future__ import annotations

import numpy as np
import pytest

from famcli.documents.piece import Piece
from famcli.tasks.evidence import (
    MAX_BLOCKS,
    BlockBuilder,
    Passage,
    QuestionEvidence,
    TextBlock,
    block_terms,
    substance,
    windows,
)
from famcli.tasks.sentences import Sentence, SentenceSplitter
from famcli.tasks.weighing import THRESHOLD, best_sentence, weigh


def block_of(text: str, source: int = 0) -> TextBlock:
    splitter = SentenceSplitter()
    found = splitter.feed(text, np.arange(len(text) + 1)) + splitter.flush()
    return TextBlock(source, tuple(found))


def add(evidence: QuestionEvidence, text: str, gain: float | None = None) -> TextBlock:
    block = block_of(text)
    evidence.add(block, block_terms(block), gain)
    return block


def no_gain(text: str) -> float:
    return 0.0


def test_a_passage_is_verbatim() -> None:
    text = "One is here.  Two\nis there.\n\nThree is gone. Four."
    passages = list(windows(block_of(text)))
    assert all(text[slice(*passage.span)] == passage.text for passage in passages)
    assert [len(passage.sentences) for passage in passages] == [1, 2, 3, 1, 2, 3, 1, 2, 1]
    assert passages[0].overlaps(passages[1])
    assert not passages[0].overlaps(passages[3])
    assert not passages[0].overlaps(Passage(1, passages[0].sentences))


def test_a_passage_does_not_reach_across_a_wide_gap_and_is_not_long() -> None:
    assert max(len(p.sentences) for p in windows(block_of("One is here." + " " * 99 + "Two is there."))) == 1
    long = "Word " * 100 + "end. "
    assert max(len(p.sentences) for p in windows(block_of(long * 3))) == 1


def test_blocks_take_what_was_read_and_carry_two_sentences_on() -> None:
    text = "A one. B two. C three. D four."
    builder = BlockBuilder(3)
    builder.feed(Piece(text, 0, len(text)))
    first = builder.take(14)
    assert first is not None
    assert [s.text for s in first.sentences] == ["A one.", "B two."]
    assert builder.take(20) is None
    last = builder.take(None)
    assert last is not None
    assert [s.text for s in last.sentences] == ["A one.", "B two.", "C three.", "D four."]
    assert last.source == 3


def test_only_the_best_blocks_are_kept_whenever_they_come() -> None:
    for place in (0, 40, 99):
        evidence = QuestionEvidence("Where is the golden key?")
        for number in range(100):
            if number == place:
                add(evidence, "The golden key is in the well.", 0.1)
            else:
                add(evidence, f"A key number {number} is not it.", 0.5 if number % 2 else None)
        assert len(evidence._by_words) <= MAX_BLOCKS
        assert len(evidence._by_gain) <= MAX_BLOCKS
        assert "The golden key is in the well." in [passage.text for passage in evidence.passages(24)]
        assert len(evidence.passages(24)) <= 24


def test_blocks_that_make_the_question_likely_are_looked_at_without_its_words() -> None:
    evidence = QuestionEvidence("Where is the golden key?")
    for number in range(50):
        add(evidence, f"Nothing of it number {number} stands here.", 3.0 if number == 17 else 0.01)
    assert any("number 17" in passage.text for passage in evidence.passages(24))


def test_evidence_is_above_the_threshold_and_does_not_overlap() -> None:
    evidence = QuestionEvidence("Where is the golden key?")
    for number in range(20):
        add(evidence, f"Nothing of it number {number} stands here.")
    add(evidence, "He looked. The golden key is in the well behind the old house. She laughed.")
    found = weigh(evidence, no_gain, 5)
    assert found
    assert all(one.score >= THRESHOLD for one in found)
    assert "golden key" in found[0].passage.text
    assert not any(a.passage.overlaps(b.passage) for a in found for b in found if a is not b)
    sentence, best = best_sentence(found, evidence.index, no_gain)
    assert sentence.text == "The golden key is in the well behind the old house."
    assert best is found[0]


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
    evidence = QuestionEvidence("Where is the golden key?")
    add(evidence, text)
    found, _ = best_sentence(weigh(evidence, no_gain, 3), evidence.index, no_gain)
    assert found.text == answer


def test_without_a_shared_word_there_is_no_evidence() -> None:
    evidence = QuestionEvidence("Who sells whale oil?")
    add(evidence, "The golden key is in the well.", 0.2)
    assert weigh(evidence, no_gain, 3) == []


def test_gain_counts_and_is_bounded() -> None:
    evidence = QuestionEvidence("Where is the golden key?")
    texts = [
        "A golden key was lost by him on a rainy day in May.",
        "A golden key was found by her one sunny day in June.",
    ]
    for source, text in enumerate(texts):
        block = block_of(text, source)
        evidence.add(block, block_terms(block), None)
    found = weigh(evidence, lambda text: 50.0 if "June" in text else -50.0, 2)
    assert ["June" in one.passage.text for one in found] == [True, False]
    assert found[0].score - found[1].score == pytest.approx(0.25)


def test_headings_and_questions_are_rarely_the_answer() -> None:
    evidence = QuestionEvidence("Where is the golden key?")
    add(
        evidence,
        "THE GOLDEN KEY\n\nWhere is the golden key of the old king now?\n\nThe golden key lies in the old king's well.",
    )
    sentence, _ = best_sentence(weigh(evidence, no_gain, 3), evidence.index, no_gain)
    assert sentence.text.startswith("The golden key lies")
    heading = Passage(0, (Sentence("THE GOLDEN KEY", 0, 14, 1, None, True),))
    assert substance(heading) == 0.0
