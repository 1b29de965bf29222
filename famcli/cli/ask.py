"""`famcli ask`: questions about a text of any length, answered with evidence from it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli.options import (
    DocumentOptions,
    EachOption,
    MachineOptions,
    MemoryModeOption,
    OutputOptions,
    ReportOptions,
)
from famcli.cli.work import Work, paragraphs
from famcli.errors import UsageError

if TYPE_CHECKING:
    from famcli.tasks.ask import Answer, AskResult


def ask(
    *,
    questions: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION", help="What to ask; one reading serves them all."),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="FILE", help="A text to read, repeatable; none, or -, is standard input."),
    ] = None,
    load: Annotated[
        Path | None,
        typer.Option("--load", metavar="FILE.fam", help="Ask a memory file of `famcli read` instead of reading."),
    ] = None,
    write: Annotated[
        bool | None,
        typer.Option(
            "--write/--extractive",
            help="Let the checkpoint write answers, or quote the evidence only. Default: as the checkpoint says.",
            show_default=False,
        ),
    ] = None,
    passages: Annotated[int, typer.Option("--passages", min=1, max=20, help="Citations to show per question.")] = 3,
    answer_tokens: Annotated[int, typer.Option("--answer-tokens", min=1, help="The longest written answer.")] = 64,
    memory_mode: MemoryModeOption = None,
    each: EachOption = False,
    machine: MachineOptions,
    documents: DocumentOptions,
    output: OutputOptions,
    report: ReportOptions,
) -> None:
    """Ask questions about texts; evidence is quoted and verified.

    The text is read once, without the questions, so that one reading serves any number of them. Evidence is quoted with
    its place, and each quote is checked by exact comparison with the source before it is shown. Without evidence the
    answer says so. On a terminal a question that is not given is asked for. Ctrl-C answers from what was read so far,
    marked partial.
    """
    if load and file:
        raise UsageError("--load asks a memory file and --file reads texts: give one of them")
    if load and each:
        raise UsageError("--each treats texts alone, but --load reads none: leave one of them out")
    with Work(report, output) as work:
        names = [] if load else work.check_documents(file or [], documents)
        if load and not load.is_file():
            raise UsageError(f"{load}: no such memory file; make one with `famcli read FILE --save {load}`")
        asked = list(questions or []) or [_prompt(work)]
        if not all(question.strip() for question in asked):
            raise UsageError("a question is empty: ask something")
        model = work.open_model(machine, load)

        from famcli.tasks.ask import Ask, AskConfig
        from famcli.tasks.common import open_documents

        config = AskConfig(
            generate=write, max_passages=passages, max_answer_tokens=answer_tokens, memory_mode=memory_mode
        )
        results = []
        for group in [[name] for name in names] if each else [names]:
            task = Ask(model, asked, config)
            show = _Show(work, several=len(asked) > 1, heading=group[0] if each else None)
            events = task.events_from_memory(load) if load else task.events(open_documents(group, documents.encoding))
            work.follow(events, show.event)
            results.append(task.result())
            show.result(results[-1])
            if work.interrupted:
                break
        if work.form == "json":
            objects = [result.to_json() for result in results]
            work.output.json({"files": objects} if each else objects[0])
        work.finish()


def _prompt(work: Work) -> str:
    if not sys.stdin.isatty():
        raise UsageError('ask needs a question: famcli ask "Who ...?" --file FILE')
    work.progress.close()
    print("Question: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


class _Show:
    """Shows answers as they come: text that is being written at once, whole answers with their citations."""

    def __init__(self, work: Work, several: bool, heading: str | None) -> None:
        self._work = work
        self._several = several
        self._heading = heading
        self._writing: int | None = None
        self._shown = 0

    def event(self, event: Any) -> None:
        from famcli.tasks.ask import Answer, AnswerText

        if self._work.form == "json":
            return
        self._work.make_room()
        if self._work.form == "jsonl":
            if isinstance(event, AnswerText):
                self._work.output.json({"event": "text", "question": event.question, "text": event.text})
            elif isinstance(event, Answer):
                self._answer(event)
        elif isinstance(event, AnswerText):
            if self._writing != event.question:
                self._writing = event.question
                self._head(event.question)
            self._work.output.write(event.text)
        elif isinstance(event, Answer):
            self._answer(event)

    def result(self, result: AskResult) -> None:
        if self._work.form == "json":
            return
        self._work.make_room()
        for answer in result.answers[self._shown :]:  # an interruption leaves these without events
            self._answer(answer)
        if self._work.form == "jsonl":
            values = result.to_json()
            del values["answers"]
            self._work.output.json({"event": "result", **values})
        else:
            self._work.output.line()
            self._work.show_counts(result.counts, result.partial, result.memory_file)

    def _answer(self, answer: Answer) -> None:
        output, index = self._work.output, self._shown
        self._shown += 1
        if self._work.form == "jsonl":
            output.json({"event": "answer", **answer.to_json()})
            return
        if self._writing == index:
            output.line()
        else:
            self._head(index, answer.question)
        if self._writing != index or answer.kind != "written":  # a written one is there already
            for paragraph in paragraphs(answer.text):
                output.line(paragraph, "bold" if answer.found else "")
        if answer.kind == "written":
            where = "the passages below are where it looked" if answer.citations else "from its memory of the text"
            output.line(f"  Written by the model; {where}, the answer itself is not checked.", "yellow")
        for number, citation in enumerate(answer.citations, 1):
            mark = "verified" if citation.verified else "not verified"
            output.line(f"  [{number}] {citation.source}, line {citation.line:,}, {mark}:", "cyan")
            for paragraph in paragraphs(citation.text):
                output.line(f"      {paragraph}")

    def _head(self, index: int, question: str | None = None) -> None:
        if self._heading is not None and index == 0:
            self._work.output.line(f"== {self._heading}", "bold")
        if self._several:
            self._work.output.line(f"Q{index + 1}: {question}" if question else f"Q{index + 1}:")
