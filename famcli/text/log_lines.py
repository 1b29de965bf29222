"""Lines of logs: when they were written, how grave they are, what they say; and the templates that they share.

The grouping is that of Drain (He et al. 2017) with a flat table in place of its tree. On the 16 logs of loghub it
groups as well as drain3 does, without that library's dependencies (docs/decisions.md, 2026-11-28).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

GRAVE, WORRYING, PLAIN, MINOR = 3, 2, 1, 0
"""Severities: errors, warnings and failures, what is usual, and what only serves debugging."""

WILD = "*"
"""In a template: any words that hold a digit, or that differ from line to line."""

MAX_TEMPLATES = 4096
"""A log with more kinds of lines than this has the later ones counted as one, so memory stays bounded."""

_MAX_WORDS = 60  # words of a line that are compared
_ALIKE = 0.4  # share of the words that lines of one template have in common
_HEAD = 100  # characters in which the time and the level are looked for
_HEADER_WORDS = 6  # a level behind more words than this is part of the message
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,:]\d+)?"
_DATED = re.compile(
    rf"""\d{{4}}[-/.]\d\d[-/.]\d\d[T\ _-]+\d\d[:.]\d\d[:.]\d\d(?:[.,]\d+)?(?:[ ]?(?:Z|UTC|[+-]\d\d:?\d\d))?\b
      | \d{{8}}[-T]\d{{1,2}}:\d{{1,2}}:\d{{1,2}}(?:[.:]\d+)?
      | (?:[A-Z][a-z]{{2}}\ )?[A-Z][a-z]{{2}}\ +\d{{1,2}}\ (?:\d{{4}}\ )?{_CLOCK}(?:\ \d{{4}})?
      | \d{{1,2}}/[A-Z][a-z]{{2}}/\d{{4}}:{_CLOCK}(?:\ [+-]\d{{4}})?
      | \d\d[-/.]\d\d(?:[-/.]\d\d(?:\d\d)?)?,?\ {_CLOCK}
      | (?<!\d)\d{{6}}\ \d{{6}}(?=\ \d)
      | \b[IWEF]\d{{4}}\ {_CLOCK}
      | ^\[\ *\d+\.\d{{6}}\]
      | (?<![\d.])1\d{{9}}(?:\.\d+)?(?![\d.]*\d)""",
    re.VERBOSE,
)
_EPOCH = re.compile(r"1\d{9}(?:\.\d+)?")
_LONGEST_SPAN = 10 * 365 * 24 * 3600  # seconds between the first lines of a log
_IN_ORDER = 0.9  # share of a log's lines that are not out of order
_CLOCK_ALONE = re.compile(rf"^\W?{_CLOCK}\b")
_SEVERITIES = (
    (GRAVE, "EMERG(?:ENCY)?|PANIC|ALERT|FATAL|CRIT(?:ICAL)?|SEVERE|ERR(?:OR)?"),
    (WORRYING, "WARN(?:ING)?"),
    (PLAIN, "NOTICE|INFO(?:RMATION)?|LOG|STATUS|AUDIT"),
    (MINOR, "DEBUG|TRACE|VERBOSE|FINE(?:ST|R)?"),
)
_LEVEL_WORDS = "|".join(words for _, words in _SEVERITIES)
_LEVEL = re.compile(
    rf"(?<![\w.-])(?:(?P<own>{_LEVEL_WORDS})(?![\w.=-])|[\[<(](?:\w+:)?(?P<boxed>(?i:{_LEVEL_WORDS}))[\]>)]"
    rf"|(?:level=)?(?P<apart>(?i:{_LEVEL_WORDS}))(?=:|,|[ ]{{2}}|\t|[ ][-|]))"
)
_LEVEL_ALONE = re.compile(rf"\W?(?:{_LEVEL_WORDS}|(?i:{_LEVEL_WORDS})(?=[:\])>]))(?!\w)")
_LEVEL_FIELD = re.compile(rf"\b(?:level|lvl|severity)\W{{1,4}}(?P<own>{_LEVEL_WORDS})\b", re.IGNORECASE)
_LETTER_LEVEL = re.compile(r"\s*(?:\d+\s+){1,2}(?P<own>[VDIWEFA])\s")  # Android's
_OF_LETTER = {"V": MINOR, "D": MINOR, "I": PLAIN, "W": WORRYING, "E": GRAVE, "F": GRAVE, "A": GRAVE}
# Not as a part of a longer name, as of a package or of a file.
_BEGINS, _ENDS = r"(?<![\w/])(?<!\w-)(?:", r")(?!\w|[-./]\w)"
_GRAVE_WORDS = re.compile(
    rf"{_BEGINS}error|fatal|panic|critical|exception|traceback|segfault|segmentation fault|core dumped|out of memory|"
    rf"oom|corrupt\w*|killed|crash\w*|break-in{_ENDS}",
    re.IGNORECASE,
)
_WORRYING_WORDS = re.compile(
    rf"{_BEGINS}warn\w*|fail\w*|denied|refused|reject\w*|time[sd]?[ -]?out|unreachable|unable|cannot|could not|lost|"
    rf"abort\w*|invalid|illegal|missing|not found|retry\w*|expired{_ENDS}",
    re.IGNORECASE,
)
# What a server answered to a request: 5.. is an error of its own, 4.. one of the request.
_ANSWERED = re.compile(r"\"[A-Z]{3,10} [^\"]*\" (?P<status>[1-5])\d\d(?: |$)")
# What comes between time and message: a host and a process, threads and requests in brackets, numbers, a class.
_HOST = re.compile(r"\s*[\w.@/-]+\s+[^\s:\[]+(?:\[[\w.-]*\])?:\s+(?=\S)")
_HEADER = re.compile(
    r"""\s+|[-|,:*]+(?=\s)|[\[(<][^\])>]{0,80}[\])>](?:/\S+)?:?(?=\s|$)|\d[\w.:-]*(?=[\s|])|\|
      | [A-Za-z_][\w$-]*(?:\.[\w$-]+)+(?:\[[\w.-]*\])?:?(?=\s)|[A-Za-z_][\w$/.-]*\[[\w.-]*\]:?(?=\s)
      | [A-Za-z_][\w$-]*:(?=\s)|[\w./-]+:\d+\](?=\s)|[A-Za-z_]\w*(?=\|\d)""",
    re.VERBOSE,
)
_CHAT = re.compile(
    r"[\s\]),-]*(?:<[^>\s]{1,30}>|\+?\d[\d ()-]{6,}:|[A-Z][\w.'\u2019-]*(?: [A-Z\d][\w.'\u2019-]*){0,2}:) "
)
_CONTINUES = re.compile(r"\s|at \S+\(|Caused by:|Traceback |\.\.\. \d+ more|[\w.]+(?:Error|Exception)\b|[{}\])]")
# A name with what it belongs to, as of a package and its architecture or of a host and its port, is one word, which
# changes from line to line as figures do: `libc-bin:amd64`, `example.org:443`.
_COMPOUND = (
    r"(?:(?=[\w+~]*[.+~-])[\w.+~-]*\w:(?=\w)[\w.+~:-]+|\w+:(?=[^\W\d]+\d)\w+|[\w+~]*\d\w*:\w[\w.+~:-]*)(?=[\s,;)\]]|$)"
)
_WORD = re.compile(rf"{_COMPOUND}|[^\s=|,:;()\[\]{{}}\"'<>]+")
_IS_WILD = re.compile(r"\d|.:")
_BEGUN = re.compile(r"\(?[^\W\d_][\w-]*(?=[:\s])")
_JOURNAL, _OFTEN = 16, 3  # lines, and times that one of them begins alike, at least
_HAS_WORD = re.compile(r"[^\W\d_]{3}")  # a table of figures has none


@dataclass(frozen=True)
class LogLine:
    """time: as it is written, None without one. severity: by its level, else by its words. message: what comes after
    time, host, process and level. is_weak: only its time of day says that it is a line of a log."""

    time: str | None
    severity: int
    message: str
    is_weak: bool = False


def log_line(text: str) -> LogLine | None:
    """What a line of a log says; None for a line that does not look like one (a continuation, or other text)."""
    head, end, time = text[:_HEAD], 0, None
    for match in _DATED.finditer(head):
        # Some logs have several times before the message; what comes later is part of it.
        if time is not None and len(head[end : match.start()].split()) > 3:
            break
        time, end = match[0].strip("[] "), match.end()
    is_weak = False
    if time is None and (clock := _CLOCK_ALONE.match(head)) is not None:
        time, end, is_weak = clock[0].strip("[(< "), clock.end(), True
    rest = text[end:].lstrip("]>) \t") if end else text
    level, message = _level(rest)
    if time is None and (level is None or not _LEVEL_ALONE.match(text)):
        return None
    if time is not None and time[0] in "IWEF" and time[1:2].isdigit():
        level = _OF_LETTER[time[0]]
    return LogLine(time, _severity(level, message), _message(message), is_weak and level is None)


def is_log(lines: Sequence[str]) -> bool:
    """True if most of the lines, of which there are at least five, are a log's. Chats are none, unless they repeat
    themselves as only programs do."""
    full = [line for line in lines if line.strip()]
    own = [line for line in full if not _CONTINUES.match(line) or _DATED.match(line)]
    parsed = [(line, found) for line in own if (found := log_line(line)) is not None]
    if not _are_times([float(found.time) for _, found in parsed if found.time and _EPOCH.fullmatch(found.time)]):
        parsed = [(line, found) for line, found in parsed if not found.time or not _EPOCH.fullmatch(found.time)]
    worded = [found for _, found in parsed if _HAS_WORD.search(found.message)]
    if len(worded) < 5 or 2 * len(worded) < len(own) or 8 * len(worded) < len(full):
        return _is_journal(full)
    doubtful = sum(found.is_weak or _is_chat(line) for line, found in parsed)
    if 2 * doubtful < len(parsed):
        return True
    templates = Templates()
    for found in worded:
        templates.add(found.message)
    return 3 * len(templates.all) < len(worded)


def _are_times(numbers: Sequence[float]) -> bool:
    """True for numbers that may be the times of a log in seconds: near each other, and in order, either way."""
    if not numbers or max(numbers) - min(numbers) > _LONGEST_SPAN:
        return False
    pairs = [*pairwise(numbers)]
    up, down = sum(one <= two for one, two in pairs), sum(one >= two for one, two in pairs)
    return max(up, down) >= _IN_ORDER * len(pairs)


def _is_journal(lines: Sequence[str]) -> bool:
    """True for what a program wrote of what it did, with the time above or below several lines as apt does it: most
    lines begin with one of few words, and some that begin alike have a date."""
    first = [begun[0] for line in lines if (begun := _BEGUN.match(line)) is not None]
    dated = Counter(begun[0] for line in lines if _DATED.search(line[:_HEAD]) and (begun := _BEGUN.match(line)))
    often = Counter(first)
    repeated = sum(count for count in often.values() if count >= _OFTEN)
    if len(lines) < _JOURNAL or 4 * repeated < 3 * len(lines) or len(often) * _OFTEN > len(lines):
        return False
    return max(dated.values(), default=0) >= _OFTEN


def continues(line: str) -> bool:
    """True if a line goes on with the one before it: part of a stack trace, or of a message of several lines."""
    return _CONTINUES.match(line) is not None


def _is_chat(line: str) -> bool:
    time = _DATED.search(line[:_HEAD]) or _CLOCK_ALONE.search(line)
    return time is not None and _CHAT.match(line, time.end()) is not None and _level(line[time.end() :])[0] is None


def _level(rest: str) -> tuple[int | None, str]:
    """The severity that a line's level says, None without a level, and the text after it."""
    if (letter := _LETTER_LEVEL.match(rest)) is not None:
        return _OF_LETTER[letter["own"]], rest[letter.end() :]
    if (found := _LEVEL.search(rest, 0, _HEAD)) is not None and len(rest[: found.start()].split()) < _HEADER_WORDS:
        return _value(found), rest[found.end() :].lstrip("]>):,")
    # "level=error" may stand anywhere.
    field = _LEVEL_FIELD.search(rest)
    return (None if field is None else _value(field)), rest


