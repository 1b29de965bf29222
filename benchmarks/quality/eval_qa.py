"""`benchmarks.quality qa`: evidence, answers and cost of `famcli ask`, beside BM25."""

from __future__ import annotations

import itertools
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli.eval import check_files, filler_files, modes_of, parse_lengths
from famcli.cli.options import (
    CommonOptions,
    CompareModeOption,
)
from famcli.cli.work import Work
from famcli.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.quality.qa_cost import Cost
    from benchmarks.quality.qa_results import Figure, Gap, QaFigures
    from benchmarks.quality.qa_sets import Item, PlacedDocument, Rules
    from famcli.checkpoint.model import Model

_RULE = re.compile(r"(\w+)=(.+)")
_HASH = re.compile(r"(\w+):(\d+)-(\d+)")


def qa(
    *,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Question sets: .jsonl(.zst) with context, question, answers."),
    ],
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="FIELD=VALUE,...", help="Only records whose field has a value; repeatable."),
    ] = None,
    hashed: Annotated[
        str | None,
        typer.Option(
            "--hash",
            metavar="FIELD:FROM-BELOW",
            help="Only records whose sha256 of a field begins with a byte in this range: title:205-256.",
        ),
    ] = None,
    filler: Annotated[
        list[Path] | None,
        typer.Option("--filler", metavar="FILE", help="Texts to place passages in. Default: the novel with famcli."),
    ] = None,
    length: Annotated[str, typer.Option("--length", metavar="N", help="Tokens of filler of each document.")] = "100k",
    questions: Annotated[int, typer.Option("--questions", min=1, help="Questions about each document, at least.")] = 50,
    most: Annotated[
        int | None,
        typer.Option("--most", min=1, help="Of a document's questions, ask so many at most, drawn at random."),
    ] = None,
    documents: Annotated[int | None, typer.Option("--documents", min=1, help="Documents at most.")] = None,
    absent: Annotated[
        float, typer.Option("--absent", min=0, max=1, help="Share of passages left out, so that they are not found.")
    ] = 0.0,
    styles: Annotated[
        str, typer.Option("--styles", metavar="STYLE,...", help="How to answer: sentence, span, write; none for none.")
    ] = "sentence,span,write",
    network: Annotated[
        bool, typer.Option("--network", help="Rank by the network alone too: every question after every block.")
    ] = False,
    question_first: Annotated[
        bool, typer.Option("--question-first", help="Answer after a reading that began with the questions, too.")
    ] = False,
    cost: Annotated[
        int, typer.Option("--cost", metavar="ROUNDS", min=0, help="Only time one and eight questions, so often.")
    ] = 0,
    memory_mode: CompareModeOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws documents and places.")] = 0,
    common: CommonOptions,
) -> None:
    """Measure evidence, answers and cost of `famcli ask`.

    Passages of question sets are placed among other text; each document is read once and all its questions are asked.
    Evidence stands beside a library's BM25 over the same passages, answers beside the same network's from BM25's best
    passage, memory on beside frozen with --memory-mode compare. Needs the packages of famcli[eval].
    """
    rules, tokens, wanted = parse_rules(where or [], hashed), parse_lengths(length)[0], _styles(styles)
    texts = filler_files(filler)
    check_files([*files, *texts])
    with Work(common) as work:
        groups = _groups(files, rules)
        model = work.open_model()
        from benchmarks.quality.qa import QaConfig
        from benchmarks.quality.qa_sets import placed_documents

        placed = itertools.islice(
            placed_documents(
                groups, texts, tokens, model.tokenizer, questions=questions, most=most, absent=absent, seed=seed
            ),
            documents,
        )
        modes = modes_of(model, memory_mode)
        if cost:
            _measure_cost(work, model, next(placed), modes[0], cost)
            return
        config = QaConfig(modes=modes, styles=wanted, network=network, question_first=question_first)
        asked_for = {
            "files": list(map(str, files)),
            "filler": list(map(str, texts)),
            "where": list(where or []),
            "hash": hashed,
            "absent": absent,
            "most": most,
            "seed": seed,
            "model": model.name,
        }
        _judge(work, model, placed, config, asked_for)
        work.finish()


def parse_rules(where: Sequence[str], hashed: str | None) -> Rules:
    """`split=val,test` and `title:205-256` as rules. Raises UsageError."""
    from benchmarks.quality.qa_sets import Rules

    fields = []
    for text in where:
        if (match := _RULE.fullmatch(text)) is None:
            raise UsageError(f"--where {text}: give a field and its values, as in split=val,test")
        fields.append((match[1], tuple(match[2].split(","))))
    if hashed is None:
        return Rules(tuple(fields))
    if (match := _HASH.fullmatch(hashed)) is None or not int(match[2]) < int(match[3]) <= 256:
        raise UsageError(f"--hash {hashed}: give a field and a range of bytes, as in title:205-256")
    return Rules(tuple(fields), match[1], int(match[2]), int(match[3]))


def _styles(text: str) -> tuple[Any, ...]:
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ("sentence", "span", "write"):
            raise UsageError(f"'{name}' is no style of answers: use sentence, span, write, or none")
    return tuple(names)


def _groups(files: Sequence[Path], rules: Rules) -> dict[str, list[Item]]:
    from benchmarks.quality.qa_sets import by_group, read_items

    return by_group([item for path in files for item in read_items(path, rules)])


