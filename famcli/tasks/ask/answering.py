"""Answers to questions about a text that was read: found in its index, weighed by the network, quoted or written."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from famcli.errors import UsageError
from famcli.nn import MemoryMode
from famcli.reading.engine import read_any
from famcli.reading.generating import GeneratedText, GenerationConfig, generate
from famcli.tasks.ask.answers import (
    NOTHING_FOUND,
    NOTHING_READ,
    NOTHING_WRITTEN,
    SOURCE_GONE,
    Answer,
    Citation,
)
from famcli.tasks.ask.asked_text import AskedText
from famcli.tasks.ask.likelihood import QuestionLikelihood
from famcli.tasks.ask.question import Question
from famcli.tasks.ask.ranking import NUM_WEIGHED, THRESHOLD, Weighed, best_sentence, ranked_by_network, weigh
from famcli.tasks.ask.rereading import is_quoted_right
from famcli.tasks.ask.spans import copy_span
from famcli.tasks.prompts import NOT_SAID, prompt
from famcli.tasks.task import Notice
from famcli.text.passages import Passage
from famcli.text.sentences import Sentence
from famcli.text.words import variants

_TOGETHER = 8  # questions weighed before the first of them is answered
CHANGED = "a source was changed since it was read: what no longer stands in it is not cited"
AnswerStyle = Literal["extract", "sentence", "span", "write"]


@dataclass(frozen=True)
class AskConfig:
    """How to answer.

    style: "sentence" quotes the best sentence, "span" what the network copies from the best passage, "extract" a span
    where the checkpoint was trained to answer, else a sentence; "write" lets the model write from the evidence. None is
    as the checkpoint's sidecar says (`"tasks": {"ask": "write"}`, or "span"), else "extract".
    top: passages cited for a question at most. threshold: the confidence from which on the best one is an answer.
    max_answer_tokens: of a span or a written answer. memory_mode: None is the checkpoint's default. question_first: the
    network reads the questions before the text too; such a reading serves no others and is not kept. encoding: of
    documents given as paths, None to detect it. Raises UsageError.
    """

    style: AnswerStyle | None = None
    top: int = 3
    threshold: float = THRESHOLD
    max_answer_tokens: int = 64
    memory_mode: MemoryMode | None = None
    question_first: bool = False
    encoding: str | None = None

    def __post_init__(self) -> None:
        for name in ("top", "max_answer_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold is {self.threshold}, it must be a confidence from 0 to 1")


@dataclass(frozen=True)
class AnswerText:
    """An event: some more of a written answer, as it is generated. question: index."""

    question: int
    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"question": self.question, "text": self.text}


AskEvent = Notice | AnswerText | Answer


class Answerer:
    """Answers questions about one text. warnings: what was said on the way."""

    def __init__(self, text: AskedText, config: AskConfig | None = None) -> None:
        self.text, self.config = text, config or AskConfig()
        self.warnings: list[str] = []
        named = text.model.sidecar.tasks.get("ask")
        style: AnswerStyle = self.config.style or ("write" if named == "write" else "extract")
        if style == "extract":
            style = "span" if named in ("span", "write") else "sentence"
        self.style: AnswerStyle = style

    def answers(self, questions: Sequence[str], first: int = 0) -> Iterator[AskEvent]:
        """The answers in order; what the network has to weigh is read together for a few of them at a time.

        first: the index of the first question, for events. Raises UsageError for one without a word.
        """
        Question.check(questions)
        parsed = [Question.parse(question) for question in questions]
        if self.style == "write" and self.text.model.sidecar.tasks.get("ask") != "write":
            yield from self._warn(
                f"{self.text.model.name} is not known to follow instructions (its fam.json does not say that it writes "
                "answers): what it writes may be nonsense; --extractive quotes instead"
            )
        for place in range(0, len(parsed), _TOGETHER):
            some = parsed[place : place + _TOGETHER]
            for number, (question, weighed) in enumerate(zip(some, self.weighed(some), strict=True), first + place):
                missing = self._missing(question)
                for event in self.answer(question, weighed, number):
                    yield replace(event, missing=missing) if isinstance(event, Answer) else event

    def answer(self, question: Question, weighed: Sequence[Weighed], number: int = 0) -> Iterator[AskEvent]:
        """The answer to one question from passages that were weighed, best first. number: its index, for events.

        What of the question stands nowhere in the text is not looked for here.
        """
        best = weighed[0].confidence if weighed else 0.0
        evidence = yield from self._evidence(weighed)
        if self.style == "write" and (evidence or not self.text.readable):
            yield (yield from self._write(number, question, evidence, best))
        elif evidence:
            yield self._quote(question, evidence)
        else:
            yield Answer(question.text, False, self._why_nothing(), "none", False, best, ())

    def weighed(self, questions: Sequence[Question]) -> list[list[Weighed]]:
        """The passages for each question, best first. The network reads the first `NUM_WEIGHED` of each once more."""
        found = [weigh(self.text.index, question) for question in questions]
        pairs = [(at, one.passage.text) for at, some in enumerate(found) for one in some[:NUM_WEIGHED]]
        if not pairs:
            return found
        likelihood = QuestionLikelihood(self.text.model, [one.text for one in questions], self.text.memory_mode)
        gains = iter(likelihood.gains(pairs))
        return [ranked_by_network(some, [next(gains) for _ in some[:NUM_WEIGHED]]) for some in found]

    def _evidence(self, weighed: Sequence[Weighed]) -> Generator[AskEvent, None, list[Weighed]]:
        """The first passages that still stand in their source, if the first of them is sure enough."""
        right = list[Weighed]()
        for one in weighed:
            if len(right) == self.config.top or not (right or one.confidence >= self.config.threshold):
                break
            if is_quoted_right(self.text.places[one.passage.source], one.passage):
                right.append(one)
            else:
                yield from self._warn(CHANGED)
        return right

    def _why_nothing(self) -> str:
        if not self.text.readable:
            return SOURCE_GONE
        return NOTHING_FOUND if self.text.index.num_passages else NOTHING_READ

    def _quote(self, question: Question, evidence: list[Weighed]) -> Answer:
        span = self._span(question, evidence) if self.style == "span" else None
        quoted = span or best_sentence(evidence[0].passage, question, self.text.index)
        return Answer(
            question=question.text,
            found=True,
            text=quoted.text,
            kind="extracted",
            cited=True,
            confidence=evidence[0].confidence,
            citations=tuple(self._cite(one) for one in evidence),
            span=quoted.span,
            line=quoted.line,
            page=self._page(quoted),
        )

    def _missing(self, question: Question) -> tuple[str, ...]:
        """Its names and numbers that stand in no passage; none where a source that was read is not in the index."""
        index = self.text.index
        wanted = question.names if self.text.searched and index.num_passages else []
        return tuple(name for name in wanted if not any(index.frequencies(way).all() for way in variants(name)))

    def _span(self, question: Question, evidence: list[Weighed]) -> Passage | None:
        """What the network copies from the best passage; None if nothing, or it cannot be told where it stands."""
        model, passage = self.text.model, evidence[0].passage
        place = self.text.places[passage.source]
        last_hidden, state = read_any(model.network, self._prompt(question, evidence), self.text.state)
        if last_hidden is None or _width(passage.text, place.encoding) != passage.span[1] - passage.span[0]:
            return None
        span = copy_span(model, state, last_hidden, passage.text, self.config.max_answer_tokens)
        if span is None:
            return None
        before, text = passage.text[: span.start], passage.text[span.start : span.end]
        start = passage.span[0] + _width(before, place.encoding)
        line, page = passage.line + before.count("\n"), passage.page + before.count("\f")
        end = start + _width(text, place.encoding)
        return Passage(passage.source, (Sentence(text, start, end, line, None, False, page),))

    def _write(
        self, number: int, question: Question, evidence: list[Weighed], confidence: float
    ) -> Generator[AskEvent, None, Answer]:
        settings = GenerationConfig(max_tokens=self.config.max_answer_tokens, stop=("\n",))
        ids, text = self._prompt(question, evidence), ""
        for event in generate(self.text.model, self.text.state, ids, settings, last_hidden=self.text.last_hidden):
            if isinstance(event, GeneratedText):
                new = event.text if text else event.text.lstrip()
                text += new
                if new:
                    yield AnswerText(number, new)
        text = text.strip()
        if not text or text == NOT_SAID:
            reason = NOTHING_FOUND if text else NOTHING_WRITTEN
            return Answer(question.text, False, reason, "none", False, confidence, ())
        citations = tuple(self._cite(one) for one in evidence)
        return Answer(question.text, True, text, "written", False, confidence, citations)

    def _prompt(self, question: Question, evidence: list[Weighed]) -> list[int]:
        """Token ids of the evidence, in the order of the text, and the question in the checkpoint's own wording."""
        # In the order of the text, because a later statement may overturn an earlier one.
        in_order = sorted((one.passage for one in evidence), key=lambda passage: (passage.source, passage.span))
        values = {"passages": "\n\n".join(passage.text for passage in in_order), "question": question.text}
        return self.text.model.tokenizer.encode("\n\n" + prompt(self.text.model.sidecar, "ask", values).lstrip())

    def _cite(self, one: Weighed) -> Citation:
        place, passage = self.text.places[one.passage.source], one.passage
        return Citation(
            source=place.name,
            line=passage.line,
            page=self._page(passage),
            span=passage.span,
            text=passage.text,
            confidence=one.confidence,
            verified=True,  # others were left out
            checked_against="text read" if place.path is None else "source",
            features=one.features,
        )

    def _page(self, passage: Passage) -> int | None:
        return passage.page if self.text.index.has_pages(passage.source) else None

    def _warn(self, text: str) -> Iterator[Notice]:
        if text not in self.warnings:
            self.warnings.append(text)
            yield Notice(text)


def _width(text: str, encoding: str) -> int:
    """Bytes of `text` in a source, as far as it holds no bytes that were replaced."""
    return len(text.encode(encoding, "replace"))
