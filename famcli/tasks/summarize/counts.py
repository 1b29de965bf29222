"""What of a text can be counted for certain: who was there, the releases of a list of changes, chapters.

The numbers are those of the facts above a summary (`facts`), where nothing speaks against them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from famcli.tasks.summarize.extract import Extraction
from famcli.tasks.summarize.facts import present_of
from famcli.tasks.summarize.minutes import MOST_NAMES
from famcli.text.headings import heading
from famcli.text.name_lists import may_be_name
from famcli.text.numbers import number_of
from famcli.text.sentences import Sentence

Counted = Literal["present", "releases", "chapters"]

_FEWEST = 2
# No names, or names of several people.
_NO_PERSON = re.compile(
    r"(?:vice[- ])?(?:chair\w*|president|secretary|treasurer|clerk|director|member|guest|observer|minutes|scribe)s?"
    r"|.*\b(?:others?|several|various|everyone|everybody|members|guests|staff|team|tbd|none|\d+)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_CHAPTER = re.compile(
    r"(?:chapter|stave|canto|letter|kapitel|chapitre|cap[ií]tulo|capitolo)\W+(?P<number>[\w-]+)", re.I
)


@dataclass(frozen=True)
class Count:
    """said: the number, and what was counted as far as there is room. line: of the text, where it begins."""

    number: int
    said: str
    line: int


def count_of(sentences: Iterable[Sentence], name: str, what: Counted) -> tuple[Count | None, str]:
    """How many there are in a text of this name, None where that is not certain; and its title."""
    text, chapters = Extraction(), list[tuple[int | None, int]]()
    text.begin_source(name)
    was_chapter = False
    for sentence in sentences:
        text.take(sentence)
        found = heading(sentence)
        named = None if found is None else _CHAPTER.match(found.title)
        # Entries of a table of contents follow one another.
        if named is not None and was_chapter:
            chapters.pop()
        if named is not None:
            chapters.append((number_of(named["number"]), sentence.line))
        was_chapter = named is not None
    text.end_source()
    title = " ".join(filter(None, (text.title, text.title_above)))
    if what == "chapters":
        return _chapters(chapters), title
    if what == "present":
        return (_present(text) if text.kind == "minutes" else None), title
    return (_releases(text) if text.kind == "changes" else None), title


def _present(text: Extraction) -> Count | None:
    minutes = text.minutes
    names = minutes.present
    # Minutes of several meetings have a list each.
    if minutes.list_begins is None or minutes.has_several_lists or not _FEWEST <= len(names) < MOST_NAMES:
        return None
    if any(_NO_PERSON.fullmatch(name.partition("(")[0].strip()) or not may_be_name(name) for name in names):
        return None
    return Count(len(names), present_of(minutes), minutes.list_begins.line)


def _releases(text: Extraction) -> Count | None:
    releases = text.releases
    if not releases.count or releases.is_by_day or not releases.is_certain:
        return None
    return Count(releases.count, releases.span(), releases.newest_first()[0].line)


def _chapters(found: list[tuple[int | None, int]]) -> Count | None:
    """Those with numbers that follow one another from 1 on. found: number and line of each."""
    # The last entry of a table of contents.
    found = found[1:] if len(found) > 1 and found[0][0] == found[-1][0] else found
    numbers = [number for number, _ in found]
    if len(numbers) < _FEWEST or numbers != [*range(1, len(numbers) + 1)]:
        return None
    return Count(len(numbers), f"{len(numbers)} chapters", found[0][1])
