"""The check of what a network wrote: each name, number, date and quotation must occur in what it was written from.

What is written is compared in the spelling of `text.words` and without marks of Markdown, so that case, line breaks and
kinds of apostrophes do not count. A number must stand where the sources tell of the same thing: in a sentence that
shares with what is written nearly as many words as any other does, together with the heading above it. A name is a
capitalised word; the first word of a sentence counts as one unless it is an ordinary word: one that the sources have in
small letters, or one that often begins sentences. Dates are names and numbers. A sentence that denies what the sources
assert, or the other way round, is not borne out either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from famcli.tasks.turned import Said, is_sentence, turned_around
from famcli.text.headings import PLAIN, heading
from famcli.text.markup import without_marks
from famcli.text.numbers import numbers_in_words
from famcli.text.sentences import Sentence, SentenceSplitter
from famcli.text.words import compounds, content_terms, has_content, plain_spelling, terms, variants

ClaimKind = Literal["name", "number", "quotation"]

_CAPITAL = re.compile(r"(?<![^\W_])[^\W\d_][^\W_]*(?:['\u2019\u2010.-][^\W\d_][^\W_]*)*")
# "37signals" is a name.
_FIGURE = re.compile(r"(?<![^\W_])\d+(?![^\W_])")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
# Three words at least: a word or two in quotation marks are no quotation, but irony or a title.
_QUOTATION = re.compile('["\u201c]([^"\u201c\u201d]+)["\u201d]')
_LEAST_QUOTED = 3
# Of a sentence's content words, those that the sources may lack.
_MOST_ABSENT = 0.5
# Of the words that it shares with the sentence that shares most, the least part that one with the number must share.
# Over SQuAD's training titles this finds half of the numbers that were exchanged for others of the passage, and 3 % of
# the right ones (benchmarks/exchanged_facts.py).
_LEAST_NEAR = 0.4
_NO_NAMES = "mr mrs ms dr st prof sir lady lord madam i i'm i've i'd i'll ok"
_TITLES = frozenset(_NO_NAMES.split())
_COMMON_OPENERS = """
    although additionally afterwards again along alongside also altogether amid among another anyone apart around
    aside at away based besides between beyond both certain clearly compared consequently considering contrary
    conversely critics despite due during each either else even eventually ever every everyone everything except few
    finally first firstly following for former further furthermore generally given hence however ideally importantly
    indeed initially instead it its key last lastly later let like likewise little many maybe meanwhile more moreover
    most much must neither nevertheless next nobody none nonetheless nor not nothing now often once one only other
    others otherwise overall people perhaps please possible previously rather readers regarding second secondly several
    similarly since sometimes somebody someone something soon still such summary taking thanks therefore though three
    throughout thus today together tomorrow two unless unlike until upon us using usually via we well what whatever
    whenever whereas wherever whether while within without yes yet you your
    author authors text passage story narrator chapter book paper article section speaker speakers document notes note
    novel report study
