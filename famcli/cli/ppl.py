"""`famcli ppl`: how expected a text is, in files and in pipes that stay open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli import options as opt
from famcli.cli.render import aligned
from famcli.cli.work import Work, describe_counts
from famcli.errors import UsageError
from famcli.plain import plural

if TYPE_CHECKING:
    from famcli.tasks.perplexity.perplexity import PerplexityResult
    from famcli.tasks.perplexity.scores import Difference, Score
    from famcli.tasks.perplexity.units import UnitScore


def ppl(
    *,
    files: opt.FilesArgument = None,
    per: Annotated[
        Literal["line", "block", "token"] | None,
        typer.Option("--per", help="Report each line, block or token at once. line cuts tokens after newlines."),
    ] = None,
    alert: Annotated[
        float | None,
        typer.Option(
            "--alert",
            metavar="K",
            help="Report only lines that stand out: in a log, after 1,000 lines, those of a kind that it did not have "
            "before; in other text those whose bits per byte exceed the running median by K times 1.4826 times the "
            "median absolute deviation of the last 1,000 lines. Implies --per line.",
        ),
    ] = None,
    memory_mode: opt.CompareModeOption = None,
    encoding: opt.EncodingOption = None,
    common: opt.CommonOptions,
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
        names = work.check_documents(files or [], encoding, as_is=True)
        model = work.open_model()

        from famcli.tasks.perplexity.perplexity import FileScore, Perplexity, PerplexityConfig
        from famcli.tasks.perplexity.units import UnitScore
        from famcli.tasks.task import open_documents

        config = PerplexityConfig(memory_mode=memory_mode, per="line" if alert is not None else per, alert=alert)

        def show_event(event: Any) -> None:
            if isinstance(event, FileScore):
                work.emit("file", event)
            elif isinstance(event, UnitScore) and (event.alert is not None or alert is None):
                work.make_room()
                work.emit("unit", event)
                if work.form == "text":
                    work.output.line(_describe_unit(event, named=len(names) > 1))

        task = Perplexity(model, config)
        work.follow(task.events(open_documents(names, encoding, as_is=True)), show_event)
        result = task.result()
        work.show(result, lambda: _show(work, result))
        work.finish(result.counts.num_tokens)


def _show(work: Work, result: PerplexityResult) -> None:
    """The result as text: a line for each file (two or three when memory modes are compared), and the totals."""
    rows = [row for file in result.files for row in _rows(file.source.name, file.scores, file.difference)]
    num_files = len(rows)
    if len(result.files) > 1:
        rows += _rows("total", result.total, result.difference)
    for number, line in enumerate(aligned(rows, words=2)):
        work.output.line(line, "bold" if number >= num_files else "")
    if result.difference is not None:
        work.output.line(describe_difference(result.difference))
    if result.num_alerts is not None:
        work.output.line(f"{plural(result.num_alerts, 'line')} stood out.")
    if result.total[0].num_tokens and not work.notes.quiet:
        # Perplexities of two tools can be compared only by their definitions.
        work.output.paragraph(result.definition, "dim")
    work.end_text(describe_counts(result.counts), result.partial)


def _describe_unit(unit: UnitScore, named: bool) -> str:
    """One line, block or token with its figures. named: say which file it is of."""
    place = f"byte {unit.span[0]:,}" if unit.line is None else f"line {unit.line:,}"
    if named:
        place = f"{unit.source}, {place}"
    figures = "  ".join(
        (f"{score.memory_mode} " if len(unit.scores) > 1 else "") + _number(score.bits_per_byte)
        for score in unit.scores
    )
    limit = ""
    if unit.alert is not None:
        limit = " (a new kind of line)" if unit.alert.is_new_kind else f" (limit {_number(unit.alert.limit)})"
    text = "" if unit.text is None else "  " + unit.text.replace("\n", "\\n") + ("..." if unit.text_is_cut else "")
    return f"{place}  {figures} bits/byte{limit}{text}"


def describe_difference(difference: Difference) -> str:
    """What the difference between memory on and frozen means, in a sentence."""
    value, error = difference.nll_per_token, difference.standard_error
    if error is None:
        return "Whether the memory helps cannot be told: the text is too short for an error bar."
    # Two standard errors are about a 95 % interval.
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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if value >= 1000 else f"{value:.4f}"
