"""A list of changes: its releases with their versions and dates, and what each of them changed. In bounded memory."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath

from famcli.plain import plural
from famcli.tasks.summarize.candidates import Candidate
from famcli.text.headings import Heading
from famcli.text.markup import without_marks
from famcli.text.sentences import Sentence
from famcli.text.words import num_words, terms

_MIN_RELEASES = 3
_MAX_RELEASES = 1024
_MOST_OF_ONE = 24  # entries that are kept of a release, and of all but the first and the last
_MOST_OF_OLD = 2
_MIN_WORDS, _MAX_WORDS = 3, 80
_LONGEST_TITLE = 140
_VERSION = r"v?\d{1,4}(?:\.\d{1,5}){1,3}(?:[-.]?(?:rc|beta|alpha|a|b|dev|post|pre)[-.]?\d*|[c-z])?"
DATE = re.compile(
    r"\d{4}-\d\d-\d\d|\d{4}/\d\d/\d\d|\d{1,2}[./]\d{1,2}[./]\d{4}|\d{1,2} [A-Z][a-z]{2,8}\.? \d{4}|"
    r"[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4}"
)
_RELEASES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # "1.2.0", "Version 1.2 (2020-01-01)", "adduser (3.134) unstable", "Changes from 3.4 to 3.5".
        rf"\W{{0,4}}(?:(?:change(?:[sd]|log)? (?:from \S+ to|for|in|with|since)|what['\u2019]s new in|news (?:in|for)|"
        rf"release(?: notes)?(?: for)?|version)\W+){{0,2}}(?:[a-z][\w+-]{{0,30}}[ -]){{0,2}}"
        rf"\W{{0,2}}(?P<version>{_VERSION})(?![\w.]*\w)",
        # "CHANGES WITH 258:"
        r"\W{0,4}(?:changes? (?:with|in|since)|version|release|news for)\W+v?(?P<version>\d{1,5})\b",
        r"\W{0,4}(?P<version>unreleased|upcoming|next release|tbd|trunk|head|main)\W*$",
        # "the new features added to bash-5.2 since the release of bash-5.1"
        rf".{{0,80}}?\b(?:[a-z]+-)?(?P<version>{_VERSION})\b.{{0,20}}? since .{{0,40}}$",
        # "2020-01-31  A Name  <name@example.org>"
        r"(?P<version>\d{4}-\d\d-\d\d)\s+\S.{0,60}<\S+@\S+>",
    )
)
_BARE = re.compile(r"\W*\d+\.\d+\b(?!\.\d)")
_RELEASED = re.compile(rf"\W*(?:release[sd]?|date)?\W*(?:on )?(?P<date>{DATE.pattern})\W*", re.IGNORECASE)
# Words after a version, beside the date; more in a heading like those of the releases before.
_MOST_BEHIND, _MOST_IN_HEADING = 4, 12
_NO_ENTRY = re.compile(r"\[[^\]]*\]$")  # "[ A Name ]", who made the changes below
_THANKS = re.compile(r"\W*(?:thanks|reported|patch|based|suggested|closes|see|related|prompted|ref)\b", re.IGNORECASE)
_TITLE = re.compile(r"\b(?:change ?logs?|changes|release notes|history|news|what['\u2019]s new)\b", re.IGNORECASE)
_BREAKS = re.compile(
    r"\b(?:break(?:s|ing)?|incompatib\w+|backwards?[- ]compat\w+|removed?|dropped|drops?|no longer|deprecat\w+|"
    r"must now|requires?|security|vulnerab\w+|CVE-\d+|renamed)\b|\u2757|\U0001f4a5",
    re.IGNORECASE,
)
_ADDS = re.compile(
    r"\b(?:add(?:s|ed)?|new|introduc\w+|support(?:s|ed)?|now|allow\w*|implement\w*|feature\w*|highlight\w*|"
    r"stabili[sz]ed|major|improve\w*|faster)\b|\U0001f389",
    re.IGNORECASE,
)
_INSIDE = re.compile(
    r"\b(?:typos?|docs?|documentation|tests?|testing|CI|refactor\w*|internal\w*|clean[- ]?ups?|translations?|bump\w*|"
    r"thanks|comments?|build system|chore|lint\w*|copyright|man ?pages?)\b",
    re.IGNORECASE,
)


@dataclass(eq=False)
class Release:
    """A release. name: of its heading. version, date: as they are written; None where there is none. entries: the
    first of what changed, in their order, with what each is worth. num_entries: all; num_items: items of a list.
    released: the line that only says when, which is quoted where there is nothing else."""

    name: str
    version: str | None
    date: str | None
    line: int
    num_entries: int = 0
    num_items: int = 0
    entries: list[tuple[float, Candidate]] = field(default_factory=list)
    released: Candidate | None = None


class Releases:
    """Finds the releases of a list of changes while it is read, the newest of which may come first or last."""

    def __init__(self) -> None:
        self._releases: list[Release] = []
        self._num_others = 0  # headings of the highest level that are no releases
        self._is_titled = self._has_filled = False
        self._under: float = 0.0  # what the heading within a release adds
        self._level: int | None = None
        self._num_more = self._num_below = 0

    def note_name(self, name: str) -> None:
        """Take in the name of the file."""
        self._is_titled |= _TITLE.search(PurePath(name).stem.replace("_", " ").replace("-", " ")) is not None

    def read(self, sentence: Sentence, found: Heading | None, candidate: Candidate) -> None:
        """Take a sentence in: the heading of a release, one of another kind, or what changed."""
        own_line = sentence.gap is None or "\n" in sentence.gap
        if not own_line or sentence.is_code:
            return
        text = " ".join(without_marks(sentence.text if found is None else found.title).split())
        is_like = found is not None and found.is_marked and found.level == self._level
        release = None if sentence.is_item else release_in(text, _MOST_IN_HEADING if is_like else _MOST_BEHIND)
        if release is not None:
            # The level of a heading without marks is a guess by its letters.
            is_marked = found is not None and found.is_marked
            if found is not None and is_marked and self._level is not None and found.level > self._level:
                self._num_below += 1
                return
            self._level = self._level if found is None or not is_marked else found.level
            self._begin(text, release, sentence.line)
            return
        if found is not None:
            self._is_titled |= not self._releases and _TITLE.search(text) is not None
            self._num_others += self._level is not None and found.level <= self._level
            self._under = 1.5 * bool(_BREAKS.search(text)) + bool(_ADDS.search(text)) - bool(_INSIDE.search(text))
            return
        if self._releases and not _NO_ENTRY.match(text) and _MIN_WORDS <= num_words(text) <= _MAX_WORDS:
            self._add(text, candidate)

    def _begin(self, text: str, found: re.Match[str], line: int) -> None:
        date = DATE.search(text)
        self._under = 0.0
        # The same release again: an entry of a table of contents, or a heading and a line below it.
        if self._releases and self._releases[-1].version == found["version"] and not self._releases[-1].num_entries:
            self._releases.pop()
        if len(self._releases) >= _MAX_RELEASES:
            self._num_more += 1
            self._releases.pop()
        # The newest release is the first one or the last.
        if self._has_filled:
            self._releases[-1].entries.sort(key=lambda entry: -entry[0])
            del self._releases[-1].entries[_MOST_OF_OLD:]
        self._has_filled |= bool(self._releases) and self._releases[-1].num_entries > 0
        name = found["version"] if text.endswith(".") else text.strip("# []:")
        self._releases.append(Release(name, found["version"], date and date[0], line))

    def _add(self, text: str, candidate: Candidate) -> None:
        release = self._releases[-1]
        # A line of a signature, as of Debian, has the release's date.
        if text.startswith("--") and (date := DATE.search(text)) is not None:
            release.date = release.date or date[0]
            return
        release.num_entries += 1
        if (released := _RELEASED.fullmatch(text)) is not None:
            release.released, release.date = candidate, release.date or released["date"]
            return
        worth = 2.0 * bool(_BREAKS.search(text)) + 1.5 * bool(_ADDS.search(text)) - 2.0 * bool(_INSIDE.search(text))
        # What a release says of itself in a sentence comes first.
        is_item = candidate.sentence.is_item
        worth += 1.5 * (release.num_entries == 1 and not is_item) + self._under
        release.num_items += is_item
        worth -= 1.5 * (release.num_items > 0 and not is_item) + 2.0 * bool(_THANKS.match(text))
        release.entries.append((worth - 0.02 * release.num_entries, candidate))
        if len(release.entries) > _MOST_OF_ONE:
            release.entries.remove(min(release.entries, key=lambda entry: entry[0]))

    @property
    def is_told(self) -> bool:
        """True if the text is a list of changes."""
        filled = [one for one in self._releases if one.num_entries]
        if len(filled) < _MIN_RELEASES - self._is_titled or 2 * len(filled) <= self._num_others:
            return False
        # Clauses have numbers too, but no dates, and seldom three parts.
        told = [one for one in filled if one.date is not None or len(_numbers(one.version)) > 2]
        return self._is_titled or 2 * len(told) >= len(filled)

    def newest_first(self) -> list[Release]:
        """The releases that changed something."""
        filled = [one for one in self._releases if one.num_entries]
        return filled[::-1] if self._is_oldest_first else filled

    @property
    def _is_oldest_first(self) -> bool:
        versions = [numbers for one in self._releases if one.num_entries and (numbers := _numbers(one.version))]
        return len(versions) > 1 and versions[0] < versions[-1]

    @property
    def count(self) -> int:
        """Of the releases, without what is not released yet; also of those of which little is said."""
        return (len({one.version for one in self._named}) or len(self.newest_first())) + self._num_more

    @property
    def is_certain(self) -> bool:
        """False if a version has changes in two places, as those of several packages have, or headings of releases
        are on several levels."""
        filled = [one.version for one in self.newest_first() if _numbers(one.version)]
        return len(set(filled)) == len(filled) and not self._num_below

    @property
    def is_by_day(self) -> bool:
        """True for changes below days, not versions."""
        return 2 * sum(one.version == one.date for one in self._named) > len(self._named)

    @property
    def _named(self) -> list[Release]:
        named = [one for one in self._releases if _numbers(one.version)]
        return named[::-1] if self._is_oldest_first else named

    def span(self) -> str:
        """`62 releases, 0.1.0 to 15.2.0 (2026-07-15)`."""
        named, by_day = self._named, self.is_by_day
        count = plural(self.count, "day" if by_day else "release")
        if not named:
            return count
        first, last = (
            f"{one.version}" + (f" ({one.date})" if one.date and not by_day else "") for one in (named[-1], named[0])
        )
        return f"{count}, {first} to {last}" if first != last else f"{count}, {last}"

    def choose(self, count: int) -> list[tuple[Release, Candidate]]:
        """So many entries: half of them of the newest release that has any, and the best of each of the next ones."""
        releases = self.newest_first()
        if not releases:
            return []
        chosen = [(releases[0], one) for one in _best(releases[0], max(1, (count + 1) // 2))]
        for release in releases[1 : 1 + count - len(chosen)]:
            chosen += [(release, one) for one in _best(release, 1)]
        # Where there are few releases the newest gives more.
        more = [one for one in _best(releases[0], count) if all(one is not other for _, other in chosen)]
        chosen += [(releases[0], one) for one in more[: count - len(chosen)]]
        order = {id(release): number for number, release in enumerate(releases)}
        return sorted(chosen, key=lambda pair: (order[id(pair[0])], pair[1].place))


def release_in(text: str, most_behind: int = _MOST_BEHIND) -> re.Match[str] | None:
    """The version in a line that is the heading of a release; None for any other line. most_behind: words after it."""
    if len(text) > _LONGEST_TITLE:
        return None
    found = next(filter(None, (one.match(text) for one in _RELEASES)), None)
    if found is None or (text.endswith((",", ".")) and " since " not in text):
        return None
    # "1.1 Definitions" is a clause: behind a bare number stands a date or nothing.
    is_bare = _BARE.match(text) is not None and DATE.search(text) is None
    return found if num_words(DATE.sub("", text[found.end() :])) <= (0 if is_bare else most_behind) else None


def _best(release: Release, count: int) -> list[Candidate]:
    """The best entries of a release; those that begin alike ("Improve performance ...") only where there is room."""
    ranked = [candidate for _, candidate in sorted(release.entries, key=lambda entry: -entry[0])]
    if not ranked and release.released is not None:
        ranked = [release.released]
    firsts = dict[tuple[str, ...], Candidate]()
    for candidate in ranked:
        firsts.setdefault(tuple(terms(candidate.sentence.text)[:2]), candidate)
    chosen = list[Candidate]()
    for candidate in dict.fromkeys((*firsts.values(), *ranked)):
        if len(chosen) < count and not any(map(candidate.repeats, chosen)):
            chosen.append(candidate)
    return chosen


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version or ""))[:4]
