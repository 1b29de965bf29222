"""Documents made for objectives: something is hidden in real text and asked for, in the words of `famcli.synthetic`, so
that training and evaluation use the same ones. A document too short for its objective is plain text.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from famcli.documents.records import read_objects
from famcli.errors import RecipeError
from famcli.evaluation.texts import TokenCorpus
from famcli.synthetic import episodes, streams
from famcli.synthetic.episodes import Episode, questions_of, statements_of
from famcli.synthetic.sequences import sequence
from famcli.synthetic.streams import Filler, Marks, embed
from famcli.tasks.prompts import ANSWER, NOT_SAID, QUESTION, REMEMBER, REPEAT, fill
from famcli.tokens.tokenizer import Ids, Tokenizer, without_surrogates
from famcli.training.data import corpus as packing
from famcli.training.data.corpus import OnProgress, ignore_progress
from famcli.training.recipe.sections import ObjectiveRecipe

Made = tuple[Ids, Marks]
"""A made document: ids [n], and marks [n] of what answers and statements are."""
Make = Callable[[np.random.Generator, int], Made]
"""Makes a document of the given number of tokens."""
OpenFiller = Callable[[np.random.Generator], Filler]
QuestionSet = tuple[TokenCorpus, list[list[tuple[str, str]]]]
"""Passages as tokens, and the (question, answer) pairs of each."""

_QUESTIONS_FILE = "questions.json"
# Drawn episodes and passages may be too long for a document; after this many tries it becomes plain text.
_TRIES = 8


def filler_of(corpora: Sequence[TokenCorpus], weights: Sequence[float]) -> OpenFiller:
    """Text of one of `corpora`, drawn by `weights`, from a random place of a random document on."""
    shares = np.array(weights, dtype=np.float64) / sum(weights)

    return lambda rng: corpora[int(rng.choice(len(corpora), p=shares))].filler(rng)


def make_repeat(recipe: ObjectiveRecipe, tokenizer: Tokenizer, open_filler: OpenFiller) -> Make:
    """A marked passage somewhere in real text, and its repetition at the end, which is the answer."""
    first, gap, last = (np.array(tokenizer.encode(text), dtype=np.int32) for text in (REMEMBER, "\n\n", REPEAT))
    num_cues = len(first) + len(gap) + len(last)

    def make(rng: np.random.Generator, num_tokens: int) -> Made:
        filler = open_filler(rng)
        # At most a third of the document: the passage, its repetition, and as much text around them.
        length = min(recipe.segment_tokens, (num_tokens - num_cues) // 3)
        if length < 1:
            return _plain(filler, num_tokens)
        room = num_tokens - num_cues - 2 * length
        text = filler.take(room + length)
        start = int(rng.integers(room + 1))
        passage = text[start : start + length]
        ids = np.concatenate((text[:start], first, passage, gap, text[start + length :], last, passage))
        return ids, _from(num_tokens, num_tokens - length)

    return make


def make_episodes(recipe: ObjectiveRecipe, tokenizer: Tokenizer, open_filler: OpenFiller, block_size: int) -> Make:
    """Pass keys, needles or facts in real text, and questions for them.

    With `episodes_per_block`, pass keys follow one another, each with its question before the next one; the question
    for a needle stands anywhere after it.
    """

    def make(rng: np.random.Generator, num_tokens: int) -> Made:
        count = max(1, round(recipe.episodes_per_block * num_tokens / block_size))
        filler = open_filler(rng)
        for _ in range(_TRIES):
            # All pass keys are asked for in the same words, so each one needs a stretch of its own.
            stretches = count if recipe.kind == "passkey" else 1
            ends = np.sort(rng.integers(0, num_tokens + 1, stretches - 1)).tolist()
            lengths = np.diff([0, *ends, num_tokens])
            try:
                return _joined([embed(_episode(recipe, rng, count), tokenizer, filler, int(n), rng) for n in lengths])
            except ValueError:
                count = max(1, count // 2)
        return _plain(filler, num_tokens)

    return make


def make_sequences(recipe: ObjectiveRecipe, tokenizer: Tokenizer) -> Make:
    """Nothing but a sequence of the recipe's kind."""

    def make(rng: np.random.Generator, num_tokens: int) -> Made:
        ids, answers = sequence(recipe.kind, tokenizer, num_tokens, rng, recipe.size)
        return ids, (answers >= 0).astype(np.int8) * streams.ANSWER

    return make