"""
_OPENERS = frozenset(_COMMON_OPENERS.split())

# Of an answer that names several things.
_PARTS = re.compile(r"[,;]\s*(?:(?:and|or)\s+)?|\s+(?:and|or)\s+")
_ADVERBS = {one: f"{one}ly" for one in ("hour", "week", "month", "quarter", "year")} | {"day": "daily"}
_FREQUENCY = re.compile(
    rf"\b(?:once (?:an?|per|every|each|in an?)|every|each) ({'|'.join(_ADVERBS)})\b|\bannual(?:ly)?\b"
)


@dataclass(frozen=True)
class Claim:
    """Something that can be looked up. text: as it was written."""

    kind: ClaimKind
    text: str


class Sources:
    """Texts that something was written from, to look claims up in.

    asked: the question that it answers. Its names and numbers may be said again; what answers it must stand where the
    texts tell of what it asks. is_value: whether it asks for a number, a time or the like, of which no part may be in
    words of its own.
    """

    def __init__(self, texts: Iterable[str], asked: str = "", is_value: bool = False) -> None:
        plain, self._is_value = [plain_spelling(without_marks(text)) for text in texts], is_value
        self._asked = frozenset(content_terms(asked))
        self._sentences = [one for text in plain for one in _told(text)]
        joined = "\n".join((*plain, plain_spelling(asked)))
        # An article may be written onto its name ("l'Op\u00e9ra").
        self._terms = frozenset(terms(joined)) | frozenset(terms(re.sub("['\u2019]", " ", joined)))
        self._small = frozenset(word for word in re.findall(r"[^\W\d_]+", joined) if word.islower())
        self._numbers = _numbers(joined)
        self._words = _plain_frequencies(" ".join(compounds(joined)))
        self._said = [Said.of(one) for text in plain for one in sentences_of(text)]

    def missing(self, sentence: str) -> tuple[str, ...]:
        """What the sources lack of a written sentence: its claims, or most of its words, or what they say the other way
        round (`tasks.turned`); () if they bear it out."""
        # A link is written as it was read, or by its words alone.
        sentence = without_marks(sentence)
        found = claims(sentence, self._small)
        if absent := tuple(claim.text for claim in found if not self._has(claim)):
            return absent
        if elsewhere := tuple(claim.text for claim in found if not self._is_near(claim, sentence)):
            return elsewhere
        if turned := turned_around(plain_spelling(sentence), self._said):
            return turned
        # An answer of a word or a few may be in words of its own ("sad"): it asserts nothing that is no claim.
        if self._asked and not is_sentence(sentence):
            return tuple(part for part in _PARTS.split(sentence) if self._is_spliced(part))
        words = [word for word in compounds(sentence) if has_content(word)]
        absent = tuple(word for word in words if not set(terms(word)) <= self._terms)
        return absent if len(absent) > _MOST_ABSENT * len(words) else ()

    def _is_spliced(self, phrase: str) -> bool:
        """True for a value whose words do not stand side by side: "24 October 2014" of two other dates."""
        words = compounds(phrase)
        is_value = self._is_value or _FIGURE.search(phrase) is not None
        return is_value and len(words) > 1 and f" {_plain_frequencies(' '.join(words))} " not in f" {self._words} "

    def _has(self, claim: Claim) -> bool:
        if claim.kind == "quotation":
            return _plain_frequencies(" ".join(compounds(claim.text))) in self._words
        if claim.kind == "number":
            plain = claim.text.replace(",", "")
            return plain in self._numbers or (plain == "1" and "one" in self._small)
        return any(set(way) <= self._terms for way in variants(claim.text) if way)

    def _is_near(self, claim: Claim, sentence: str) -> bool:
        """False for a number that the texts have where they tell of something else."""
        # Names are not judged: a text goes on with pronouns (docs/decisions.md).
        number = claim.text.replace(",", "")
        if claim.kind != "number" or number in self._asked:
            return True
        told = (self._asked | set(content_terms(sentence))) - set(terms(claim.text))
        shared = [(len(told & words), number in numbers) for words, numbers in self._sentences]
        near = [count for count, is_there in shared if is_there]
        # What stands in the question alone is not judged.
        return not near or max(near) >= _LEAST_NEAR * max(count for count, _ in shared)


def _plain_frequencies(words: str) -> str:
    """The words with "once a month" and its like as "monthly"."""
    return _FREQUENCY.sub(lambda match: _ADVERBS[match[1] or "year"], words)


def _numbers(text: str) -> frozenset[str]:
    """Numbers of a text without the marks of thousands, all runs of digits, and what is spelled out."""
    found = [number.replace(",", "") for number in _NUMBER.findall(text)] + re.findall(r"\d+", text)
    return frozenset((*found, *map(str, numbers_in_words(text))))


def _told(text: str) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """The words and the numbers of each sentence, with those of the heading above it, which says of what it tells."""
    above = frozenset[str](), frozenset[str]()
    for sentence in _split(text):
        own = frozenset(terms(sentence.text)), _numbers(sentence.text)
        # A short line that stands alone may be none.
        if (title := heading(sentence)) is not None and title.level < PLAIN:
            above = own
        yield own[0] | above[0], own[1] | above[1]


def sentences_of(text: str) -> list[str]:
    """The sentences of a text."""
    return [one.text for one in _split(text)]


def _split(text: str) -> list[Sentence]:
    splitter = SentenceSplitter()
    return splitter.feed(text, np.arange(len(text) + 1)) + splitter.flush()


def claims(sentence: str, ordinary: frozenset[str] = frozenset()) -> tuple[Claim, ...]:
    """The names, numbers and quotations of a written sentence, each once. ordinary: words that are no names."""
    text = plain_spelling(sentence)
    found = [Claim("quotation", one) for one in _QUOTATION.findall(text) if len(compounds(one)) >= _LEAST_QUOTED]
    # What is quoted is looked up as a whole, and its first word has a capital for that reason alone.
    text = _QUOTATION.sub(
        lambda match: " " * len(match[0]) if len(compounds(match[1])) >= _LEAST_QUOTED else match[0], text
    )
    found += [Claim("number", match[0]) for match in _NUMBER.finditer(text)]
    for match in _CAPITAL.finditer(text):
        word = match[0]
        if not word[0].isupper() or not has_content(word) or word.casefold().rstrip(".") in _TITLES:
            continue
        if _begins(text[: match.start()]) and _is_ordinary(word, text[match.end() :], ordinary):
            continue
        found.append(Claim("name", word.removesuffix("'s").removesuffix("\u2019s")))
    return tuple(dict.fromkeys(found))


def _begins(before: str) -> bool:
    """True if a word that follows `before` begins a sentence, a line or a quotation."""
    stripped = before.rstrip(" \t([{'\"\u2018\u201c*#-\u2022")
    return not stripped or stripped[-1] in ".?!:\n\u2026" or before.rstrip(" ").endswith(('"', "\u201c", "\u2018"))


def _is_ordinary(word: str, after: str, ordinary: frozenset[str]) -> bool:
    """True for a first word that need not be a name."""
    # Two capitalised words in a row are a name, unless the first is known to be none.
    small = word.casefold()
    if small in ordinary or small in _OPENERS or small.endswith("ly"):
        return True
    followed = re.match(r"\s+[^\W\d_]", after)
    return small.endswith(("ing", "ed")) and not (followed is not None and followed[0][-1].isupper())


def stands_in(text: str, sources: Iterable[str]) -> bool:
    """True if one of the sources has the words of the text, one after the other."""
    words = f" {' '.join(compounds(plain_spelling(text)))} "
    return any(words in f" {' '.join(compounds(plain_spelling(without_marks(source))))} " for source in sources)


def support(sentence: str, source: str) -> float:
    """The share of a written sentence's content words that a text has, 0 to 1."""
    wanted = set(content_terms(sentence))
    return len(wanted & set(terms(source))) / max(1, len(wanted))
