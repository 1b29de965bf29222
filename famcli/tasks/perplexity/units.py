"""The scores of one source as its tokens come, in all and by line, block or token, and the lines that stand out."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from famcli.errors import UsageError
from famcli.nn import MemoryMode
from famcli.reading.events import BlockEvent, Event, Span, TextEvent
from famcli.tasks.perplexity.scores import Score, Tally
from famcli.text.log_lines import Templates, log_line
from famcli.tokens.stream import StreamDecoder
from famcli.tokens.tokenizer import Tokenizer

Per = Literal["line", "block", "token"]
MAX_LINE_TEXT = 4096
"""Characters of a line's text that are kept to be shown."""

_LINE = re.compile(r"[^\n]*\n|[^\n]+")

# Of n tokens: nll and correct [mode, n], and the source bytes that are each token's own [n].
_Tokens = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]


# The alert rule.
WINDOW = 1000
MIN_LINES = 30
MIN_DEVIATION = 0.01
LEARNED_LINES = 1000
# Makes the median absolute deviation of a normal distribution its standard deviation.
_NORMAL = 1.4826


@dataclass(frozen=True)
class Alert:
    """A line that stands out: its bits per byte, the median and the limit of the lines before it, and whether it stands
    out as a kind of line that a log did not have before (else by its bits, which are above the limit)."""

    bits_per_byte: float
    median: float
    limit: float
    is_new_kind: bool


class AlertRule:
    """Alerts on lines that stand out from those before them.

    In a log, once 1,000 of its lines have shown what is usual: lines whose template came with none of them
    (`famcli.text.log_lines`). In other text: lines whose bits per byte exceed median + factor x 1.4826 x MAD of the
    last 1,000 lines, from the 31st line on. MAD is the median absolute deviation, taken as at least 0.01 bits per byte
    so that equal lines do not alert on rounding. The caller leaves blank lines out. num_alerts: alerts so far.
    """

    def __init__(self, factor: float) -> None:
        if not 0 < factor < float("inf"):
            raise UsageError(f"alert is {factor:g}, it must be a positive number of deviations")
        self.factor = factor
        self.num_alerts = 0
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._templates, self._num_log_lines = Templates(), 0

    def judge(self, bits_per_byte: float, text: str) -> Alert | None:
        """An alert if the next line stands out from those before it; the line is remembered either way."""
        is_new_kind, alert = self._is_new_kind(text), None
        # The line itself is left out of its own median, so that a burst of odd lines is seen from the first on.
        if len(self._recent) >= MIN_LINES:
            recent = np.fromiter(self._recent, np.float64, len(self._recent))
            median = float(np.median(recent))
            deviation = max(float(np.median(np.abs(recent - median))), MIN_DEVIATION)
            limit = median + self.factor * _NORMAL * deviation
            if bits_per_byte > limit if is_new_kind is None else is_new_kind:
                alert = Alert(bits_per_byte, median, limit, bool(is_new_kind))
                self.num_alerts += 1
        self._recent.append(bits_per_byte)
        return alert

    def _is_new_kind(self, text: str) -> bool | None:
        """Whether a line of a log is the first of its template, once that says something; None for other lines."""
        line = log_line(text)
        if line is None or line.is_weak:
            return None
        self._num_log_lines += 1
        is_first = self._templates.add(line.message).count == 1
        return is_first and self._num_log_lines > LEARNED_LINES


