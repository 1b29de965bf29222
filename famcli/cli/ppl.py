"""`famcli ppl`: how expected a text is, in files and in pipes that stay open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli.options import (
    DocumentOptions,
    FilesArgument,
    MachineOptions,
    OutputOptions,
    ReportOptions,
    ScoreModeOption,
)
from famcli.cli.render import Style, plural
from famcli.cli.work import Work
from famcli.errors import UsageError

if TYPE_CHECKING:
    from famcli.tasks.perplexity import PerplexityResult
    from famcli.tasks.scores import Difference, Score
    from famcli.tasks.units import UnitScore


def ppl(
    *,
    files: FilesArgument = None,
    per: Annotated[
        Literal["line", "block", "token"] | None,
        typer.Option("--per", help="Report each line, block or token at once. line cuts tokens after newlines."),
    ] = None,
    alert: Annotated[
        float | None,
        typer.Option(
            "--alert",
            metavar="K",
            help="Report only lines whose bits per byte exceed the running median by K times 1.4826 times the median "
            "absolute deviation of the last 1,000 lines; implies --per line.",
        ),
    ] = None,
    memory_mode: ScoreModeOption = None,
    machine: MachineOptions,
    documents: DocumentOptions,
    output: OutputOptions,
    report: ReportOptions,
) -> None:
    """Measure perplexity, bits per byte, next-token accuracy.

    Each file starts afresh; several give one line each and a total. The definition of the figures is printed with
    them. Standard input is scored while it is open: tail -f app.log | famcli ppl --alert 4. Ctrl-C prints the
    figures so far, marked partial.
    """
    if alert is not None and per not in (None, "line"):
        raise UsageError(f"--alert judges lines, but --per {per} was asked for; leave one of them out")
    if alert is not None and not alert > 0:
        raise UsageError(f"--alert is {alert:g}, it must be a positive number of deviations")
    if output.json and (per or alert is not None):
        raise UsageError("--json prints one object at the end; use --jsonl to have each line, block or token")
    with Work(report, output) as work:
        names = work.check_documents(files or [], documents)
        model = work.open_model(machine)

        from famcli.tasks.common import open_documents
        from famcli.tasks.perplexity import Perplexity, PerplexityConfig

        config = PerplexityConfig(memory_mode=memory_mode, per="line" if alert is not None else per, alert=alert)
        task = Perplexity(model, config)
        show = _Show(work, only_alerts=alert is not None, several_files=len(names) > 1)
        work.follow(task.events(open_documents(names, documents.encoding)), show.event)
        show.result(task.result())
        work.finish()


class _Show:
    """Shows units and files as they are scored, and the totals."""

    def __init__(self, work: Work, only_alerts: bool, several_files: bool) -> None:
        self._work = work
        self._only_alerts = only_alerts
        self._several_files = several_files

    def event(self, event: Any) -> None:
        from famcli.tasks.perplexity import FileScore
        from famcli.tasks.units import UnitScore

        if isinstance(event, UnitScore) and (event.alert is not None or not self._only_alerts):
            self._work.make_room()
            self._unit(event)
        elif isinstance(event, FileScore) and self._work.form == "jsonl":
            self._work.output.json({"event": "file", **event.to_json()})

    def result(self, result: PerplexityResult) -> None:
        work = self._work
        if work.form != "text":
            event = {"event": "result"} if work.form == "jsonl" else {}
            work.output.json(event | result.to_json())
            return
        work.make_room()
        for file in result.files:
            self._figures(file.source.name, file.scores, file.difference)
        if len(result.files) > 1:
            self._figures("total", result.total, result.difference, "bold")
        if result.num_alerts is not None:
            work.output.line(f"{plural(result.num_alerts, 'line')} stood out.")
        work.output.line(result.definition, "dim")
        work.show_counts(result.counts, result.partial)

    def _unit(self, unit: UnitScore) -> None:
        if self._work.form == "jsonl":
            self._work.output.json({"event": "unit", **unit.to_json()})
            return
        place = f"byte {unit.span[0]:,}" if unit.line is None else f"line {unit.line:,}"
        if self._several_files:
            place = f"{unit.source}, {place}"
        named = len(unit.scores) > 1
        figures = "  ".join(
            (f"{score.memory_mode} " if named else "") + _number(score.bits_per_byte) for score in unit.scores
        )
        limit = "" if unit.alert is None else f" (limit {_number(unit.alert.limit)})"
        text = "" if unit.text is None else "  " + unit.text.replace("\n", "\\n") + ("..." if unit.text_is_cut else "")
        self._work.output.line(f"{place}  {figures} bits/byte{limit}{text}")

    def _figures(self, name: str, scores: tuple[Score, ...], difference: Difference | None, style: Style = "") -> None:
        for score in scores:
            self._work.output.line(f"{name}  {describe_score(score, named=len(scores) > 1)}", style)
        if difference is not None:
            error = "" if difference.standard_error is None else f" ± {difference.standard_error:.4f}"
            self._work.output.line(
                f"{name}  on minus frozen  {difference.nll_per_token:+.4f}{error} nats/token  "
                f"{difference.bits_per_byte:+.4f} bits/byte",
                style,
            )


def describe_score(score: Score, named: bool) -> str:
    """One line of figures; `named` says under which memory mode."""
    mode = f"memory {score.memory_mode}  " if named else ""
    if not score.num_tokens:
        return f"{mode}nothing to score"
    error = "" if score.standard_error is None else f" ± {score.standard_error:.4f}"
    return (
        f"{mode}perplexity {_number(score.perplexity)} ({_number(score.nll_per_token)}{error} nats/token)  "
        f"{_number(score.bits_per_byte)} bits/byte  "
        f"accuracy {100 * (score.accuracy or 0):.2f} %  {score.num_tokens:,} tokens  {score.num_bytes:,} bytes"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if value >= 1000 else f"{value:.4f}"
