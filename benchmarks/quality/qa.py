"""Judging `famcli ask`: where the evidence is found, how right the answers are, and when it says that there are none.

Each placed document is read once in each memory mode; then all its questions are asked, as `famcli ask` would, and as
what it is compared with would.
Answers are scored as SQuAD does it (Rajpurkar et al. 2016, their evaluation script).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.quality.qa_rankers import LibraryBM25, block_gains, ranked_by_gain
from benchmarks.quality.qa_sets import PlacedDocument, byte_spans, is_right
from famcli.checkpoint.model import Model
from famcli.evaluation.overlap import best_f1, exact_match
from famcli.nn import MemoryMode
from famcli.tasks.ask.answering import Answerer
from famcli.tasks.ask.answers import Answer, AnswerStyle, AskConfig
from famcli.tasks.ask.asked_text import AskedText, TextReader
from famcli.tasks.ask.likelihood import fresh_start
from famcli.tasks.ask.question import Question
from famcli.tasks.ask.ranking import FEATURES, RankedPassage, rank_passages
from famcli.tasks.task import Advance
from famcli.text.passages import Passage

RANKS = (1, 5, 10)
_DEEP = max(RANKS)


@dataclass(frozen=True)
class QaConfig:
    """What is measured. modes: memory modes, each with a reading of its own. styles: of answers. network: rank passages
    by the network alone too (every question is read after every block). question_first: answer after a reading that
    began with the questions too."""

    modes: tuple[MemoryMode, ...] = ("on", "frozen")
    styles: tuple[AnswerStyle, ...] = ("sentence", "span", "write")
    network: bool = False
    question_first: bool = False
    max_answer_tokens: int = 32


@dataclass(frozen=True)
class AnswerScore:
    """One answer. system: who answered ("famcli", or "bm25" from its best passage by the same network with a fresh
    state), how (style) and in which mode. match, f1: over the right answers; None where there are none."""

    system: str
    style: str
    memory_mode: str
    match: float | None
    f1: float | None


@dataclass(frozen=True)
class QuestionOutcome:
    """One question. group: story or title. kind: "answerable", "unanswerable" by its own context, or "absent": its
    context was left out. ranks: of each ranker, the place of the first right passage, from 0; None if not among the
    first ten. found, confidence: what `famcli ask` made of it, by the first mode and style."""

    id: str
    group: str
    kind: Literal["answerable", "unanswerable", "absent"]
    ranks: dict[str, int | None]
    answers: tuple[AnswerScore, ...]
    found: bool
    confidence: float


@dataclass(frozen=True)
class DocumentOutcome:
    """One document: its questions, its size, and how many citations were found verbatim at the place they name."""

    name: str
    num_bytes: int
    num_tokens: int
    questions: tuple[QuestionOutcome, ...]
    citations: int
    verified: int


@dataclass
class _Asked:
    """The document under way. citations: looked for in its bytes `raw`, and how many of them were there."""

    raw: bytes
    document: PlacedDocument
    questions: list[Question]
    spans: list[tuple[tuple[int, int], ...]]
    scores: list[list[AnswerScore]]
    citations: int = 0
    verified: int = 0

    def rank(self, number: int, passages: Sequence[Passage]) -> int | None:
        """The place of the first right passage for a question."""
        return next((place for place, one in enumerate(passages) if is_right(one.span, self.spans[number])), None)

    def check(self, answer: Answer) -> None:
        """Look for all that an answer quotes in the document's own bytes."""
        quotes = [(citation.span, citation.text) for citation in answer.citations]
        if answer.span is not None:
            quotes.append((answer.span, answer.text))
        self.citations += len(quotes)
        self.verified += sum(self.raw[start:end] == text.encode() for (start, end), text in quotes)