def _value(level: re.Match[str]) -> int:
    word = next(word for word in level.groups() if word).upper()
    return next(value for value, words in _SEVERITIES if re.fullmatch(words, word))


def _severity(level: int | None, text: str) -> int:
    if level is None and (answered := _ANSWERED.search(text)) is not None:
        return {"5": GRAVE, "4": WORRYING}.get(answered["status"], PLAIN)
    by_words = GRAVE if _GRAVE_WORDS.search(text) else WORRYING if _WORRYING_WORDS.search(text) else PLAIN
    if level is None:
        return by_words
    # Many programs say that something failed on the level of what is usual.
    return max(level, WORRYING) if by_words > PLAIN and level in (PLAIN, WORRYING) else level


def _message(rest: str) -> str:
    """`rest` without the host, the process and the like before the message."""
    at, host = 0, _HOST.match(rest)
    if host is not None:
        at = host.end()
    # A header without anything after it is the message.
    while (piece := _HEADER.match(rest, at)) is not None and _HAS_WORD.search(rest, piece.end()):
        at = piece.end()
    return rest[at:].strip()


@dataclass(eq=False)
class Template:
    """What lines of one kind have in common. words: `WILD` where they differ. count: lines."""

    words: list[str]
    count: int = 0

    @property
    def text(self) -> str:
        """The words, with one `WILD` for each run of them."""
        return " ".join(word for word, _ in groupby(self.words))


