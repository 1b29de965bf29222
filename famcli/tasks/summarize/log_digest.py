"""What a log says: its lines grouped by template, the rare kinds and the grave ones first. In bounded memory."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from famcli.documents.source import Location, Piece
from famcli.tasks.summarize.summary_result import LogKind, LogSummary, Quote, SeverityName
from famcli.text.log_lines import GRAVE, MINOR, PLAIN, WILD, WORRYING, LogLine, Template, Templates, continues, log_line

_MAX_LINE = 1 << 16
"""Characters at which a line without an end is cut."""

_NAMES: dict[int, SeverityName] = {GRAVE: "error", WORRYING: "warning", PLAIN: "info", MINOR: "debug"}
# What a severity adds to how rare a kind of line is, from 0 to 1. So small that a line seen once goes before
# an error seen twice.
_BONUS = {GRAVE: 0.05, WORRYING: 0.05, PLAIN: 0.0, MINOR: -0.2}
_RAISED = re.compile(r"(?:[\w.$]+(?:Error|Exception)\b|Caused by:|Traceback )")
_SORTS = re.compile(r"\d{4}-\d\d-\d\d|\d{4}/\d\d/\d\d")
_SHARE_OF_COMMON = 3  # one of so many shown kinds is a common one


# Compared by identity: two kinds may have equal fields.
@dataclass(eq=False)
class _Kind:
    """Lines of one template and severity: how many, the first as a quote, and where and when the last is."""

    template: Template
    severity: int
    first: Quote
    first_time: str | None
    last_line: int = 0
    last_time: str | None = None
    count: int = 0
    before: tuple[int, str | None] = (0, None)  # last line and time, before the last line was counted


_Kinds = dict[tuple[int, int], _Kind]
"""Kinds of lines by their templates and severities."""


class _Counted:
    """A line that was counted among some kinds."""

    def __init__(self, kinds: _Kinds, template: Template, found: LogLine, quote: Quote) -> None:
        self.kinds, self.template, self.found, self.quote = kinds, template, found, quote
        kind = kinds.setdefault((id(template), found.severity), _Kind(template, found.severity, quote, found.time))
        kind.before = kind.last_line, kind.last_time
        kind.count, kind.last_line, kind.last_time = kind.count + 1, quote.line, found.time

    def made_grave(self) -> _Counted:
        """The same line, as what followed shows it: an error."""
        if self.found.severity == GRAVE:
            return self
        kind = self.kinds[id(self.template), self.found.severity]
        kind.count, (kind.last_line, kind.last_time) = kind.count - 1, kind.before
        if not kind.count:
            del self.kinds[id(self.template), self.found.severity]
        return _Counted(self.kinds, self.template, replace(self.found, severity=GRAVE), self.quote)


class LogDigest:
    """Reads logs line by line; records of a converted document (a table, JSON lines) one by one, as a line each.

    focus: a phrase; then only lines with it count, in any case, as `grep -i` finds them, or where no line has the
    phrase, those that have all of its words.
    """

    def __init__(self, focus: str | None = None) -> None:
        self.num_lines = 0
        self._focus = None if focus is None else " ".join(focus.casefold().split())
        self._templates, self._all, self._phrase, self._words = Templates(), _Kinds(), _Kinds(), _Kinds()
        self._source, self._line, self._rest, self._start = "", 1, "", 0
        self._place: Location | None = None  # of the record that `_rest` is of
        self._first_time: str | None = None
        self._last_time: str | None = None
        # How the record that lines may go on with was counted.
        self._last: list[_Counted] = []

    # ------------------------------------------------------------------------------------------------ reading

    def begin_source(self, name: str) -> None:
        self._source, self._line, self._rest, self._start, self._last = name, 1, "", 0, []
        self._place = None

    def feed(self, piece: Piece) -> None:
        if self._place is not None or (piece.locations and piece.locations[0][1].is_of_record):
            self._feed_records(piece)
            return
        offsets = piece.char_offsets()
        text, at = piece.text, 0
        while (end := text.find("\n", at)) >= 0:
            self._take(self._rest + text[at:end], self._start if self._rest else int(offsets[at]), int(offsets[end]))
            self._rest, at = "", end + 1
        if at < len(text):
            self._start = self._start if self._rest else int(offsets[at])
            self._rest += text[at:]
            if len(self._rest) > _MAX_LINE:
                self._take(self._rest, self._start, piece.end)
                self._rest, self._line = "", self._line - 1
            self._end = piece.end

    def _feed_records(self, piece: Piece) -> None:
        offsets = piece.char_offsets()
        starts = np.searchsorted(offsets, [start for start, _ in piece.locations]).tolist()
        self._rest += piece.text[: starts[0] if starts else None]
        for at, end, (start, place) in zip(starts, [*starts[1:], None], piece.locations, strict=True):
            self.end_source()
            self._rest, self._start, self._place = piece.text[at:end], start, place
        self._end = piece.end

    def end_source(self) -> None:
        if self._rest:
            self._take(self._rest, self._start, self._start + len(self._rest.encode()) if self._place else self._end)
            self._rest = ""

    def _take(self, text: str, start: int, end: int) -> None:
        line, self._line = self._line, self._line + 1
        if self._place is not None and self._place.line is not None:
            line = self._place.line
        bare = text.strip().lstrip("\ufeff")
        if not bare:
            return
        self.num_lines += 1
        found = log_line(text if self._place is None else " ".join(text.split()))
        if found is None and continues(text) and self._last:
            if _RAISED.match(bare):
                self._last = [each.made_grave() for each in self._last]
        elif found is None:
            found = LogLine(None, PLAIN, bare)
        # A line is quoted without the white space around it, so that its span is that of its text.
        shift = len(text) - len(text.lstrip())
        span = (start + shift, end - (len(text) - shift - len(bare)))
        quote = Quote(self._source, line, None, span, bare, 0.0, location=self._place)
        if found is not None:
            if found.time is not None:
                self._first_time = _earlier(self._first_time, found.time)
                self._last_time = found.time if self._last_time is None else _later(self._last_time, found.time)
            template = self._templates.add(found.message)
            self._last = [_Counted(self._all, template, found, quote)]
        else:
            template = self._last[0].template
            found = replace(self._last[0].found, message=bare)
        self._look(bare, template, found, quote)

    def _look(self, text: str, template: Template, found: LogLine, quote: Quote) -> None:
        """Count a line that is about the focus."""
        if self._focus is None:
            return
        folded = text.casefold()
        if self._focus in folded:
            self._last.append(_Counted(self._phrase, template, found, quote))
        elif all(word in folded for word in self._focus.split()):
            self._last.append(_Counted(self._words, template, found, quote))

    # ------------------------------------------------------------------------------------------------ choosing

    @property
    def misses_focus(self) -> bool:
        """True if no line is about the focus."""
        return self._focus is not None and self._focused is None

    @property
    def _focused(self) -> _Kinds | None:
        return self._phrase or self._words or None

    def summary(self, count: int, number: int = 0) -> tuple[LogSummary, tuple[Quote, ...]]:
        """At most `count` kinds of lines, the rare and grave ones first and then common ones, and their first lines.

        With a focus, those that are about it. number: of quotes before these in the result.
        """
        kinds = self._focused or self._all
        scores = self._scores(kinds)
        ranked = sorted(scores, key=lambda kind: (-scores[kind], kind.first.line))
        count = min(count, len(ranked))
        common = sorted(ranked, key=lambda kind: -kind.count)[: count // _SHARE_OF_COMMON]
        others = [kind for kind in ranked if kind not in common]
        # In turns: a program that fails in many ways must not hide the one line that is like no other.
        grave, plain = ([kind for kind in others if (kind.severity == GRAVE) == is_grave] for is_grave in (True, False))
        in_turns = [kind for pair in zip_longest(grave, plain) for kind in pair if kind is not None]
        notable = in_turns[: count - len(common)]
        severities = Counter[int]()
        for kind in self._all.values():
            severities[kind.severity] += kind.count
        shown = enumerate(notable + common, start=number)
        quotes = tuple(replace(kind.first, score=scores[kind]) for kind in notable + common)
        focused = None if self._focused is None else sum(kind.count for kind in kinds.values())
        summary = LogSummary(
            num_lines=self.num_lines,
            first_time=self._first_time,
            last_time=self._last_time,
            num_kinds=len(self._all),
            num_errors=severities[GRAVE],
            num_warnings=severities[WORRYING],
            num_focus_lines=focused,
            num_focus_kinds=len(kinds),
            kinds=tuple(_result(kind, kind in common, sentence) for sentence, kind in shown),
        )
        return summary, quotes

    def _scores(self, kinds: _Kinds) -> dict[_Kind, float]:
        """How much each kind matters: how rare it and its words are (0 to 1), and more for what is grave."""
        frequency = Counter[str]()
        for kind in self._all.values():
            for word in set(kind.template.words):
                frequency[word] += kind.count
        total = math.log2(self.num_lines + 1)

        def rarity(count: int) -> float:
            return math.log2((self.num_lines + 1) / max(1, count)) / total

        def score(kind: _Kind) -> float:
            novelty = max((rarity(frequency[word]) for word in kind.template.words if word != WILD), default=0.0)
            return (rarity(kind.count) + novelty) / 2 + _BONUS[kind.severity]

        return {kind: score(kind) for kind in kinds.values()}


def _earlier(first: str | None, time: str) -> str:
    """The first time of a log. Lines of merged logs are in no order, which shows where the year comes first."""
    return time if first is None or (_SORTS.match(first) and _SORTS.match(time) and time < first) else first


def _later(last: str, time: str) -> str:
    return last if _SORTS.match(last) and _SORTS.match(time) and last > time else time


def _result(kind: _Kind, is_common: bool, sentence: int) -> LogKind:
    times = kind.first_time, kind.last_time
    return LogKind(kind.template.text, kind.count, _NAMES[kind.severity], kind.last_line, *times, is_common, sentence)
