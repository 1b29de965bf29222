"""What `famcli eval` hands out: scores with all that is needed to read them and to get them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from famcli.evaluation.figures import DocumentFigures
from famcli.evaluation.trials import CellScore

RECALL_DEFINITION = (
    "Sentences stand in filler, between its sentences; after `length` tokens (BOS counted) each question is read on a "
    "fork of the state, up to where its answer begins. right: greedy decoding then writes exactly the answer. blocks: "
    "full blocks read by then, each one update of the memory. Intervals are 95 %: Wilson's, as if questions were "
    "independent; over streams by bootstrap where a stream was asked several questions (Wilson's over them where all "
    "answers agree)."
)
POSITION_DEFINITION = (
    "Each document starts afresh; each token is predicted from all of its document before it, its first from the "
    "begin-of-stream token (not scored without one). bits per byte: -log2 p summed, over UTF-8 bytes of the tokens; by "
    "position: of tokens from one position to the next. Differences are those of another memory mode or checkpoint "
    "minus the first one's, document by document from the stated position on, in bits per byte: above 0 the first one "
    "predicts better. \u00b1: standard error over documents; the interval is 95 %, by bootstrap over documents."
)


@dataclass(frozen=True)
class RecallResult:
    """passkey, needle or babi. options: what was asked for. filler: the files; tokens: read in all, of whole readings
    by one model in one memory mode (questions not counted). partial: interrupted; the last cells are of fewer streams.
    """

    benchmark: str
    options: dict[str, Any]
    filler: tuple[str, ...]
    cells: tuple[CellScore, ...]
    tokens: int
    seconds: float
    partial: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "benchmark": self.benchmark,
            **self.options,
            "filler": list(self.filler),
            "cells": [cell.to_json() for cell in self.cells],
            "tokens": self.tokens,
            "seconds": self.seconds,
            "definition": RECALL_DEFINITION,
            "partial": self.partial,
        }


@dataclass(frozen=True)
class PositionResult:
    """Bits per byte over documents. files: what was read; partial: interrupted before all documents were scored."""

    files: tuple[str, ...]
    figures: DocumentFigures
    seconds: float
    partial: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "benchmark": "ppl",
            "files": list(self.files),
            **self.figures.to_json(),
            "seconds": self.seconds,
            "definition": POSITION_DEFINITION,
            "partial": self.partial,
        }
