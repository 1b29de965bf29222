"""`famcli ask`: questions about a text of any length, answered with evidence from it."""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from famcli.cli import options as opt
from famcli.cli.failures import EXIT_FAILED
from famcli.cli.readings import allowed_sources, check_sources, readings_if_possible
from famcli.cli.show_answers import AnswersShown, describe_reading
from famcli.cli.work import Work, report_facts
from famcli.errors import UsageError

if TYPE_CHECKING:
    from famcli.tasks.ask.answers import AskConfig, AskResult
    from famcli.tasks.ask.ask import Ask
    from famcli.tasks.report.record import Recorder


def ask(
    *,
    questions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUESTION|FILE",
            help="What to ask; one reading serves them all. The path of a file is a text to read, as with --file.",
        ),
    ] = None,
    question: Annotated[
        list[str] | None, typer.Option("--question", "-q", metavar="QUESTION", help="What to ask, repeatable.")
    ] = None,
    listed: Annotated[
        Path | None,
        typer.Option("--questions", metavar="FILE", help="A file of questions, one on each line; - is standard input."),
    ] = None,
    file: opt.FileOption = None,
    load: opt.LoadOption = None,
    sources: opt.SourcesOption = None,
    question_first: Annotated[
        bool,
        typer.Option(
            "--question-first",
            help="Let the network read the questions before the text as well.",
            rich_help_panel="Reading",
        ),
    ] = False,
    html: opt.HtmlOption = None,
    memory_mode: opt.MemoryModeOption = None,
    each: opt.EachOption = False,
    answering: opt.AnswerOptions,
    writing: opt.SamplingOptions,
    readings: opt.ReadingsOption = None,
    readings_limit: opt.ReadingsLimitOption = 1000,
    encoding: opt.EncodingOption = None,
    common: opt.CommonOptions,
) -> None:
    """Ask questions about texts; evidence is quoted and verified.

    The text is read once for all questions, and what was read of files is kept: the next question about them does not
    read them again (see `famcli readings`). Evidence is quoted with its place, and each quote is checked by exact
    comparison with the source before it is shown. Where no passage is sure enough the nearest one is shown as such,
    and the exit code is 0, for it may answer (`found` in --json tells); it is 1 where nothing comes near any
    question. On a terminal a question that is not given is asked for. Ctrl-C answers from what was read so far,
    marked partial.
    """
    # A path among the words is a text: shells complete it there, and nobody asks "story.txt".
    texts = [*filter(_is_path, questions or []), *(file or [])]
    asked = [word for word in questions or [] if not _is_path(word)]
    if len(asked) > 1 and not any(" " in words.strip() for words in asked):
        raise UsageError(f'put the question in quotes: famcli ask "{" ".join(asked)}" --file FILE')
    if load and texts:
        raise UsageError("--load asks a memory file and FILE is a text to read: give one of them")
    if load and (each or question_first):
        option = "--each" if each else "--question-first"
        raise UsageError(f"{option} is about reading, but --load reads nothing: leave one of them out")
    check_sources(sources, load)
    opt.check_html(html, each, texts)
    if str(listed) == "-" and not load and ("-" in (texts or ["-"])):
        raise UsageError("standard input cannot hold both the questions and the text: name a file for one of them")
    with Work(common) as work:
        names = [] if load else work.check_documents(texts, encoding)
        asked = [*asked, *(question or []), *_listed(listed)] or [_prompt(work)]
        from famcli.tasks.ask.question import check_questions

        # Before the network is loaded: an empty question is told at once.
        check_questions(asked)
        model = work.open_model(load, draft=writing.draft)
        config = make_config(answering, writing, encoding, memory_mode, 3, question_first)
        # What is kept of a file saves the next question its reading.
        cache = readings_if_possible(readings, readings_limit, load, work.notes.warn)
        results, found = [], 0
        from famcli.tasks.ask.ask import Ask
        from famcli.tasks.report.record import Recorder

        for group in [[name] for name in names] if each else [names]:
            with work.going_on(each), ExitStack() as stack:
                # Only a page needs each word's place and weight; without one they are not held.
                recorder = None if html is None else stack.enter_context(Recorder())
                task = stack.enter_context(closing(Ask(model, asked, config, cache, recorder)))
                shown = AnswersShown(work, config.threshold, len(asked) > 1, group[0] if each else None)
                work.follow(
                    task.events_from_memory(load, allowed_sources(sources)) if load else task.events(group),
                    shown.event,
                )
                if not task.has_begun:  # interrupted
                    break
                if work.interrupted:
                    work.notes.note("interrupted: quoting from what was read so far; Ctrl-C again ends it at once")
                results.append(task.result())
                found += task.text().has_text()
                shown.result(results[-1], each)
                if html is not None and recorder is not None:
                    _write_report(html, results[-1], task, recorder)
                    work.notes.note(f"the report is in {html}")
            if work.interrupted:
                break
        work.finish(found)
        # As grep does where nothing matches.
        if results and all(answer.kind == "none" for result in results for answer in result.answers):
            raise typer.Exit(EXIT_FAILED)


def _is_path(word: str) -> bool:
    """True for an existing file, and for what can only be meant as one: a mistyped path is no question."""
    is_folder = os.path.isdir(word) and (os.sep in word or word in (".", ".."))
    is_meant = re.fullmatch(r"[^\s?]*(?:/[^\s?]+|\w\.[A-Za-z]\w{1,4})|https?://\S+", word) is not None
    return os.path.isfile(word) or is_folder or is_meant


def make_config(
    answering: opt.AnswerOptions,
    writing: opt.SamplingOptions,
    encoding: str | None,
    memory_mode: Literal["on", "frozen", "none"] | None,
    top: int,
    question_first: bool = False,
) -> AskConfig:
    """The options as the task takes them. top: the number of passages to cite, where no option says it."""
    from famcli.tasks.ask.answers import AskConfig
    from famcli.tasks.ask.ranking import THRESHOLD

    return AskConfig(
        style=None if answering.write is None else "write" if answering.write else "extract",
        top=answering.top or top,
        threshold=THRESHOLD if answering.threshold is None else answering.threshold,
        max_answer_tokens=answering.answer_tokens,
        memory_mode=memory_mode,
        question_first=question_first,
        encoding=encoding,
        sampling=writing.chosen(),
    )


def _write_report(path: Path, result: AskResult, task: Ask, recorder: Recorder) -> None:
    from famcli.tasks.ask.answers import report_of, texts_of
    from famcli.tasks.report.page import write_report

    no_heat = ["No heat map: a memory file is not read again."] * (not recorder.texts)
    facts = [*report_facts(describe_reading(result), result), *no_heat]
    report = report_of(result, facts, has_heat=bool(recorder.texts) and result.memory_mode == "on")
    write_report(path, report, texts_of(task.text(), recorder), recorder)


def _listed(path: Path | None) -> list[str]:
    """The questions of a file: lines that are not blank."""
    if path is None:
        return []
    from famcli.documents.opening import open_source

    with open_source(path, as_is=True) as document:
        text = "".join(piece.text for piece in document.pieces())
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise UsageError(f"{path} has no questions: write one on each line")
    return found


def _prompt(work: Work) -> str:
    if not sys.stdin.isatty():
        raise UsageError('ask needs a question: famcli ask "Who ...?" FILE')
    work.progress.close()
    print("Question: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()
