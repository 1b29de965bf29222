"""Answers to questions about a text that was read: found in its index, ranked by the network, quoted or written."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import PurePath

from famcli.reading.generating import GeneratedText, GenerationConfig, generate
from famcli.tasks.ask.answers import (
    NOTHING_FOUND,
    NOTHING_FOUND_IN_SEVERAL,
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
from famcli.tasks.ask.best_sentence import around_best
from famcli.tasks.ask.expecting import asked_noun, asks_term, asks_value, expected, is_count, lacks
from famcli.tasks.ask.likelihood import question_likelihoods
from famcli.tasks.ask.question import Question, all_terms, check_questions, coverage, term_shares
from famcli.tasks.ask.quoting import Quoter, evidence_prompt, in_order
from famcli.tasks.ask.ranking import NEAR_THRESHOLD, NUM_RERANKED, RankedPassage, rank_passages, rerank
from famcli.tasks.ask.refusing import denies
from famcli.tasks.ask.rereading import has_in_code
from famcli.tasks.ask.turn_writing import write_in_turn
from famcli.tasks.grounding import Sources, support
from famcli.tasks.prompts import NOT_SAID, Exchange
from famcli.tasks.task import Notice
from famcli.tasks.written_text import TurnWriter
from famcli.text.language import language_of
from famcli.text.words import content_terms, plain_spelling, terms, variants

CHANGED = (
    "a source was changed since it was read, or cannot be opened: passages that are no longer found in it are left out"
)
# Nothing of it can be looked up in the passages, and small checkpoints guess: a quote lets the reader see.
_YES_OR_NO = re.compile(r"\W*(?:yes|no)\W*", re.IGNORECASE)
# A question without a name that has one of these is about what was said before.
_REFERS_BACK = re.compile(r"\b(?:he|she|it|they|him|her|his|its|their|them|there|that|this|those|these|then)\b", re.I)
_IDENTIFIER = re.compile(r"\b(?:[A-Za-z]\w*_\w+|[a-z]+[A-Z]\w*|[A-Za-z_]\w*(?=\(\)))")
# Why a passage whose confidence is enough is no answer.
_NOWHERE = "The question names what stands nowhere: {}."
_REFUSED = "The model finds no answer in it."
# Passages that are tried for a quote at least, however few are shown.
_LEAST_TRIED = 3
# From this confidence on a small checkpoint's "not in the text" is not believed: the passage is quoted.
_SURE = 0.5
# What comes with a project says little about it, in words that many questions have.
_LICENCE_FILE = re.compile(r"(?:^|[/\\])(?:un)?(?:licen[cs]e|copying|copyright|notice)s?(?:[.-][\w.-]+)?$", re.I)
_ABOUT_LICENCES = re.compile(
    r"licen[cs]|copyright|warrant|liab|permi|distribut|patent|trademark|open.source|sell|modify|\bcop(?:y|ies)\b", re.I
)
# How near a word of the best passage must be to one that is named in the question and stands nowhere.
_SAME_THING = 0.45
# A citation is shown beside the best one if it has at least this share of the answer's words that the best one has.
_MUCH_OF_BEST = 0.8
# Questions whose passages the network reads in one go: more would be a little faster, and the first answer later.
_TOGETHER = 8
# Of a question's words, by weight, what a quote must have that stands in for a written answer.
_FAIR_SHARE = 0.4
_SAMPLED = 30  # passages by which a text's language is told


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
        self._quoter = Quoter(text, self.config, self.style)
        self._said: Exchange | None = None
        self._language: str | None = None

    def answers(self, questions: Sequence[str], first: int = 0) -> Iterator[AnsweringEvent]:
        """The answers in order; passages for a few questions at a time are read together by the network.

        first: the index of the first question, for events. Raises UsageError for a question without a word.
        """
        check_questions(questions)
        parsed = [self._parsed(question) for question in questions]
        batches = [parsed[place : place + _TOGETHER] for place in range(0, len(parsed), _TOGETHER)]
        ranked = chain.from_iterable(map(self.ranked, batches))
        # Not a generator: that would be one more frame below every product of the network.
        said = chain(self._doubts(), self._tell_language(questions))
        return chain(said, chain.from_iterable(map(self.answer, parsed, ranked, count(first))))

    def _doubts(self) -> Iterator[Notice]:
        if self._pen is None and self.config.sampling:
            names = ", ".join(self.config.sampling)
            yield from self._warn(f"answers are quoted, so settings for drawing words have no effect: {names}")
        follows = self._pen is None or self._pen.chat is not None
        if not follows and self.text.model.sidecar.tasks.get("ask") != "write":
            yield from self._warn(
                f"{self.text.model.name} is not known to follow instructions (its fam.json does not say that it writes "
                "answers): what it writes may be nonsense; extractive answers are quotes"
            )

    def ranked(self, questions: Sequence[Question]) -> list[list[RankedPassage]]:
        """The passages for each question, best first; the network has read the first `NUM_RERANKED` of each.

        A checkpoint that writes within a turn reads them for that alone: its likelihoods change hardly any order
        (docs/experiments.md), and would cost more than its answers.
        """
        found = [
            rank_passages(self.text.index, question, without=self._left_out(question.text)) for question in questions
        ]
        # In one spelling, so that the network is as sure of all of them.
        pairs = [(at, plain_spelling(one.passage.text)) for at, some in enumerate(found) for one in some[:NUM_RERANKED]]
        if pairs and not self._writes_in_turn:
            texts = [plain_spelling(question.text) for question in questions]
            likelihoods = iter(question_likelihoods(self.text.model, texts, self.text.memory_mode, pairs))
            found = [rerank(some, [next(likelihoods) for _ in some[:NUM_RERANKED]]) for some in found]
        # `_tell_language` has noted it, if it is none whose questions are understood.
        return [[replace(one, is_foreign=self._language is not None) for one in some] for some in found]

    @property
    def _writes_in_turn(self) -> bool:
        return self._pen is not None and self._pen.chat is not None

    @property
    def _has_probes(self) -> bool:
        return self._writes_in_turn and self.text.model.probes is not None

    def _left_out(self, question: str) -> set[int]:
        """The sources that are not looked in: licences, beside others, unless the question is about such."""
        if _ABOUT_LICENCES.search(question):
            return set()
        found = {at for at, source in enumerate(self.text.sources) if _LICENCE_FILE.search(source.name)}
        return found if len(found) < len(self.text.sources) else set()

    def answer(self, question: Question, ranked: Sequence[RankedPassage], number: int = 0) -> Iterator[AnsweringEvent]:
        """The answer to one question from its passages, best first. number: its index, for events."""
        best, missing = ranked[0].confidence if ranked else 0.0, self._missing(question)
        tried = yield from self._evidence(ranked)
        evidence, citations = [one for one, _ in tried[: self.config.top]], tuple(cited for _, cited in tried)
        shown = citations[: self.config.top]
        # What is named and stands nowhere may be there in another word, but a word is not explained by another one.
        is_there = not missing and self._has_asked_noun(question)
        is_met = bool(evidence) and evidence[0].met >= _SAME_THING and not asks_term(question.text)
        is_told = bool(evidence) and (is_there or is_met)
        is_sure = is_told and best >= self.config.threshold
        # Probes look at what words alone would refuse, unless it is hopeless.
        is_worth_reading = is_sure or (is_told and self._has_probes and best >= NEAR_THRESHOLD)
        # Which cell of a row is meant is a matter of its column's name, not of writing.
        from_table = (
            self._quoter.cells(question, evidence, shown) if self._pen is None or self._writes_in_turn else None
        )
        if (count := None if missing else self._quoter.count(question)) is not None:
            answer = count
        elif from_table is not None and not missing:
            answer = from_table
        # Of what stands in several lines under its name a model writes a part.
        elif is_sure and evidence[0].told is not None and len(evidence[0].told.sentences) > 1:
            answer = self._quote(question, [one for one, _ in tried], citations)
        elif (
            self._pen is not None
            and self._pen.chat is not None
            and is_worth_reading
            and not _lacking(question, evidence)
        ):
            answer = self._write_in_turn(self._pen, question, evidence, shown)
        # Where a memory file has lost its sources, the network can still write from its memory alone.
        elif self._pen is not None and self._pen.chat is None and (is_sure or not self.text.readable):
            answer = yield from self._write(number, question, evidence, shown, best)
        elif is_sure:
            answer = self._quote(question, [one for one, _ in tried], citations)
        elif evidence and (evidence[0].comes_near(question) or is_count(question.text)):
            nowhere = ", ".join(missing) or asked_noun(question.text)
            answer = self._unsure(question, best, shown, None if is_there else _NOWHERE.format(nowhere))
        else:
            answer = no_answer(question.text, self._why_nothing(), best)
        self._said = (question.text, answer.text) if answer.found else self._said
        unread = self._unread(question, missing)
        yield replace(answer, missing=tuple(name for name in missing if name not in unread), unread=unread)

    def _evidence(
        self, ranked: Sequence[RankedPassage]
    ) -> Generator[AnsweringEvent, None, list[tuple[RankedPassage, Citation]]]:
        """The first passages that are still in their source, with citations: what is quoted may be of a later one than
        those that are shown."""
        found = list[tuple[RankedPassage, Citation]]()
        for one in self._quoter.evidence(ranked):
            if one is None:
                yield from self._warn(CHANGED)
                continue
            found.append(one)
            if len(found) == max(self.config.top, _LEAST_TRIED):
                break
        return found

    def _quote(self, question: Question, evidence: list[RankedPassage], citations: tuple[Citation, ...]) -> Answer:
        quoted = self._quoter.quote(question, evidence, citations)
        because = f"No passage that comes near has what the question asks for{_thing(question)}."
        # It may stand elsewhere in the passage, or in a heading above it.
        because = because if _lacking(question, evidence) else "No sentence that comes near says what is asked."
        return quoted or self._unsure(question, evidence[0].confidence, citations[: self.config.top], because)

    def _quote_instead(
        self, question: Question, evidence: list[RankedPassage], citations: tuple[Citation, ...]
    ) -> Answer:
        """A quote in the place of what the text does not bear out, if it is about the question at all."""
        quoted, shares = self._quote(question, evidence, citations), term_shares(question, self.text.index)
        if not quoted.found or coverage(shares, all_terms(quoted.text)) >= _FAIR_SHARE:
            return quoted
        return self._unsure(question, evidence[0].confidence, citations)

    def _unsure(
        self, question: Question, confidence: float, citations: tuple[Citation, ...], because: str | None = None
    ) -> Answer:
        """The nearest passage. because: what speaks against it where its confidence does not."""
        if confidence < self.config.threshold:
            return nearest_passage(question.text, confidence, citations)
        return nearest_passage(question.text, min(confidence, NEAR_THRESHOLD), citations, because)

    def _missing(self, question: Question) -> tuple[str, ...]:
        """Its names and numbers that stand in no passage and no name of a file; none where a source that was read is
        not in the index."""
        index = self.text.index
        wanted = question.names if self.text.searched and index.num_passages else []
        absent = (name for name in wanted if not any(index.frequencies(way).all() for way in variants(name)))
        return tuple(name for name in absent if not self._names_file(name))

    def _names_file(self, name: str) -> bool:
        return {term for one in self.text.sources for term in _name_terms(one.name)}.issuperset(terms(name))

    def _has_asked_noun(self, question: Question) -> bool:
        """False where what is counted, the role of whom is asked for, or what is asked about stands in no passage."""
        noun = asked_noun(question.text)
        if noun is None or not self.text.searched or self._names_file(noun):
            return True
        return any(bool(self.text.index.frequencies(way).all()) for way in variants(noun))

    def _unread(self, question: Question, missing: Sequence[str]) -> tuple[str, ...]:
        """The names in the question that stand nowhere but in the code of a program."""
        index, named = self.text.index, dict.fromkeys((*missing, *_IDENTIFIER.findall(question.text)))
        absent = (name for name in named if name in missing or not index.frequencies(terms(name)).all())
        return tuple(name for name in absent if any(has_in_code(source, name) for source in self.text.sources))

    def _why_nothing(self) -> str:
        if not self.text.readable:
            return SOURCE_GONE
        if not self.text.index.num_passages:
            return NOTHING_READ
        return NOTHING_FOUND if len(self.text.sources) < 2 else NOTHING_FOUND_IN_SEVERAL

    def _tell_language(self, questions: Sequence[str]) -> Iterator[Notice]:
        """Say once that a text is in a language in which answers are found by their words alone."""
        index = self.text.index
        numbers = range(0, index.num_passages, max(1, index.num_passages // _SAMPLED))
        language = language_of("\n".join(index.passage(number).text for number in numbers))
        # Nothing else is told of a question in a language of its own: it does what can be done.
        if language not in (None, "English") and self._language is None:
            self._language = language
            asked = language_of(" ".join([*questions] * _SAMPLED))
            yield from self._warn(
                f"the text seems to be in {language}: answers are found by the words that it shares with a question"
                f"{'' if asked == language else ', so ask in its words'}; dates and names are told in English only"
            )

    def _warn(self, text: str) -> Iterator[Notice]:
        if text not in self.warnings:
            self.warnings.append(text)
            yield Notice(text)

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
        best, ordered = evidence[0].confidence, in_order(evidence)
        passages, shares = [one.passage.text for one in ordered], term_shares(question, self.text.index)
        readings = (passages, [evidence[0].passage.text], [around_best(evidence[0], question, shares)])
        written = write_in_turn(pen, question, readings, self.config.max_answer_tokens)
        if written is None:
            return replace(self._unsure(question, best, citations, _REFUSED), draft=NOT_SAID)
        said, text, best = written.said, written.text, written.answers(best)
        if best < self.config.threshold:
            return replace(self._unsure(question, best, citations), draft=text)
        denied = not text or denies(text)
        if text and denied and best < _SURE:
            return replace(self._unsure(question, best, citations, _REFUSED), draft=text)
        if denied or _YES_OR_NO.fullmatch(text) or _repeats(question, text) or lacks(question.text, text):
            return replace(self._quote(question, evidence, citations), draft=text)
        sources = Sources(passages, question.text, asks_value(question.text))
        missing = tuple(dict.fromkeys(chain.from_iterable(map(sources.missing, said))))
        if missing:
            return replace(self._quote_instead(question, evidence, citations), draft=text, unsupported=missing)
        # Those that hold its words, not all that were read.
        held = [support(text, one.text) for one in citations]
        kept = [one for one, share in zip(citations, held, strict=True) if share >= max(held) * _MUCH_OF_BEST]
        kept.sort(key=lambda one: -held[citations.index(one)])
        plain = text.rstrip(".")
        return Answer(
            question=question.text,
            found=True,
            text=text,
            kind="written",
            cited=plain in kept[0].text,
            confidence=math.sqrt(best * written.sureness),
            citations=tuple(kept),
        )

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
        ids, text = evidence_prompt(self.text, question, evidence), ""
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


def _thing(question: Question) -> str:
    """The kind of thing that a question asks for, in brackets."""
    kind = expected(question.text)
    return "" if kind is None or kind == "meaning" else f" (a {kind})"


def _repeats(question: Question, text: str) -> bool:
    """True if an answer has no word that the question has not; of two things that it names either may be meant."""
    return set(content_terms(text)) <= set(content_terms(question.text)) and " or " not in question.text


def _lacking(question: Question, evidence: Sequence[RankedPassage]) -> bool:
    """True if none of the passages has what the question asks for."""
    return all(lacks(question.text, one.passage.with_headings) for one in evidence)


def _name_terms(name: str) -> list[str]:
    """The words of a file's name: `debian.csv` is about Debian though no row says so."""
    return terms(re.sub(r"[\W_]+", " ", PurePath(name).stem))
