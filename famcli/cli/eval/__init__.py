"""`famcli eval`: the benchmarks that a memory is judged by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from famcli.cli.eval.options import (
    ControlOptions,
    LengthsOption,
    StreamOptions,
    check_files,
    modes_of,
    open_models,
    parse_lengths,
    parse_shares,
)
from famcli.cli.options import (
    CommonOptions,
    CompareModeOption,
)
from famcli.cli.work import Work
from famcli.errors import UsageError
from famcli.plain import to_json

if TYPE_CHECKING:
    from famcli.checkpoint.model import Model
    from famcli.evaluation.recall import Trial
    from famcli.evaluation.texts import TokenCorpus

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
    control: ControlOptions,
    common: CommonOptions,
) -> None:
    """Recall a number that stood somewhere in a long text.

    With --depth start one reading serves all lengths, the key first (the form of the TransformerFAM paper).
    """
    tokens = parse_lengths(lengths)
    place: Any = "random" if depth == "random" else 0.0 if depth == "start" else parse_shares(depth, "--depth")[0]
    with Work(common) as work:
        run = _Run(work, "passkey", memory_mode, streams, control)
        from famcli.evaluation.trials import passkey_trials

        trials = passkey_trials(tokens, streams=streams.streams, depth=place, seed=streams.seed, digits=digits)
        run.read(trials, {"depth": depth, "digits": digits})


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
    control: ControlOptions,
    common: CommonOptions,
) -> None:
    """Recall named values by length and depth, as a grid."""
    tokens, places = parse_lengths(lengths), parse_shares(depths, "--depths")
    with Work(common) as work:
        run = _Run(work, "needle", memory_mode, streams, control)
        from famcli.evaluation.trials import needle_trials

        trials = needle_trials(tokens, places, streams=streams.streams, count=needles, seed=streams.seed)
        run.read(trials, {"depths": places, "needles": needles})


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
    control: ControlOptions,
    common: CommonOptions,
) -> None:
    """Keep track of facts scattered over a long text.

    Stories in the manner of bAbI, in filler in the manner of BABILong (0k: no filler), with a world and wordings of
    their own. Every question that a story answers is asked, on forks of one reading; because they are not independent,
    a bootstrap interval over streams stands beside Wilson's.
    """
    tokens, names = parse_lengths(lengths), [name.strip() for name in tasks.split(",")]
    with Work(common) as work:
        run = _Run(work, "babi", memory_mode, streams, control)
        from famcli.evaluation.trials import babi_trials

        trials = babi_trials(names, tokens, streams=streams.streams, count=facts, seed=streams.seed)
        run.read(trials, {"tasks": names, "facts": facts})


def ppl(
    *,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Texts, or .jsonl(.zst) of documents.")],
    max_tokens: Annotated[
        str | None, typer.Option("--max-tokens", metavar="N", help="Score only so many tokens of each document.")
    ] = None,
    memory_mode: CompareModeOption = None,
    control: ControlOptions,
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
        models = open_models(work, control)
        _score_files(work, models, files, limit, memory_mode, control.plot)


def _score_files(
    work: Work,
    models: Sequence[Model],
    files: Sequence[Path],
    max_tokens: int | None,
    memory_mode: Literal["on", "frozen", "none", "compare"] | None,
    plot: Path | None,
) -> None:
    """Score the documents in `files` with each model in each of its memory modes, and print what came of it."""
    from famcli.cli.eval.tables import show_positions
    from famcli.evaluation.plots import plot_positions
    from famcli.evaluation.positions import Subject, document_figures
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
        show_positions(work, files, figures, time.monotonic() - began)
        if plot is not None:
            plot_positions(figures, plot)
    work.finish()


COMMANDS = {"ppl": ppl, "passkey": passkey, "needle": needle, "babi": babi}


class _Run:
    """One run of a recall benchmark: opens what it needs, reads with every model and mode, and shows the result."""

    def __init__(
        self,
        work: Work,
        name: str,
        memory_mode: Literal["on", "frozen", "none", "compare"] | None,
        streams: StreamOptions,
        control: ControlOptions,
    ) -> None:
        from famcli.evaluation.texts import example_book

        self._work, self._name, self._streams, self._plot = work, name, streams, control.plot
        book = example_book()
        self._filler = streams.filler or ([] if book is None else [book])
        if not self._filler:
            raise UsageError("this famcli comes without its example novel: give --filler FILE")
        check_files(self._filler)
        self._models = open_models(work, control)
        self._modes = [modes_of(model, memory_mode) for model in self._models]

    def read(self, trials: Sequence[Trial], options: dict[str, Any]) -> None:
        """Read all streams with each model in each memory mode, then print what was recalled."""
        from famcli.cli.eval.tables import show_cells, show_recall
        from famcli.evaluation.recall import trial_tokens
        from famcli.evaluation.trials import RECALL_DEFINITION, CellScore, score_trials

        work, began = self._work, time.monotonic()
        total = trial_tokens(trials, self._models[0].tokenizer)
        texts = self._texts()
        cells, complete = list[CellScore](), 0
        readings = [(model, mode) for model, modes in zip(self._models, self._modes, strict=True) for mode in modes]
        for model, mode in readings:
            work.progress.stage(f"{self._name}: {model.name}, memory {mode}", total_tokens=total)
            found = list[CellScore]()
            scores = score_trials(
                trials,
                model.name,
                model.network,
                model.tokenizer,
                texts,
                memory_mode=mode,
                batch=self._streams.batch,
                on_tokens=partial(work.progress.advance, 0),
            )
            try:
                for so_far in scores:
                    found = so_far
                complete += 1
            except KeyboardInterrupt:
                work.interrupted = True
            cells += found
            show_cells(work, found)
            if work.interrupted:
                break
        values = {
            "benchmark": self._name,
            **options,
            "streams": self._streams.streams,
            "seed": self._streams.seed,
            "filler": list(map(str, self._filler)),
            "cells": to_json(cells),
            "tokens": total * complete,
            "seconds": time.monotonic() - began,
            "definition": RECALL_DEFINITION,
            "partial": work.interrupted,
        }
        show_recall(work, values, cells)
        if self._plot is not None and cells:
            from famcli.evaluation.plots import plot_grid, plot_recall

            (plot_grid if self._name == "needle" else plot_recall)(cells, self._plot)
        work.finish()

    def _texts(self) -> TokenCorpus:
        from famcli.evaluation.texts import POOL_TOKENS, read_texts

        self._work.progress.stage("tokenizing filler")
        return read_texts(
            self._filler,
            self._models[0].tokenizer,
            max_tokens=POOL_TOKENS,
            on_tokens=partial(self._work.progress.advance, 0),
        )
