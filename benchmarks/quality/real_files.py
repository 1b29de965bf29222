"""Questions about real files (`real_files.toml`): getting the files, asking, and what the answers come to.

A passage is right if it and the question's quote share at least half of the shorter of the two. An answer is right if
it was given as one, its passage is right, and one of the right answers is in it. Passages are only indexed here, and
nothing is read by the network beforehand: quoted answers do not depend on the state of a reading.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.quality.qa_rankers import Ranker
from benchmarks.quality.qa_sets import Rules, index_of, is_right, read_items
from famcli.checkpoint.model import Model
from famcli.documents.opening import open_source
from famcli.errors import DocumentError
from famcli.reading.cursor import SourceRecord
from famcli.tasks.ask.answering import Answerer
from famcli.tasks.ask.answers import Answer
from famcli.tasks.ask.asked_text import AskedText
from famcli.tasks.ask.likelihood import fresh_start
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.ask.question import Question
from famcli.tasks.ask.ranking import RankedPassage
from famcli.tasks.task import ReadCounts

SET = Path(__file__).with_name("real_files.toml")
Span = tuple[int, int]


@dataclass(frozen=True)
class FileQuestion:
    """answers: right ones; quote: of the passage that says so. Both are empty where the file has no answer."""

    ask: str
    answers: tuple[str, ...] = ()
    quote: str = ""


@dataclass(frozen=True)
class RealFile:
    """A file of a public repository, and what is asked about it. half: "tuning", "held-out" or "fresh"."""

    name: str
    kind: str
    half: str
    repository: str
    commit: str
    path: str
    sha256: str
    questions: tuple[FileQuestion, ...]


@dataclass(frozen=True)
class FileOutcome:
    """What became of a question. ranks: of each ranker, the place of the first right passage from 0, None if it has
    none. kind: of the answer. confidence: of its first passage. right: see the module; None without an answer."""

    file: RealFile
    question: FileQuestion
    ranks: dict[str, int | None]
    answer: Answer
    right: bool | None


def read_set(path: Path = SET) -> list[RealFile]:
    """The files and their questions."""
    files = list[RealFile]()
    for values in tomllib.loads(path.read_text(encoding="utf-8"))["files"]:
        del values["licence"]
        asked = tuple(
            FileQuestion(one["ask"], tuple(one.get("answers", ())), one.get("quote", ""))
            for one in values.pop("questions")
        )
        files.append(RealFile(**values, questions=asked))
    return files


def get_file(file: RealFile, folder: Path, origin: str) -> Path:
    """The file in `folder`; fetched with git if it is not there. origin: where repositories are, with {} for
    "owner/name". Raises DocumentError for one that cannot be had, or is another."""
    place = folder / file.name
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        git = ["git", "--git-dir", str(folder / "objects.git")]
        commands = [
            ["git", "init", "--quiet", "--bare", str(folder / "objects.git")],
            [*git, "fetch", "--quiet", "--depth", "1", origin.format(file.repository), file.commit],
            [*git, "show", f"{file.commit}:{file.path}"],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode:
                raise DocumentError(f"{file.repository}: {done.stderr.decode(errors='replace').strip()}")
        place.write_bytes(done.stdout)
    if hashlib.sha256(place.read_bytes()).hexdigest() != file.sha256:
        raise DocumentError(f"{place}: not the file that the questions are about; remove it")
    return place


def titled_file(path: Path, folder: Path, seed: int = 0) -> RealFile:
    """A Markdown file of 200 passages of a question set, each under its title, and 180 of their questions."""
    rng, items = np.random.default_rng(seed), read_items(path, Rules())
    contexts = {item.contexts[0]: item.group for item in items if len(item.contexts) == 1 and not item.unanswerable}
    drawn = [list(contexts)[number] for number in rng.permutation(len(contexts))[:200]]
    asked = [item for item in items if item.contexts[0] in drawn and not item.unanswerable]
    questions = [asked[number] for number in sorted(rng.permutation(len(asked))[:180])]
    text = "".join(f"## {contexts[context]}\n\n{context}\n\n" for context in drawn)
    place = folder / "encyclopedia.md"
    place.write_text(text, encoding="utf-8")
    found = tuple(FileQuestion(item.question, item.answers, item.contexts[0]) for item in questions)
    return RealFile(place.name, "encyclopedia", "titles", "", "", str(path), "", found)


def judge_file(
    model: Model, file: RealFile, path: Path, rankers: dict[str, Callable[[PassageIndex], Ranker]]
) -> Iterator[FileOutcome]:
    """Ask all questions about a file. rankers: beside famcli's."""
    text, spans = _indexed(model, path, [one.quote for one in file.questions])
    try:
        parsed = [Question.parse(one.ask) for one in file.questions]
        answerer = Answerer(text)
        ranked = answerer.ranked(parsed)
        given = [_answer(answerer, asked, best) for asked, best in zip(parsed, ranked, strict=True)]
        others = {name: make(text.index) for name, make in rankers.items()}
        for question, asked, span, best, answer in zip(file.questions, parsed, spans, ranked, given, strict=True):
            orders = {"famcli": [one.passage.span for one in best]}
            for name, ranker in others.items():
                orders[name] = [text.index.passage(number).span for number in ranker.ranked(asked.text, 10)]
            ranks = {name: _rank(order, span) for name, order in orders.items()} if span else {}
            yield FileOutcome(file, question, ranks, answer, _is_right(question, answer, span) if span else None)
    finally:
        text.close()


def _answer(answerer: Answerer, question: Question, ranked: Sequence[RankedPassage]) -> Answer:
    return next(event for event in answerer.answer(question, ranked) if isinstance(event, Answer))


def _indexed(model: Model, path: Path, quotes: Sequence[str]) -> tuple[AskedText, list[Span | None]]:
    """A file as it can be asked, and the span of each quote in it (None for an empty one)."""
    with open_source(path) as source:
        pieces = list(source.pieces())
        record = SourceRecord(
            source.name, str(path), source.encoding, source.bytes_read, source.digest(), format=source.format
        )
    index, text = index_of(pieces), "".join(piece.text for piece in pieces)
    offsets = [offset for piece in pieces for offset in piece.char_offsets().tolist()[:-1]]
    hidden, state = fresh_start(model, "on")
    counts = ReadCounts(record.num_bytes, 0, 0, 0, 0.0, ())
    asked = AskedText(model, "on", index, state, hidden, (record,), counts)
    return asked, [_span(text, offsets, quote) if quote else None for quote in quotes]


def _span(text: str, offsets: list[int], quote: str) -> Span:
    found = list(re.finditer(r"\s+".join(map(re.escape, quote.split())), text))
    if len(found) != 1:
        raise DocumentError(f"{len(found)} places have {quote!r}, there must be one")
    return offsets[found[0].start()], offsets[found[0].end() - 1] + 1


def _rank(order: Sequence[Span], span: Span) -> int | None:
    return next((place for place, one in enumerate(order) if is_right(one, (span,))), None)


def _is_right(question: FileQuestion, answer: Answer, span: Span) -> bool:
    if not answer.found or not answer.citations or not is_right(answer.citations[0].span, (span,)):
        return False
    return has_right(question.answers, answer.text)


def has_right(answers: Sequence[str], given: str) -> bool:
    """True if one of the right answers is in what was given, from the start of a word on."""
    text = " ".join(given.split()).casefold()
    return any(re.search(rf"(?<![^\W_]){re.escape(one.casefold())}", text) for one in answers)
