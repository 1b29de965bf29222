"""What is hidden in a long text and asked for later: pass keys, named codes, and stories of facts to keep track of.

Training and evaluation take their wording from here, so a network is tested in the words it was trained on. Stories
are like the bAbI tasks (arXiv 1502.05698), but in a world of their own, which is simulated: people move, and take, drop
and give things; places lie beside one another. Each task asks what follows from one, two or three sentences of the
story, or a count, or a yes or no.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")


@dataclass(frozen=True)
class RecallQuestion:
    """A question, followed by the beginning of the sentence that answers it.

    text: ends directly before the answer. answer: includes the space before it, but not the full stop after it.
    choices: the closed set of possible answers, spaced like `answer`; empty for digits.
    """

    text: str
    answer: str
    choices: tuple[str, ...] = ()

    def is_about(self, statement: str) -> bool:
        """True if the question ends with the beginning of `statement`, and its answer is the next word of it."""
        return statement.startswith(self.text.split("? ", 1)[1] + self.answer)


Episode = tuple[str | RecallQuestion, ...]
"""Statements (plain strings, no space around them) and questions, in the order of the text. A question comes after
every statement it is about."""

_COLOURS = (
    *("amber", "black", "blue", "brown", "copper", "crimson", "golden", "green", "grey", "iron", "ivory", "marble"),
    *("orange", "purple", "red", "silver", "stone", "white", "wooden", "yellow"),
)
_THINGS = ("bell", "box", "bridge", "cabin", "chest", "door", "drawer", "gate", "lamp", "locker", "safe", "tower")
NUM_NAMES = len(_COLOURS) * len(_THINGS)
"""The most named codes that one episode can hold."""


def statements_of(episode: Episode) -> list[str]:
    return [part for part in episode if isinstance(part, str)]


def questions_of(episode: Episode) -> list[RecallQuestion]:
    return [part for part in episode if isinstance(part, RecallQuestion)]


def passkey(rng: np.random.Generator, *, digits: int = 5, distinct_digits: int | None = None) -> Episode:
    """One number of `digits` random digits, stated twice, and the question for it (TransformerFAM's PassKey task).

    distinct_digits: draw the digits from this many of the ten, so that more of them repeat.
    """
    few = None if distinct_digits is None else rng.choice(10, distinct_digits, replace=False)
    key = _number(rng, digits) if few is None else "".join(map(str, rng.choice(few, digits)))
    statement = f"The pass key is {key}. Remember it. {key} is the pass key."
    return statement, RecallQuestion("What is the pass key? The pass key is", f" {key}")


def needles(rng: np.random.Generator, *, count: int, queries: int = 1, digits: int = 4) -> Episode:
    """`count` named codes, then questions for `queries` of them, drawn at random.

    Raises ValueError for more codes than there are names, and for more questions than codes.
    """
    if not 0 < queries <= count <= NUM_NAMES:
        raise ValueError(f"{count} named values, {queries} questions: 1 to {NUM_NAMES} can be named, and no more asked")
    names = [
        f"{_COLOURS[number // len(_THINGS)]} {_THINGS[number % len(_THINGS)]}"
        for number in rng.choice(NUM_NAMES, count, replace=False)
    ]
    values = [_number(rng, digits) for _ in names]
    beginnings = [f"The code of the {name} is" for name in names]
    statements = [f"{start} {value}." for start, value in zip(beginnings, values, strict=True)]
    # Questions come in an order of their own, not in that of the statements.
    asked = rng.choice(count, queries, replace=False)
    questions = [RecallQuestion(f"What is the code of the {names[i]}? {beginnings[i]}", f" {values[i]}") for i in asked]
    return (*statements, *questions)


def interleave(rng: np.random.Generator, episodes: Sequence[Episode]) -> Episode:
    """All episodes shuffled into one; each keeps its own order. They must not contradict one another."""
    order = rng.permutation(np.repeat(np.arange(len(episodes)), [len(episode) for episode in episodes]))
    remaining = [iter(episode) for episode in episodes]
    return tuple(next(remaining[index]) for index in order)


def _number(rng: np.random.Generator, digits: int) -> str:
    return "".join(map(str, rng.integers(0, 10, digits)))


PERSONS = ("Clara", "Victor", "Nora", "Hugo", "Edith", "Felix")
PLACES = (
    *("cellar", "tower", "chapel", "stable", "library", "harbour"),
    *("market", "orchard", "mill", "bakery", "prison", "school"),
)
OBJECTS = ("lantern", "violin", "basket", "letter", "hammer", "candle")
NUMBERS = ("none", "one", "two", "three", "four", "five", "six")

# Those of one story; the places of a qa4 story are as many as it needs.
_PEOPLE, _PLACES = PERSONS[:4], PLACES[:6]
_GOES = ("went to", "walked to", "hurried to", "came to", "has gone to")
_TAKES = ("picked up", "took", "grabbed")
_DROPS = ("put down", "dropped", "left")
_GIVES = ("gave", "handed", "passed")
_SIDES = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
# Statements of a story, as in bAbI.
_LENGTHS = (2, 10)
_LONGEST_STORY = 1000


@dataclass
class _World:
    """The state of a story, and the sentences that told it.

    where: the place of each person. holder: who has each object. visits: the places of each object, in order.
    gifts: (giver, object, receiver) of each gift, in order.
    """

    rng: np.random.Generator
    objects: tuple[str, ...]
    where: dict[str, str] = field(default_factory=dict)
    holder: dict[str, str | None] = field(default_factory=dict)
    visits: dict[str, list[str]] = field(default_factory=dict)
    gifts: list[tuple[str, str, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def pick(self, options: Sequence[_T]) -> _T:
        return options[int(self.rng.integers(len(options)))]

    def held(self, person: str) -> list[str]:
        return [thing for thing, holder in self.holder.items() if holder == person]

    def go(self) -> None:
        person = self.pick(_PEOPLE)
        place = self.pick([place for place in _PLACES if place != self.where.get(person)])
        self.where[person] = place
        for thing in self.held(person):
            self._visit(thing, place)
        self.said.append(f"{person} {self.pick(_GOES)} the {place}.")

    def take(self) -> bool:
        """A person whose place is known takes an object that is there, or was not seen yet. False if there is none."""
        options = [
            (person, thing)
            for person, place in self.where.items()
            for thing in self.objects
            if self.holder.get(thing) is None and self.visits.get(thing, [place])[-1] == place
        ]
        if options:
            person, thing = self.pick(options)
            self._visit(thing, self.where[person])
            self._get(person, thing)
        return bool(options)

    def find(self) -> bool:
        """A person, wherever they are, takes an object that nobody has."""
        things = [thing for thing in self.objects if self.holder.get(thing) is None]
        if things:
            self._get(self.pick(_PEOPLE), self.pick(things))
        return bool(things)

    def drop(self) -> bool:
        things = self._in_hands()
        if things:
            thing, holder = self.pick(things)
            self.said.append(f"{holder} {self.pick(_DROPS)} the {thing}.")
            self.holder[thing] = None
        return bool(things)

    def give(self) -> bool:
        """An object changes hands; places do not matter in these stories."""
        things = self._in_hands()
        if things:
            thing, giver = self.pick(things)
            receiver = self.pick([person for person in _PEOPLE if person != giver])
            self.holder[thing] = receiver
            self.gifts.append((giver, thing, receiver))
            self.said.append(f"{giver} {self.pick(_GIVES)} the {thing} to {receiver}.")
        return bool(things)

    def _in_hands(self) -> list[tuple[str, str]]:
        return [(thing, holder) for thing, holder in self.holder.items() if holder is not None]

    def _get(self, person: str, thing: str) -> None:
        self.holder[thing] = person
        self.said.append(f"{person} {self.pick(_TAKES)} the {thing}.")

    def _visit(self, thing: str, place: str) -> None:
        visits = self.visits.setdefault(thing, [])
        if not visits or visits[-1] != place:
            visits.append(place)


def _ask(text: str, answer: str, words: Sequence[str]) -> RecallQuestion:
    return RecallQuestion(text, f" {answer}", tuple(f" {word}" for word in words))


def _where_is_person(world: _World, count: int) -> list[RecallQuestion]:
    for _ in range(count):
        world.go()
    return [_ask(f"Where is {who}? {who} is in the", place, _PLACES) for who, place in world.where.items()]


def _carry(world: _World, count: int) -> None:
    while len(world.said) < count:
        act = world.rng.random()
        done = (act < 0.35 and world.take()) or (act > 0.85 and world.drop())
        if not done:
            world.go()


def _where_is_object(world: _World, count: int) -> list[RecallQuestion]:
    _carry(world, count)
    last = {thing: visits[-1] for thing, visits in world.visits.items()}
    return [_ask(f"Where is the {thing}? The {thing} is in the", place, _PLACES) for thing, place in last.items()]


def _where_was_object(world: _World, count: int) -> list[RecallQuestion]:
    _carry(world, count)
    questions = []
    for thing, visits in world.visits.items():
        for before, place in pairwise(visits):
            # A place that was visited twice has no single place before it.
            if visits.count(place) == 1:
                text = f"Where was the {thing} before the {place}? Before the {place} the {thing} was in the"
                questions.append(_ask(text, before, _PLACES))
    return questions


def _what_lies_where(world: _World, count: int) -> list[RecallQuestion]:
    """Places on a grid; each new place is beside one that was named before."""
    names = [PLACES[i] for i in world.rng.permutation(max(len(_PLACES), count + 1))]
    cells, questions = {(0, 0): names[0]}, list[RecallQuestion]()
    while len(world.said) < count:
        x, y = world.pick(list(cells))
        side = world.pick(list(_SIDES))
        cell = (x + _SIDES[side][0], y + _SIDES[side][1])
        if cell in cells:
            continue
        old, new = cells[x, y], names[len(cells)]
        cells[cell] = new
        world.said.append(f"The {new} is {side} of the {old}.")
        text = f"What is {side} of the {old}? {side.capitalize()} of the {old} is the"
        questions.append(_ask(text, new, sorted(names)))
        questions.append(_ask(f"What is the {new} {side} of? The {new} is {side} of the", old, sorted(names)))
    return questions


def _who_gave_what(world: _World, count: int) -> list[RecallQuestion]:
    while len(world.said) < count:
        if not (world.rng.random() < 0.7 and world.give()) and not world.find():
            world.give()
    questions: dict[str, RecallQuestion] = {}
    # Where several gifts fit a question, the last one counts, so later ones overwrite earlier ones.
    for giver, thing, receiver in world.gifts:
        for asked in (
            _ask(f"What did {giver} give to {receiver}? {giver} gave {receiver} the", thing, world.objects),
            _ask(f"Who gave the {thing} to {receiver}? {receiver} got the {thing} from", giver, _PEOPLE),
            _ask(f"Who did {giver} give the {thing} to? {giver} gave the {thing} to", receiver, _PEOPLE),
        ):
            questions[asked.text] = asked
    return list(questions.values())


def _is_person_there(world: _World, count: int) -> list[RecallQuestion]:
    for _ in range(count):
        world.go()
    questions = []
    for person, place in world.where.items():
        right = bool(world.rng.random() < 0.5)
        # Yes and no are equally likely, so that guessing gets half of them.
        asked = place if right else world.pick([other for other in _PLACES if other != place])
        text = f"Is {person} in the {asked}? The answer is"
        questions.append(_ask(text, "yes" if right else "no", ("yes", "no")))
    return questions


def _how_many(world: _World, count: int) -> list[RecallQuestion]:
    while len(world.said) < count:
        if not (world.rng.random() < 0.65 and world.find()) and not world.drop():
            world.find()
    # Sorted, as the order of a set changes from run to run.
    seen = sorted({sentence.split(" ", 1)[0] for sentence in world.said})
    words = NUMBERS[: len(world.objects) + 1]
    return [_ask(f"How many things has {who}? {who} has", NUMBERS[len(world.held(who))], words) for who in seen]


_TASKS: dict[str, tuple[Callable[[_World, int], list[RecallQuestion]], int]] = {
    "qa1": (_where_is_person, 1),
    "qa2": (_where_is_object, 2),
    "qa3": (_where_was_object, 3),
    "qa4": (_what_lies_where, 1),
    "qa5": (_who_gave_what, 2),
    "yes_no": (_is_person_there, 1),
    "counting": (_how_many, 1),
}
TASKS = tuple(_TASKS)
"""qa1: where a person is; qa2: where an object is; qa3: where it was before; qa4: what lies beside what; qa5: who gave
what to whom; yes_no; counting."""


def facts(rng: np.random.Generator, *, task: str, count: int | None = None, questions: int | None = 1) -> Episode:
    """A story of `count` statements (2 to 10 if not given) and questions about the situation at its end.

    questions: the most questions, drawn at random; None asks everything that has an answer. There is at least one.
    Raises ValueError for an unknown task, and for a `count` that leaves nothing to ask.
    """
    if task not in _TASKS:
        raise ValueError(f"the task {task!r} is unknown; choose from {', '.join(TASKS)}")
    make, least = _TASKS[task]
    # Each statement of a qa4 story names another place.
    longest = len(PLACES) - 1 if task == "qa4" else _LONGEST_STORY
    if count is not None and not least <= count <= longest:
        raise ValueError(f"{count} statements for {task}: it must be {least} to {longest}")
    # A drawn story may leave nothing to ask, such as qa3 where nothing moved twice.
    while True:
        world = _World(rng, OBJECTS if task == "counting" else OBJECTS[:3])
        drawn = count or int(rng.integers(max(least, _LENGTHS[0]), _LENGTHS[1] + 1))
        if asked := make(world, drawn):
            break
    if questions is not None:
        asked = [asked[i] for i in rng.permutation(len(asked))[:questions]]
    return (*world.said, *asked)
