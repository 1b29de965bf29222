"""Answers to questions about a text that was read: found in its index, ranked by the network, quoted or written."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

from famcli.reading.engine import read_any
from famcli.reading.generating import GeneratedText, GenerationConfig, generate
from famcli.tasks.ask.answers import (
    NOTHING_FOUND,
    NOTHING_READ,
    NOTHING_WRITTEN,
    SOURCE_GONE,
    Answer,
    AnswerStyle,
    AskConfig,
    Citation,
    answer_style,
    nearest_passage,
    no_answer,
)
from famcli.tasks.ask.asked_text import AskedText
from famcli.tasks.ask.best_sentence import best_sentence
from famcli.tasks.ask.likelihood import question_likelihoods
from famcli.tasks.ask.ranking import (
    FEATURES,
    NEAR_THRESHOLD,
    NUM_RERANKED,
    Question,
    RankedPassage,
    check_questions,
    rank_passages,
    rerank,
    term_shares,
)
from famcli.tasks.ask.refusing import Judged, judge, knows_to_refuse
from famcli.tasks.ask.rereading import is_quoted_right
from famcli.tasks.ask.spans import copy_span
from famcli.tasks.ask.table_cell import asked_cells
from famcli.tasks.grounding import Sources, support
from famcli.tasks.prompts import NOT_SAID, Exchange, prompt
from famcli.tasks.task import Notice
from famcli.tasks.written_text import TurnWriter
from famcli.text.passages import Passage
from famcli.text.sentences import Sentence
from famcli.text.words import plain_spelling, variants

CHANGED = (
    "a source was changed since it was read, or cannot be opened: passages that are no longer found in it are left out"
)
# What a checkpoint writes where the passages do not answer.
_NOT_SAID = re.compile(
    r"not in the (?:text|passages?)|(?:does|do) not (?:say|mention|specify|provide|state|contain|answer|explicitly)"
    r"|not (?:mentioned|stated|specified|provided|given|explicitly)|no information|cannot be determined",
    re.IGNORECASE,
)
# A question without a name that has one of these is about what was said before.
_REFERS_BACK = re.compile(r"\b(?:he|she|it|they|him|her|his|its|their|them|there|that|this|those|these|then)\b", re.I)
_MOST_SENTENCES = 2
# From this confidence on a small checkpoint's "not in the text" is not believed: the passage is quoted.
_SURE = 0.5
# How likely an answer is right of which a question names row and column. In benchmarks.quality files 9 of 9 were, and 4
# of 4 of those that their words put lower: so few only say that it is above a half (Wilson).
_NAMED = 0.6
# A citation is shown beside the best one if it has at least this share of the answer's words that the best one has.
_MUCH_OF_BEST = 0.8
# Questions whose passages the network reads in one go: more would be a little faster, and the first answer later.
_TOGETHER = 8


@dataclass(frozen=True)
class AnswerText:
    """An event: some more of a written answer, as it is generated. question: index."""

    question: int
    text: str


AnsweringEvent = Notice | AnswerText | Answer


class Answerer:
    """Answers questions about one text. warnings: what was said on the way."""

    def __init__(self, text: AskedText, config: AskConfig | None = None) -> None:
        self.text, self.config = text, config or AskConfig()
        self.warnings: list[str] = []
        self.style: AnswerStyle = answer_style(text.model, self.config.style)
        self._pen = TurnWriter(text.model, self.config.sampling) if self.style == "write" else None
        self._said: Exchange | None = None

    def answers(self, questions: Sequence[str], first: int = 0) -> Iterator[AnsweringEvent]:
        """The answers in order; passages for a few questions at a time are read together by the network.

        first: the index of the first question, for events. Raises UsageError for a question without a word.
        """
        check_questions(questions)
        parsed = [self._parsed(question) for question in questions]
        follows = self._pen is None or self._pen.chat is not None
        if not follows and self.text.model.sidecar.tasks.get("ask") != "write":
            yield from self._warn(
                f"{self.text.model.name} is not known to follow instructions (its fam.json does not say that it writes "
                "answers): what it writes may be nonsense; extractive answers are quotes"
            )
        for place in range(0, len(parsed), _TOGETHER):
            some = parsed[place : place + _TOGETHER]
            for number, (question, ranked) in enumerate(zip(some, self.ranked(some), strict=True), first + place):
                missing = self._missing(question)
                for event in self.answer(question, ranked, number):
                    yield replace(event, missing=missing) if isinstance(event, Answer) else event

    def ranked(self, questions: Sequence[Question]) -> list[list[RankedPassage]]:
        """The passages for each question, best first; the network has read the first `NUM_RERANKED` of each."""
        found = [rank_passages(self.text.index, question) for question in questions]
        # In one spelling, so that the network is as sure of all of them.
        pairs = [(at, plain_spelling(one.passage.text)) for at, some in enumerate(found) for one in some[:NUM_RERANKED]]
        if not pairs:
            return found
        texts = [plain_spelling(question.text) for question in questions]
        likelihoods = iter(question_likelihoods(self.text.model, texts, self.text.memory_mode, pairs))
        return [rerank(some, [next(likelihoods) for _ in some[:NUM_RERANKED]]) for some in found]

    def answer(self, question: Question, ranked: Sequence[RankedPassage], number: int = 0) -> Iterator[AnsweringEvent]:
        """The answer to one question from its passages, best first. number: its index, for events.

        `Answer.missing` stays empty.
        """
        best = ranked[0].confidence if ranked else 0.0
        evidence, citations = yield from self._evidence(ranked)
        is_sure = bool(evidence) and evidence[0].confidence >= self.config.threshold
        from_table = self._quote_cells(question, evidence, citations) if self._pen is None else None
        if from_table is not None:
            answer = from_table
        elif self._pen is not None and self._pen.chat is not None and is_sure:
            answer = self._write_in_turn(self._pen, question, evidence, citations)
        # Where a memory file has lost its sources, the network can still write from its memory alone.
        elif self._pen is not None and self._pen.chat is None and (is_sure or not self.text.readable):
            answer = yield from self._write(number, question, evidence, citations, best)
        elif is_sure:
            answer = self._quote(question, evidence, citations)
        elif evidence and evidence[0].comes_near(question):
            answer = nearest_passage(question.text, best, citations)
        else:
            answer = no_answer(question.text, self._why_nothing(), best)
        self._said = (question.text, answer.text) if answer.found else self._said
        yield answer

    def _evidence(
        self, ranked: Sequence[RankedPassage]
    ) -> Generator[AnsweringEvent, None, tuple[list[RankedPassage], tuple[Citation, ...]]]:
        """The first passages that are still in their source, with citations."""
        evidence, citations = list[RankedPassage](), list[Citation]()
        for one in ranked:
            if len(evidence) == self.config.top:
                break
            citation = self._cite(one)
            if citation.verified or citation.checked_against == "text read":
                evidence.append(one)
                citations.append(citation)
            else:
                yield from self._warn(CHANGED)
        return evidence, tuple(citations)

    def _cite(self, one: RankedPassage) -> Citation:
        passage, source = one.passage, self.text.sources[one.passage.source]
        return Citation(
            source=source.name,
            line=passage.line,
            page=self._page(passage),
            span=passage.span,
            text=passage.text,
            confidence=one.confidence,
            verified=is_quoted_right(source, passage),
            checked_against="text read" if source.path is None else "source",
            features=dict(zip(FEATURES, one.features, strict=True)),
            location=passage.location,
        )

    def _page(self, passage: Passage) -> int | None:
        return passage.page if self.text.index.has_pages(passage.source) else None

    def _missing(self, question: Question) -> tuple[str, ...]:
        """Its names and numbers that stand in no passage; none where a source that was read is not in the index."""
        index = self.text.index
        wanted = question.names if self.text.searched and index.num_passages else []
        return tuple(name for name in wanted if not any(index.frequencies(way).all() for way in variants(name)))

    def _why_nothing(self) -> str:
        if not self.text.readable:
            return SOURCE_GONE
        return NOTHING_FOUND if self.text.index.num_passages else NOTHING_READ

    def _warn(self, text: str) -> Iterator[Notice]:
        if text not in self.warnings:
            self.warnings.append(text)
            yield Notice(text)

    # ------------------------------------------------------------------------------------------------ quoting

    def _quote(self, question: Question, evidence: list[RankedPassage], citations: tuple[Citation, ...]) -> Answer:
        best = evidence[0].passage
        span = self._span(question, evidence) if self.style == "span" else None
        quoted = span or best_sentence(best, question, term_shares(question, self.text.index), evidence[0].likeness)
        return Answer(
            question=question.text,
            found=True,
            text=quoted.text,
            kind="extracted",
            cited=quoted.text in citations[0].text,
            span=quoted.span,
            line=quoted.line,
            page=self._page(quoted),
            location=quoted.location,
            confidence=evidence[0].confidence,
            citations=citations,
        )

    def _quote_cells(
        self, question: Question, evidence: list[RankedPassage], citations: tuple[Citation, ...]
    ) -> Answer | None:
        """Of a table or of records the values that are asked for, beside the one that names their row; no answer where
        the row has nothing of the kind. None where that cannot be told."""
        if not evidence or not evidence[0].comes_near(question):
            return None
        best = evidence[0]
        passage = best.passage
        if passage.location is None or passage.location.kind not in ("row", "path"):
            return None
        # A long row is several passages.
        near = self.text.index.beside(passage.source, passage.span[0])
        near.sort(key=lambda one: one.span != passage.span)
        cells = asked_cells([sentence for one in near for sentence in one.sentences], question)
        if not cells:
            return None
        if len(cells) == 1:
            return nearest_passage(question.text, min(best.confidence, NEAR_THRESHOLD), citations)
        # The rows of a table are alike, so that none leads; but its row and its column are named.
        value, confidence = cells[1], max(best.confidence, _NAMED)
        if confidence < self.config.threshold:
            return None
        holding = next(one for one in near if value.sentence in one.sentences)
        cited = self._cite(replace(best, passage=holding))
        if not (cited.verified or cited.checked_against == "text read"):
            return None
        sentence, encoding = value.sentence, self.text.sources[passage.source].encoding
        start = sentence.start + _width(sentence.text[: value.start], encoding)
        others = [one for one in citations if one.span != cited.span]
        return Answer(
            question=question.text,
            found=True,
            text="; ".join(cell.text for cell in cells),
            kind="extracted",
            cited=all(any(cell.text in one.text for one in (cited, *citations)) for cell in cells),
            span=(start, start + _width(value.text, encoding)),
            line=sentence.line,
            page=self._page(holding),
            location=sentence.location,
            confidence=confidence,
            citations=(cited, *others)[: self.config.top],
        )

    def _span(self, question: Question, evidence: list[RankedPassage]) -> Passage | None:
        """What the network copies from the best passage; None if nothing, or it cannot be told where it stands."""
        model, passage = self.text.model, evidence[0].passage
        encoding = self.text.sources[passage.source].encoding
        last_hidden, state = read_any(model.network, self._prompt(question, evidence), self.text.state)
        # Bytes that were replaced have another width than their U+FFFD: then a span's place cannot be counted out.
        if last_hidden is None or _width(passage.text, encoding) != passage.span[1] - passage.span[0]:
            return None
        span = copy_span(model, state, last_hidden, passage.text, self.config.max_answer_tokens)
        if span is None:
            return None
        before, text = passage.text[: span[0]], passage.text[slice(*span)]
        start = passage.span[0] + _width(before, encoding)
        line, page = passage.line + before.count("\n"), passage.page + before.count("\f")
        end = start + _width(text, encoding)
        within = next((one for one in reversed(passage.sentences) if one.start <= start), passage.sentences[0])
        line = line if within.location is None else within.line
        found = Sentence(text, start, end, line, None, False, page, location=within.location)
        return Passage(passage.source, (found,))

    # ------------------------------------------------------------------------------------------------ writing

    def _parsed(self, question: str) -> Question:
        """A question with what it refers back to: "When was he born?" is about what was said before."""
        parsed = Question.parse(question)
        if self._pen is None or self._said is None or parsed.names or not _REFERS_BACK.search(parsed.text):
            return parsed
        terms = Question.parse(" ".join((question, *self._said))).terms
        return replace(parsed, terms=terms, before=self._said)

    def _write_in_turn(
        self,
        pen: TurnWriter,
        question: Question,
        evidence: list[RankedPassage],
        citations: tuple[Citation, ...],
    ) -> Answer:
        """What the checkpoint writes within a turn that holds the evidence, as far as the evidence bears it out."""
        before, after = pen.around("ask", {"question": question.text}, question.before)
        passages = [one.passage.text for one in _in_order(evidence)]
        ids = before + self.text.model.tokenizer.encode("\n\n".join(passages)) + after
        best, judged = evidence[0].confidence, judge(self.text.model, ids) if knows_to_refuse(self.text.model) else None
        if judged is not None and judged.refuses:
            return replace(no_answer(question.text, NOTHING_FOUND, best), draft=NOT_SAID)
        said = self._said_of(pen, ids, judged)
        text = " ".join(said)
        denied = not text or _NOT_SAID.search(text) is not None
        if text and denied and best < _SURE:
            return replace(no_answer(question.text, NOTHING_FOUND, best), draft=text)
        if denied:
            return replace(self._quote(question, evidence, citations), draft=text)
        sources = Sources(passages, question.text)
        missing = tuple(dict.fromkeys(chain.from_iterable(map(sources.missing, said))))
        if missing:
            return replace(self._quote(question, evidence, citations), draft=text, unsupported=missing)
        # Those that hold its words, not all that were read.
        shares = [support(text, one.text) for one in citations]
        kept = [one for one, share in zip(citations, shares, strict=True) if share >= max(shares) * _MUCH_OF_BEST]
        kept.sort(key=lambda one: -shares[citations.index(one)])
        plain = text.rstrip(".")
        return Answer(
            question=question.text,
            found=True,
            text=text,
            kind="written",
            cited=plain in kept[0].text,
            confidence=best,
            citations=tuple(kept),
        )

    def _said_of(self, pen: TurnWriter, ids: list[int], judged: Judged | None) -> list[str]:
        """The first sentences of what it writes after `ids`; where it was judged that there is an answer, one."""
        most = self.config.max_answer_tokens
        if judged is None:
            return list(islice(pen.sentences(ids, most), _MOST_SENTENCES))
        read = (judged.state, judged.last_hidden)
        said = list(islice(pen.sentences([], most, *read, known=ids), _MOST_SENTENCES))
        if said[:1] != [NOT_SAID]:
            return said
        begun = self.text.model.tokenizer.decode([judged.other])
        instead = pen.sentences([judged.other], most, judged.state, begun=begun, known=ids)
        return list(islice(instead, _MOST_SENTENCES))

    def _write(
        self,
        number: int,
        question: Question,
        evidence: list[RankedPassage],
        citations: tuple[Citation, ...],
        confidence: float,
    ) -> Generator[AnsweringEvent, None, Answer]:
        # Checkpoints are trained to end an answer with a line break (`prompts.ANSWER`).
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
            return no_answer(question.text, NOTHING_FOUND if text else NOTHING_WRITTEN, confidence)
        sources = Sources((one.passage.text for one in evidence), question.text)
        missing = sources.missing(text) if evidence else ()
        return Answer(
            question=question.text,
            found=True,
            text=text,
            kind="written",
            confidence=confidence,
            citations=citations,
            unsupported=missing,
        )

    def _prompt(self, question: Question, evidence: list[RankedPassage]) -> list[int]:
        """Token ids of the evidence, in the order of the text, and the question in the checkpoint's own wording."""
        # Best first, the network chose the right place in 21 of 40 stories whose facts are overturned later; in the
        # order of the text, in 30 (docs/decisions.md).
        values = {"passages": "\n\n".join(one.passage.text for one in _in_order(evidence)), "question": question.text}
        return self.text.model.tokenizer.encode("\n\n" + prompt(self.text.model.sidecar, "ask", values).lstrip())


def _in_order(evidence: Sequence[RankedPassage]) -> list[RankedPassage]:
    return sorted(evidence, key=lambda one: (one.passage.source, one.passage.span))


def _width(text: str, encoding: str) -> int:
    """Bytes of `text` in a source, as far as it holds no bytes that were replaced."""
    return len(text.encode(encoding, "replace"))
