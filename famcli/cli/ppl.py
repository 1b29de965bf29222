"""`famcli ppl`: how expected a text is, in files and in pipes that stay open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli.options import (
    CommonOptions,
    CompareModeOption,
    DocumentOptions,
    FilesArgument,
)
from famcli.cli.render import plural
from famcli.cli.work import Work
from famcli.errors import UsageError
from famcli.plain import to_json

if TYPE_CHECKING:
    from famcli.tasks.perplexity.perplexity import PerplexityResult
    from famcli.tasks.perplexity.scores import Difference, Score
    from famcli.tasks.perplexity.units import UnitScore


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
    memory_mode: CompareModeOption = None,
    documents: DocumentOptions,
    common: CommonOptions,
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
    if common.output.json and (per or alert is not None):
        raise UsageError("--json prints one object at the end; use --jsonl to have each line, block or token")
    with Work(common) as work:
        names = work.check_documents(files or [], documents)
        model = work.open_model()

        from famcli.tasks.perplexity.perplexity import Perplexity, PerplexityConfig
        from famcli.tasks.task import open_documents

        config = PerplexityConfig(memory_mode=memory_mode, per="line" if alert is not None else per, alert=alert)
        task = Perplexity(model, config)
        show = _Show(work, only_alerts=alert is not None, several_files=len(names) > 1)
        work.follow(task.events(open_documents(names, documents.encoding)), show.event)
        result = task.result()
        show.result(result)
        work.finish(result.counts.num_tokens)


class _Show:
    """Shows units and files as they are scored, and the totals."""

    def __init__(self, work: Work, only_alerts: bool, several_files: bool) -> None:
        self._work = work
        self._only_alerts = only_alerts
        self._several_files = several_files

    def event(self, event: Any) -> None:
        from famcli.tasks.perplexity.perplexity import FileScore
        from famcli.tasks.perplexity.units import UnitScore

        if isinstance(event, UnitScore) and (event.alert is not None or not self._only_alerts):
            self._work.make_room()
            self._unit(event)
        elif isinstance(event, FileScore) and self._work.form == "jsonl":
            self._work.output.json({"event": "file", **to_json(event)})

    def result(self, result: PerplexityResult) -> None:
        work = self._work
        if work.form != "text":
            event = {"event": "result"} if work.form == "jsonl" else {}
            work.output.json(event | to_json(result))
            return
        work.make_room()
        rows = [row for file in result.files for row in _rows(file.source.name, file.scores, file.difference)]
        num_files = len(rows)
        if len(result.files) > 1:
            rows += _rows("total", result.total, result.difference)
        for number, line in enumerate(_aligned(rows)):
            work.output.line(line, "bold" if number >= num_files else "")
        if result.difference is not None:
            work.output.line(describe_difference(result.difference))
        if result.num_alerts is not None:
            work.output.line(f"{plural(result.num_alerts, 'line')} stood out.")
        if result.total[0].num_tokens and not work.notes.quiet:
            work.output.paragraph(result.definition, "dim")
        work.show_counts(result.counts, result.partial)

    def _unit(self, unit: UnitScore) -> None:
        if self._work.form == "jsonl":
            self._work.output.json({"event": "unit", **to_json(unit)})
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


def describe_difference(difference: Difference) -> str:
    """What the difference between memory on and frozen means, in a sentence."""
    value, error = difference.nll_per_token, difference.standard_error
    if error is None:
        return "Whether the memory helps cannot be told: the text is too short for an error bar."
    if abs(value) <= 2 * error:
        return "No measurable difference: memory on and frozen are within two standard errors of each other."
    if value < 0:
        return "The memory helps: the text is easier to predict with it on, by more than two standard errors."
    return "The memory does not help: the text is harder to predict with it on, by more than two standard errors."


def _rows(name: str, scores: tuple[Score, ...], difference: Difference | None) -> list[list[str]]:
    """Lines of figures as cells: the name, the memory mode (or nothing), and what was measured."""
    rows = [[name, f"memory {score.memory_mode}" if len(scores) > 1 else "", *_cells(score)] for score in scores]
    if difference is not None:
        error = "" if difference.standard_error is None else f" \u00b1 {difference.standard_error:.4f}"
        figures = f"{difference.nll_per_token:+.4f}{error} nats/token  {difference.bits_per_byte:+.4f} bits/byte"
        rows.append([name, "on minus frozen", figures])
    return rows


def _cells(score: Score) -> list[str]:
    if not score.num_tokens:
        return ["nothing to score"]
    error = "" if score.standard_error is None else f" \u00b1 {score.standard_error:.4f}"
    return [
        f"perplexity {_number(score.perplexity)}",
        f"({_number(score.nll_per_token)}{error} nats/token)",
        f"{_number(score.bits_per_byte)} bits/byte",
        f"accuracy {100 * (score.accuracy or 0):.2f} %",
        plural(score.num_tokens, "token"),
        plural(score.num_bytes, "byte"),
    ]


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines with the cells of each column one below the other; figures are flush right."""
    num_cells = max((len(row) for row in rows), default=0)
    whole = [row for row in rows if len(row) == num_cells]  # others hold words, or a difference
    columns = [max(len(row[i]) for row in (rows if i < 2 else whole)) for i in range(num_cells)]
    lines = []
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:2], columns[:2], strict=True) if width]
        if len(row) == num_cells:
            figures = [cell.rjust(width) for cell, width in zip(row[2:], columns[2:], strict=True)]
        else:
            figures = row[2:]
        lines.append("  ".join(words + figures))
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if value >= 1000 else f"{value:.4f}"
