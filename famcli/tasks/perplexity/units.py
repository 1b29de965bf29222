"""One source's tokens, summed up as they come: in all, and by line, block or token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from famcli.documents.source import Piece
from famcli.nn import MemoryMode
from famcli.reading.events import BlockEvent
from famcli.tasks.perplexity.alert import Alert, AlertRule
from famcli.tasks.perplexity.lines import LineCollector
from famcli.tasks.perplexity.scores import Batches, Score, Tally
from famcli.tokens.stream import StreamDecoder
from famcli.tokens.tokenizer import Tokenizer

Per = Literal["line", "block", "token"]


@dataclass(frozen=True)
class UnitScore:
    """An event: one line, block or token of a source was scored.

    index: from 0 within the source. line: at which it begins, from 1; None for a token. span: its source bytes. text:
    of a line, without its line break and at most `lines.MAX_LINE_TEXT` characters (text_is_cut); of a token, the
    characters that it completes; None for a block. scores: one, or in compare mode those of `on` and `frozen`.
    running: the same over the source up to here. alert: what the alert rule found, None if nothing or without it.
    """

    kind: Per
    source: str
    index: int
    line: int | None
    span: tuple[int, int]
    text: str | None
    text_is_cut: bool
    scores: tuple[Score, ...]
    running: tuple[Score, ...]
    alert: Alert | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "kind": self.kind,
            "source": self.source,
            "index": self.index,
            "line": self.line,
            "span": list(self.span),
            "text": self.text,
            "text_is_cut": self.text_is_cut,
            "scores": [score.to_json() for score in self.scores],
            "running": [score.to_json() for score in self.running],
            "alert": None if self.alert is None else self.alert.to_json(),
        }


@dataclass(frozen=True)
class _Tokens:
    """Scored tokens [n]: nll and correct of each memory mode, source bytes that are each token's own, their ends."""

    nll: tuple[NDArray[np.float64], ...]
    correct: tuple[NDArray[np.bool_], ...]
    num_bytes: NDArray[np.int64]
    ends: NDArray[np.int64]

    def part(self, first: int, last: int) -> _Tokens:
        return _Tokens(
            tuple(nll[first:last] for nll in self.nll),
            tuple(correct[first:last] for correct in self.correct),
            self.num_bytes[first:last],
            self.ends[first:last],
        )


class SourceScorer:
    """Sums up one source. `tallies`: one for each memory mode; `differences`: paired over blocks, in compare mode."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        source: str,
        memory_modes: tuple[MemoryMode, ...],
        per: Per | None,
        rule: AlertRule | None,
    ) -> None:
        self.source, self.per = source, per
        self.tallies = tuple(Tally(mode) for mode in memory_modes)
        self.differences = Batches()
        self._modes, self._rule = memory_modes, rule
        self._lines = LineCollector()
        self._decoder = StreamDecoder(tokenizer)
        self._unit = self._new_unit()
        self._num_units = 0
        self._begin: tuple[int, int] | None = None  # of the open block as a unit: its first byte and line
        self._end: int | None = None  # source byte up to which tokens have come

    def see(self, piece: Piece) -> None:
        """A piece of text that will be read: for lines."""
        self._lines.feed(piece.text, piece.char_offsets())

    def add(self, event: BlockEvent) -> Iterator[UnitScore]:
        """Count the tokens of an event; yields the units that are complete with it."""
        tokens = self._tokens_of(event)
        if self.per == "line":
            yield from self._add_lines(tokens)
        elif self.per == "token":
            yield from self._add_each(event, tokens)
        else:
            self._count(tokens)
            self._begin = self._begin or (event.span[0], event.line)
        if event.closed:
            if self.per == "block":
                yield self._block()
            self._close_block()

    def finish(self) -> Iterator[UnitScore]:
        """The source has ended: yields the units that end with it."""
        if self.per == "line":
            self._lines.flush()
            while self._lines.waiting:
                yield self._line()
        elif self.per == "block" and self._begin is not None:
            yield self._block()
        self._close_block()

    # ------------------------------------------------------------------------------------------------ counting

    def _tokens_of(self, event: BlockEvent) -> _Tokens:
        nll, correct = [event.nll, event.nll_frozen], [event.correct, event.correct_frozen]
        # A character's bytes belong to the first of the tokens that share it.
        before = event.span[0] if self._end is None else self._end
        self._end = int(event.token_ends[-1])
        return _Tokens(
            tuple(values.double().numpy() for values in nll if values is not None),
            tuple(values.numpy() for values in correct if values is not None),
            np.diff(event.token_ends, prepend=before),
            event.token_ends,
        )

    def _count(self, tokens: _Tokens) -> None:
        for tally, unit, nll, correct in zip(self.tallies, self._unit, tokens.nll, tokens.correct, strict=True):
            tally.add(nll, correct, tokens.num_bytes)
            unit.add(nll, correct, tokens.num_bytes)

    def _close_block(self) -> None:
        batches = [tally.close_block() for tally in self.tallies]
        if len(batches) > 1:
            self.differences.add(batches[0][0] - batches[1][0], batches[0][1])

    def _new_unit(self) -> tuple[Tally, ...]:
        return tuple(Tally(mode) for mode in self._modes)

    # ------------------------------------------------------------------------------------------------ units

    def _add_lines(self, tokens: _Tokens) -> Iterator[UnitScore]:
        first = 0
        while self._lines.waiting and (line_end := self._lines.waiting[0].end) <= tokens.ends[-1]:
            last = int(np.searchsorted(tokens.ends, line_end, side="right"))
            self._count(tokens.part(first, last))
            first = last
            yield self._line()
        self._count(tokens.part(first, len(tokens.ends)))

    def _line(self) -> UnitScore:
        line = self._lines.waiting.popleft()
        bits = self._unit[0].score().bits_per_byte
        judged = self._rule is not None and bits is not None and bool(line.text.strip())
        alert = self._rule.judge(bits) if judged and self._rule is not None and bits is not None else None
        return self._finish_unit("line", line.number, (line.start, line.end), line.text, line.is_cut, alert)

    def _add_each(self, event: BlockEvent, tokens: _Tokens) -> Iterator[UnitScore]:
        for i, token in enumerate(event.tokens.tolist()):
            self._count(tokens.part(i, i + 1))
            span = (int(event.token_starts[i]), int(event.token_ends[i]))
            yield self._finish_unit("token", None, span, self._decoder.feed(token))

    def _block(self) -> UnitScore:
        assert self._begin is not None
        assert self._end is not None
        start, line = self._begin
        self._begin = None
        return self._finish_unit("block", line, (start, self._end), None)

    def _finish_unit(
        self,
        kind: Per,
        line: int | None,
        span: tuple[int, int],
        text: str | None,
        is_cut: bool = False,
        alert: Alert | None = None,
    ) -> UnitScore:
        scores = tuple(unit.score(with_error=False) for unit in self._unit)
        running = tuple(tally.score() for tally in self.tallies)
        self._unit = self._new_unit()
        self._num_units += 1
        return UnitScore(kind, self.source, self._num_units - 1, line, span, text, is_cut, scores, running, alert)