def _judge(work: Work, model: Model, placed: Any, config: Any, asked_for: dict[str, Any]) -> None:
    from benchmarks.quality.qa import judge
    from benchmarks.quality.qa_results import QA_DEFINITION, qa_figures

    began, outcomes = time.monotonic(), []
    try:
        for number, document in enumerate(placed, 1):
            work.progress.stage(f"document {number}, {len(document.asked):,} questions")
            outcomes.append(judge(model, document, config, partial(work.progress.advance, 0)))
            if work.form == "jsonl":
                work.output.json({"event": "document", **_described(document, outcomes[-1])})
    except KeyboardInterrupt:
        work.interrupted = True
    figures, seconds = qa_figures(outcomes), time.monotonic() - began
    if work.form == "text":
        _show(work, figures, seconds)
        return
    values = {
        "benchmark": "qa",
        **asked_for,
        **asdict(figures),
        "definition": QA_DEFINITION,
        "seconds": seconds,
        "partial": work.interrupted,
    }
    work.output.json(({"event": "result"} if work.form == "jsonl" else {}) | values)


def _described(document: PlacedDocument, outcome: Any) -> dict[str, Any]:
    return {**asdict(outcome), "name": document.name}


def _show(work: Work, figures: QaFigures, seconds: float) -> None:
    from benchmarks.quality.qa_results import QA_DEFINITION
    from famcli.cli.render import describe_seconds
    from famcli.cli.show_figures import table
    from famcli.plain import plural

    work.make_room()
    gaps = {(one.name, one.minus): one for one in (*figures.gaps, *figures.answer_gaps)}
    rows = [["evidence", "recall", "share", "95 % interval", "minus bm25", "s.e.", "questions"]]
    rows += [_figure_row(one, gaps.get((one.name, ("bm25", *one.name[1:])))) for one in figures.recall]
    table(work, rows, words=2)
    if figures.answers:
        work.output.line()
        rows = [["system", "style", "memory", "measure", "mean", "95 % interval", "minus bm25", "s.e.", "questions"]]
        rows += [_figure_row(one, gaps.get((one.name, ("bm25", *one.name[1:])))) for one in figures.answers]
        table(work, rows, words=4)
        for one in figures.answer_gaps:
            if one.minus[2] == "frozen" and one.name[2] != "frozen":
                error = "" if one.standard_error is None else f" \u00b1 {100 * one.standard_error:.2f}"
                names = f"{one.name[1]}, {one.name[3]}"
                work.output.line(f"{names}: memory {one.name[2]} minus frozen {100 * one.value:+.2f}{error} points")
    work.output.line()
    table(
        work, [["not found", "of", "share", "95 % interval", "", "", "questions"], *map(_figure_row, figures.silence)]
    )
    work.output.line(f"Citations found verbatim in their place: {figures.verified:,} of {figures.citations:,}.")
    if not work.notes.quiet:
        work.output.paragraph(QA_DEFINITION, "dim")
    read = (
        f"{plural(figures.documents, 'document')}, {plural(figures.bytes, 'byte')}, {plural(figures.tokens, 'token')}"
    )
    work.output.line(f"Asked {plural(figures.questions, 'question')} of {read} in {describe_seconds(seconds)}.", "dim")
    if work.interrupted:
        work.output.line("Partial: interrupted before all documents were read.", "yellow")


def _figure_row(one: Figure, gap: Gap | None = None) -> list[str]:
    interval = "" if one.interval is None else f"{100 * one.interval[0]:.1f} - {100 * one.interval[1]:.1f} %"
    difference = "" if gap is None else f"{100 * gap.value:+.1f}"
    error = "" if gap is None or gap.standard_error is None else f"{100 * gap.standard_error:.1f}"
    return [*one.name, f"{100 * one.value:.1f} %", interval, difference, error, f"{one.questions:,}"]


def _measure_cost(work: Work, model: Model, document: PlacedDocument, mode: Any, rounds: int) -> None:
    from benchmarks.quality.qa_cost import measure_cost
    from famcli.cli.show_figures import table
    from famcli.tasks.ask.reading_cache import ReadingCache

    asked = [one.item.question for one in document.asked][:8]
    with tempfile.TemporaryDirectory(prefix="famcli-") as folder:
        path = Path(folder) / "document.txt"
        path.write_bytes(document.text.encode())
        work.progress.stage("timing")
        cache = ReadingCache(Path(folder) / "readings")
        costs = measure_cost(model, path, asked, mode, cache, rounds=rounds)
    if work.form != "text":
        values = {
            "benchmark": "qa cost",
            "model": model.name,
            "memory_mode": mode,
            "bytes": len(document.text.encode()),
        }
        work.output.json(values | {"costs": [asdict(one) for one in costs]})
        return
    work.make_room()
    table(work, [["run", "processor", "clock", "processor ratio", "clock ratio"], *map(_cost_row, costs)], words=1)


def _cost_row(one: Cost) -> list[str]:
    name = f"{one.questions} question{'' if one.questions == 1 else 's'}" if one.questions else "reading alone"
    name += ", kept reading" if one.again else ""
    return [
        name,
        f"{one.processor:.2f} s",
        f"{one.clock:.2f} s",
        f"{one.processor_ratio:.3f}",
        f"{one.clock_ratio:.3f}",
    ]
