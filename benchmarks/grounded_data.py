"""What the recipes of models/fam-smollm2 learn from: `python -m benchmarks.grounded_data CORPUS OUT`.

Questions about a text stand with the passages that `famcli ask` finds for them (without its sentence encoder, which
takes a second a question): those of one question, in the order of the text, and other questions of the document that
they answer, so that the passages are read once. Questions that they do not answer, though they look alike, get the
answer "The text does not say." Training parts only; one document in sixteen goes into validation.jsonl. `notes` has the
bare decoder write notes of training texts and keeps the sentences whose names and numbers the text has, and answers to
plain instructions: what it could do before stays as it was.

    questions CORPUS OUT     OUT/squad.jsonl, OUT/fairytales.jsonl, ..., OUT/validation.jsonl
    notes CORPUS OUT         OUT/notes.jsonl (--model, --count)
    instructions CORPUS OUT  OUT/instructions.jsonl (--model, --count)
    fewer IN OUT             the files of IN, with a fifth of the questions unanswered
    denser CORPUS OUT        of the texts in --given IN, those with many questions, with all that they answer
                             (--times: of how many texts a question is asked; --unanswered: their share)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.bare_writing import instructions, notes
from benchmarks.common import read_rows, write_rows
from benchmarks.quality.qa_sets import Item, Rules, by_group, index_without_network, read_items
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.ask.question import Question
from famcli.tasks.ask.ranking import rank_passages
from famcli.tasks.grounding import support
from famcli.tasks.prompts import NOT_SAID
from famcli.text.passages import Passage
from famcli.text.words import compounds, content_terms, terms

# Passages of a question: `ask` gives three; fewer and more so that their number says nothing.
_NUM_PASSAGES, _SHARES = (1, 2, 3, 4), (0.12, 0.23, 0.55, 0.10)
_MOST_CHARACTERS = 1900
_MOST_ASKED = 6
# Of the questions about a set of passages, those that it does not answer.
_UNANSWERED = 0.33
# Of the sets of passages, those that come from a document which the question is not about.
_ELSEWHERE = 0.06
# By `fewer`, the share of unanswered questions in these files.
_FEWER = {"squad": 0.2, "fairytales": 0.2, "onestop": 0.22}
# By `denser`: of how many texts a question is asked, and how many of them a text must answer.
_DENSE = {"squad": (1, 6), "fairytales": (2, 4)}
_MOST_DENSE = 24
_VALIDATION_UNANSWERED = 0.2
VALIDATION_BELOW = 16  # first byte of sha256(group)
_LONGEST_ANSWER = 120  # characters


@dataclass(frozen=True)
class Set:
    """A question set. count: texts wanted of it. copied: answers are words of the text. whole: a document is one
    context, because its groups do not belong together."""

    name: str
    file: str
    count: int
    rules: Rules = field(default_factory=Rules)
    copied: bool = False
    whole: bool = False


SETS = (
    Set("squad", "qa_squad_dev", 1500, Rules(hash_field="title", hash_below=205), copied=True),
    Set("fairytales", "qa_fairytaleqa", 650, Rules(where=(("split", ("train",)),))),
    Set("mctest", "qa_mctest", 120, Rules(where=(("split", ("train",)),)), whole=True),
    Set("quoref", "qa_quoref_part", 140, copied=True, whole=True),
    Set("adversarial", "qa_adversarialqa_part", 110, copied=True, whole=True),
    Set("onestop", "qa_onestopqa", 130),
    Set("boolq", "qa_boolq_train_part", 100, whole=True),
    Set("openstax", "qa_openstax", 130),
)


def records(of: Set, corpus: Path, held_out: frozenset[str], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Texts with their questions, at most `of.count`."""
    items = [
        item
        for item in read_items(corpus / f"{of.file}.jsonl.zst", of.rules)
        if not held_out & set(item.contexts[0].split(". ")) and all(len(a) <= _LONGEST_ANSWER for a in item.answers[:1])
    ]
    groups = [
        (name, some)
        for group, members in by_group(items).items()
        for name, some in (_by_context(members) if of.whole else {group: members}).items()
    ]
    order = rng.permutation(len(groups)).tolist()
    # Each document as often as it has contexts, until there are enough.
    share = of.count / max(1, sum(len({item.contexts for item in members}) for _, members in groups))
    for number in order:
        name, members = groups[number]
        other = groups[int(rng.integers(len(groups)))][1]
        index = index_of(members)
        contexts = len({item.contexts for item in members})
        wanted = int(share * contexts + rng.random())
        made = 0
        used: set[str] = set()
        for place in rng.permutation(len(members)).tolist():
            if made >= wanted:
                break
            item = members[place]
            if item.id in used:
                continue
            elsewhere = rng.random() < _ELSEWHERE and other is not members
            record = _from_elsewhere(index, other, rng) if elsewhere else _about(of, index, item, members, used, rng)
            if record is not None:
                made += 1
                yield {"id": f"{of.name}-{number}-{made}", "group": name, "turn": "ask", **record}
        index.close()


