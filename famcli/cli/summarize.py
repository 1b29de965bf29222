"""`famcli summarize`: verbatim sentences of a text of any length, with their places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli.options import (
    DocumentOptions,
    EachOption,
    FilesArgument,
    MachineOptions,
    MemoryModeOption,
    OutputOptions,
    ReportOptions,
)
from famcli.cli.render import plural
from famcli.cli.work import Work, one_line

if TYPE_CHECKING:
    from famcli.tasks.summarize import SummaryResult


def summarize(
    *,
    files: FilesArgument = None,
    sentences: Annotated[
        int | None, typer.Option("--sentences", "-n", min=1, help="How many. Default: 5 to 12, by the text's length.")
    ] = None,
    mode: Annotated[
        Literal["extract"] | None, typer.Option("--mode", help="extract: quotes only. Default: as the checkpoint says.")
    ] = None,
    memory_mode: MemoryModeOption = None,
    each: EachOption = False,
    machine: MachineOptions,
    documents: DocumentOptions,
    output: OutputOptions,
    report: ReportOptions,
) -> None:
    """Summarize texts in verbatim quotes with their places.

    Sentences are chosen by how much the memory attended to them while it compressed their block (by surprise where the
    memory is off or not trained), less what repeats others, spread over the text. The text may be of any length; memory
    use does not depend on it. Ctrl-C prints the summary of what was read so far, marked partial.
    """
    with Work(report, output) as work:
        names = work.check_documents(files or [], documents)
        model = work.open_model(machine)

        from famcli.tasks.common import open_documents
        from famcli.tasks.summarize import SummarizeConfig, Summarizer

        config = SummarizeConfig(num_sentences=sentences, memory_mode=memory_mode)
        results = []
        for group in [[name] for name in names] if each else [names]:
            task = Summarizer(model, config)
            work.follow(task.events(open_documents(group, documents.encoding)))
            results.append(task.result())
            if work.form != "json":
                _show(work, results[-1], heading=group[0] if each else None)
            if work.interrupted:
                break
        if work.form == "json":
            objects = [result.to_json() for result in results]
            work.output.json({"files": objects} if each else objects[0])
        work.finish()


def _show(work: Work, result: SummaryResult, heading: str | None) -> None:
    work.make_room()
    if work.form == "jsonl":
        _show_lines(work, result)
        return
    if heading is not None:
        work.output.line(f"== {heading}", "bold")
    several = len(result.counts.sources) > 1
    for quote in result.sentences:
        place = f"{quote.source}, line {quote.line:,}" if several else f"line {quote.line:,}"
        work.output.write(f"{place}: ", "cyan")
        work.output.line(one_line(quote.text))
    if not result.sentences:
        work.output.line("The input has no sentence to quote.")
    work.output.line()
    if result.num_sentences_seen:
        seen = plural(result.num_sentences_seen, "sentence")
        work.output.line(f"{len(result.sentences)} of {seen}, by {result.scored_by}.", "dim")
    work.show_counts(result.counts, result.partial)


def _show_lines(work: Work, result: SummaryResult) -> None:
    values: dict[str, Any] = result.to_json()
    for sentence in values.pop("sentences"):
        work.output.json({"event": "sentence", **sentence})
    work.output.json({"event": "result", **values})
