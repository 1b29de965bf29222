"""`famcli chat`: questions about a text, one after the other, over one reading."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from famcli.cli.ask import make_config
from famcli.cli.failures import was_terminated
from famcli.cli.options import (
    AnswerOptions,
    CommonOptions,
    DocumentOptions,
    FileOption,
    LoadOption,
    MachineOptions,
    MemoryModeOption,
    OutputOptions,
    ReadingsOptions,
    ReportOptions,
)
from famcli.cli.render import Style, plural
from famcli.cli.show_answers import AnswersShown, describe_reading
from famcli.cli.work import Work, one_line, paragraphs
from famcli.errors import FamcliError, UsageError
from famcli.plain import to_json

if TYPE_CHECKING:
    from famcli.tasks.ask.answers import Answer
    from famcli.tasks.ask.ask import Ask
    from famcli.text.passages import Passage

_BARE = {"help": "/help", "?": "/help", "exit": "/quit", "quit": "/quit"}
_HELP = """\
Ask a question, or:
  /source [N]   show citation N (1 if not given) of the last answer between what stands before and after it;
                > marks what is cited, >> the answer in it
  /history      list the questions so far
  /save FILE    write questions, answers and citations to FILE: JSON if it ends with .json, else Markdown
  /help         this
  /quit         end, as Ctrl-D does"""


def chat(
    *,
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE", help="Text files, read one after the other.")
    ] = None,
    file: FileOption = None,
    load: LoadOption = None,
    memory_mode: MemoryModeOption = None,
    answering: AnswerOptions,
    readings: ReadingsOptions,
    machine: MachineOptions,
    documents: DocumentOptions,
    report: ReportOptions,
) -> None:
    """Ask one question after the other about texts read once.

    The text is read, or taken from what an earlier question left (`famcli readings`); then each line typed is a
    question.
    /source shows a citation in its place, /history lists what was asked, /save writes it all to a file. Where
    standard input is no terminal its lines are the questions, and the exit code is 1 if one failed. Ctrl-C ends an
    answer, Ctrl-D the conversation.
    """
    texts = [*(files or []), *(file or [])]
    if bool(load) == bool(texts) or "-" in texts:
        raise UsageError("standard input is for the questions: name the files to read, or --load a memory file")
    with Work(CommonOptions(machine, OutputOptions(), report)) as work:
        names = [] if load else work.check_documents(texts, documents)
        model = work.open_model(load)
        config = make_config(answering, documents, memory_mode, 1)
        from famcli.tasks.ask.ask import Ask

        cache = readings.open() if readings.readings_limit and not load else None
        with closing(Ask(model, [], config, cache)) as task:
            work.follow(task.events_from_memory(load) if load else task.events(names))
            work.progress.close()
            work.finish(task.text().has_text)
            work.notes.note(describe_reading(task.result()))
            _Conversation(work, task).run()


class _Conversation:
    """Reads lines and answers them, until there are no more."""

    def __init__(self, work: Work, task: Ask) -> None:
        self._work, self._task = work, task
        self._shown = AnswersShown(work, task.config.threshold)
        self._commands: dict[str, Callable[[str], None]] = {
            "/source": self._source,
            "/history": self._history,
            "/save": self._save,
            "/help": lambda argument: work.output.line(_HELP),
        }

    @property
    def _answers(self) -> tuple[Answer, ...]:
        return self._task.result().answers

    def run(self) -> None:
        """The conversation. Mistakes are told in one line, and it goes on; a script is told at its end how many."""
        num_failed = 0
        for line in self._lines():
            name, _, argument = _BARE.get(line.casefold(), line).partition(" ")
            if name == "/quit":
                break
            try:
                if name in self._commands:
                    self._commands[name](argument.strip())
                elif name.startswith("/"):
                    raise UsageError(f"there is no command {name}; /help lists them")
                else:
                    if not sys.stdin.isatty():  # what a terminal shows as it is typed
                        self._work.output.line(f"Q: {line}")
                    self._ask(line)
            except FamcliError as error:
                num_failed += 1
                self._work.notes.note(str(error))
            except KeyboardInterrupt:
                if was_terminated() or not sys.stdin.isatty():
                    raise
                self._work.output.line()
                self._work.notes.note("interrupted; Ctrl-D or /quit ends the conversation")
        if num_failed and not sys.stdin.isatty():
            raise FamcliError(f"{plural(num_failed, 'line')} of standard input could not be done")

    def _lines(self) -> Iterator[str]:
        """What is typed, or comes through a pipe, without blank lines."""
        is_terminal = sys.stdin.isatty() and self._work.output.is_terminal
        if is_terminal:
            self._work.notes.note("type a question; /help lists commands, Ctrl-D ends")
            with suppress(ImportError):  # not on every system
                import readline  # noqa: F401  (gives `input` a history and line editing)
        while True:
            try:
                line = input("> ") if is_terminal else sys.stdin.readline()
            except EOFError:
                self._work.output.line()
                return
            except KeyboardInterrupt:
                if was_terminated() or not sys.stdin.isatty():
                    raise
                self._work.output.line()
                continue
            if not line and not is_terminal:
                return
            if line.strip():
                yield line.strip()

    def _ask(self, question: str) -> None:
        self._work.follow(self._task.more([question]), self._shown.event)
        if self._work.interrupted:
            self._work.interrupted = False
            raise KeyboardInterrupt
        self._work.output.line()

    def _source(self, argument: str) -> None:
        answer = self._answers[-1] if self._answers else None
        citations = () if answer is None else answer.citations
        number = int(argument) if argument.isdecimal() else 1 if not argument else 0
        if answer is None or not citations:
            raise UsageError(
                "there is no answer with a citation yet" if answer is None else "the last answer cites nothing"
            )
        if not 1 <= number <= len(citations):
            raise UsageError(f"the last answer has {plural(len(citations), 'citation')}: /source 1 shows the first")
        cited = citations[number - 1]
        start, end = cited.span
        self._work.output.line(f"{cited.source}, {answer.place(number)}, bytes {start:,} to {end:,}", "cyan")
        for passage in self._task.beside(cited):
            if passage.span != cited.span:
                self._show(passage.text, " ", "dim")
                continue
            for is_answer, text in _divided(passage, answer.span if number == 1 else None):
                self._show(text, ">>" if is_answer else ">", "bold" if is_answer else "")

    def _show(self, text: str, mark: str, style: Style) -> None:
        for paragraph in paragraphs(text):
            self._work.output.line(f"{mark:>3} {paragraph}", style)

    def _history(self, argument: str) -> None:
        for number, answer in enumerate(self._answers, 1):
            self._work.output.line(f"{number}. {answer.question}")
            self._work.output.line(f"   {one_line(answer.text)}", "dim")

    def _save(self, argument: str) -> None:
        if not argument:
            raise UsageError("name the file to write: /save notes.md")
        path = Path(os.path.expanduser(argument))  # Path.expanduser raises for a user that is not there
        text = json.dumps(to_json(self._task.result()), ensure_ascii=False, indent=1) + "\n"
        if path.suffix != ".json":
            text = as_markdown(self._answers)
        try:
            with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            raise UsageError(
                f"{path}: {(error.strerror or 'cannot be written').lower()}; choose another name"
            ) from error
        self._work.notes.note(f"saved {path}")


def _divided(passage: Passage, span: tuple[int, int] | None) -> Iterator[tuple[bool, str]]:
    """A passage in its order, in what is of the answer at `span` (its whole sentences) and what is not."""
    start, end = span or (0, 0)
    for is_answer, sentences in groupby(passage.sentences, lambda one: one.start < end and start < one.end):
        yield is_answer, "".join((one.gap or "") + one.text for one in sentences)


def as_markdown(answers: tuple[Answer, ...]) -> str:
    """Questions with their answers, each citation as a quote with its place."""
    parts = []
    for answer in answers:
        parts.append(f"## {answer.question}\n\n{one_line(answer.text)}\n")
        if answer.kind == "written":
            parts.append("*Written by the model; not checked.*\n")
        if answer.doubt:
            parts.append(f"*{answer.doubt}*\n")
        for number, citation in enumerate(answer.citations, 1):
            quote = "\n>\n".join(f"> {paragraph}" for paragraph in paragraphs(citation.text))
            place = f"{citation.source}, {answer.place(number)}, bytes {citation.span[0]} to {citation.span[1]}"
            parts.append(f"{quote}\n>\n> ({place}; confidence {citation.confidence:.2f})\n")
    return "\n".join(parts)
