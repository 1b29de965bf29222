"""Which sentences may stand in a summary, and how alike two sentences are: plain rules, no model."""

from __future__ import annotations

import re

from famcli.text.sentences import Sentence
from famcli.text.words import content_terms

MIN_WORDS, MAX_WORDS = 8, 60
MIN_LETTERS = 0.72
MAX_CAPITALS = 0.3

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_LEAD_IN = re.compile(r"(?:[\W\d_]|t(?=\d))*(?:\w+(?:\W{1,3}\w+){0,2}\W{0,2}[:>\])]+\s+)?", re.I)
_ENOUGH_SAID = 3  # words that must be left without what stands before them
_QUOTATION_MARK = re.compile("[\u201c\u201d]")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_BOILERPLATE = re.compile(
    r"https?:|www\.|\S@\S+\.\w|\u00a9|\bcopyright|all rights reserved|project gutenberg|\bisbn\b|\be-?book\b|"
    r"permission is hereby|provided [\"\u201c]?as is\b|without warrant|licensed under|terms of (?:use|service)|"
    r"privacy policy|table of contents",
    re.I,
)
_TABLE_ROW = re.compile(r"^\s*\||\|.*\|")
_LEAD = (
    r"^\W*(?:(?:and|but|so|then|yet|or|nor|for|now|well|however|therefore|thus|when|as|if|though|although|after|before|"
    r"while|because|since),?\s+)?"
)
_NOUN_LEFT_OUT = re.compile(_LEAD + r"(?:he|she|it|they|him|them|his|her|their|its|hers|theirs)\b", re.I)
_POINTS_BACK = re.compile(
    _LEAD + r"(?:this|that|these|those)\s+(?:is|was|are|were|has|had|have|can|could|may|might|must|will|would|does|did|"
    r"do|should|also|means|meant|makes|made)\b",
    re.I,
)
_GOES_ON = re.compile(
    r"^\W*(?:and|but|so|then|yet|or|nor|for|now|well|however|therefore|thus|hence|moreover|furthermore|also|besides|"
    r"still|instead|otherwise|similarly|likewise|consequently|accordingly|nevertheless|nonetheless|meanwhile|finally|"
    r"indeed|in addition|as a result|for example|for instance|on the other hand|in contrast|in fact|of course|"
    r"after all|at last|not that)\b",
    re.I,
)
_PRONOUN = re.compile(r"\b(?:he|she|they|him|them|his|her|hers|their|it|its)\b", re.I)
_SPOKEN = re.compile(
    '^\\W*["\u201c\u201e\u00ab\u300c\u300e\u2018\']|[,.!?\u2026\u2014]["\u201d\u00bb\u300d\u300f]|\u2014\\W*$'
)
_ASKS = re.compile("[?\uff1f]\\W*$")
_BOOK_STARTS = re.compile(
    r"\*{2,} ?START (?:OF )?(?:(?:THE|THIS) )?PROJECT GUTENBERG|\*END\*? ?THE SMALL PRINT",
    re.I,
)
_BOOK_ENDS = re.compile(
    r"\*{2,} ?END (?:OF )?(?:(?:THE|THIS) )?PROJECT GUTENBERG|^\W*End of (?:the |this )?Project Gutenberg\b", re.I
)


def is_quotable(sentence: Sentence) -> bool:
    """Whether a sentence can stand alone as a line of a summary.

    It is whole and ends with an end mark, has 8 to 60 words (two East Asian characters count as one), is mostly
    letters, not mostly capitals, closes the quotation marks it opens, is no code and no row of a table, and has no
    address, copyright, licence or e-book notice.
    """
    text = sentence.text
    if not sentence.is_finished or sentence.is_code or not MIN_WORDS <= num_words(text) <= MAX_WORDS:
        return False
    visible = sum(not character.isspace() for character in text)
    letters = sum(character.isalpha() for character in text)
    capitals = sum(character.isupper() for character in text)
    if letters < MIN_LETTERS * visible or capitals > MAX_CAPITALS * letters:
        return False
    return quotes_are_balanced(text) and not _BOILERPLATE.search(text) and not _TABLE_ROW.search(text)


def is_line(sentence: Sentence) -> bool:
    """Whether something that is no sentence may be quoted where there are none: a whole line of 3 to 60 words with
    letters, no row of a table or notice."""
    text = sentence.text
    if not sentence.whole or not 3 <= num_words(text) <= MAX_WORDS or _TABLE_ROW.search(text):
        return False
    return 4 * sum(map(str.isalpha, text)) >= len(text) and not _BOILERPLATE.search(text)


def leaning(text: str) -> float:
    """How much a sentence leans on those around it, from 0: what somebody says, asks, or goes on about, and pronouns
    whose nouns stand elsewhere (English ones; in other languages only what is said and asked counts).

    Weights are in standard deviations of the score (`summarize_score`): as high as ROUGE on training texts allowed.
    """
    pronouns = len(_PRONOUN.findall(text)) / max(1, num_words(text))
    return (
        1.8 * is_spoken(text)
        + 1.5 * bool(_ASKS.search(text))
        + 0.9 * bool(_NOUN_LEFT_OUT.match(text))
        + 1.0 * bool(_POINTS_BACK.match(text))
        + 0.75 * bool(_GOES_ON.match(text))
        + 4.5 * pronouns
    )


def is_spoken(text: str) -> bool:
    """Whether somebody in the text says this, or part of it."""
    return _SPOKEN.search(text) is not None


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


def frame_marker(sentence: Sentence) -> str | None:
    """ "start" or "end" if this is the line with which Project Gutenberg frames a book's own text, else None."""
    if _BOOK_STARTS.search(sentence.text):
        return "start"
    return "end" if _BOOK_ENDS.search(sentence.text) else None


def said(text: str) -> str:
    """The words of a sentence, without case, marks, and a time or name before it: what may be quoted only once."""
    rest = text[_LEAD_IN.match(text).end() :]  # type: ignore[union-attr]
    words = _WORD.findall((rest if num_words(rest) >= _ENOUGH_SAID else text).casefold())
    return " ".join(words) or text


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Cosine of two sets of words, 0 to 1."""
    return len(one & other) / (len(one) * len(other)) ** 0.5 if one and other else 0.0


def word_set(text: str) -> frozenset[str]:
    """What `similarity` compares."""
    return frozenset(content_terms(text))
