"""Answers that are quoted: sentences of a passage, a span of it, or values of a table's row; and citations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from famcli.reading.engine import read_any
from famcli.tasks.ask.answers import Answer, AnswerStyle, AskConfig, Citation, nearest_passage
from famcli.tasks.ask.asked_text import AskedText
from famcli.tasks.ask.best_sentence import asks, best_sentence
from famcli.tasks.ask.counting import counted
from famcli.tasks.ask.expecting import is_stated, lacks
from famcli.tasks.ask.question import Question, term_shares
from famcli.tasks.ask.ranking import FEATURES, NEAR_THRESHOLD, RankedPassage
from famcli.tasks.ask.rereading import is_quoted_right
from famcli.tasks.ask.spans import copy_span
from famcli.tasks.ask.table_cell import asked_cells
from famcli.tasks.prompts import prompt
from famcli.text.passages import Passage
from famcli.text.sentences import Sentence
from famcli.text.words import content_terms, terms

# How likely an answer is right of which a question names row and column. In benchmarks.quality files 9 of 9 were, and 4
# of 4 of those that their words put lower: so few only say that it is above a half (Wilson).
_NAMED = 0.6
_RECORD_REACH = 32  # passages before and after the one that names a record, in which its other fields are


class Quoter:
    """Quotes one text. Nothing is quoted that is not found again in its source."""

    def __init__(self, text: AskedText, config: AskConfig, style: AnswerStyle) -> None:
        self.text, self.config, self.style = text, config, style

    def evidence(self, ranked: Sequence[RankedPassage]) -> Iterator[tuple[RankedPassage, Citation] | None]:
        """The passages that are still in their source, with citations, best first; None for one that is not."""
        for one in ranked:
            citation = self.cite(one)
            yield (one, citation) if _holds(citation) else None

    def cite(self, one: RankedPassage) -> Citation:
        """The citation of a passage, compared with its source."""
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
            location_end=None if passage.sentences[-1].location == passage.location else passage.sentences[-1].location,
            alike=one.alike,
        )

    def _page(self, passage: Passage) -> int | None:
        return passage.page if self.text.index.has_pages(passage.source) else None

    # ------------------------------------------------------------------------------------------------ sentences

    def quote(
        self, question: Question, evidence: Sequence[RankedPassage], citations: Sequence[Citation]
    ) -> Answer | None:
        """What the best passage says; the next one, if that is sure too, where it does not say what the question asks
        for. None where no passage does."""
        for one, citation in zip(evidence, citations, strict=True):
            if one is not evidence[0] and one.confidence < self.config.threshold:
                return None
            answering, quoted = self._quoted(question, one, evidence)
            cited = citation if answering is one else self.cite(answering)
            # A heading above the passage says of what its figures are.
            if quoted is None or lacks(question.text, quoted.text) or not _holds(cited):
                continue
            if one.told is None and not is_stated(question.text, quoted.text):
                continue
            others = [other for other in citations if other is not citation]
            return Answer(
                question=question.text,
                found=True,
                text=quoted.text,
                kind="extracted",
                cited=quoted.text in cited.text,
                span=quoted.span,
                line=quoted.line,
                page=self._page(quoted),
                location=quoted.location,
                confidence=one.confidence,
                citations=(cited, *others)[: self.config.top],
            )
        return None

    def _quoted(
        self, question: Question, one: RankedPassage, evidence: Sequence[RankedPassage]
    ) -> tuple[RankedPassage, Passage | None]:
        """The sentences of a passage that answer, with that passage: the next one where this one ends with a
        question."""
        if one.told is not None:
            return one, one.told
        shares = term_shares(question, self.text.index)
        span = self._span(question, evidence) if self.style == "span" and one is evidence[0] else None
        quoted = span or best_sentence(one, question, shares)
        if not asks(quoted.sentences[-1]) or quoted.sentences[-1] != one.passage.sentences[-1]:
            return one, quoted
        near = self.text.index.beside(one.passage.source, one.passage.span[0])
        after = next((other for other in near if other.span[0] >= one.passage.span[1]), None)
        if after is None or asks(after.sentences[0]):
            return one, quoted
        return replace(one, passage=after, likeness=(), met_by=()), Passage(after.source, after.sentences[:1])

    def count(self, question: Question) -> Answer | None:
        """How many there are, where a summary counts them; None where it does not."""
        text = self.text
        found = counted(text.index, text.sources[0].name, question.text) if len(text.sources) == 1 else None
        if found is None:
            return None
        cited = self.cite(RankedPassage(found.passage, (0.0,) * len(FEATURES), told=found.passage))
        if not _holds(cited) or cited.confidence < self.config.threshold:
            return None
        return Answer(
            question=question.text,
            found=True,
            text=found.said,
            kind="counted",
            confidence=cited.confidence,
            citations=(cited,),
        )

    def cells(
        self, question: Question, evidence: Sequence[RankedPassage], citations: tuple[Citation, ...]
    ) -> Answer | None:
        """Of a table or of records the values that are asked for, beside the one that names their row; no answer where
        the row has nothing of the kind. None where that cannot be told."""
        if not evidence or evidence[0].told is not None:
            return None
        best, passage = evidence[0], evidence[0].passage
        # A row that is named is near, although its table says nothing else of the question.
        named = set(terms(" ".join(question.names)))
        if not best.comes_near(question) and not (named and named <= set(terms(passage.text))):
            return None
        if passage.location is None or passage.location.kind not in ("row", "path"):
            return None
        # A long row is several passages, and what is deeper in a record stands between its own fields.
        is_record = passage.location.kind == "path"
        near = self.text.index.beside(passage.source, passage.span[0], _RECORD_REACH if is_record else 1)
        near = [one for one in near if not is_record or (one.location and one.location.value) == passage.location.value]
        near.sort(key=lambda one: one.span != passage.span)
        cells = asked_cells([sentence for one in near for sentence in one.sentences], question)
        if not cells:
            return None
        if len(cells) == 1:
            # "Air France" is no row of France, and a record has lists that are no value of it.
            is_row = not is_record and set(content_terms(cells[0].value)) <= set(question.terms)
            because = "Its row is there, but has no value of the kind that the question asks for." if is_row else None
            return nearest_passage(question.text, min(best.confidence, NEAR_THRESHOLD), citations, because)
        # The rows of a table are alike, so that none leads; but its row and its column are named.
        value, confidence = cells[1], max(best.confidence, _NAMED)
        if confidence < self.config.threshold:
            return None
        holding = next(one for one in near if value.sentence in one.sentences)
        cited = self.cite(replace(best, passage=holding))
        if not _holds(cited):
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

    def _span(self, question: Question, evidence: Sequence[RankedPassage]) -> Passage | None:
        """What the network copies from the best passage; None if nothing, or it cannot be told where it stands."""
        model, passage = self.text.model, evidence[0].passage
        encoding = self.text.sources[passage.source].encoding
        last_hidden, state = read_any(model.network, evidence_prompt(self.text, question, evidence), self.text.state)
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


def evidence_prompt(text: AskedText, question: Question, evidence: Sequence[RankedPassage]) -> list[int]:
    """Token ids of the evidence, in the order of the text, and the question in the checkpoint's own wording."""
    # Best first, the network chose the right place in 21 of 40 stories whose facts are overturned later; in the
    # order of the text, in 30 (docs/decisions.md).
    values = {"passages": "\n\n".join(one.passage.text for one in in_order(evidence)), "question": question.text}
    return text.model.tokenizer.encode("\n\n" + prompt(text.model.sidecar, "ask", values).lstrip())


def in_order(evidence: Sequence[RankedPassage]) -> list[RankedPassage]:
    """As they stand in the text."""
    return sorted(evidence, key=lambda one: (one.passage.source, one.passage.span))


def _holds(citation: Citation) -> bool:
    return citation.verified or citation.checked_against == "text read"


def _width(text: str, encoding: str) -> int:
    """Bytes of `text` in a source, as far as it holds no bytes that were replaced."""
    return len(text.encode(encoding, "replace"))
