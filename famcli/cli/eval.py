"""`famcli eval`: the benchmarks that a memory is judged by."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import typer

from famcli.cli.options import CommonOptions, CompareMode, CompareModeOption
from famcli.cli.show_figures import show_positions, show_recall
from famcli.cli.work import Work
from famcli.errors import UsageError
from famcli.plain import to_json

if TYPE_CHECKING:
    from famcli.checkpoint.model import Model
    from famcli.evaluation.positions import Subject
    from famcli.evaluation.recall import CellScore
    from famcli.nn import MemoryMode

HELP = """Judge a checkpoint: ppl, passkey, needle, babi, algorithmic.

passkey, needle and babi hide sentences in real text of any length, which streams through the network and is never held,
and ask for them at the end, on forks of one reading; an answer is right if greedy decoding writes exactly it. Lengths
are tokens read before the question: 4k is 4,096, 1M is 1,048,576. The same seed gives the same streams to every model
and memory mode. --twin reads them with a second checkpoint of the same tokenizer, a control trained without memory.
algorithmic reads made sequences alone, for checkpoints that are trained on them.
"""
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([km]?)", re.IGNORECASE)
# Powers of two, as context lengths are: blocks of 1,024 tokens fit evenly.
_UNITS = {"": 1, "k": 1024, "m": 1024**2}
_T = TypeVar("_T")

_control = partial(typer.Option, rich_help_panel="Control")
LengthsOption = Annotated[
    str, typer.Option("--lengths", metavar="N,...", help="Tokens before the question; k is 1,024, M is 1,048,576.")
]
StreamsOption = Annotated[int, typer.Option("--streams", min=1, help="Streams at each length (and of each task).")]
BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Streams that are read side by side.")]
TwinOption = Annotated[
    str | None,
    _control("--twin", metavar="PATH|NAME", help="A second checkpoint to compare with; same tokenizer."),
]
PlotOption = Annotated[Path | None, _control("--plot", metavar="FILE", help="Draw the result: .png, .svg or .pdf.")]


@dataclass(frozen=True, kw_only=True)
class RecallOptions:
    """What passkey, needle and babi share: the streams that sentences are hidden in, and who reads them."""

    PANEL: ClassVar = "Streams"

    memory_mode: CompareModeOption = None
    streams: StreamsOption = 20
    filler: Annotated[
        list[Path] | None,
        typer.Option(
            "--filler",
            metavar="FILE",
            help="Texts, or .jsonl(.zst) of documents, to hide sentences in; repeatable. Default: the novel that comes "
            "with famcli (examples/).",
        ),
    ] = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws facts, places and filler.")] = 0
    batch: BatchOption = 16
    twin: TwinOption = None
    plot: PlotOption = None
    common: CommonOptions


def passkey(
    *,
    lengths: LengthsOption = "4k,16k,64k",
    depth: Annotated[
        str,
        typer.Option("--depth", metavar="D", help="Where the key is: random, start, or a share of the stream (0.25)."),
    ] = "random",
    digits: Annotated[int, typer.Option("--digits", min=1, max=20, help="Digits of the key.")] = 5,
    options: RecallOptions,
) -> None:
    """Recall a number that stood somewhere in a long text.

    With --depth start one reading serves all lengths, the key first (the form of the TransformerFAM paper).
    """
    tokens = parse_lengths(lengths)
    place: Any = "random" if depth == "random" else 0.0 if depth == "start" else _shares(depth, "--depth")[0]
    shown = {"depth": depth, "digits": digits}
    _recall("passkey", options, shown, lengths=tokens, depth=place, digits=digits)


def needle(
    *,
    lengths: LengthsOption = "4k,16k,64k",
    depths: Annotated[
        str, typer.Option("--depths", metavar="D,...", help="Where values are hidden, as shares of the stream.")
    ] = "0,0.25,0.5,0.75,1",
    needles: Annotated[
        int,
        typer.Option("--needles", min=1, help="Values in each stream, all asked for; they take turns at the depths."),
    ] = 1,
    options: RecallOptions,
) -> None:
    """Recall named values by length and depth, as a grid."""
    tokens, places = parse_lengths(lengths), _shares(depths, "--depths")
    _recall("needle", options, {"depths": places, "needles": needles}, lengths=tokens, depths=places, count=needles)


def babi(
    *,
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            metavar="TASK,...",
            help="qa1: where a person is; qa2: where an object is; qa3: where it was before; qa4: what lies beside "
            "what; qa5: who gave what to whom; yes_no; counting.",
        ),
    ] = "qa1,qa2,qa3,qa4,qa5",
    lengths: LengthsOption = "0k,4k,16k",
    facts: Annotated[
        int | None, typer.Option("--facts", metavar="N", help="Sentences of each story. Default: 2 to 10, drawn.")
    ] = None,
    options: RecallOptions,
) -> None:
    """Keep track of facts scattered over a long text.

    Stories in the manner of bAbI, in filler in the manner of BABILong (0k: no filler), with a world and wordings of
    their own. Every question that a story answers is asked, on forks of one reading; because they are not independent,
    a bootstrap interval over streams stands beside Wilson's.
    """
    tokens, names = parse_lengths(lengths), [name.strip() for name in tasks.split(",")]
    _recall("babi", options, {"tasks": names, "facts": facts}, lengths=tokens, tasks=names, count=facts)


def ppl(
    *,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Texts, or .jsonl(.zst) of documents.")],
    max_tokens: Annotated[
        str | None, typer.Option("--max-tokens", metavar="N", help="Score only so many tokens of each document.")
    ] = None,
    memory_mode: CompareModeOption = None,
    twin: TwinOption = None,
    plot: PlotOption = None,
    common: CommonOptions,
) -> None:
    """Measure bits per byte by position in documents.

    Every document starts afresh. Memory modes, and the twin, are compared document by document past the window of
    (memory_segments + 1) x block_size tokens: where only a memory can know what came first.
    """
    limit = None if max_tokens is None else parse_lengths(max_tokens)[0]
    if limit == 0:
        raise UsageError("--max-tokens is 0; give a positive number, or leave it out")
    check_files(files)
    with Work(common) as work:
        models = _open_models(work, twin, plot)
        from famcli.evaluation.plots import plot_positions
        from famcli.evaluation.positions import POSITION_DEFINITION, document_figures
        from famcli.evaluation.texts import read_texts

        began = time.monotonic()
        work.progress.stage("tokenizing")
        tokenizer, read = models[0].tokenizer, partial(work.progress.advance, 0)
        texts = read_texts(files, tokenizer, max_document_tokens=limit, on_tokens=read)
        subjects = _subjects(models, memory_mode)
        work.progress.stage("scoring", total_tokens=texts.num_tokens * len(subjects))
        scored = document_figures(subjects, tokenizer, texts.documents(), on_tokens=lambda _, count: read(count))
        figures = _last(work, scored)
        if figures is not None:
            seconds = time.monotonic() - began
            values = {"benchmark": "ppl", "files": files, **to_json(figures), "seconds": seconds}
            values |= {"definition": POSITION_DEFINITION, "partial": work.interrupted}
            work.show(values, partial(show_positions, work, figures, values))
            if plot is not None:
                plot_positions(figures, plot)
        work.finish()


def algorithmic(
    *,
    sequences: Annotated[
        str,
        typer.Option(
            "--sequences",
            metavar="TASK:N,...",
            help="algorithmic:N, programs with N variables; copy:N and reverse:N, of N letters; random_walk:N, of N "
            "moves.",
        ),
    ] = "algorithmic:3,algorithmic:5",
    sequence_tokens: Annotated[
        str, typer.Option("--sequence-tokens", metavar="N,...", help="Tokens of each sequence; k is 1,024.")
    ] = "512",
    streams: StreamsOption = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the sequences.")] = 0,
    batch: BatchOption = 16,
    memory_mode: CompareModeOption = None,
    twin: TwinOption = None,
    plot: PlotOption = None,
    common: CommonOptions,
) -> None:
    """Keep a state up to date: print the variables of a program, copy, reverse, follow a walk.

    The tasks of the Feedback Transformer (arXiv 2002.09402). Only checkpoints that were trained on them can do them;
    docs/training.md says how.
    """
    tokens, wanted = parse_lengths(sequence_tokens), [_task(word) for word in sequences.split(",")]
    with Work(common) as work:
        models = _open_models(work, twin, plot)
        from famcli.evaluation.sequences import SEQUENCE_DEFINITION, score_sequences

        tokenizer, began, read = models[0].tokenizer, time.monotonic(), 0
        cells: list[CellScore] = []

        def on_tokens(count: int) -> None:
            nonlocal read
            read += count
            work.progress.advance(0, count)

        for subject in _subjects(models, memory_mode):
            total = len(wanted) * sum(tokens) * streams
            work.progress.stage(f"algorithmic: {subject.name}, memory {subject.memory_mode}", total_tokens=total)
            for (task, size), length in product(wanted, tokens):
                sizes = {"num_tokens": length, "streams": streams, "seed": seed, "batch": batch}
                cell = _last(work, score_sequences(task, size, subject, tokenizer, **sizes, on_tokens=on_tokens))
                if cell is not None:
                    cells.append(cell)
                    work.emit("cell", cell)
                if work.interrupted:
                    break
            if work.interrupted:
                break
        values = {"benchmark": "algorithmic", "sequences": sequences, "streams": streams, "seed": seed, "cells": cells}
        values |= {"tokens": read, "seconds": time.monotonic() - began, "definition": SEQUENCE_DEFINITION}
        _finish(work, cells, values, plot)


def _task(word: str) -> tuple[str, int]:
    """`algorithmic:3` as a task and its size. Raises UsageError."""
    name, _, size = word.strip().partition(":")
    if not size.isdecimal():
        raise UsageError(f"'{word.strip()}' names no size: give the task with a number, as in algorithmic:3")
    return name, int(size)


COMMANDS = {"ppl": ppl, "passkey": passkey, "needle": needle, "babi": babi, "algorithmic": algorithmic}


def _recall(name: str, options: RecallOptions, shown: dict[str, Any], **making: Any) -> None:
    """Read all streams of a benchmark with each model in each memory mode, and print what was recalled.

    shown: the benchmark's own options, for --json. making: arguments of the function that makes its trials.
    """
    with Work(options.common) as work:
        from famcli.evaluation.texts import POOL_TOKENS, read_texts

        filler = filler_files(options.filler)
        check_files(filler)
        models = _open_models(work, options.twin, options.plot)
        from famcli.evaluation.recall import RECALL_DEFINITION, TRIALS, CellScore, score_trials, trial_tokens

        trials = TRIALS[name](streams=options.streams, seed=options.seed, **making)
        tokenizer, read, began = models[0].tokenizer, partial(work.progress.advance, 0), time.monotonic()
        total, cells, complete = trial_tokens(trials, tokenizer), list[CellScore](), 0
        work.progress.stage("tokenizing filler")
        texts = read_texts(filler, tokenizer, max_tokens=POOL_TOKENS, on_tokens=read)
        for subject in _subjects(models, options.memory_mode):
            work.progress.stage(f"{name}: {subject.name}, memory {subject.memory_mode}", total_tokens=total)
            scored = score_trials(trials, subject, tokenizer, texts, batch=options.batch, on_tokens=read)
            found = _last(work, scored) or []
            cells += found
            for cell in found:
                work.emit("cell", cell)
            if work.interrupted:
                break
            complete += 1
        values = {"benchmark": name, **shown, "streams": options.streams, "seed": options.seed, "filler": filler}
        values |= {"cells": cells, "tokens": total * complete, "seconds": time.monotonic() - began}
        values["definition"] = RECALL_DEFINITION
        _finish(work, cells, values, options.plot)


def _finish(work: Work, cells: Sequence[CellScore], values: dict[str, Any], plot: Path | None) -> None:
    """Print and draw what was recalled. values: all of the result but whether it is of all there was to read."""
    values["partial"] = work.interrupted
    work.show(values, partial(show_recall, work, cells, values), told="cells")
    if plot is not None and cells:
        from famcli.evaluation.plots import plot_grid, plot_recall

        (plot_grid if values["benchmark"] == "needle" else plot_recall)(cells, plot)
    work.finish()


def _last(work: Work, steps: Iterable[_T]) -> _T | None:
    """The last of `steps`; after Ctrl-C, the last one before it. None if there was none."""
    last = None
    try:
        for last in steps:  # noqa: B007
            pass
    except KeyboardInterrupt:
        work.interrupted = True
    return last


def filler_files(given: list[Path] | None) -> list[Path]:
    """The texts to hide something in: the novel that comes with famcli where none are given. Raises UsageError."""
    from famcli.evaluation.texts import example_book

    files = given or [book for book in [example_book()] if book is not None]
    if not files:
        raise UsageError("this famcli comes without its example novel: give --filler FILE")
    return files


def parse_lengths(text: str) -> list[int]:
    """`4k,1.5M,300` as numbers of tokens. Raises UsageError."""
    found = []
    for word in text.split(","):
        match = _LENGTH.fullmatch(word.strip())
        if match is None:
            raise UsageError(f"'{word.strip()}' is no length: give tokens like 4096, 4k (4,096) or 1M (1,048,576)")
        found.append(round(float(match[1]) * _UNITS[match[2].lower()]))
    return found


def _shares(text: str, option: str) -> list[float]:
    """`0,0.5,1` as shares of a stream. Raises UsageError."""
    try:
        shares = [float(word) for word in text.split(",")]
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share <= 1 for share in shares):
        raise UsageError(f"{option} {text}: give shares of the stream from 0 (its start) to 1 (its end)")
    return shares


def _subjects(models: Sequence[Model], wanted: CompareMode | None) -> list[Subject]:
    from famcli.evaluation.positions import Subject

    return [Subject(model.name, model.network, mode) for model in models for mode in modes_of(model, wanted)]


def modes_of(model: Model, wanted: CompareMode | None) -> tuple[MemoryMode, ...]:
    """The memory modes to read with; a checkpoint without memory rows has one."""
    model.check_memory_mode(wanted)
    mode = (wanted or model.default_memory_mode) if model.sidecar.fam.remembers else "none"
    return ("on", "frozen") if mode == "compare" else (mode,)


def _open_models(work: Work, twin: str | None, plot: Path | None) -> list[Model]:
    """The checkpoint and its twin, if there is one. Raises UsageError where their tokenizers differ.

    plot: a file to draw to, which must have an ending that can be drawn.
    """
    if plot is not None:
        from famcli.evaluation.plots import check_plot

        check_plot(plot)
    models = [work.open_model()]
    if twin is not None:
        # The second one has a bar of its own, which names what is loaded.
        work.progress.close()
        models.append(work.open_model(machine=replace(work.machine, model=twin, adapter=None)))
        if models[0].fingerprints.tokenizer != models[1].fingerprints.tokenizer:
            raise UsageError(f"--twin {twin} has another tokenizer than {models[0].name}: they read other tokens")
    return models


def check_files(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path} is no file; give text files, or .jsonl(.zst) files of documents")
