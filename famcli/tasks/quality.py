"""Which sentences may stand in a summary, and how alike two sentences are: plain rules, no model."""

from __future__ import annotations

import re

from famcli.tasks.lexical import content_terms
from famcli.tasks.sentences import Sentence

MIN_WORDS, MAX_WORDS = 8, 60
MIN_LETTERS = 0.72
MAX_CAPITALS = 0.3

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_QUOTATION_MARK = re.compile("[\u201c\u201d]")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_BOILERPLATE = re.compile(
    r"https?:|www\.|\S@\S+\.\w|\u00a9|\bcopyright|all rights reserved|project gutenberg|\bisbn\b|\be-?book\b", re.I
)
_GUTENBERG = re.compile(r"\*\*\* ?(START|END) OF (?:THE|THIS) PROJECT GUTENBERG", re.I)


def is_quotable(sentence: Sentence) -> bool:
    """Whether a sentence can stand alone as a line of a summary.

    It is whole and ends with an end mark, has 8 to 60 words (two East Asian characters count as one), is mostly
    letters, not mostly capitals, closes the quotation marks it opens, and has no address, copyright or e-book notice.
    """
    text = sentence.text
    if not sentence.is_finished or not MIN_WORDS <= num_words(text) <= MAX_WORDS:
        return False
    visible = sum(not character.isspace() for character in text)
    letters = sum(character.isalpha() for character in text)
    capitals = sum(character.isupper() for character in text)
    if letters < MIN_LETTERS * visible or capitals > MAX_CAPITALS * letters:
        return False
    return quotes_are_balanced(text) and not _BOILERPLATE.search(text)


def quotes_are_balanced(text: str) -> bool:
    """Whether every quotation mark that opens is closed, and none closes that was not opened."""
    depth = 0
    for mark in _QUOTATION_MARK.findall(text):
        depth += 1 if mark == "\u201c" else -1
        if depth < 0:
            return False
    return depth == 0 and text.count('"') % 2 == 0


def num_words(text: str) -> int:
    """Words; two East Asian characters count as one."""
    east_asian = len(_EAST_ASIAN.findall(text))
    return len(_WORD.findall(_EAST_ASIAN.sub(" ", text))) + (east_asian + 1) // 2


def gutenberg_marker(sentence: Sentence) -> str | None:
    """ "START" or "END" if this is the line with which Project Gutenberg frames a book's own text."""
    found = _GUTENBERG.search(sentence.text)
    return found[1].upper() if found else None


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Cosine of two sets of words, 0 to 1."""
    return len(one & other) / (len(one) * len(other)) ** 0.5 if one and other else 0.0


def word_set(text: str) -> frozenset[str]:
    """What `similarity` compares."""
    return frozenset(content_terms(text))