def judge(
    model: Model,
    document: PlacedDocument,
    config: QaConfig,
    on_tokens: Callable[[int], None] = lambda count: None,
) -> DocumentOutcome:
    """Read a placed document and ask all its questions."""
    with tempfile.TemporaryDirectory(prefix="famcli-") as folder:
        path = Path(folder) / "document.txt"
        path.write_bytes(raw := document.text.encode())
        asked = _Asked(
            raw=raw,
            document=document,
            questions=[Question.parse(one.item.question) for one in document.asked],
            spans=byte_spans(document),
            scores=[[] for _ in document.asked],
        )
        first = _read(model, path, config.modes[0], on_tokens)
        weighed = Answerer(first).ranked(asked.questions)
        bm25 = LibraryBM25(first.index)
        by_bm25 = [bm25.ranked(question.text, _DEEP) for question in asked.questions]
        rankings = _rankings(first, asked, weighed, by_bm25)
        if config.network:
            texts = [question.text for question in asked.questions]
            ends, gains = block_gains(model, path, texts, config.modes[0], on_tokens)
            for number in range(len(asked.questions)):
                order = ranked_by_gain(first.index, ends, gains[number], _DEEP)
                rankings[number]["network"] = [first.index.passage(one) for one in order]
        answers = _ask(first, asked, weighed, by_bm25, config)
        for mode in config.modes[1:]:
            other = _read(model, path, mode, on_tokens)
            own = Answerer(other).ranked(asked.questions)
            for number, some in enumerate(own):
                rankings[number][f"famcli, {mode}"] = [one.passage for one in some[:_DEEP]]
            _ask(other, asked, own, [], config)
            other.close()
        if config.question_first:
            _ask_first(model, path, asked, weighed, config, on_tokens)
        tokens = first.counts.num_tokens
        first.close()
    outcomes = [
        QuestionOutcome(
            id=one.item.id,
            group=one.item.group,
            kind="absent" if not one.spans else "unanswerable" if one.item.unanswerable else "answerable",
            ranks={name: asked.rank(number, passages) for name, passages in rankings[number].items()},
            answers=tuple(asked.scores[number]),
            found=answers[number].found,
            confidence=answers[number].confidence,
        )
        for number, one in enumerate(document.asked)
    ]
    return DocumentOutcome(document.name, len(raw), tokens, tuple(outcomes), asked.citations, asked.verified)


def _read(
    model: Model, path: Path, mode: MemoryMode, on_tokens: Callable[[int], None], first: Sequence[str] = ()
) -> AskedText:
    reading = TextReader(model, mode)
    for event in reading.events([path], first):
        if isinstance(event, Advance):
            on_tokens(event.num_tokens)
    return reading.text()


def _rankings(
    text: AskedText, asked: _Asked, weighed: list[list[RankedPassage]], by_bm25: list[list[int]]
) -> list[dict[str, list[Passage]]]:
    """The first passages of each ranker for each question."""
    return [
        {
            "famcli": [one.passage for one in some[:_DEEP]],
            "words": [one.passage for one in rank_passages(text.index, question)[:_DEEP]],
            "bm25": [text.index.passage(number) for number in numbers],
        }
        for question, some, numbers in zip(asked.questions, weighed, by_bm25, strict=True)
    ]


def _ask(
    text: AskedText,
    asked: _Asked,
    weighed: list[list[RankedPassage]],
    by_bm25: list[list[int]],
    config: QaConfig,
    system: str = "famcli",
) -> list[Answer]:
    """Ask a text in every style, scoring all answers; returns those that `famcli ask` gives by itself.

    by_bm25: where it is given, the same network answers from BM25's best passage too, knowing nothing else.
    """
    plain = Answerer(text, AskConfig(max_answer_tokens=config.max_answer_tokens))
    given = [_last(plain.answer(question, some)) for question, some in zip(asked.questions, weighed, strict=True)]
    for answer in given:
        asked.check(answer)
    hidden, state = fresh_start(text.model, text.memory_mode)
    alone = replace(text, state=state, last_hidden=hidden)
    for style in config.styles:
        always = AskConfig(style=style, threshold=0.0, max_answer_tokens=config.max_answer_tokens)
        ours, baseline = Answerer(text, always), Answerer(alone, replace(always, top=1))
        for number, (question, some) in enumerate(zip(asked.questions, weighed, strict=True)):
            if asked.document.asked[number].item.unanswerable or not asked.spans[number]:
                continue
            answer = _last(ours.answer(question, some))
            asked.check(answer)
            asked.scores[number].append(_scored(asked, number, answer, system, style, text.memory_mode))
            if by_bm25:
                best = [_unranked(text.index.passage(one)) for one in by_bm25[number][:1]]
                answer = _last(baseline.answer(question, best))
                asked.scores[number].append(_scored(asked, number, answer, "bm25", style, text.memory_mode))
    return given


def _ask_first(
    model: Model,
    path: Path,
    asked: _Asked,
    weighed: list[list[RankedPassage]],
    config: QaConfig,
    on_tokens: Callable[[int], None],
) -> None:
    """Ask once more after a reading that began with the questions."""
    texts = [question.text for question in asked.questions]
    text = _read(model, path, config.modes[0], on_tokens, texts)
    _ask(text, asked, weighed, [], config, "famcli, question first")
    text.close()


def _scored(asked: _Asked, number: int, answer: Answer, system: str, style: str, mode: str) -> AnswerScore:
    right = asked.document.asked[number].item.answers
    given = answer.text if answer.found else ""
    return AnswerScore(system, style, mode, exact_match(right, given), best_f1(right, given))


def _unranked(passage: Passage) -> RankedPassage:
    return RankedPassage(passage, (0.0,) * len(FEATURES))


def _last(events: Iterator[object]) -> Answer:
    """The answer at the end of its events."""
    answers = [event for event in events if isinstance(event, Answer)]
    assert len(answers) == 1, "one question has one answer"
    return answers[0]