@dataclass
class Templates:
    """The kinds of lines seen so far, in the order of their first lines: at most `MAX_TEMPLATES`, and one for the
    rest."""

    all: list[Template] = field(default_factory=list)
    _by_shape: dict[tuple[int, str], list[Template]] = field(default_factory=dict)

    def add(self, message: str) -> Template:
        """Count a message with the template it is most like, which may become more general, or with a new one."""
        words = [WILD if _IS_WILD.search(word) else word for word in _WORD.findall(message)[:_MAX_WORDS]]
        # Lists of different lengths are one kind.
        words = [word for word, _ in groupby(word for word in words if len(word) > 1 or word.isalnum() or word == WILD)]
        best = self._most_alike(words)
        if best is None:
            if len(self.all) > MAX_TEMPLATES:
                best = self.all[-1]
            else:
                is_last = len(self.all) == MAX_TEMPLATES
                best = Template([WILD] if is_last else words)
                self.all.append(best)
                self._by_shape.setdefault(_shape(words), []).append(best)
        elif best.words != words:
            best.words[:] = [old if old == new else WILD for old, new in zip(best.words, words, strict=True)]
        best.count += 1
        return best

    def _most_alike(self, words: list[str]) -> Template | None:
        best, most = None, (-1, 0)
        for template in self._by_shape.get(_shape(words), ()):
            same = wild = 0
            for old, new in zip(template.words, words, strict=True):
                if old == WILD:
                    wild += 1
                elif old == new:
                    same += 1
            if (same, wild) > most:
                best, most = template, (same, wild)
        return best if most[0] >= _ALIKE * len(words) else None


def _shape(words: Sequence[str]) -> tuple[int, str]:
    return len(words), words[0] if words else ""