def index_of(items: Sequence[Item]) -> PassageIndex:
    """The passages of all contexts of a document."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text("\n\n".join(dict.fromkeys(c for item in items for c in item.contexts)), encoding="utf-8")
        return index_without_network(path)


def _about(
    of: Set, index: PassageIndex, item: Item, members: Sequence[Item], used: set[str], rng: np.random.Generator
) -> dict[str, Any] | None:
    found = _evidence(index, item.question, rng)
    if not found:
        return None
    text = "\n\n".join(found)
    right, wrong = list[tuple[str, str]](), list[tuple[float, str]]()
    words = set(terms(text))
    for other in [item, *(members[n] for n in rng.permutation(len(members)).tolist())]:
        if other.id in used and other is not item:
            continue
        answer = _answer(of, other, found)
        if answer is not None:
            if len(right) < _MOST_ASKED and all(other.question != question for question, _ in right):
                right.append((other.question, answer))
                used.add(other.id)
        elif _is_missing(of, other, found):
            bonus = 1.0 if other is item or (other.unanswerable and _has_context(other, found)) else 0.0
            wrong.append((bonus + _likeness(other.question, words), other.question))
    most = max(1, round(len(right) * _UNANSWERED / (1 - _UNANSWERED) + rng.random() - 0.5)) if right else 2
    # A question that some other record answers, or that stands there twice, is asked once.
    likeness = {question: score for score, question in reversed(wrong) if question not in dict(right)}
    likely = sorted(likeness, key=lambda question: -likeness[question])[:most]
    both = [*right, *((question, NOT_SAID) for question in likely if likeness[question] >= 0.25)]
    return {"text": text, "asked": [both[n] for n in rng.permutation(len(both)).tolist()]} if both else None


def _from_elsewhere(index: PassageIndex, others: Sequence[Item], rng: np.random.Generator) -> dict[str, Any] | None:
    """Questions about another document: what is found for them here does not answer them."""
    item = others[int(rng.integers(len(others)))]
    found = _evidence(index, item.question, rng)
    if not found or any(_says(answer, " ".join(found)) for answer in item.answers):
        return None
    return {"text": "\n\n".join(found), "asked": [(item.question, NOT_SAID)]}


def _evidence(index: PassageIndex, question: str, rng: np.random.Generator) -> list[str]:
    """The passages that `ask` would give, in the order of the text."""
    ranked = rank_passages(index, Question.parse(question), encoded=False)
    wanted = int(rng.choice(_NUM_PASSAGES, p=_SHARES))
    found, length = list[Passage](), 0
    for one in ranked[:wanted]:
        length += len(one.passage.text)
        if found and length > _MOST_CHARACTERS:
            break
        found.append(one.passage)
    in_order = sorted(found, key=lambda one: one.span) if length <= 2 * _MOST_CHARACTERS else []
    return [one.text for one in in_order]


def _answer(of: Set, item: Item, found: Sequence[str]) -> str | None:
    """The answer to a question if the passages have it."""
    if item.unanswerable:
        return None
    own = " ".join(one for one in found if one[:80] in item.contexts[0] or item.contexts[0][:80] in one)
    if of.copied:
        there = [answer for answer in item.answers if _says(answer, own)]
        return _plain(min(there, key=len)) if there else None
    whole = sum(len(one) for one in found) and len(own) >= 0.6 * len(item.contexts[0])
    if of.name == "boolq":
        return _plain(item.answers[0]).capitalize() if whole else None
    answer = item.answers[0]
    if _says(answer, own) or whole or (len(content_terms(answer)) > 1 and support(answer, own) >= 0.75):
        return _plain(answer)
    return None


def _is_missing(of: Set, item: Item, found: Sequence[str]) -> bool:
    """True if the passages do not answer a question as far as that can be told."""
    text = " ".join(found)
    if item.unanswerable:
        return True
    if of.name == "boolq":
        return not _has_context(item, found)
    return not any(_says(answer, text) for answer in item.answers) and (
        of.copied or (support(item.answers[0], text) < 0.5 and not _has_context(item, found))
    )


def _likeness(question: str, words: set[str]) -> float:
    """The share of a question's words that a text with these words has."""
    asked = set(content_terms(question))
    return len(asked & words) / max(1, len(asked))


