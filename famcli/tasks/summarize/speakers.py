"""Who speaks in a transcript, and how often: names before a colon at the beginning of lines."""

from __future__ import annotations

import re
from collections import Counter

from famcli.text.markup import without_marks
from famcli.text.sentences import Sentence

_MAX_SPEAKERS = 256
_MIN_TURNS, _MIN_SPEAKERS = 8, 2
_MIN_SHARE = 0.02  # of the sentences of a transcript that begin a turn
_LEAST_AGAIN = 0.8  # of the turns, by those who speak more than once
_TURN = re.compile(
    r"(?:[\[(]?(?:\d{1,2}:)?\d{1,2}:\d\d(?:\.\d+)?[\])]?\s*(?:-\s*)?)?"
    r"(?P<name>[A-Z][\w.'\u2019-]*(?: (?:[A-Z][\w.'\u2019-]*|\d{1,2}|de|van|von|of|the)){0,3})"
    r"(?: ?\([^()]{1,40}\))?\s?:(?=\s|$)"
)
# Lines of other documents begin so.
_NO_SPEAKER = re.compile(
    r"(?:notes?|examples?|warnings?|tips?|usage|defaults?|see(?: also)?|todo|importants?|returns?|raises|caution|hint|"
    r"fix(?:es|ed)?|bugs?|features?|added|changed|removed|date|time|location|where|when|who|what|why|how|title|author|"
    r"from|to|subject|status|version|source|url|options?|type|name|figure|table|step|section|chapter|part|answer|"
    r"question|q|a|action|decision|resolution|motion|agenda|present|absent)\b",
    re.IGNORECASE,
)
# Of the output of `git log`, whose messages begin with the part of a program that they change.
_COMMIT = re.compile(r"(?:commit [0-9a-f]{40}\b|Author: [^<>\n]+ <[^<>\s]*>)")


class Speakers:
    """Counts the turns of each speaker while a text is read."""

    def __init__(self) -> None:
        self._turns = Counter[str]()
        self._num_sentences = self._num_commits = 0

    def read(self, sentence: Sentence) -> None:
        self._num_sentences += 1
        self._num_commits += _COMMIT.match(sentence.text) is not None
        name = turn_in(sentence)
        if name is not None and (name in self._turns or len(self._turns) < _MAX_SPEAKERS):
            self._turns[name] += 1

    @property
    def is_told(self) -> bool:
        """True if most of the text is what named speakers say in turns."""
        turns, again = self._turns.total(), [count for count in self._turns.values() if count > 1]
        return (
            self._num_commits < _MIN_TURNS
            and turns >= max(_MIN_TURNS, _MIN_SHARE * self._num_sentences)
            and len(again) >= _MIN_SPEAKERS
            and sum(again) >= _LEAST_AGAIN * turns
        )

    def most_frequent(self, most: int) -> list[tuple[str, int]]:
        return [pair for pair in self._turns.most_common(most) if pair[1] > 1]

    @property
    def count(self) -> int:
        return sum(count > 1 for count in self._turns.values())


def turn_in(sentence: Sentence) -> str | None:
    """Whose turn a sentence begins; None where it begins none."""
    begins_line = sentence.gap is None or "\n" in sentence.gap
    if not begins_line or sentence.is_code:
        return None
    turn = _TURN.match(without_marks(sentence.text[:200]).lstrip("*_> "))
    return None if turn is None or _NO_SPEAKER.match(turn["name"]) else turn["name"]