def open_questions(
    recipe: ObjectiveRecipe, tokenizer: Tokenizer, cache: Path, on_progress: OnProgress = ignore_progress
) -> QuestionSet:
    """The question set of an objective, under its rules, from the cache if it is there.

    A set is a .jsonl(.zst) file of records with `context`, `question`, `answers` and optionally `unanswerable`, as
    reading-comprehension sets have them. Its contexts are packed once, like a corpus, with the questions beside them.
    Raises RecipeError if the rules leave no question, DocumentError for a file that is not such a set.
    """
    assert recipe.path is not None
    rules = (recipe.where, recipe.exclude_ids, recipe.hash_field, recipe.hash_from, recipe.hash_below)
    key = packing.cache_key(tokenizer.fingerprint, recipe.path.name, rules, recipe.max_answer_characters)
    folder = cache / f"{recipe.path.name.split('.')[0]}-questions-{key}"
    if not packing.is_current(folder, recipe.path):
        chosen = _choose_questions(recipe, recipe.path)
        if not chosen:
            raise RecipeError(f"{recipe.path}: the rules of objective {recipe.name!r} leave no question; relax them")
        texts = ((str(number), text) for number, text in enumerate(chosen))
        content = {_QUESTIONS_FILE: json.dumps(list(chosen.values()))}
        packing.write_packed(
            folder, recipe.path, tokenizer, texts, recipe.name, sum(map(len, chosen)), on_progress, **content
        )
    questions = json.loads((folder / _QUESTIONS_FILE).read_text(encoding="utf-8"))
    return packing.open_packed(folder, recipe.name), [[(q, a) for q, a in pairs] for pairs in questions]


def make_questions(
    recipe: ObjectiveRecipe, tokenizer: Tokenizer, questions: QuestionSet, open_filler: OpenFiller | None
) -> Make:
    """A passage among others of its set, or in the text of `open_filler`, and questions about it at the end."""
    passages, pairs_of = questions
    lengths = np.diff(passages.offsets)
    by_length = np.argsort(lengths, kind="stable")
    gap = np.array(tokenizer.encode("\n\n"), dtype=np.int32)

    def passage_ids(index: int) -> Ids:
        return np.concatenate((gap, passages.document(index).astype(np.int32)))

    def around(rng: np.random.Generator, room: int, chosen: int) -> tuple[Ids, Ids]:
        """`room` tokens to stand before and after the passage `chosen`."""
        if open_filler is not None:
            text, place = open_filler(rng).take(max(0, room - len(gap))), int(rng.integers(room + 1))
            return text[:place], np.concatenate((gap[:room], text[place:]))
        others, total = list[Ids](), 0
        while total < room and len(passages) > 1:
            # An offset of 1 or more, so that the passage itself is never among the others.
            other = (chosen + int(rng.integers(1, len(passages)))) % len(passages)
            others.append(passage_ids(other))
            total += len(others[-1])
        split = int(rng.integers(len(others) + 1))
        first, last = (np.concatenate([gap[:0], *some]) for some in (others[:split], others[split:]))
        excess = total - room
        return (first[excess:], last) if len(first) >= excess else (first[:0], last[:room])

    def make(rng: np.random.Generator, num_tokens: int) -> Made:
        fitting = int(np.searchsorted(lengths[by_length], num_tokens, side="right"))
        for _ in range(_TRIES if fitting else 0):
            chosen = int(by_length[rng.integers(fitting)])
            passage = passage_ids(chosen)
            asked = _asked(pairs_of[chosen], recipe.queries, tokenizer, rng)
            # Questions are dropped until the rest fits; the passage stays whole.
            while len(asked) > 1 and len(passage) + sum(len(ids) for ids, _ in asked) > num_tokens:
                asked.pop()
            room = num_tokens - len(passage) - sum(len(ids) for ids, _ in asked)
            if room < 0 or (open_filler is None and len(passages) == 1 and room):
                continue
            before, after = around(rng, room, chosen)
            plain = np.concatenate((before, passage, after))
            return _joined([(plain, np.zeros(len(plain), np.int8)), *asked])
        return _plain(passages.filler(rng) if open_filler is None else open_filler(rng), num_tokens)

    return make


