"""`famcli summarize`: verbatim sentences of a text of any length with their places, or a summary that is written."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli.options import (
    CommonOptions,
    DocumentOptions,
    EachOption,
    FilesArgument,
    HtmlOption,
    MemoryModeOption,
    OutputOptions,
    check_html,
)
from famcli.cli.render import plural
from famcli.cli.work import Work, describe_counts, one_line
from famcli.errors import UsageError
from famcli.plain import to_json

if TYPE_CHECKING:
    from famcli.tasks.report.record import Recorder
    from famcli.tasks.summarize.summary_result import SummarizeConfig, SummaryResult

Format = Literal["bullets", "paragraph", "outline", "markdown", "json"]


def summarize(
    *,
    files: FilesArgument = None,
    length: Annotated[
        str,
        typer.Option(
            "--length",
            "-n",
            metavar="LENGTH",
            help="short, medium, long, a number of sentences (7) or of words (150w). medium: 5 to 12 sentences, by the "
            "text's length; with --sections, 2 of each.",
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
    mode: Annotated[
        Literal["extract", "write"] | None,
        typer.Option(
            "--mode",
            help="extract: quotes only; write: in the checkpoint's own words, from notes it takes on the way. Default: "
            "as the checkpoint says.",
        ),
    ] = None,
    html: HtmlOption = None,
    memory_mode: MemoryModeOption = None,
    each: EachOption = False,
    documents: DocumentOptions,
    common: CommonOptions,
) -> None:
    """Summarize texts in verbatim quotes with their places.

    Sentences are chosen by how often the text uses their words, by what they share with others, by where they stand
    and by whether they stand alone. Repetitions are left out, and the choice is spread over the text. The text may be
    of any length; memory use does not depend on it. Ctrl-C prints the summary of what was read so far, marked partial.
    """
    from famcli.tasks.summarize.summary_result import SummarizeConfig, parse_length

    output = common.output
    if form == "json":
        form, output = "bullets", OutputOptions(json=True, jsonl=output.jsonl)
        common = replace(common, output=output)
    if form != "bullets" and output.form != "text":
        raise UsageError(
            f"--format {form} is a look of text, which --{output.form} does not have: leave one of them out"
        )
    config = SummarizeConfig(
        mode=mode,
        length=parse_length(length),
        focus=focus,
        sections=sections or form == "outline",
        memory_mode=memory_mode,
    )
    check_html(html, each, files or [])
    with Work(common) as work:
        names = work.check_documents(files or [], documents)
        model = work.open_model()
        results = []
        for group in [[name] for name in names] if each else [names]:
            results.append(_summarize(work, model, config, group, documents.encoding, form, each, html))
            if work.interrupted:
                break
        if work.form == "json":
            objects = [to_json(result) for result in results]
            work.output.json({"files": objects} if each else objects[0])
        work.finish(sum(result.num_sentences_seen for result in results))


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
    from famcli.tasks.report.record import Recorder
    from famcli.tasks.summarize.summarize import Summarizer
    from famcli.tasks.task import open_documents

    heading = group[0] if each else None
    with ExitStack() as stack:
        recorder = None if html is None else stack.enter_context(Recorder())
        task, stream = Summarizer(model, config, recorder), _Stream(work, heading)
        work.follow(task.events(open_documents(group, encoding)), stream.event)
        result = task.result()
        if recorder is not None and html is not None:
            heat = "the memory's attention to each word" if task.shows_attention else "how surprising each word was"
            _write_report(html, result, recorder, heat)
        if work.form != "json":
            _show(work, result, form, heading, stream.begun)
        chosen = {quote.source for quote in result.sentences}
        left_out = [source.name for source in result.counts.sources if source.num_bytes and source.name not in chosen]
        if chosen and left_out:
            names = ", ".join(left_out)
            work.notes.note(f"nothing was chosen from {names}; --each summarizes each file by itself")
        if html is not None:
            work.notes.note(f"the report is in {html}")
    return result


class _Stream:
    """Shows what is written as it is written. begun: whether any of it was shown as text."""

    def __init__(self, work: Work, heading: str | None) -> None:
        self._work, self._heading, self.begun = work, heading, False

    def event(self, event: Any) -> None:
        """Some more of a summary, a note, or what looks best while it is read."""
        from famcli.reading.generating import GeneratedText
        from famcli.tasks.summarize.summarize import SoFar
        from famcli.tasks.summarize.write import Note

        if isinstance(event, SoFar):
            self._work.progress.so_far(f"line {event.line:,}: {one_line(event.text)}")
        elif self._work.form == "jsonl":
            name = "note" if isinstance(event, Note) else "text"
            self._work.output.json({"event": name, **to_json(event)})
        elif isinstance(event, Note):
            self._work.progress.advance(0, 0)
        elif isinstance(event, GeneratedText) and self._work.form == "text":
            if not self.begun:
                self._work.make_room()
                if self._heading is not None:
                    self._work.output.line(f"== {self._heading}", "bold")
            self.begun = True
            self._work.output.write(event.text)


def _show(work: Work, result: SummaryResult, form: Format, heading: str | None, is_shown: bool) -> None:
    from famcli.tasks.summarize.summary_format import format_summary

    work.make_room()
    if work.form == "jsonl":
        _show_lines(work, result)
        return
    if heading is not None and not is_shown:
        work.output.line(f"== {heading}", "bold")
    written, lines = result.written, list(format_summary(result, "bullets" if form == "json" else form))
    if is_shown:  # as it was written
        work.output.line()
        lines = lines[len(written.text.splitlines()) if written is not None else 0 :]
    for mark, text in lines:
        work.output.write(mark, "cyan" if text else "bold")
        work.output.line(text)
    work.output.line()
    if written is not None:
        how = f"Written by the checkpoint from {plural(written.num_notes, 'note')}. "
    elif result.sentences:
        how = f"{len(result.sentences)} of {plural(result.num_sentences_seen, 'sentence')}. "
    else:
        how = ""
    work.show_counts(result.counts, result.partial, how)


def _show_lines(work: Work, result: SummaryResult) -> None:
    values: dict[str, Any] = to_json(result)
    for sentence in values.pop("sentences"):
        work.output.json({"event": "sentence", **sentence})
    work.output.json({"event": "result", **values})


def _write_report(path: Path, result: SummaryResult, recorder: Recorder, heat: str) -> None:
    from famcli.tasks.report.page import write_report
    from famcli.tasks.summarize.summary_format import report_of

    names = ", ".join(source.name for source in result.counts.sources)
    facts = [describe_counts(result.counts), f"{result.model}, memory {result.memory_mode}"]
    facts += ["Partial: interrupted before the end of the input."] * result.partial
    report = report_of(result, f"Summary of {names}", tuple(facts), heat)
    write_report(path, report, recorder.texts, recorder)
