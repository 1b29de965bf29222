"""`famcli chat`: questions about a text, one after the other, over one reading."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from famcli.cli import options as opt
from famcli.cli.ask import make_config
from famcli.cli.failures import was_terminated, with_flags
from famcli.cli.readings import allowed_sources, check_sources, readings_if_possible
from famcli.cli.render import Style
from famcli.cli.show_answers import AnswersShown, describe_reading
from famcli.cli.work import Work, one_line, paragraphs
from famcli.errors import FamcliError, UsageError
from famcli.plain import plural, to_json, user_path

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
    file: opt.FileOption = None,
    load: opt.LoadOption = None,
    sources: opt.SourcesOption = None,
    memory_mode: opt.MemoryModeOption = None,
    answering: opt.AnswerOptions,
    writing: opt.SamplingOptions,
    readings: opt.ReadingsOption = None,
    readings_limit: opt.ReadingsLimitOption = 1000,
    machine: opt.MachineOptions,
    encoding: opt.EncodingOption = None,
    report: opt.ReportOptions,
) -> None:
    """Ask one question after the other about texts read once.

    The text is read, or taken from what an earlier question left (`famcli readings`); then each line typed is a
    question.
    /source shows a citation in its place, /history lists what was asked, /save writes it all to a file. Where
    standard input is no terminal its lines are the questions, and the exit code is 1 if one failed. Ctrl-C ends an
    answer, Ctrl-D the conversation.
    """
    texts = [*(files or []), *(file or [])]
    # Standard input is where the questions come from, so that no text can.
    if bool(load) == bool(texts) or "-" in texts:
        raise UsageError("standard input is for the questions: name the files to read, or --load a memory file")
    check_sources(sources, load)
    with Work(opt.CommonOptions(machine, opt.OutputOptions(), report)) as work:
        names = [] if load else work.check_documents(texts, encoding, needs_all=True)
        model = work.open_model(load, draft=writing.draft)
        config = make_config(answering, writing, encoding, memory_mode, 1)
        from famcli.tasks.ask.ask import Ask

        cache = readings_if_possible(readings, readings_limit, load, work.notes.warn)
        with closing(Ask(model, [], config, cache)) as task:
            work.follow(task.events_from_memory(load, allowed_sources(sources)) if load else task.events(names))
            work.progress.close()
            work.finish(task.has_begun and task.text().has_text())
            work.notes.note(describe_reading(task.result()))
            _converse(work, task)


def _converse(work: Work, task: Ask) -> None:
    """Answer lines until there are no more. A mistake is told in one line; a script is told at its end how many."""
    shown, num_failed = AnswersShown(work, task.config.threshold), 0
    for line in _lines(work):
        name, _, argument = _BARE.get(line.casefold(), line).partition(" ")
        if name == "/quit":
            break
        try:
            if name in _COMMANDS:
                _COMMANDS[name](work, task, argument.strip())
            elif name.startswith("/"):
                raise UsageError(f"there is no command {name}; /help lists them")
            else:
                # A terminal shows what is typed; in the output of a script answers would stand without questions.
                if not sys.stdin.isatty():
                    work.output.line(f"Q: {line}")
                _ask(work, task, line, shown)
        except FamcliError as error:
            num_failed += 1
            work.notes.note(with_flags(str(error), error.remedy))
        except KeyboardInterrupt:
            _raise_for_scripts()
            work.output.line()
            work.notes.note("interrupted; Ctrl-D or /quit ends the conversation")
    if num_failed and not sys.stdin.isatty():
        raise FamcliError(f"{plural(num_failed, 'line')} of standard input could not be done")


def _raise_for_scripts() -> None:
    """Raise the KeyboardInterrupt that is handled again, unless somebody types who only wants an end of this answer."""
    if was_terminated() or not sys.stdin.isatty():
        raise KeyboardInterrupt


def _lines(work: Work) -> Iterator[str]:
    """What is typed, or comes through a pipe, without blank lines."""
    is_terminal = sys.stdin.isatty() and work.output.is_terminal
    if is_terminal:
        work.notes.note("type a question; /help lists commands, Ctrl-D ends")
        # readline gives `input` a history and line editing; not every system has it.
        with suppress(ImportError):
            import readline  # noqa: F401
    while True:
        try:
            line = input("> ") if is_terminal else sys.stdin.readline()
        except EOFError:
            work.output.line()
            return
        except KeyboardInterrupt:
            _raise_for_scripts()
            work.output.line()
            continue
        if not line and not is_terminal:
            return
        if line.strip():
            yield line.strip()


def _ask(work: Work, task: Ask, question: str, shown: AnswersShown) -> None:
    work.follow(task.more([question]), shown.event)
    if work.interrupted:
        # It ends this answer, not the conversation.
        work.interrupted = False
        raise KeyboardInterrupt
    work.output.line()


def _source(work: Work, task: Ask, argument: str) -> None:
    answers = task.result().answers
    answer = answers[-1] if answers else None
    citations = () if answer is None else answer.citations
    number = int(argument) if argument.isdecimal() else 1 if not argument else 0
    if answer is None:
        raise UsageError("there is no answer with a citation yet")
    if not citations:
        raise UsageError("the last answer cites nothing")
    if not 1 <= number <= len(citations):
        raise UsageError(f"the last answer has {plural(len(citations), 'citation')}: /source 1 shows the first")
    cited = citations[number - 1]
    start, end = cited.span
    work.output.line(f"{cited.source}, {answer.place(number)}, bytes {start:,} to {end:,}", "cyan")
    for passage in task.beside(cited):
        if passage.span != cited.span:
            _show(work, passage.text, " ", "dim")
            continue
        for is_answer, text in _divided(passage, answer.span if number == 1 else None):
            _show(work, text, ">>" if is_answer else ">", "bold" if is_answer else "")


def _show(work: Work, text: str, mark: str, style: Style) -> None:
    for paragraph in paragraphs(text):
        work.output.line(f"{mark:>3} {paragraph}", style)


def _history(work: Work, task: Ask, argument: str) -> None:
    for number, answer in enumerate(task.result().answers, 1):
        work.output.line(f"{number}. {answer.question}")
        work.output.line(f"   {one_line(answer.text)}", "dim")


def _save(work: Work, task: Ask, argument: str) -> None:
    if not argument:
        raise UsageError("name the file to write: /save notes.md")
    path = user_path(argument)
    text = json.dumps(to_json(task.result()), ensure_ascii=False, indent=1) + "\n"
    if path.suffix != ".json":
        text = as_markdown(task.result().answers)
    from famcli.documents.writing import atomic_file

    try:
        # New: a typing mistake must not cost somebody a file.
        with atomic_file(path, private=True, new=True) as beside:
            beside.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or 'cannot be written').lower()}; choose another name") from error
    work.notes.note(f"saved {path}")


_COMMANDS: dict[str, Callable[[Work, Ask, str], None]] = {
    "/source": _source,
    "/history": _history,
    "/save": _save,
    "/help": lambda work, task, argument: work.output.write(_HELP + "\n"),
}


def _divided(passage: Passage, span: tuple[int, int] | None) -> Iterator[tuple[bool, str]]:
    start, end = span or (0, 0)
    for is_answer, sentences in groupby(passage.sentences, lambda one: one.start < end and start < one.end):
        yield is_answer, "".join((one.gap or "") + one.text for one in sentences)


def as_markdown(answers: tuple[Answer, ...]) -> str:
    """Questions with their answers, each citation as a quote with its place."""
    parts = []
    for answer in answers:
        parts.append(f"## {answer.question}\n\n{one_line(answer.text)}\n")
        if answer.kind == "written":
            parts.append(f"*Written by the model, confidence {answer.confidence:.2f}.*\n")
        if answer.doubt:
            parts.append(f"*{answer.doubt}*\n")
        for number, citation in enumerate(answer.citations, 1):
            quote = "\n>\n".join(f"> {paragraph}" for paragraph in paragraphs(citation.text))
            source = citation.source.replace("\n", "\\n")
            place = f"{source}, {answer.place(number)}, bytes {citation.span[0]} to {citation.span[1]}"
            parts.append(f"{quote}\n>\n> ({place}; confidence {citation.confidence:.2f})\n")
    return "\n".join(parts)
