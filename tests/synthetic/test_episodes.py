"""Passkeys, named values and stories: every answer follows from the statements, by a reading of their sentences."""

from __future__ import annotations

import re

import numpy as np
import pytest

from famcli.synthetic.episodes import (
    NUM_NAMES,
    NUMBERS,
    OBJECTS,
    TASKS,
    Episode,
    RecallQuestion,
    facts,
    interleave,
    needles,
    passkey,
    questions_of,
    statements_of,
)


def parts(episode: Episode) -> tuple[list[str], list[RecallQuestion]]:
    statements, questions = statements_of(episode), questions_of(episode)
    assert episode == (*statements, *questions)  # questions come last
    return statements, questions


def test_a_passkey_is_in_its_statement_twice() -> None:
    ((statement,), (question,)) = parts(passkey(np.random.default_rng(0), digits=7))
    key = question.answer.strip()
    assert re.fullmatch(r" \d{7}", question.answer)
    assert statement == f"The pass key is {key}. Remember it. {key} is the pass key."
    keys = {passkey(np.random.default_rng(seed))[1].answer for seed in range(50)}  # type: ignore[union-attr]
    assert len(keys) == 50
    keys = {passkey(np.random.default_rng(seed), distinct_digits=3)[1].answer for seed in range(50)}  # type: ignore[union-attr]
    assert max(len(set(key.strip())) for key in keys) == 3
    assert len(set("".join(keys))) == 11  # and the space before each


def test_named_values_differ_in_name_and_the_asked_one_is_stated() -> None:
    statements, questions = parts(needles(np.random.default_rng(0), count=NUM_NAMES, queries=5))
    assert len(set(statements)) == len({text.split(" is ")[0] for text in statements}) == NUM_NAMES
    assert len({question.text for question in questions}) == 5
    for question in questions:
        assert question.text.split("? ")[1] + question.answer + "." in statements
    with pytest.raises(ValueError, match="can be named"):
        needles(np.random.default_rng(0), count=NUM_NAMES + 1)
    with pytest.raises(ValueError, match="no more asked"):
        needles(np.random.default_rng(0), count=2, queries=3)


def test_interleaving_keeps_each_order() -> None:
    episodes = [needles(np.random.default_rng(seed), count=6, queries=3) for seed in range(4)]
    mixed = interleave(np.random.default_rng(1), episodes)
    assert mixed != tuple(part for episode in episodes for part in episode)
    for episode in episodes:
        places = [next(i for i, found in enumerate(mixed) if found is part) for part in episode]
        assert places == sorted(places)


class Reader:
    """Understands the sentences of a story on its own: where people and things are, who has what, what lies where."""

    def __init__(self, statements: list[str]) -> None:
        self.where: dict[str, str] = {}
        self.has: dict[str, set[str]] = {}
        self.visits: dict[str, list[str]] = {}
        self.gifts: list[tuple[str, str, str]] = []
        self.sides: set[tuple[str, str, str]] = set()
        for text in statements:
            self._read(text)

    def _read(self, text: str) -> None:
        if found := re.fullmatch(r"The (\w+) is (north|south|east|west) of the (\w+)\.", text):
            self.sides.add((found[1], found[2], found[3]))
            return
        words = text.rstrip(".").split()
        person = words[0]
        self.has.setdefault(person, set())
        if words[1] in ("gave", "handed", "passed"):
            self.gifts.append((person, words[3], words[5]))
            self.has[person].remove(words[3])
            self.has.setdefault(words[5], set()).add(words[3])
        elif words[-1] not in OBJECTS:
            self.where[person] = words[-1]
            for thing in self.has[person]:
                self._visit(thing, person)
        elif words[1] in ("picked", "took", "grabbed"):
            self.has[person].add(words[-1])
            self._visit(words[-1], person)
        else:
            assert words[1] in ("put", "dropped", "left")
            self.has[person].remove(words[-1])

    def _visit(self, thing: str, person: str) -> None:
        visits = self.visits.setdefault(thing, [])
        if person in self.where and (not visits or visits[-1] != self.where[person]):
            visits.append(self.where[person])

    def answer(self, question: str) -> str:
        asked = question.split("?")[0]
        if found := re.fullmatch(r"Where is the (\w+)", asked):
            return self.visits[found[1]][-1]
        if found := re.fullmatch(r"Where is (\w+)", asked):
            return self.where[found[1]]
        if found := re.fullmatch(r"Where was the (\w+) before the (\w+)", asked):
            visits = self.visits[found[1]]
            assert visits.count(found[2]) == 1
            return visits[visits.index(found[2]) - 1]
        if found := re.fullmatch(r"What is (\w+) of the (\w+)", asked):
            (answer,) = (a for a, side, b in self.sides if (side, b) == (found[1], found[2]))
            return answer
        if found := re.fullmatch(r"What is the (\w+) (\w+) of", asked):
            (answer,) = (b for a, side, b in self.sides if (a, side) == (found[1], found[2]))
            return answer
        if found := re.fullmatch(r"What did (\w+) give to (\w+)", asked):
            return [thing for a, thing, b in self.gifts if (a, b) == (found[1], found[2])][-1]
        if found := re.fullmatch(r"Who gave the (\w+) to (\w+)", asked):
            return [a for a, thing, b in self.gifts if (thing, b) == (found[1], found[2])][-1]
        if found := re.fullmatch(r"Who did (\w+) give the (\w+) to", asked):
            return [b for a, thing, b in self.gifts if (a, thing) == (found[1], found[2])][-1]
        if found := re.fullmatch(r"Is (\w+) in the (\w+)", asked):
            return "yes" if self.where[found[1]] == found[2] else "no"
        found = re.fullmatch(r"How many things has (\w+)", asked)
        assert found is not None, asked
        return NUMBERS[len(self.has[found[1]])]


@pytest.mark.parametrize("task", TASKS)
def test_answers_follow_from_the_story(task: str) -> None:
    rng = np.random.default_rng(0)
    answers, lengths = set(), set()
    for _ in range(200):
        statements, questions = parts(facts(rng, task=task, questions=None))
        reader = Reader(statements)
        lengths.add(len(statements))
        assert questions
        assert len({question.text for question in questions}) == len(questions)
        for question in questions:
            assert question.answer == " " + reader.answer(question.text), (statements, question)
            assert question.answer in question.choices
            answers.add(question.answer)
    assert lengths == set(range(max(2, min(lengths)), 11))
    assert len(answers) >= {"yes_no": 2, "counting": 4}.get(task, 6)


def test_the_number_of_sentences_and_questions_can_be_given() -> None:
    rng = np.random.default_rng(0)
    for task in TASKS:
        statements, questions = parts(facts(rng, task=task, count=6))
        assert (len(statements), len(questions)) == (6, 1)
    assert len(parts(facts(rng, task="qa1", count=50, questions=None))[1]) == 4  # every person was somewhere by then
    for task, count in (("qa3", 2), ("qa4", 12), ("qa1", 0)):
        with pytest.raises(ValueError, match=f"{count} statements for {task}"):
            facts(rng, task=task, count=count)
    with pytest.raises(ValueError, match="'qa9' is unknown"):
        facts(rng, task="qa9")


def test_yes_and_no_are_equally_likely() -> None:
    rng = np.random.default_rng(0)
    answers = [facts(rng, task="yes_no")[-1].answer for _ in range(400)]  # type: ignore[union-attr]
    assert 160 < answers.count(" yes") < 240