def _joined(parts: Sequence[Made]) -> Made:
    """The parts one after the other, as one document."""
    ids, answers = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(answers)


def _plain(filler: Filler, num_tokens: int) -> Made:
    """A document without any answer."""
    return filler.take(num_tokens), np.zeros(num_tokens, dtype=np.int8)


def _episode(recipe: ObjectiveRecipe, rng: np.random.Generator, count: int) -> Episode:
    """One episode of the recipe's kind; for needles, `count` episodes in one."""
    if recipe.kind == "passkey":
        return episodes.passkey(rng, digits=recipe.digits or 5, distinct_digits=recipe.distinct_digits)
    if recipe.kind == "facts":
        task = recipe.tasks[int(rng.integers(len(recipe.tasks)))]
        return episodes.facts(rng, task=task, count=recipe.count, questions=recipe.queries or None)
    # Names must differ within a document, which bounds the number of needles.
    hidden = recipe.count or 1
    asked = recipe.queries or hidden
    count = min(count, episodes.NUM_NAMES // hidden)
    episode = episodes.needles(rng, count=count * hidden, queries=count * asked, digits=recipe.digits or 4)
    if not recipe.episodes_per_block:
        return episode
    # Each statement goes with its question, if it is asked for.
    pairs: list[Episode] = [
        (statement, *(part for part in questions_of(episode) if part.is_about(statement)))
        for statement in statements_of(episode)
    ]
    return episodes.interleave(rng, pairs)


def _choose_questions(recipe: ObjectiveRecipe, path: Path) -> dict[str, list[tuple[str, str]]]:
    """{context: its (question, answer) pairs} of the records that the rules leave."""
    chosen: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for line, record in read_objects(path):
        try:
            context, question, answers = record["context"], record["question"], record["answers"]
            field = str(record[recipe.hash_field])
        except KeyError as error:
            raise RecipeError(f"{path}: line {line} has no {error.args[0]!r}; correct it") from error
        byte = hashlib.sha256(field.encode("utf-8", "replace")).digest()[0]
        kept = recipe.hash_from <= byte < recipe.hash_below and str(record.get("id")) not in recipe.exclude_ids
        if not kept or any(record.get(name) != value for name, value in (recipe.where or {}).items()):
            continue
        answer = NOT_SAID if record.get("unanswerable") else (answers[0] if answers else "")
        if answer and context and len(answer) <= recipe.max_answer_characters:
            pair = (_one_line(question), _one_line(answer))
            chosen[without_surrogates(context).strip()].append(pair)
    return chosen


def _asked(pairs: list[tuple[str, str]], queries: int, tokenizer: Tokenizer, rng: np.random.Generator) -> list[Made]:
    """Some of the questions with their answers, in the words of `famcli ask`."""
    made = []
    for number in rng.permutation(len(pairs))[: queries or len(pairs)]:
        question, answer = pairs[int(number)]
        asked = tokenizer.encode(fill(QUESTION, {"question": question}))
        answered = tokenizer.encode(fill(ANSWER, {"answer": answer}))
        ids = np.array(asked + answered, dtype=np.int32)
        made.append((ids, _from(len(ids), len(asked))))
    return made


def _from(num_tokens: int, first: int) -> Marks:
    """Marks of a document whose tokens from `first` on are an answer."""
    return np.where(np.arange(num_tokens) < first, 0, streams.ANSWER).astype(np.int8)


def _one_line(text: Any) -> str:
    return " ".join(without_surrogates(str(text)).split())
