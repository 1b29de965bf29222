"""`famcli eval ppl`: bits per byte by position, in memory modes and against a twin."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from famcli.checkpoint.model import Model
from famcli.cli.eval.options import modes_of
from famcli.cli.eval.tables import show_positions
from famcli.cli.work import Work
from famcli.evaluation.figures import Subject, score_subjects
from famcli.evaluation.plots import plot_positions
from famcli.evaluation.results import PositionResult
from famcli.evaluation.texts import read_texts


def score_files(
    work: Work,
    models: Sequence[Model],
    files: Sequence[Path],
    max_tokens: int | None,
    memory_mode: Literal["on", "frozen", "none", "compare"] | None,
    plot: Path | None,
) -> None:
    """Score the documents in `files` with each model in each of its memory modes, and print what came of it."""
    began = time.monotonic()
    work.progress.stage("tokenizing")
    texts = read_texts(
        files,
        models[0].tokenizer,
        max_document_tokens=max_tokens,
        on_tokens=partial(work.progress.advance, 0),
    )
    subjects = [Subject(model.name, model.network, mode) for model in models for mode in modes_of(model, memory_mode)]
    work.progress.stage("scoring", total_tokens=texts.num_tokens * len(subjects))
    scored = None
    try:
        for so_far in score_subjects(
            subjects,
            models[0].tokenizer,
            texts.documents(),
            on_tokens=lambda _, count: work.progress.advance(0, count),
        ):
            scored = so_far
    except KeyboardInterrupt:
        work.interrupted = True
    if scored is not None:
        figures = scored.figures()
        show_positions(
            work, PositionResult(tuple(map(str, files)), figures, time.monotonic() - began, work.interrupted)
        )
        if plot is not None:
            plot_positions(figures, plot)
    work.finish()
