"""How many there are of what a summary counts: who was at a meeting, releases, chapters. No quote says so.

The index has all sentences of a text, and `tasks.summarize` counts them as it does for a summary's facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from famcli.tasks.ask.labels import told
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.summarize.counts import Count, Counted, count_of
from famcli.text.passages import Passage
from famcli.text.words import content_terms

_COUNTED: tuple[tuple[Counted, str, str], ...] = (
    (
        "releases",
        r"(?:releases|versions)\b",
        "releases versions listed list changelog change log changes history documented described mentioned made "
        "published file text document",
    ),
    ("chapters", r"chapters\b", "chapters book novel story text document file"),
    (
        "present",
        r".*\b(?:present|attend\w*|participa\w*|took part|joined|there|came)\b",
        "people persons participants attendees present attended attend attending attendance participated take took "
        "part joined came meeting call session minutes",
    ),
)
_ASKS = tuple(
    (what, re.compile(rf"\W*how many {asks}", re.I), frozenset(content_terms(f"many {words}")))
    for what, asks, words in _COUNTED
)


@dataclass(frozen=True)
class CountTold:
    """said: the number, and what was counted. passage: where that begins."""

    said: str
    passage: Passage


def counted(index: PassageIndex, name: str, question: str) -> CountTold | None:
    """What a question asks to count of the only source, which has this name; None for other questions, and where the
    number is not certain."""
    found = next(((what, known) for what, asks, known in _ASKS if asks.match(question)), None)
    if found is None or not index.num_passages:
        return None
    what, known = found
    count, title = count_of((sentence for one in _passages(index) for sentence in one.sentences), name, what)
    # "How many people from the north attended?" is for some of them only.
    others = set(content_terms(question)) - known - set(content_terms(f"{title} {PurePath(name).stem}"))
    if count is None or others:
        return None
    reaches = (one for one in _passages(index) if any(each.line >= count.line for each in one.sentences))
    holding = next(reaches, None) or index.passage(index.num_passages - 1)
    if what == "present":
        # Of a list all is cited, not its beginning alone.
        listed = told(index, "Who was present?")
        if listed is None or listed.quoted.line != count.line or not _agree(listed.quoted, count):
            return None
        holding = listed.quoted
    return CountTold(count.said, holding)


def _passages(index: PassageIndex) -> Iterator[Passage]:
    """All of them, one after the other: a long text is not held as a whole."""
    return map(index.passage, range(index.num_passages))


def _agree(listed: Passage, count: Count) -> bool:
    """True if a list below its name has so many lines; it may also be a table, or stand between commas."""
    num_lines = sum(one.text.count("\n") + 1 for one in listed.sentences[1:])
    return num_lines in (0, count.number) or "|" in listed.text or (num_lines < 3 and "," in listed.text)