@dataclass(frozen=True)
class UnitScore:
    """An event: one line, block or token of a source was scored.

    index: from 0 within the source. line: at which it begins, from 1; None for a token. span: its source bytes. text:
    of a line, without its line break and at most `MAX_LINE_TEXT` characters (text_is_cut); of a token, the
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


class LineCollector:
    """Turns pieces of text into lines as their newlines come.

    waiting: complete lines that nobody took yet: their source bytes, line break included; their text without the line
    break, at most `MAX_LINE_TEXT` characters; and whether it was cut.
    """

    def __init__(self) -> None:
        self.waiting: deque[tuple[Span, str, bool]] = deque()
        self._start: int | None = None
        self._end = 0
        self._text = ""
        self._length = 0

    def feed(self, text: str, offsets: NDArray[np.int64]) -> None:
        """Add text. offsets: the source byte of each character and of the end [n + 1]."""
        for match in _LINE.finditer(text):
            if self._start is None:
                self._start = int(offsets[match.start()])
            # A line may be as long as the file; only its beginning is kept.
            room = MAX_LINE_TEXT - len(self._text)
            self._text += match[0].rstrip("\r\n")[:room] if match[0].endswith("\n") else match[0][:room]
            self._length += len(match[0])
            self._end = int(offsets[match.end()])
            if match[0].endswith("\n"):
                self.flush()

    def flush(self) -> None:
        if self._start is not None:
            is_cut = self._length > MAX_LINE_TEXT + 2
            self.waiting.append(((self._start, self._end), self._text.removesuffix("\r"), is_cut))
        self._start, self._text, self._length = None, "", 0


class SourceScorer:
    """Sums up the scores of one source in `tally`, and reports its units."""

    def __init__(
        self, tokenizer: Tokenizer, source: str, modes: tuple[MemoryMode, ...], per: Per | None, rule: AlertRule | None
    ) -> None:
        self.source, self.per = source, per
        self.tally, self._unit = Tally(modes), Tally(modes)
        self._rule, self._num_units = rule, 0
        self._lines, self._decoder = LineCollector(), StreamDecoder(tokenizer)
        self._block_start: tuple[int, int] | None = None  # first byte and line of the open block
        self._end: int | None = None  # source byte up to which tokens have come

    def add(self, event: Event) -> Iterator[UnitScore]:
        """Count the tokens of an event; yields the units that are complete with it."""
        if isinstance(event, TextEvent) and self.per == "line":
            self._lines.feed(event.piece.text, event.piece.char_offsets())
        if not isinstance(event, BlockEvent):
            return
        tokens = self._tokens_of(event)
        if self.per == "line":
            yield from self._add_lines(tokens, event.token_ends)
        elif self.per == "token":
            yield from self._add_each(event, tokens)
        else:
            self._count(tokens)
            self._block_start = self._block_start or (event.span[0], event.line)
        if event.closed:
            if self.per == "block":
                yield self._block()
            self.tally.close_block()

    def finish(self) -> Iterator[UnitScore]:
        """The source has ended: yields the units that end with it."""
        if self.per == "line":
            self._lines.flush()
            while self._lines.waiting:
                yield self._line()
        elif self.per == "block" and self._block_start is not None:
            yield self._block()
        self.tally.close_block()

    def _tokens_of(self, event: BlockEvent) -> _Tokens:
        nll = [each.double().numpy() for each in (event.nll, event.nll_frozen) if each is not None]
        correct = [each.numpy() for each in (event.correct, event.correct_frozen) if each is not None]
        # A character's bytes belong to the first of the tokens that share it.
        before = event.span[0] if self._end is None else self._end
        self._end = int(event.token_ends[-1])
        return np.stack(nll), np.stack(correct), np.diff(event.token_ends, prepend=before)

    def _count(self, tokens: _Tokens, first: int = 0, last: int | None = None) -> None:
        nll, correct, num_bytes = tokens
        for tally in (self.tally, self._unit):
            tally.add(nll[:, first:last], correct[:, first:last], num_bytes[first:last])

    # ------------------------------------------------------------------------------------------------ units

    def _add_lines(self, tokens: _Tokens, ends: NDArray[np.int64]) -> Iterator[UnitScore]:
        first = 0
        while self._lines.waiting and (line_end := self._lines.waiting[0][0][1]) <= ends[-1]:
            last = int(np.searchsorted(ends, line_end, side="right"))
            self._count(tokens, first, last)
            first = last
            yield self._line()
        self._count(tokens, first)

    def _line(self) -> UnitScore:
        span, text, is_cut = self._lines.waiting.popleft()
        bits, alert = self._unit.scores(with_error=False)[0].bits_per_byte, None
        if self._rule is not None and bits is not None and text.strip():
            alert = self._rule.judge(bits, text)
        return self._unit_score(self._num_units + 1, span, text, is_cut, alert)

    def _add_each(self, event: BlockEvent, tokens: _Tokens) -> Iterator[UnitScore]:
        for i, token in enumerate(event.tokens.tolist()):
            self._count(tokens, i, i + 1)
            span = (int(event.token_starts[i]), int(event.token_ends[i]))
            yield self._unit_score(None, span, self._decoder.feed(token))

    def _block(self) -> UnitScore:
        assert self._block_start is not None
        assert self._end is not None
        start, line = self._block_start
        self._block_start = None
        return self._unit_score(line, (start, self._end), None)

    def _unit_score(
        self, line: int | None, span: Span, text: str | None, is_cut: bool = False, alert: Alert | None = None
    ) -> UnitScore:
        assert self.per is not None
        scores, running = self._unit.scores(with_error=False), self.tally.scores()
        self._unit = Tally(self.tally.memory_modes)
        self._num_units += 1
        return UnitScore(self.per, self.source, self._num_units - 1, line, span, text, is_cut, scores, running, alert)
