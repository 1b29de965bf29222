"""Documents made for an objective: exactly as long as asked, answers where they are said to be, and true."""

from __future__ import annotations

import dataclasses
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from famcli.errors import RecipeError
from famcli.evaluation.texts import TokenCorpus
from famcli.synthetic.streams import ANSWER
from famcli.tasks.prompts import NOT_SAID, REMEMBER, REPEAT
from famcli.tokens.tokenizer import ByteTokenizer
from famcli.training.data.corpus import pack
from famcli.training.data.made import Make, filler_of, make_episodes, make_questions, make_repeat, open_questions
from famcli.training.data.objectives import DocumentStream, generated_stream
from famcli.training.recipe.sections import CorpusRecipe, ObjectiveRecipe

TOKENIZER = ByteTokenizer()
LENGTH = 1200


@pytest.fixture
def corpus(tmp_path: Path) -> TokenCorpus:
    with (tmp_path / "texts.jsonl").open("w") as file:
        for name in "abcde":
            text = " ".join(f"The {name} of tale {number} went on and on." for number in range(200))
            file.write(json.dumps({"id": name, "text": text}) + "\n")
    return pack(CorpusRecipe(name="texts", path=tmp_path / "texts.jsonl", weight=1.0), TOKENIZER, tmp_path, 0)


def parts(make: Make, seed: int, length: int = LENGTH) -> list[tuple[bool, str]]:
    """The document in runs: (is it an answer, its text)."""
    ids, marks = make(np.random.default_rng(seed), length)
    assert len(ids) == len(marks) == length
    answers = marks == ANSWER
    edges = [0, *(np.flatnonzero(np.diff(answers)) + 1), length]
    return [(bool(answers[first]), TOKENIZER.decode(ids[first:last].tolist())) for first, last in pairwise(edges)]


def episodes(corpus: TokenCorpus, **keys: object) -> Make:
    recipe = ObjectiveRecipe(**keys)  # type: ignore[arg-type]
    return make_episodes(recipe, TOKENIZER, filler_of([corpus], [1.0]), 400)


def test_passkeys_follow_one_another_each_with_its_question(corpus: TokenCorpus) -> None:
    for seed in range(10):
        runs = parts(episodes(corpus, kind="passkey", digits=6, episodes_per_block=1.0), seed)
        answers = [text for answer, text in runs if answer]
        before = [text for answer, text in runs if not answer]
        assert 1 <= len(answers) <= 3
        for text, answer in zip(before, answers, strict=True):
            keys = re.findall(r"The pass key is (\d{6})\. Remember", text)
            assert answer == f" {keys[0]}."
            assert len(keys) == 1
            assert text.endswith("What is the pass key? The pass key is")
    lengths = {len([0 for answer, _ in parts(episodes(corpus, kind="passkey"), seed) if answer]) for seed in range(5)}
    assert lengths == {1}


def test_needles_are_asked_for_anywhere_behind_them(corpus: TokenCorpus) -> None:
    distances = []
    for seed in range(20):
        runs = parts(episodes(corpus, kind="needles", episodes_per_block=1.5), seed, 4 * LENGTH)
        said, asked, place, previous = {}, [], 0, ""
        for answer, text in runs:
            for found in re.finditer(r"The code of the (\w+ \w+) is (\d{4})\.", text):
                said[found[1]] = (found[2], place)
            if answer:
                name = re.findall(r"What is the code of the (\w+ \w+)\?", previous)[-1]
                code, where = said[name]
                assert text == f" {code}."
                asked.append(name)
                distances.append(place - where)
            place, previous = place + len(text), text
        assert len(asked) == len(set(asked)) == 18
    assert max(distances) > 3000
    assert min(distances) < 1000


def test_several_needles_and_some_questions(corpus: TokenCorpus) -> None:
    runs = parts(episodes(corpus, kind="needles", count=5, queries=2, digits=3), 1)
    text = "".join(run for _, run in runs)
    assert len(re.findall(r"(?<!\? )The code of the \w+ \w+ is \d{3}\.", text)) == 5
    assert [answer for answer, _ in runs] == [False, True, False, True]
    assert all(len(run) == len(" 123.") for answer, run in runs if answer)


def test_facts_are_asked_for_all_that_is_known(corpus: TokenCorpus) -> None:
    make = episodes(corpus, kind="facts", tasks=("qa1", "yes_no"), count=6, queries=0)
    seen = set()
    for seed in range(12):
        runs = parts(make, seed)
        text = "".join(run for _, run in runs)
        persons = set(re.findall(r"(\w+) (?:went|walked|hurried|came|has gone) to the \w+\.", text))
        assert len([0 for answer, _ in runs if answer]) == len(persons)
        seen |= {run for answer, run in runs if answer}
    assert {" yes.", " no."} < seen
    assert len(seen) > 4


def test_a_document_too_short_for_an_episode_is_text(corpus: TokenCorpus) -> None:
    for kind in ("passkey", "facts", "repeat"):
        recipe = ObjectiveRecipe(kind=kind)
        filler = filler_of([corpus], [1.0])
        make = make_repeat if kind == "repeat" else None
        short = make(recipe, TOKENIZER, filler) if make else make_episodes(recipe, TOKENIZER, filler, 8)
        assert [answer for answer, _ in parts(short, 0, 16)] == [False]


