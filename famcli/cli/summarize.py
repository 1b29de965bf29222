"""`famcli summarize`: verbatim sentences of a text of any length with their places, or a summary that is written."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli import options as opt
from famcli.cli.work import Work, describe_counts, one_line, report_facts
from famcli.errors import UsageError
from famcli.plain import plural

if TYPE_CHECKING:
    from famcli.tasks.report.record import Recorder
    from famcli.tasks.summarize.summary_result import SummarizeConfig, SummaryResult

_MOST_NAMES = 3
_HOW = {
    "log": "read as a log, the first line of each kind, rare kinds and errors first",
    "outline": "read by its headings, what it is and a sentence of each part that matters",
    "story": "read as a story, how it begins and ends, who appears and what happens",
    "talk": "read as a transcript, who speaks, and sentences from all over it",
    "changes": "read as a list of changes, those of the newest release first",
    "minutes": "read as minutes, what was decided and what is to be done",
    "table": "read as a table, what its columns hold",
}
Format = Literal["bullets", "paragraph", "outline", "markdown", "json"]


def summarize(
    *,
    files: opt.FilesArgument = None,
    length: Annotated[
        str,
        typer.Option(
            "--length",
            "-n",
            metavar="LENGTH",
            help="short, medium, long, a number of sentences (7) or of words (150w). medium: 5 to 12 sentences, by the "
            "text's length; with --sections, 2 of each. Written, a sentence counts as 25 words, and all of them as at "
            "most half of the text's.",
        ),
    ] = "medium",
    form: Annotated[
        Format,
        typer.Option("--format", help="How the summary looks. outline: by section; json: as --json."),
    ] = "bullets",
    focus: Annotated[
        str | None, typer.Option("--focus", metavar="TOPIC", help="Choose sentences that are about this.")
    ] = None,
    sections: Annotated[
        bool, typer.Option("--sections", help="Summarize each chapter or section; without headings, equal parts.")
    ] = False,
    kind: Annotated[
        Literal["prose", "outline", "story", "talk", "changes", "minutes", "log"] | None,
        typer.Option(
            "--as",
            help="prose: sentences from all over the text; outline: what it is, and a sentence of each part that "
            "matters; story: how it begins and ends, and who appears; talk: who speaks, and sentences; changes: what "
            "the newest releases changed; minutes: what was decided; log: its kinds of lines, rare and grave ones "
            "first. Default: by the text itself.",
        ),
    ] = None,
    mode: Annotated[
        Literal["extract", "write"] | None,
        typer.Option(
            "--mode",
            help="extract: quotes only; write: in the checkpoint's own words, from notes it takes on the way. Default: "
            "as the checkpoint says.",
        ),
    ] = None,
    html: opt.HtmlOption = None,
    memory_mode: opt.MemoryModeOption = None,
    each: opt.EachOption = False,
    encoding: opt.EncodingOption = None,
    writing: opt.SamplingOptions,
    common: opt.CommonOptions,
) -> None:
    """Summarize texts in verbatim quotes with their places.

    Sentences are chosen by how often the text uses their words, by what they share with others, by where they stand
    and by whether they stand alone. Repetitions are left out, and the choice is spread over the text. The text may be
    of any length; memory use does not depend on it. Ctrl-C prints the summary of what was read so far, marked partial.
    """
    # --format json and --json are two names of one thing.
    output = common.output
    if form == "json":
        form, output = "bullets", opt.OutputOptions(json=True, jsonl=output.jsonl)
        common = replace(common, output=output)
    if form != "bullets" and output.form != "text":
        raise UsageError(
            f"--format {form} is a look of text, which --{output.form} does not have: leave one of them out"
        )
    opt.check_html(html, each, files or [])
    with Work(common) as work:
        names = work.check_documents(files or [], encoding)
        # Not before: torch comes with it, and a missing file is told at once.
        from famcli.tasks.summarize.summary_result import SummarizeConfig, parse_length

        config = SummarizeConfig(
            mode=mode,
            kind=kind,
            length=parse_length(length),
            focus=focus,
            sections=sections or form == "outline",
            memory_mode=memory_mode,
            sampling=writing.chosen(),
        )
        model = work.open_model(draft=writing.draft)
        found = 0
        for group in [[name] for name in names] if each else [names]:
            with work.going_on(each):
                found += _summarize(work, model, config, group, encoding, form, each, html).num_sentences_seen
            if work.interrupted:
                break
        work.finish(found)


def _summarize(
    work: Work,
    model: Any,
    config: SummarizeConfig,
    group: list[str],
    encoding: str | None,
    form: Format,
    each: bool,
    html: Path | None,
) -> SummaryResult:
    """Summarize the files of a group as one text, and show what comes of it."""
    from famcli.reading.generating import GeneratedText
    from famcli.tasks.report.record import Recorder
    from famcli.tasks.summarize.summarize import SoFar, Summarizer
    from famcli.tasks.summarize.summary_format import format_facts
    from famcli.tasks.summarize.write import Note
    from famcli.tasks.task import open_documents

    heading, begun = group[0] if each else None, False

    def show_event(event: Any) -> None:
        nonlocal begun
        if isinstance(event, SoFar):
            work.progress.so_far(f"line {event.line:,}: {one_line(event.text)}")
        elif work.form == "jsonl":
            work.emit("note" if isinstance(event, Note) else "text", event)
        elif isinstance(event, Note):
            # A note is written without anything being read, so no other event moves the bar.
            work.progress.so_far(f"note: {event.text}")
            work.progress.advance(0, 0)
        elif isinstance(event, GeneratedText) and work.form == "text":
            if not begun:
                work.make_room()
                _show_heading(work, heading)
                _show_lines(work, format_facts(task.facts, "bullets" if form == "json" else form))
            begun = True
            work.output.write(event.text)

    with ExitStack() as stack:
        recorder = None if html is None else stack.enter_context(Recorder())
        task = Summarizer(model, config, recorder)
        work.follow(task.events(open_documents(group, encoding)), show_event)
        result = task.result()
        if recorder is not None and html is not None:
            heat = "the memory's attention to each word" if task.shows_attention else "how surprising each word was"
            _write_report(html, result, recorder, heat)
        if work.form == "jsonl":
            work.make_room()
            for sentence in result.sentences:
                work.emit("sentence", sentence)
        work.show(result, lambda: _show(work, result, form, heading, begun), told="sentences", each=each)
        _say_how(work, result, config)
        _say_what_was_left_out(work, result)
        if html is not None:
            work.notes.note(f"the report is in {html}")
    return result


def _say_how(work: Work, result: SummaryResult, config: SummarizeConfig) -> None:
    """Say how the summary was chosen, where that was not asked for and is not what it is for prose."""
    if config.kind is None and not config.sections and result.written is None and result.kind in _HOW:
        work.notes.note(f"{_HOW[result.kind]}; --as prose chooses sentences from all over it")


def _say_what_was_left_out(work: Work, result: SummaryResult) -> None:
    chosen = {quote.source for quote in result.sentences}
    left_out = [source.name for source in result.counts.sources if source.num_bytes and source.name not in chosen]
    if chosen and left_out:
        more = len(left_out) - _MOST_NAMES
        names = ", ".join(left_out[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
        work.notes.note(f"nothing was chosen from {names}; --each summarizes each file by itself")


def _show_heading(work: Work, heading: str | None) -> None:
    if heading is not None:
        work.output.line(f"== {heading}", "bold")


def _show(work: Work, result: SummaryResult, form: Format, heading: str | None, is_shown: bool) -> None:
    from famcli.tasks.summarize.summary_format import format_summary

    # What was written stands there already, below the facts; only its sources are missing.
    rest = replace(result, facts=()) if is_shown else result
    written, lines = result.written, list(format_summary(rest, "bullets" if form == "json" else form))
    if not is_shown:
        _show_heading(work, heading)
    else:
        work.output.end_line()
        lines = lines[len(written.text.splitlines()) if written is not None else 0 :]
    _show_lines(work, lines)
    work.output.line()
    if written is not None:
        source = f"from {plural(written.num_notes, 'note')}" if written.num_notes else "from the whole text"
        struck = f"; {plural(len(written.struck), 'sentence')} struck" if written.struck else ""
        how = f"Written by the checkpoint {source}{struck}. "
    elif result.log is not None:
        how = f"{len(result.log.kinds)} of {plural(result.log.num_focus_kinds, 'kind')} of lines. "
    elif result.table is not None:
        how = ""
    elif result.sentences:
        how = f"{len(result.sentences)} of {plural(result.num_sentences_seen, 'sentence')}. "
    else:
        how = ""
    work.end_text(how + describe_counts(result.counts), result.partial)


def _show_lines(work: Work, lines: Iterable[tuple[str, str]]) -> None:
    for mark, text in lines:
        # A place may name a file, and a name may hold a line break.
        work.output.write(mark.replace("\n", "\\n"), "cyan" if text else "bold")
        work.output.line(text)


def _write_report(path: Path, result: SummaryResult, recorder: Recorder, heat: str) -> None:
    from famcli.tasks.report.page import write_report
    from famcli.tasks.summarize.summary_format import report_of

    names = ", ".join(source.name for source in result.counts.sources)
    facts = report_facts(describe_counts(result.counts), result)
    report = report_of(result, f"Summary of {names}", facts, heat)
    write_report(path, report, recorder.texts, recorder)
