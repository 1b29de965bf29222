"""Questions about documents: one reading for any number of questions, answers with verified citations.

The document is read without the questions, while its passages are indexed (`asked_text`); afterwards each question is
answered from what the index and the network find (`answering`), and of files nothing is quoted that is not found again
in them. With a cache the reading serves later questions too (`reading_cache`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from os import PathLike
from pathlib import Path

from famcli.checkpoint.model import Model
from famcli.documents.source import Source
from famcli.errors import DocumentError, FamcliError
from famcli.tasks.ask.answering import Answerer, AnswerText
from famcli.tasks.ask.answers import (
    NOT_FOUND_SO_FAR,
    NOTHING_FOUND,
    NOTHING_FOUND_IN_SEVERAL,
    Answer,
    AskConfig,
    AskResult,
    Citation,
    answers_from_memory,
)
from famcli.tasks.ask.asked_text import AskedText, TextReader, index_sources, text_of_memory_file
from famcli.tasks.ask.passage_index import DamagedIndexError
from famcli.tasks.ask.question import check_questions
from famcli.tasks.ask.reading_cache import ReadingCache, text_key
from famcli.tasks.report.record import Recorder
from famcli.tasks.task import (
    Advance,
    Documents,
    Notice,
    ReadCounts,
    ReadingTracker,
    Stage,
    chosen_memory_mode,
    open_documents,
    run,
)
from famcli.text.passages import Passage

__all__ = ["Answer", "AnswerText", "Ask", "AskConfig", "AskEvent", "AskResult", "Citation", "ask"]

AskEvent = Stage | Advance | Notice | ReadCounts | AnswerText | Answer
"""`ReadCounts`: an earlier run has read so much of the documents, and they are not read again."""


class Ask:
    """Answers questions about documents (`events`), or about what a memory file keeps (`events_from_memory`).

    Interrupted while reading, `result` answers from the evidence so far by quoting. Use one object for one run; it may
    be asked more afterwards (`more`), until it is closed.
    """

    def __init__(
        self,
        model: Model,
        questions: Sequence[str],
        config: AskConfig | None = None,
        cache: ReadingCache | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """questions: may be none where all are asked by `more`. recorder: keeps what is read for a report. Raises
        UsageError for a question without a word."""
        self.model, self.config = model, config or AskConfig()
        self._cache, self._recorder = cache, recorder
        # Passages are found by words, and quoted or written from without what was read before them.
        self._reads = (
            answers_from_memory(model, self.config.style) or self.config.question_first or recorder is not None
        )
        self.questions = [question.strip() for question in questions]
        check_questions(self.questions)
        self.memory_mode = chosen_memory_mode(model, self.config.memory_mode)
        self._reading: TextReader | None = None
        self._text: AskedText | None = None
        self._answerer: Answerer | None = None
        self._memory_file: str | None = None
        self._kept_of: list[Path] = []  # the files whose text came from the cache, and can be read again
        self._tracker = ReadingTracker()
        self._answers: list[Answer] = []

    def events(self, documents: Documents) -> Iterator[AskEvent]:
        """Read the documents, or take from the cache what an earlier run read of them, then answer each question.

        Only files given by their paths are looked up and kept.
        """
        given = documents if isinstance(documents, Iterator) else list(documents)
        paths = [] if isinstance(given, Iterator) else _regular_files(given)
        # A reading that began with questions serves no others, so it is neither kept nor looked for.
        cache = self._cache if paths and not self.config.question_first else None
        reading = self._read(given) if cache is None else self._read_or_find(cache, paths)
        # Not `yield from`: that would be one more frame below every product of the network.
        return chain(reading, (Stage("answering"),), self._answer(self.questions))

    def events_from_memory(self, path: str | PathLike[str], folders: Sequence[Path] = ()) -> Iterator[AskEvent]:
        """Answer from a memory file. folders: where its sources may be read, besides its own and the current one.

        Its sources, where they still are what was read, are indexed in one pass over their text, without the network.
        Where none can be read again, answers are written from the memory and marked uncited, if the model writes.
        """
        self._memory_file, self._text = str(path), text_of_memory_file(self.model, path)
        self.memory_mode = self._text.memory_mode
        self._text = yield from index_sources(self._text, self._memory_file, folders)
        yield Stage("answering")
        yield from self._answer(self.questions)

    def more(self, questions: Sequence[str]) -> Iterator[AskEvent]:
        """Answer further questions about the same text, once it was read."""
        for event in self._answer(questions):
            if isinstance(event, Answer):
                self.questions.append(event.question)
            yield event

    @property
    def has_begun(self) -> bool:
        """Whether there is anything that was read; without it there is no `text` and no `result`."""
        return self._text is not None or self._reading is not None

    def text(self) -> AskedText:
        """What was read, to be asked: all of it, or until an interruption."""
        text = self._text or (None if self._reading is None else self._reading.text())
        assert text is not None, "the text is read first"
        return text

    def beside(self, citation: Citation) -> list[Passage]:
        """A cited passage in its place: with what stands before and after it."""
        text = self.text()
        sources = [number for number, source in enumerate(text.sources) if source.name == citation.source]
        return [near for number in sources for near in text.index.beside(number, citation.span[0])]

    def result(self) -> AskResult:
        """The answers; where reading was interrupted, by quoting from what was read, marked partial."""
        missing, text = self.questions[len(self._answers) :], self.text()
        partial = self._text is None or bool(missing)
        if missing:
            # After Ctrl-C nobody wants to wait until an answer is written.
            config = replace(self.config, style="sentence")
            answerer = Answerer(text, config)
            self._answers += [_of_a_part(one) for one in answerer.answers(missing) if isinstance(one, Answer)]
            self._tracker.warnings += answerer.warnings
        asked = [] if self._answerer is None else self._answerer.warnings
        return AskResult(
            model=self.model.name,
            memory_mode=self.memory_mode,
            memory_file=self._memory_file,
            cached=text.origin == "cache",
            answers=tuple(self._answers),
            counts=text.counts,
            warnings=(*text.warnings, *self._tracker.warnings, *asked),
            partial=partial,
        )

    def close(self) -> None:
        """Nothing more will be asked: let go of the index."""
        if self._text is not None:
            self._text.close()
        elif self._reading is not None:
            self._reading.index.close()

    # ------------------------------------------------------------------------------------------------ reading

    def _read(self, documents: Documents) -> Iterator[AskEvent]:
        self._reading = TextReader(self.model, self.config.memory_mode, self._recorder, skims=not self._reads)
        first = self.questions if self.config.question_first else ()
        opened = open_documents(documents, self.config.encoding)
        yield from self._reading.events(opened, first)
        self._text = self._reading.text()

    def _read_or_find(self, cache: ReadingCache, paths: list[Path]) -> Iterator[AskEvent]:
        key = text_key(self.model, self.memory_mode, paths, self.config.encoding, skims=not self._reads)
        # A page shows what the memory attends to while it reads, which no earlier reading has kept.
        try:
            found = cache.find(self.model, key, paths) if self._recorder is None else None
        except DocumentError as error:
            found = None
            yield from self._tracker.warn(str(error))
        if found is not None:
            self._text, self._kept_of = found, paths
            yield found.counts
            yield from map(Notice, found.warnings)
            return
        yield from self._read(paths)
        assert self._reading is not None
        assert self._text is not None
        try:
            cache.keep(key, self._reading, self._text)
        except (FamcliError, OSError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            yield from self._tracker.warn(f"nothing can be kept in {cache.folder}: {reason}; it will be read again")

    def _answer(self, questions: Sequence[str]) -> Iterator[AskEvent]:
        """Answer these questions; should a kept reading fail under them, from the text, which is then read again."""
        assert self._text is not None, "the text is read first"
        self._answerer, num_before = self._answerer or Answerer(self._text, self.config), len(self._answers)
        try:
            for event in self._answerer.answers(questions, num_before):
                if isinstance(event, Answer):
                    self._answers.append(event)
                yield event
        except DamagedIndexError as error:
            if not self._kept_of:
                raise
            paths, self._kept_of = self._kept_of, []
            yield from self._tracker.warn(f"what was kept of {paths[0]} cannot be used any more: {error}")
            yield from self._read(paths)
            self._answerer = None
            if left := questions[len(self._answers) - num_before :]:
                yield from self._answer(left)


def ask(
    model: Model,
    questions: str | Sequence[str],
    documents: Documents,
    config: AskConfig | None = None,
    cache: ReadingCache | None = None,
) -> AskResult:
    """Answer one question or several about `documents` (paths, "-" for stdin, or opened ones), read once.

    cache: where what is read is kept for later questions, and looked for first. None keeps nothing.
    """
    asked = [questions] if isinstance(questions, str) else list(questions)
    check_questions(asked or [""])
    task = Ask(model, asked, config, cache)
    try:
        return run(task, documents)
    finally:
        task.close()


def _of_a_part(answer: Answer) -> Answer:
    """An answer from a text that was not read to its end: what was not found may still stand in the rest."""
    is_absent = answer.text in (NOTHING_FOUND, NOTHING_FOUND_IN_SEVERAL)
    return replace(answer, text=NOT_FOUND_SO_FAR) if is_absent else answer


def _regular_files(documents: Sequence[Source | str | PathLike[str]]) -> list[Path]:
    # A pipe cannot be hashed before it is read, so a reading of one cannot be looked up.
    paths = [Path(one) for one in documents if not isinstance(one, Source) and str(one) != "-"]
    return paths if len(paths) == len(documents) and all(path.is_file() for path in paths) else []