def _has_context(item: Item, found: Sequence[str]) -> bool:
    return any(one[:80] in context or context[:80] in one for one in found for context in item.contexts)


def _says(answer: str, text: str) -> bool:
    return f" {_words(answer)} " in f" {_words(text)} "


@lru_cache(1 << 16)
def _words(text: str) -> str:
    return " ".join(compounds(text))


def _plain(answer: str) -> str:
    return answer.strip().removesuffix(" .").strip()


def _by_context(items: Sequence[Item]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.contexts[0], []).append(item)
    return found


def questions(corpus: Path, out: Path) -> None:
    """Write the question sets."""
    held_out = frozenset(
        part
        for item in read_items(corpus / "qa_squad_dev.jsonl.zst", Rules(hash_field="title", hash_from=205))
        for part in item.contexts[0].split(". ")
        if len(part) > 60
    )
    validation = list[dict[str, Any]]()
    for number, of in enumerate(SETS):
        began, asked, refused, kept = time.monotonic(), 0, 0, 0
        with (out / f"{of.name}.jsonl").open("w", encoding="utf-8") as file:
            for record in records(of, corpus, held_out, np.random.default_rng([17, number])):
                if hashlib.sha256(record["group"].encode()).digest()[0] < VALIDATION_BELOW:
                    validation.append(record)
                    continue
                kept += 1
                asked += len(record["asked"])
                refused += sum(answer == NOT_SAID for _, answer in record["asked"])
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        seconds = time.monotonic() - began
        print(f"{of.name}: {kept} texts, {asked} questions, {refused} unanswered, {seconds:.0f} s", flush=True)
    write_rows(
        out / "validation.jsonl", [validation[n] for n in np.random.default_rng(17).permutation(len(validation))]
    )
    print(f"validation: {len(validation)} texts", flush=True)


def fewer(given: Path, out: Path) -> None:
    """The files of `given` with fewer questions that have no answer, drawn at random."""
    rng = random.Random(3)
    for path in sorted(given.glob("*.jsonl")):
        rows = read_rows(path)
        wanted = _FEWER.get(path.stem)
        none = sum(answer == NOT_SAID for row in rows for _, answer in row["asked"])
        if wanted is not None and none:
            some = sum(len(row["asked"]) for row in rows) - none
            kept = some * wanted / (1 - wanted) / none
            for row in rows:
                row["asked"] = [one for one in row["asked"] if one[1] != NOT_SAID or rng.random() < kept]
        write_rows(out / path.name, [row for row in rows if row["asked"]])


