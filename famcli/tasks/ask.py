"""Questions about documents: one reading for any number of questions, answers with verified citations.

The document is read without the questions. What may answer them is gathered on the way (`evidence`), looked at closely
afterwards, and quoted only if it is found again in the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from famcli.checkpoint.model import Model
from famcli.documents.document import Document
from famcli.documents.piece import Piece
from famcli.errors import UsageError
from famcli.nn import MemoryMode
from famcli.reading.bookmark import Bookmark
from famcli.reading.events import BlockEvent, SourceEnd, SourceStart
from famcli.reading.generate import GeneratedText, generate
from famcli.reading.memory_file import load_memory
from famcli.reading.reader import Reader
from famcli.reading.sampling import GenerationConfig
from famcli.tasks.answers import Answer, Citation
from famcli.tasks.common import (
    Advance,
    Documents,
    Ledger,
    Notice,
    ReadCounts,
    SourceRead,
    Stage,
    chosen_memory_mode,
    open_documents,
)
from famcli.tasks.evidence import BlockBuilder, QuestionEvidence, TextBlock, block_terms
from famcli.tasks.likelihood import QuestionLikelihood
from famcli.tasks.rereading import SourcePlace, is_quoted_right, read_again, why_not_readable
from famcli.tasks.weighing import Weighed, best_sentence, weigh

__all__ = ["Answer", "AnswerText", "Ask", "AskConfig", "AskEvent", "AskResult", "Citation", "ask"]

NOTHING_FOUND = "No passage of the text answers this."
NOTHING_WRITTEN = "The model wrote nothing."
SOURCE_GONE = "The text that was read cannot be read again, so there is nothing to quote."
_PROMPT = "{passages}\n\nQuestion: {question}\nAnswer:"


@dataclass(frozen=True)
class AskConfig:
    """How to answer.

    generate: True lets the model write the answer from the evidence, False quotes the best sentence; None is as the
    checkpoint says (`"tasks": {"ask": "write"}` in its sidecar). max_passages: evidence shown for each question.
    max_answer_tokens: of a written answer. memory_mode: None is the checkpoint's default. Raises UsageError.
    """

    generate: bool | None = None
    max_passages: int = 3
    max_answer_tokens: int = 64
    memory_mode: MemoryMode | None = None

    def __post_init__(self) -> None:
        for name in ("max_passages", "max_answer_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, it must be at least 1")


@dataclass(frozen=True)
class AnswerText:
    """An event: some more of a written answer, as it is generated. question: index."""

    question: int
    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"question": self.question, "text": self.text}


@dataclass(frozen=True)
class AskResult:
    """answers: one for each question, in order. counts: what was read, or what the memory file says was.

    memory_file: which file was asked; None where texts were read.
    """

    model: str
    memory_mode: MemoryMode
    answers: tuple[Answer, ...]
    counts: ReadCounts
    warnings: tuple[str, ...]
    partial: bool
    memory_file: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "memory_mode": self.memory_mode,
            "memory_file": self.memory_file,
            "answers": [answer.to_json() for answer in self.answers],
            "read": self.counts.to_json(),
            "warnings": list(self.warnings),
            "partial": self.partial,
        }


AskEvent = Stage | Advance | Notice | AnswerText | Answer


class Ask:
    """Answers questions about documents (`events`), or about what a memory file keeps (`events_from_memory`).

    Interrupted while reading, `result` answers from the evidence so far by quoting. Use one object for one run.
    """

    def __init__(self, model: Model, questions: Sequence[str], config: AskConfig | None = None) -> None:
        """Raises UsageError when there is no question, or an empty one."""
        self.model, self.config = model, config or AskConfig()
        self.questions = [question.strip() for question in questions]
        if not self.questions or not all(self.questions):
            raise UsageError("the question is empty: ask something")
        self.memory_mode = chosen_memory_mode(model, self.config.memory_mode)
        self._evidence = [QuestionEvidence(question) for question in self.questions]
        self._ledger = Ledger(model.tokenizer.vocab_size)
        self._coming: deque[Document] = deque()  # opened, and not begun
        self._documents: list[Document] = []
        self._kept: Bookmark | None = None  # what a memory file keeps, instead of documents
        self._memory_file: str | None = None
        self._readable = True
        self._builder: BlockBuilder | None = None
        self._reader: Reader | None = None
        self._likelihood: QuestionLikelihood | None = None
        self._before: list[float] = []  # of each question, one block ago
        self._answers: list[Answer] = []
        self._finished = False

    @property
    def writes(self) -> bool:
        """Whether answers are written by the model rather than quoted."""
        wanted = self.config.generate
        return self.model.sidecar.tasks.get("ask") == "write" if wanted is None else wanted

    def events(self, documents: Documents) -> Iterator[AskEvent]:
        """Read the documents, then answer each question."""
        yield from self._ledger.warn_untrained(self.model, self.config.memory_mode)
        yield from self._warn_of_writing()
        self._likelihood = QuestionLikelihood(self.model, self.questions, self.memory_mode)
        self._before = self._likelihood.at_start
        self._reader = Reader(self.model, memory_mode=self.memory_mode)
        for event in self._reader.read(self._watch(documents)):
            if isinstance(event, SourceStart):
                self._documents.append(self._coming.popleft())
                self._builder = BlockBuilder(event.index)
            elif isinstance(event, BlockEvent) and event.closed:
                self._add(event.span[1])
            elif isinstance(event, SourceEnd):
                self._add(None)
            yield from self._ledger.record(event)
        yield from self._answer_all()

    def events_from_memory(self, path: str | PathLike[str]) -> Iterator[AskEvent]:
        """Answer from a memory file.

        Its sources, where they still are what was read, are searched by words alone (one pass over their text, without
        the network); the passages found are weighed by the network as always. Where none can be read again, answers
        are written from the memory and marked uncited, if the model writes.
        """
        yield from self._warn_of_writing()
        self._kept, self._memory_file = (mark := load_memory(path, self.model)), str(path)
        self._reader = Reader(self.model, memory_mode=self.config.memory_mode, resume=mark)
        self.memory_mode = mark.lane.state.memory_mode
        self._reader.finish()
        self._likelihood = QuestionLikelihood(self.model, self.questions, self.memory_mode)
        self._readable = False
        for index, record in enumerate(mark.sources):
            yield Stage(f"searching {record.name}", record.num_bytes)
            reason = why_not_readable(record)
            if reason is not None:
                yield from self._ledger.warn(f"{reason}: nothing of it can be quoted")
                continue
            self._readable = True
            for block, num_bytes in read_again(record, index):
                self._keep(block, None)
                yield Advance(num_bytes, 0)
        yield from self._answer_all()

    def result(self) -> AskResult:
        """The answers; where reading was interrupted, by quoting from what was read, marked partial."""
        if self._builder is not None:  # interrupted: what was read of the open source counts
            sources = self._ledger.counts().sources
            if len(sources) == len(self._documents):
                self._keep(self._builder.take(sources[-1].num_bytes), None)
            self._builder = None
        answers = list(self._answers)
        for number in range(len(answers), len(self.questions)):
            answers.append(self._quote(number, self._weigh(number)))
        return AskResult(
            model=self.model.name,
            memory_mode=self.memory_mode,
            answers=tuple(answers),
            counts=self._counts(),
            memory_file=self._memory_file,
            warnings=tuple(self._ledger.warnings),
            partial=not self._finished,
        )

    def _counts(self) -> ReadCounts:
        """What was read in this run, or by those that made the memory file."""
        if self._kept is None or self._reader is None:
            return self._ledger.counts()
        seen = self._reader.seen
        sources = tuple(
            SourceRead(record.name, record.encoding, record.num_bytes, None, record.num_replaced)
            for record in self._kept.sources
        )
        return ReadCounts(seen.num_bytes, seen.num_tokens, seen.num_blocks, sources, 0.0)

    def _warn_of_writing(self) -> Iterator[Notice]:
        """Say that the checkpoint was not made for it, where it is made to write all the same."""
        if self.writes and self.model.sidecar.tasks.get("ask") != "write":
            yield from self._ledger.warn(
                f"{self.model.name} is not known to follow instructions (its fam.json does not say that it writes "
                "answers): what it writes may be nonsense; --extractive quotes instead"
            )

    # ------------------------------------------------------------------------------------------------ reading

    def _watch(self, documents: Documents) -> Iterator[Document]:
        for document in open_documents(documents):
            self._coming.append(document)
            yield self._ledger.watch(document, self._see)

    def _see(self, piece: Piece) -> None:
        assert self._builder is not None, "a source begins before its text"
        self._builder.feed(piece)

    def _add(self, end: int | None) -> None:
        """What ends before source byte `end` was read, or (None) a whole source: score the questions on forks."""
        assert self._reader is not None
        assert self._likelihood is not None
        assert self._builder is not None
        now = self._likelihood.after(self._reader.state, self._reader.last_hidden)
        gains = [after - before for after, before in zip(now, self._before, strict=True)]
        self._before = now
        self._keep(self._builder.take(end), gains)
        if end is None:
            self._builder = None

    def _keep(self, block: TextBlock | None, gains: Sequence[float] | None) -> None:
        if block is not None:
            words = block_terms(block)
            for number, evidence in enumerate(self._evidence):
                evidence.add(block, words, None if gains is None else gains[number])

    # ------------------------------------------------------------------------------------------------ answering

    def _answer_all(self) -> Iterator[AskEvent]:
        yield Stage("answering")
        for number in range(len(self.questions)):
            weighed = self._weigh(number)
            if not self._readable or (self.writes and weighed):
                answer = yield from self._write(number, weighed)
            else:
                answer = self._quote(number, weighed)
            self._answers.append(answer)
            yield answer
        self._finished = True

    def _weigh(self, number: int) -> list[Weighed]:
        """The evidence for a question: found again in its source, best first."""
        if self._likelihood is None:
            return []
        likelihood = self._likelihood
        wanted = self.config.max_passages
        found = weigh(self._evidence[number], lambda text: likelihood.gain(number, text), 2 * wanted)
        right = [one for one in found if is_quoted_right(self._place(one.passage.source), one.passage)]
        if len(right) < len(found):
            self._ledger.note("a source was changed while it was read: what no longer stands in it is not cited")
        return right[:wanted]

    def _quote(self, number: int, weighed: list[Weighed]) -> Answer:
        question = self.questions[number]
        if not weighed:
            reason = NOTHING_FOUND if self._readable else SOURCE_GONE
            return Answer(question, False, reason, "none", False, ())
        likelihood, index = self._likelihood, self._evidence[number].index
        assert likelihood is not None
        sentence, best = best_sentence(weighed, index, lambda text: likelihood.gain(number, text))
        weighed = [best, *(one for one in weighed if one is not best)]
        citations = tuple(self._cite(one) for one in weighed)
        return Answer(question, True, sentence.text, "extracted", True, citations)

    def _write(self, number: int, weighed: list[Weighed]) -> Generator[AskEvent, None, Answer]:
        question = self.questions[number]
        if not self.writes:
            return self._quote(number, weighed)
        assert self._reader is not None
        template = self.model.sidecar.prompts.get("ask", _PROMPT)
        passages = "\n\n".join(one.passage.text for one in weighed)
        prompt = template.replace("{passages}", passages, 1).replace("{question}", question, 1)
        ids = self.model.tokenizer.encode("\n\n" + prompt.lstrip())
        settings = GenerationConfig(max_tokens=self.config.max_answer_tokens, stop=("\n",))
        text = ""
        for event in generate(self.model, self._reader.state, ids, settings, last_hidden=self._reader.last_hidden):
            if isinstance(event, GeneratedText):
                new = event.text if text else event.text.lstrip()
                text += new
                if new:
                    yield AnswerText(number, new)
        citations = tuple(self._cite(one) for one in weighed)
        text = text.strip()
        return Answer(question, bool(text), text or NOTHING_WRITTEN, "written" if text else "none", False, citations)

    def _cite(self, one: Weighed) -> Citation:
        place, passage = self._place(one.passage.source), one.passage
        return Citation(
            source=place.name,
            line=passage.line,
            span=passage.span,
            text=passage.text,
            score=one.score,
            coverage=one.coverage,
            gain=one.gain,
            substance=one.substance,
            verified=True,  # others were left out
            checked_against="text read" if place.path is None else "source",
        )

    def _place(self, source: int) -> SourcePlace:
        if self._kept is not None:
            record = self._kept.sources[source]
            return SourcePlace(record.name, record.path, record.encoding)
        document = self._documents[source]
        path = None if document.source is None or document.size is None else str(document.source)
        return SourcePlace(document.name, path, document.encoding)


def ask(
    model: Model, questions: str | Sequence[str], documents: Documents, config: AskConfig | None = None
) -> AskResult:
    """Answer one question or several about `documents` (paths, "-" for stdin, or opened ones), read once."""
    task = Ask(model, [questions] if isinstance(questions, str) else questions, config)
    for _ in task.events(documents):
        pass
    return task.result()
