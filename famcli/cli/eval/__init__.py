"""`famcli eval`: the benchmarks that a memory is judged by."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from famcli.cli.eval.options import (
    LengthsOption,
    PlotOption,
    StreamOptions,
    TwinOption,
    check_files,
    modes_of,
    open_models,
    parse_lengths,
    parse_shares,
)
from famcli.cli.options import CommonOptions, CompareMode, CompareModeOption
from famcli.cli.work import Work
from famcli.errors import UsageError
from famcli.plain import to_json

if TYPE_CHECKING:
    from famcli.checkpoint.model import Model
    from famcli.evaluation.recall import CellScore, Trial
    from famcli.evaluation.texts import TokenCorpus
    from famcli.nn import MemoryMode
    from famcli.tokens import Tokenizer

HELP = """Judge a checkpoint: ppl, passkey, needle, babi.

passkey, needle and babi hide sentences in real text of any length, which streams through the network and is never held,
and ask for them at the end, on forks of one reading; an answer is right if greedy decoding writes exactly it. Lengths
are tokens read before the question: 4k is 4,096, 1M is 1,048,576. The same seed gives the same streams to every model
and memory mode. --twin reads them with a second checkpoint of the same tokenizer, a control trained without memory.
"""


def passkey(
    *,
    lengths: LengthsOption = "4k,16k,64k",
    depth: Annotated[
        str,
        typer.Option("--depth", metavar="D", help="Where the key is: random, start, or a share of the stream (0.25)."),
    ] = "random",
    digits: Annotated[int, typer.Option("--digits", min=1, max=20, help="Digits of the key.")] = 5,
    memory_mode: CompareModeOption = None,
    streams: StreamOptions,
    twin: TwinOption = None,
    plot: PlotOption = None,
    common: CommonOptions,
) -> None:
    """Recall a number that stood somewhere in a long text.

    With --depth start one reading serves all lengths, the key first (the form of the TransformerFAM paper).
    """
    tokens = parse_lengths(lengths)
    place: Any = "random" if depth == "random" else 0.0 if depth == "start" else parse_shares(depth, "--depth")[0]

    def trials() -> Sequence[Trial]:
        from famcli.evaluation.recall import passkey_trials

        return passkey_trials(tokens, streams=streams.streams, depth=place, seed=streams.seed, digits=digits)

    _recall("passkey", trials, {"depth": depth, "digits": digits}, memory_mode, streams, twin, plot, common)


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
    memory_mode: CompareModeOption = None,
    streams: StreamOptions,
    twin: TwinOption = None,
    plot: PlotOption = None,
    common: CommonOptions,
) -> None:
    """Recall named values by length and depth, as a grid."""
    tokens, places = parse_lengths(lengths), parse_shares(depths, "--depths")

    def trials() -> Sequence[Trial]:
        from famcli.evaluation.recall import needle_trials

        return needle_trials(tokens, places, streams=streams.streams, count=needles, seed=streams.seed)

    _recall("needle", trials, {"depths": places, "needles": needles}, memory_mode, streams, twin, plot, common)


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
    memory_mode: CompareModeOption = None,
    streams: StreamOptions,
    twin: TwinOption = None,
    plot: PlotOption = None,
    common: CommonOptions,
) -> None:
    """Keep track of facts scattered over a long text.

    Stories in the manner of bAbI, in filler in the manner of BABILong (0k: no filler), with a world and wordings of
    their own. Every question that a story answers is asked, on forks of one reading; because they are not independent,
    a bootstrap interval over streams stands beside Wilson's.
    """
    tokens, names = parse_lengths(lengths), [name.strip() for name in tasks.split(",")]

    def trials() -> Sequence[Trial]:
        from famcli.evaluation.recall import babi_trials

        return babi_trials(names, tokens, streams=streams.streams, count=facts, seed=streams.seed)

    _recall("babi", trials, {"tasks": names, "facts": facts}, memory_mode, streams, twin, plot, common)


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
        models = open_models(work, twin, plot)
        _score_files(work, models, files, limit, memory_mode, plot)


def _score_files(
    work: Work,
    models: Sequence[Model],
    files: Sequence[Path],
    max_tokens: int | None,
    memory_mode: CompareMode | None,
    plot: Path | None,
) -> None:
    """Score the documents in `files` with each model in each of its memory modes, and print what came of it."""
    from famcli.cli.eval.tables import show_positions
    from famcli.evaluation.plots import plot_positions
    from famcli.evaluation.positions import POSITION_DEFINITION, Subject, document_figures
    from famcli.evaluation.texts import read_texts

    began = time.monotonic()
    work.progress.stage("tokenizing")
    tokenizer, read = models[0].tokenizer, partial(work.progress.advance, 0)
    texts = read_texts(files, tokenizer, max_document_tokens=max_tokens, on_tokens=read)
    subjects = [Subject(model.name, model.network, mode) for model in models for mode in modes_of(model, memory_mode)]
    work.progress.stage("scoring", total_tokens=texts.num_tokens * len(subjects))
    figures = None
    try:
        for so_far in document_figures(subjects, tokenizer, texts.documents(), on_tokens=lambda _, count: read(count)):
            figures = so_far
    except KeyboardInterrupt:
        work.interrupted = True
    if figures is not None:
        shown, seconds = figures, time.monotonic() - began
        values = {"benchmark": "ppl", "files": files, **to_json(figures), "seconds": seconds}
        values |= {"definition": POSITION_DEFINITION, "partial": work.interrupted}
        work.show(values, lambda: show_positions(work, shown, seconds))
        if plot is not None:
            plot_positions(figures, plot)
    work.finish()


COMMANDS = {"ppl": ppl, "passkey": passkey, "needle": needle, "babi": babi}


def _recall(
    name: str,
    make_trials: Callable[[], Sequence[Trial]],
    options: dict[str, Any],
    memory_mode: CompareMode | None,
    streams: StreamOptions,
    twin: str | None,
    plot: Path | None,
    common: CommonOptions,
) -> None:
    """Read all streams of a benchmark with each model in each memory mode, and print what was recalled.

    make_trials: called once the checkpoints are open. options: those of this benchmark, for --json.
    """
    with Work(common) as work:
        filler = _filler(streams)
        models = open_models(work, twin, plot)
        from famcli.cli.eval.tables import show_recall
        from famcli.evaluation.recall import RECALL_DEFINITION, CellScore, trial_tokens

        trials, tokenizer, began = make_trials(), models[0].tokenizer, time.monotonic()
        total = trial_tokens(trials, tokenizer)
        texts = _tokenized(work, filler, tokenizer)
        cells, complete = list[CellScore](), 0
        for model, mode in [(each, mode) for each in models for mode in modes_of(each, memory_mode)]:
            work.progress.stage(f"{name}: {model.name}, memory {mode}", total_tokens=total)
            found = _scores(work, model, mode, trials, texts, streams.batch)
            cells += found
            for cell in found:
                work.emit("cell", cell)
            if work.interrupted:
                break
            complete += 1
        values = {
            "benchmark": name,
            **options,
            "streams": streams.streams,
            "seed": streams.seed,
            "filler": filler,
            "cells": cells,
            "tokens": total * complete,
            "seconds": time.monotonic() - began,
            "definition": RECALL_DEFINITION,
            "partial": work.interrupted,
        }
        work.show(values, lambda: show_recall(work, values, cells), told="cells")
        if plot is not None and cells:
            from famcli.evaluation.plots import plot_grid, plot_recall

            (plot_grid if name == "needle" else plot_recall)(cells, plot)
        work.finish()


def _scores(
    work: Work, model: Model, mode: MemoryMode, trials: Sequence[Trial], texts: TokenCorpus, batch: int
) -> Sequence[CellScore]:
    """What one model in one memory mode recalled; after Ctrl-C that of the streams which were read to their end."""
    from famcli.evaluation.recall import score_trials

    read = partial(work.progress.advance, 0)
    found: Sequence[CellScore] = []
    try:
        for so_far in score_trials(
            trials, model.name, model.network, model.tokenizer, texts, memory_mode=mode, batch=batch, on_tokens=read
        ):
            found = so_far
    except KeyboardInterrupt:
        work.interrupted = True
    return found


def _filler(streams: StreamOptions) -> list[Path]:
    """The texts to hide sentences in. Raises UsageError where there is none."""
    from famcli.evaluation.texts import example_book

    book = example_book()
    filler = streams.filler or ([] if book is None else [book])
    if not filler:
        raise UsageError("this famcli comes without its example novel: give --filler FILE")
    check_files(filler)
    return filler


def _tokenized(work: Work, filler: Sequence[Path], tokenizer: Tokenizer) -> TokenCorpus:
    from famcli.evaluation.texts import POOL_TOKENS, read_texts

    work.progress.stage("tokenizing filler")
    read = partial(work.progress.advance, 0)
    return read_texts(filler, tokenizer, max_tokens=POOL_TOKENS, on_tokens=read)
