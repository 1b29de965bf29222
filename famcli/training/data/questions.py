"""Questions over passages, as reading-comprehension sets have them: the passage among others, the question at the end.

A set is one .jsonl(.zst) file of records with `context`, `question`, `answers` and perhaps `unanswerable`. It is packed
once, as corpora are: its passages as tokens, its questions beside them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from famcli.documents.records import read_objects
from famcli.errors import RecipeError
from famcli.synthetic.filler import Filler
from famcli.tasks.prompts import ANSWER, NOT_SAID, QUESTION, fill
from famcli.tokens.tokenizer import Ids, Tokenizer, without_surrogates
from famcli.training.data.corpus import (
    OnProgress,
    PackedCorpus,
    PackProgress,
    cache_key,
    is_current,
    open_packed,
    write_packed,
)
from famcli.training.data.generated import OpenFiller, plain_text
from famcli.training.data.sources import Make
from famcli.training.recipe.objectives import ObjectiveRecipe

_FILE = "questions.json"
_TRIES = 8


@dataclass(frozen=True)
class QuestionSet:
    """passages: the contexts; questions: of each, (question, answer) pairs."""

    passages: PackedCorpus
    questions: list[list[tuple[str, str]]]


def open_questions(
    recipe: ObjectiveRecipe,
    tokenizer: Tokenizer,
    cache: Path,
    on_progress: OnProgress = lambda progress: None,
) -> QuestionSet:
    """The set that an objective names, under its rules, from the cache if it is there.

    Raises RecipeError if the rules leave no question, DocumentError for a file that is no such set.
    """
    assert recipe.path is not None
    rules = (recipe.where, recipe.exclude_ids, recipe.hash_field, recipe.hash_from, recipe.hash_below)
    key = cache_key(tokenizer.fingerprint, recipe.path.name, rules, recipe.max_answer_characters)
    folder = cache / f"{recipe.path.name.split('.')[0]}-questions-{key}"
    if not is_current(folder, recipe.path):
        chosen = _choose(recipe)
        if not chosen:
            raise RecipeError(f"{recipe.path}: the rules of objective {recipe.name!r} leave no question; relax them")
        texts = ((str(number), text) for number, text in enumerate(chosen))

        def report(done: int) -> None:
            on_progress(PackProgress(recipe.name, done, sum(map(len, chosen))))

        write_packed(folder, recipe.path, tokenizer, texts, report, **{_FILE: json.dumps(list(chosen.values()))})
    questions = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    return QuestionSet(open_packed(folder, recipe.name), [[(q, a) for q, a in pairs] for pairs in questions])


def _choose(recipe: ObjectiveRecipe) -> dict[str, list[tuple[str, str]]]:
    """{context: its (question, answer) pairs} of the records that the rules leave."""
    assert recipe.path is not None
    chosen: dict[str, list[tuple[str, str]]] = {}
    for line, record in read_objects(recipe.path):
        try:
            context, question, answers = record["context"], record["question"], record["answers"]
            field = str(record[recipe.hash_field])
        except KeyError as error:
            raise RecipeError(f"{recipe.path}: line {line} has no {error.args[0]!r}; correct it") from error
        byte = hashlib.sha256(field.encode("utf-8", "replace")).digest()[0]
        kept = recipe.hash_from <= byte < recipe.hash_below and str(record.get("id")) not in recipe.exclude_ids
        if not kept or any(record.get(name) != value for name, value in (recipe.where or {}).items()):
            continue
        answer = NOT_SAID if record.get("unanswerable") else (answers[0] if answers else "")
        if answer and context and len(answer) <= recipe.max_answer_characters:
            pair = (_line(question), _line(answer))
            chosen.setdefault(without_surrogates(context).strip(), []).append(pair)
    return chosen


def _line(text: Any) -> str:
    return " ".join(without_surrogates(str(text)).split())


def make_questions(
    recipe: ObjectiveRecipe, tokenizer: Tokenizer, questions: QuestionSet, open_filler: OpenFiller | None
) -> Make:
    """A passage among other passages of its set (or in the text of `open_filler`), at the end questions about it."""
    passages = questions.passages
    lengths = np.diff(passages.offsets)
    by_length = np.argsort(lengths, kind="stable")
    gap = np.array(tokenizer.encode("\n\n"), dtype=np.int32)

    def passage_ids(index: int) -> Ids:
        return np.concatenate((gap, passages.document(index).tokens.astype(np.int32)))

    def around(rng: np.random.Generator, room: int, chosen: int) -> tuple[Ids, Ids]:
        """`room` tokens to stand before and after the passage `chosen`."""
        if open_filler is not None:
            text, place = open_filler(rng).take(max(0, room - len(gap))), int(rng.integers(room + 1))
            return text[:place], np.concatenate((gap[:room], text[place:]))
        others, total = list[Ids](), 0
        while total < room and len(passages) > 1:
            other = (chosen + int(rng.integers(1, len(passages)))) % len(passages)
            others.append(passage_ids(other))
            total += len(others[-1])
        before = others[: int(rng.integers(len(others) + 1))]
        first, last = np.concatenate([gap[:0], *before]), np.concatenate([gap[:0], *others[len(before) :]])
        excess = total - room
        if len(first) >= excess:
            return first[excess:], last
        return first[:0], last[:room]

    def make(rng: np.random.Generator, num_tokens: int) -> tuple[Ids, NDArray[np.bool_]]:
        fitting = int(np.searchsorted(lengths[by_length], num_tokens, side="right"))
        for _ in range(_TRIES if fitting else 0):
            chosen = int(by_length[rng.integers(fitting)])
            passage = passage_ids(chosen)
            asked = _asked(questions.questions[chosen], recipe.queries, tokenizer, rng)
            while len(asked) > 1 and len(passage) + sum(len(ids) for ids, _ in asked) > num_tokens:
                asked.pop()
            room = num_tokens - len(passage) - sum(len(ids) for ids, _ in asked)
            if room < 0 or (open_filler is None and len(passages) == 1 and room):
                continue
            before, after = around(rng, room, chosen)
            plain = np.concatenate((before, passage, after))
            ids = np.concatenate((plain, *(ids for ids, _ in asked)))
            return ids, np.concatenate((np.zeros(len(plain), np.bool_), *(answers for _, answers in asked)))
        filler = Filler(passages.tokens, passages.offsets, rng) if open_filler is None else open_filler(rng)
        return plain_text(filler, num_tokens)

    return make


def _asked(
    pairs: list[tuple[str, str]], queries: int, tokenizer: Tokenizer, rng: np.random.Generator
) -> list[tuple[Ids, NDArray[np.bool_]]]:
    """Tokens of some of the questions with their answers, and which of them are answers."""
    made = []
    for number in rng.permutation(len(pairs))[: queries or len(pairs)]:
        question, answer = pairs[int(number)]
        asked = tokenizer.encode(fill(QUESTION, {"question": question}))
        answered = tokenizer.encode(fill(ANSWER, {"answer": answer}))
        ids = np.array(asked + answered, dtype=np.int32)
        made.append((ids, np.arange(len(ids)) >= len(asked)))
    return made
