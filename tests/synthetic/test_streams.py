"""Episodes in filler: nothing is lost, places are where they should be, and nothing is held."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

from famcli.synthetic.episodes import RecallQuestion, needles, passkey, statements_of
from famcli.synthetic.streams import ANSWER, PIECE, STATEMENT, Filler, embed, layout, num_statement_tokens, question_ids
from famcli.tokens.tokenizer import ByteTokenizer

TOKENIZER = ByteTokenizer()
TEXT = "It rained. The boat was late! Who knew why? Nobody came.\n" * 40
TOKENS = np.frombuffer(TEXT.encode(), dtype=np.uint8).astype(np.uint16)


def filler(seed: int = 0, tokens: np.ndarray = TOKENS, offsets: tuple[int, ...] | None = None) -> Filler:
    return Filler(tokens, np.array(offsets or (0, len(tokens))), np.random.default_rng(seed))


def text_of(pieces: object) -> str:
    return TOKENIZER.decode(np.concatenate(list(pieces)).tolist())  # type: ignore[call-overload]


def test_filler_reads_whole_documents_without_end() -> None:
    tokens, offsets = np.array([1, 2, 3, 10, 20, 30, 40], dtype=np.uint16), (0, 3, 3, 7)
    stream = filler(3, tokens, offsets)
    found = np.concatenate([stream.take(n) for n in (1, 5, 0, 200)])
    assert found.dtype == np.int32
    assert len(found) == 206
    text = " ".join(map(str, found))
    whole = text.replace("10 20 30 40", "B").replace("1 2 3", "A").split()
    inner = whole[4:-4]  # the first and the last document may be cut
    assert set(inner) == {"A", "B"}
    assert len(inner) > 40
    assert np.array_equal(found[:50], filler(3, tokens, offsets).take(50))
    with pytest.raises(ValueError, match="at least one document"):
        filler(0, tokens, (0, 0))


def test_a_stream_holds_its_statements_and_nothing_else_is_changed() -> None:
    episode = needles(np.random.default_rng(0), count=8)
    statements = statements_of(episode)
    text = text_of(layout(episode, TOKENIZER, filler(), 3000, np.random.default_rng(1)))
    assert len(text) == 3000
    places = [text.index(statement) for statement in statements]
    assert places == sorted(places)  # in the order of the episode
    assert "?  What" not in text  # no question
    rest = text
    for statement in statements:
        rest = rest.replace(" " + statement, "")
    assert rest in TEXT * 4
    for place in places:
        assert place <= 1 or text[place - 2] in ".!?\n"  # between sentences


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 1.0])
def test_a_depth_is_a_share_of_the_filler(depth: float) -> None:
    episode = passkey(np.random.default_rng(0))
    statement = statements_of(episode)[0]
    text = text_of(layout(episode, TOKENIZER, filler(), 2000, np.random.default_rng(0), depths=[depth]))
    room = 2000 - len(statement) - 1
    assert 0 <= text.index(statement) - 1 - depth * room <= 64
    if depth == 1.0:
        assert text.endswith(statement)


def test_depths_need_not_ascend() -> None:
    episode = needles(np.random.default_rng(0), count=3, queries=3)
    text = text_of(layout(episode, TOKENIZER, filler(), 1500, np.random.default_rng(0), depths=[1.0, 0.0, 0.5]))
    first, second, third = (text.index(statement) for statement in statements_of(episode))
    assert second < third < first


def test_places_are_uniform() -> None:
    rng = np.random.default_rng(0)
    places = []
    for _ in range(300):
        episode = passkey(rng)
        places.append(text_of(layout(episode, TOKENIZER, filler(), 3000, rng)).index(statements_of(episode)[0]) / 2930)
    counts, _ = np.histogram(places, 5, (0, 1.02))
    assert counts.min() > 35


def test_streams_of_the_least_length_have_no_filler() -> None:
    episode = needles(np.random.default_rng(0), count=3)
    least = num_statement_tokens(episode, TOKENIZER)
    text = text_of(layout(episode, TOKENIZER, filler(), least, np.random.default_rng(0)))
    assert text == "".join(" " + statement for statement in statements_of(episode))
    with pytest.raises(ValueError, match="do not fit"):
        layout(episode, TOKENIZER, filler(), least - 1, np.random.default_rng(0))


def test_ten_million_tokens_stream_in_flat_memory() -> None:
    episode = needles(np.random.default_rng(0), count=4)
    pieces = layout(episode, TOKENIZER, filler(), 10_000_000, np.random.default_rng(0))
    total = max(len(piece) for piece in itertools.islice(pieces, 100))
    assert total <= PIECE
    tracemalloc.start()
    try:
        count = sum(len(piece) for piece in pieces)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count > 9_000_000
    assert peak < 1_000_000


def test_a_training_document_marks_its_answers_and_ends_with_one() -> None:
    episode = needles(np.random.default_rng(0), count=5, queries=3)
    ids, marks = embed(episode, TOKENIZER, filler(), 900, np.random.default_rng(2))
    assert (ids.shape, ids.dtype, marks.shape, marks.dtype) == ((900,), np.int32, (900,), np.int8)
    text = TOKENIZER.decode(ids.tolist())
    questions = [part for part in episode if isinstance(part, RecallQuestion)]
    assert text.endswith("".join(f" {part.text}{part.answer}." for part in questions))
    assert TOKENIZER.decode(ids[marks == ANSWER].tolist()) == "".join(f"{part.answer}." for part in questions)
    stated = "".join(f" {statement}" for statement in statements_of(episode))
    assert TOKENIZER.decode(ids[marks == STATEMENT].tolist()) == stated
    for part in episode:
        assert (part if isinstance(part, str) else part.text) in text


def test_questions_can_stand_anywhere_after_what_they_are_about() -> None:
    ends = []
    for seed in range(30):
        # Only questions after the last statement stand at the end.
        episode = (*passkey(np.random.default_rng(seed)), "Nothing more was said.")
        ids, marks = embed(episode, TOKENIZER, filler(seed), 1000, np.random.default_rng(seed))
        text = TOKENIZER.decode(ids.tolist())
        assert text.index(statements_of(episode)[0]) < text.index(episode[1].text)
        ends.append(int(np.flatnonzero(marks == ANSWER)[-1]))
    assert min(ends) < 700
    assert len(set(ends)) > 20
    with pytest.raises(ValueError, match="do not fit into 50"):
        embed(passkey(np.random.default_rng(0)), TOKENIZER, filler(), 50, np.random.default_rng(0))


def test_a_question_is_its_tokens_up_to_the_answer() -> None:
    question, answer = question_ids(RecallQuestion("Who? It was", " Ann"), TOKENIZER)
    assert (TOKENIZER.decode(question.tolist()), TOKENIZER.decode(answer.tolist())) == (" Who? It was", " Ann")