def denser(corpus: Path, given: Path, out: Path, times: int | None, unanswered: float) -> None:
    """The texts of `given` with every question of their document that they answer, each question asked of few texts.

    Reading a text costs ten questions' tokens: what is learned of a set in a given time is how many are asked of it.
    """
    validation = list[dict[str, Any]]()
    for of in SETS:
        if of.name in _DENSE:
            groups = by_group(read_items(corpus / f"{of.file}.jsonl.zst", of.rules))
            most, fewest = _DENSE[of.name]
            rows = read_rows(given / f"{of.name}.jsonl")
            made = list(_denser(of, groups, rows, times or most, fewest, unanswered))
            held = [row for row in read_rows(given / "validation.jsonl") if row["id"].startswith(of.name)]
            validation += _denser(of, groups, held, 1, 1, _VALIDATION_UNANSWERED)
            write_rows(out / f"{of.name}.jsonl", made)
            answers = [answer for row in made for _, answer in row["asked"]]
            print(f"{of.name}: {len(made)} texts, {len(answers)} questions, {answers.count(NOT_SAID)} unanswered")
    write_rows(out / "validation.jsonl", validation)
    print(f"validation: {len(validation)} texts, {sum(len(row['asked']) for row in validation)} questions")


def _denser(
    of: Set, groups: dict[str, list[Item]], rows: Sequence[dict[str, Any]], most: int, fewest: int, share: float
) -> Iterator[dict[str, Any]]:
    """Those of `rows` that answer at least `fewest` questions which were not asked `most` times before."""
    times = Counter[str]()
    for place in np.random.default_rng(23).permutation(len(rows)).tolist():
        row, rng = rows[place], np.random.default_rng([23, place])
        left = [item for item in groups[row["group"]] if times[item.id] < most]
        right, wrong = _told_apart(of, [left[n] for n in rng.permutation(len(left))], row["text"].split("\n\n"))
        if len(right) >= fewest:
            both = {**dict(wrong[: round(len(right) * share / (1 - share) + rng.random() - 0.5)]), **dict(right)}
            times.update(item.id for item in left if item.question in both)
            yield {**row, "asked": [list(both.items())[n] for n in rng.permutation(len(both)).tolist()]}


def _told_apart(
    of: Set, items: Sequence[Item], found: Sequence[str]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Questions that passages answer, at most `_MOST_DENSE`, and such that they do not, the likeliest-looking first."""
    right, wrong = list[tuple[str, str]](), list[tuple[float, str]]()
    words = set(terms(" ".join(found)))
    for item in items:
        answer = _answer(of, item, found)
        if answer is not None:
            right.append((item.question, answer))
        elif _is_missing(of, item, found):
            bonus = 1.0 if item.unanswerable and _has_context(item, found) else 0.0
            wrong.append((bonus + _likeness(item.question, words), item.question))
    likely = sorted(wrong, key=lambda one: -one[0])
    return right[:_MOST_DENSE], [(question, NOT_SAID) for score, question in likely if score >= 0.25]


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("questions", "notes", "instructions", "fewer", "denser"))
    parser.add_argument("corpus", type=Path, help="the corpus; for fewer, the folder that questions and notes wrote")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="smollm2-plain")
    parser.add_argument("--count", type=int, default=260)
    parser.add_argument("--given", type=Path, help="for denser, the folder whose texts it takes")
    parser.add_argument("--times", type=int, help="for denser")
    parser.add_argument("--unanswered", type=float, default=0.2, help="for denser")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.what == "denser":
        denser(options.corpus, options.given, options.out, options.times, options.unanswered)
    elif options.what == "fewer":
        fewer(options.corpus, options.out)
    elif options.what == "notes":
        write_rows(options.out / "notes.jsonl", notes(options.corpus, options.model, options.count))
    elif options.what == "instructions":
        said = instructions(options.corpus, options.model, options.count)
        write_rows(options.out / "instructions.jsonl", said)
    else:
        questions(options.corpus, options.out)


if __name__ == "__main__":
    main()