def test_the_repetition_is_the_passage_marked_earlier(corpus: TokenCorpus) -> None:
    make = make_repeat(ObjectiveRecipe(kind="repeat", segment_tokens=50), TOKENIZER, filler_of([corpus], [1.0]))
    places = set()
    for seed in range(10):
        (_, text), (_, repeated) = parts(make, seed)
        assert text.endswith(REPEAT)
        assert text.split(REMEMBER)[1].startswith(repeated + "\n\n")
        assert len(repeated) == 50
        places.add(text.index(REMEMBER))
    assert max(places) - min(places) > 300
    assert len(parts(make, 0, 150)[-1][1]) == (150 - len(REMEMBER + "\n\n" + REPEAT)) // 3


def test_filler_comes_from_the_corpora_by_their_weights(corpus: TokenCorpus) -> None:
    other = dataclasses.replace(corpus, tokens=np.full(corpus.num_tokens, ord("x"), np.uint16))
    opened = filler_of([corpus, other], [3.0, 1.0])
    drawn = [opened(np.random.default_rng(seed)).take(1)[0] == ord("x") for seed in range(400)]
    assert sum(drawn) / 400 == pytest.approx(0.25, abs=0.07)


def test_made_documents_depend_on_their_number_and_length_alone(corpus: TokenCorpus) -> None:
    make = episodes(corpus, kind="passkey")

    def source(seed: int = 1) -> DocumentStream:
        return generated_stream(ObjectiveRecipe(kind="passkey", name="keys"), 2, seed, 400, 0, make)

    first = source().document(5, 2)
    source().document(4, 2)
    again = source().document(5, 2)
    assert np.array_equal(first[0], again[0])
    assert len(source().document(5, 3)[0]) == 1200
    assert not np.array_equal(first[0], source().document(6, 2)[0])
    assert not np.array_equal(first[0], source(2).document(5, 2)[0])


RECORDS = [
    {
        "id": "q0",
        "title": "Tea",
        "context": "Tea is " + "green. " * 20,
        "question": "What is tea?",
        "answers": ["green"],
    },
    {"id": "q1", "title": "Tea", "context": "Tea is " + "green. " * 20, "question": "Why?", "answers": ["so\nit is"]},
    {
        "id": "q2",
        "title": "Milk",
        "context": "Milk is " + "white. " * 20,
        "question": "Which?",
        "answers": ["white", "w"],
    },
    {"id": "q3", "title": "Salt", "context": "Salt. " * 30, "question": "Old?", "answers": [], "unanswerable": True},
    {"id": "q4", "title": "Long", "context": "Long. " * 300, "question": "Long?", "answers": ["x" * 300]},
    {"id": "q5", "title": "None", "context": "None.", "question": "None?", "answers": []},
]


@pytest.fixture
def questions(tmp_path: Path) -> ObjectiveRecipe:
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return ObjectiveRecipe(kind="questions", name="set", path=path)


def test_questions_stand_at_the_end_of_passages_one_of_which_they_are_about(
    questions: ObjectiveRecipe, tmp_path: Path
) -> None:
    made = open_questions(questions, TOKENIZER, tmp_path)
    make, seen = make_questions(dataclasses.replace(questions, queries=2), TOKENIZER, made, None), set()
    for seed in range(40):
        runs = parts(make, seed, 700)
        text = "".join(run for _, run in runs)
        assert runs[-1][0]
        about = {record["question"]: record for record in RECORDS}
        for (_, before), (_, answer) in zip(runs[::2], runs[1::2], strict=True):
            record = about[re.findall(r"\n\nQuestion: (.*)\nAnswer:$", before)[0]]
            context = str(record["context"]).strip()
            assert context in text
            expected = NOT_SAID if record.get("unanswerable") else " ".join(record["answers"][0].split())
            assert answer == f" {expected}\n"
            seen.add((record["id"], text.index(context) > 350))
    assert len(seen) == 8  # four questions, early and late
    assert [answer for answer, _ in parts(make, 0, 60)] == [False]


def test_questions_can_stand_in_the_text_of_corpora(
    questions: ObjectiveRecipe, corpus: TokenCorpus, tmp_path: Path
) -> None:
    made = open_questions(questions, TOKENIZER, tmp_path)
    make = make_questions(questions, TOKENIZER, made, filler_of([corpus], [1.0]))
    for seed in range(10):
        (_, text), (_, answer) = parts(make, seed)
        assert len(re.findall(r"went on and on", text)) > 10
        assert answer in (" green\n", " so it is\n", " white\n", f" {NOT_SAID}\n")


def test_what_is_held_out_of_a_set_is_never_asked(questions: ObjectiveRecipe, tmp_path: Path) -> None:
    def asked(**rules: object) -> set[str]:
        made = open_questions(dataclasses.replace(questions, **rules), TOKENIZER, tmp_path)  # type: ignore[arg-type]
        return {question for pairs in made[1] for question, _ in pairs}

    assert asked() == {"What is tea?", "Why?", "Which?", "Old?"}
    low, high = asked(hash_field="title", hash_below=128), asked(hash_field="title", hash_from=128)
    assert low | high == asked()
    assert not low & high
    assert ("Why?" in low) == ("What is tea?" in low)
    assert asked(exclude_ids=("q1", "q3")) == {"What is tea?", "Which?"}
    assert asked(where={"title": "Milk"}) == {"Which?"}
    assert "Long?" in asked(max_answer_characters=300)
    with pytest.raises(RecipeError, match="leave no question"):
        asked(where={"title": "Sugar"})
    with pytest.raises(RecipeError, match="line 1 has no 'story'"):
        asked(hash_field="story")


def test_a_packed_set_needs_its_file_no_more(questions: ObjectiveRecipe, tmp_path: Path) -> None:
    before = open_questions(questions, TOKENIZER, tmp_path)
    assert questions.path is not None
    questions.path.unlink()
    assert open_questions(questions, TOKENIZER, tmp_path)[1] == before[1]
