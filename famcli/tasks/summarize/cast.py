"""Who appears in a story: the names that act in it, how often each comes, and the sentence that says who it is.

Plain rules for languages that write names, and not all nouns, with a capital. In bounded memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from famcli.tasks.summarize.candidates import Candidate
from famcli.text.abbreviations import words
from famcli.text.context import context_dependence, is_spoken
from famcli.text.words import has_content

MAX_NAMES = 2048
"""Names that are counted at once; when there are more, the rare ones are forgotten."""

_MIN_SENTENCES, _LEAST_ACTS, _MIN_PEOPLE = 100, 3, 2
_MIN_TELLING = 0.025  # share of a story's sentences in which a person with a name says or does something
_MIN_SAID = 0.015  # share of its sentences with "said" and the like
_SHARE_OF_ACTS = 0.08  # of the mentions of a name, in which a person does something; places do less
_SHARE_OF_FIRST = 0.06  # of the mentions of the first, so that someone belongs to the main ones
_MAX_CAPITALS = 0.2  # share of the words inside sentences; more have German nouns, and lists of names
_INTRODUCTIONS = 40  # mentions of a name among which is the one that introduces it
_MOST_WORDS = 3  # of a name
_TITLES = words("Mr Mrs Miss Ms Dr Sir Lady Lord Madame Monsieur Mademoiselle Professor Captain St")
_SAID = words("said asked cried replied answered shouted whispered exclaimed muttered remarked murmured")
_ACTS = _SAID | words(
    """
    went came took saw knew felt stood looked turned thought sat ran told gave got left began found heard held kept
    laughed smiled nodded shook rose put drew stepped walked says asks
    """
)
_SAYS = re.compile(rf"\b(?:{'|'.join(sorted(_SAID))})\b")
# What stands behind a name, or before it, where a sentence says who somebody is.
_WHO = re.compile(r"(?: [A-Z][\w'\u2019-]+)?,? (?:who|whose|was an?|was the|is an?|is the|had been)\b")
_BESIDE = re.compile(r"(?: [A-Z][\w'\u2019-]+)?, (?:an?|the|his|her|my|our|their)\b")
_CALLED = re.compile(r"\b(?:named|called|name of) $")
_TOKEN = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*\.?|[^\w\s]")
_DETERMINERS = words("a an our my his her their your this that these those no every any some")
_JOINING = words("of de von van du la le")
_POSSESSIVE = re.compile(r"['\u2019]s?$")
_OPENS = frozenset("\"\u201c\u201e\u00ab\u2018'([*_-\u2014\u2013:;!?\u2026")


@dataclass
class _Name:
    """How often a name comes, acts and says something, and the sentence that introduces it with its worth."""

    inner: int = 0  # not as the first word of a sentence, where every word has a capital
    first: int = 0
    acts: int = 0
    introduction: Candidate | None = None
    worth: float = float("-inf")

    @property
    def count(self) -> int:
        return self.inner + self.first


@dataclass(frozen=True)
class Person:
    """name: the longest form that is frequent. forms: all. count: mentions. introduction: None where no sentence that
    names the person can be quoted."""

    name: str
    forms: frozenset[str]
    count: int
    introduction: Candidate | None


class Cast:
    """Counts names while a text is read."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._num_sentences = self._num_words = self._num_capital = self._num_acts = self._num_said = 0

    def read(self, text: str, candidate: Candidate | None) -> None:
        """Count the names of a sentence. candidate: it, if it can be quoted."""
        self._num_sentences += 1
        self._num_said += _SAYS.search(text) is not None
        found = self._found(text)
        for name, is_inner, acts in found:
            one = self._names.setdefault(name, _Name())
            one.inner, one.first, one.acts = one.inner + is_inner, one.first + (not is_inner), one.acts + acts
            self._num_acts += acts
            if candidate is not None and one.count <= _INTRODUCTIONS:
                worth = _introduces(text, name) - 0.03 * one.count
                if worth > one.worth:
                    one.worth, one.introduction = worth, candidate
        if len(self._names) > MAX_NAMES:
            median = sorted(one.count for one in self._names.values())[MAX_NAMES // 2]
            self._names = {name: one for name, one in self._names.items() if one.count > median}

    @property
    def is_told(self) -> bool:
        """True if the text tells a story: people with names act in it."""
        return (
            self._num_sentences >= _MIN_SENTENCES
            and self._num_acts >= _MIN_TELLING * self._num_sentences
            and self._num_said >= _MIN_SAID * self._num_sentences
            and len(self.people(_MIN_PEOPLE)) >= _MIN_PEOPLE
        )

    def people(self, most: int) -> list[Person]:
        """The people who come most often, at most so many."""
        if self._num_capital > _MAX_CAPITALS * max(1, self._num_words):
            return []
        groups = list[list[str]]()
        # A single word that only begins sentences has its capital for that.
        known = {name: one for name, one in self._names.items() if one.inner > 1 or (" " in name and one.count > 1)}
        # "Tom", who only begins sentences, if "Tom Barrel" stands inside one.
        parts = {part for name in known for part in name.split()}
        known |= {name: one for name, one in self._names.items() if name in parts}
        for name in sorted(known, key=lambda name: -known[name].count):
            group = next((group for group in groups if _is_same(name, group)), None)
            if group is None:
                groups.append([name])
            else:
                group.append(name)
        people = [person for group in groups if (person := self._person(group)) is not None]
        people.sort(key=lambda person: -person.count)
        return [one for one in people if one.count >= _SHARE_OF_FIRST * people[0].count][:most]

    def _person(self, group: list[str]) -> Person | None:
        names = {name: self._names[name] for name in group}
        count, acts = sum(one.count for one in names.values()), sum(one.acts for one in names.values())
        if acts < max(_LEAST_ACTS, _SHARE_OF_ACTS * count):
            return None
        frequent = [name for name in group if names[name].count >= max(2, 0.02 * count)] or group[:1]
        longest = max(frequent, key=lambda name: (len(name.split()), names[name].count))
        introduced = max(names.values(), key=lambda one: one.worth)
        return Person(longest, frozenset(group), count, introduced.introduction)

    def _found(self, text: str) -> list[tuple[str, bool, bool]]:
        """The names of a sentence: each with whether it stands inside it, and whether it acts."""
        tokens, found, at, begins = _TOKEN.findall(text), list[tuple[str, bool, bool]](), 0, True
        while at < len(tokens):
            start, word = at, tokens[at]
            if not word[0].isalpha():
                begins = begins or word in _OPENS
                at += 1
                continue
            self._num_words += not begins
            at += 1
            if not _is_name(word):
                begins = word.endswith(".")
                continue
            self._num_capital += not begins
            while (more := _more_of_name(tokens, at)) and at + more - start <= _MOST_WORDS:
                at += more
            parts = tokens[start:at]
            # Who is spoken to: "O Mouse".
            if len(parts) > 1 and (parts[0] == "O" or not has_content(parts[0])):
                parts, begins = parts[1:], False
            name = _POSSESSIVE.sub("", " ".join(parts).rstrip("."))
            before = tokens[start - 1] if start else ""
            after = tokens[at] if at < len(tokens) else ""
            is_inner, begins = not begins, parts[-1].endswith(".")
            # "Our King" is none; "the Time Traveller" may be all the name that somebody has.
            if before.lower() in _DETERMINERS or not has_content(name) or (len(name) < 2):
                continue
            acts = name == " ".join(parts) and (after in _ACTS or after.endswith("ed") or before in _SAID)
            found.append((name, is_inner, acts))
        return found


def _is_name(word: str) -> bool:
    return word[0].isupper() and not word.startswith(("I'", "I\u2019")) and word != "I" and not word[1:2].isupper()


def _more_of_name(tokens: list[str], at: int) -> int:
    """How many of the tokens from `at` on go on with the name before: "Mr. Snowdon", "J. Smith", "Joan of Arc", but
    not "to Paris. London" and "Joan's Voices"."""
    last = tokens[at - 1]
    if (last.endswith(".") and last.rstrip(".") not in _TITLES and len(last) > 2) or _POSSESSIVE.search(last):
        return 0
    for more in (1, 2):
        if all(word in _JOINING for word in tokens[at : at + more - 1]) and at + more <= len(tokens):
            word = tokens[at + more - 1]
            if word[0].isalpha() and _is_name(word):
                return more
    return 0


def _is_same(name: str, group: list[str]) -> bool:
    """True if a name is a shorter form of one of a group ("Brooks", "Bernard Brooks"), or a longer one of its first."""
    titles, own = _parts(name)
    for other in group:
        other_titles, others = _parts(other)
        if titles and other_titles and titles != other_titles:
            return False
        if own and others and (own <= others or (others <= own and other == group[0])):
            return True
    return False


def _parts(name: str) -> tuple[frozenset[str], frozenset[str]]:
    found = frozenset(word.rstrip(".") for word in name.split())
    return found & _TITLES, found - _TITLES


def _introduces(text: str, name: str) -> float:
    """How well a sentence says who somebody is."""
    place = text.find(name)
    is_told = _WHO.match(text, place + len(name)) is not None
    is_beside = _BESIDE.match(text, place + len(name)) is not None or _CALLED.search(text, 0, place) is not None
    return 1.5 * is_told + 1.0 * is_beside - 1.5 * is_spoken(text) - 0.5 * context_dependence(text)
