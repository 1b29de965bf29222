"""Words: how texts are compared by them, and BM25.

Texts are compared as NFKC with folded case (Unicode, section 3.13), combining marks as part of their word, without
invisible characters and line-end hyphens. BM25 is that of Robertson and Zaragoza (2009), equation 3.15, with k1 = 1.2
and b = 0.75.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from famcli.text.abbreviations import TITLES
from famcli.text.numbers import IN_DIGITS, in_words, with_two_words_in_digits

# `\w` has no combining marks, without which most scripts of India and decomposed Latin letters fall apart. All marks
# stand before the plane of emoji, but for variation selectors, which are invisible.
_CODES = [code for code in range(0x300, 0x1F000) if unicodedata.category(chr(code))[0] == "M"]
_FIRST = [code for before, code in pairwise([0, *_CODES]) if code - before > 1]
_LAST = [code for code, after in pairwise([*_CODES, sys.maxunicode]) if after - code > 1]
# As ranges, because `re` tries characters beyond 16 bits one by one.
MARKS = "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(_FIRST, _LAST, strict=True))
_LETTERS = rf"[^\W_]++(?:[{MARKS}]++[^\W_]*+)*+"
# Soft hyphens, zero-width and directional characters, variation selectors: nothing that a reader sees.
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_LINE_END = r"(?P<hyphen>[-\u00ad\u2010])[ \t\f]*(?:\r\n?|\n)[ \t\f]*(?=(?P<after>[^\W\d_]))"
_HYPHEN_AT_LINE_END = re.compile(r"[-\u00ad\u2010][ \t\f]*[\r\n]")
_LINE_END_HYPHEN = re.compile(rf"(?P<before>[^\W\d_][{MARKS}]*){_LINE_END}")
_DIVIDED = re.compile(rf"(?<![^\W_])(?P<first>{_LETTERS}){_LINE_END}(?P<second>{_LETTERS})")
# Vowel points and the like, which Hebrew and Arabic are mostly written without.
_OPTIONAL = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06dc]"
)
_APOSTROPHE = re.compile("[\u2019\u02bc\u2018`\u00b4]")

_K1, _B = 1.2, 0.75
_COMPOUND = re.compile(rf"{_LETTERS}(?:['\u2019\u2010-]{_LETTERS})*")
_WORD = re.compile(rf"{_LETTERS}(?:['\u2019]{_LETTERS})?")
_CODE = re.compile(r"(?<![\w.])\w+(?:(?:[.:@_/+-]|::|_-)\w+)+")
_IS_CODE = re.compile(r"\d[\w.:_/+-]*[^\W\d]|[^\W\d].*\d|\d\W\d+\W\d|@")  # a number alone or with a point is none
_NUMBER = re.compile(r"(?<!\w)\d+(?:[.,:/-]\d+)*(?!\w)")
_BEGINS_SENTENCE = re.compile(r"(?:^|[.?!:])[^\w]*$")
# Compared by pairs of characters: Chinese, Japanese, Thai, Lao, Burmese and Khmer put no space between words, Korean
# writes particles onto them.
_LONG_WORDS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_SHORT_WORDS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_PAIRED = re.compile(rf"[{_LONG_WORDS}{_SHORT_WORDS}\uac00-\ud7af]")
_UNSPACED = re.compile(rf"[{_LONG_WORDS}{_SHORT_WORDS}]")
_QUOTATION_MARK = re.compile("[\u201c\u201d\u201e]")
_ENDINGS = ("ings", "ing", "edly", "ed", "ies", "es", "s", "ly", "y", "e")
_FUNCTION_WORDS = """
a about after all an and any are as at be because been before being but by can could did do does doing for from had has
have having he her hers him his how i if in into is it its me my no not of off on or our out over own she so some such
than that the their them then there these they this those to too under until up very was we were what when where which
while who whom whose why will with would you your happens happen happened
"""
_STOPWORDS = frozenset(_FUNCTION_WORDS.split())


def plain_spelling(text: str) -> str:
    """`text` as NFC, without invisible characters, and with the words that a line's end divides in one piece."""
    # A search for what is rare is much faster than one that tries every letter.
    if _HYPHEN_AT_LINE_END.search(text):
        text = _LINE_END_HYPHEN.sub(_joined, text)
    return text if text.isascii() else unicodedata.normalize("NFC", _INVISIBLE.sub("", text))


def num_letters(text: str) -> int:
    """Letters and the marks on them."""
    # Without its marks half of a line of Hindi would not be letters.
    return sum(one.isalpha() or unicodedata.category(one)[0] == "M" for one in text)


def num_words(text: str) -> int:
    """How many words there are as people count them: "well-known" is one.

    In scripts without spaces two Chinese or Japanese characters count as one, and four of the others.
    """
    text = plain_spelling(text)
    if text.isascii():
        return len(_COMPOUND.findall(text))
    num_short, num_long = (len(re.findall(f"[{letters}]", text)) for letters in (_SHORT_WORDS, _LONG_WORDS))
    return len(_COMPOUND.findall(_UNSPACED.sub(" ", text))) + (num_short + 1) // 2 + (num_long + 3) // 4


def compounds(text: str) -> list[str]:
    """The words as `num_words` counts them where there are spaces, in the spelling that is compared."""
    return _COMPOUND.findall(_folded(text))


def terms(text: str) -> list[str]:
    """The words of `text` without case and English endings; words of scripts without spaces as pairs of characters,
    numbers from two to ninety-nine in digits."""
    return [term for match in _WORD.finditer(_folded(text)) for term in _word_terms(match[0])] + _codes(text)


# Texts repeat their words: without it a megabyte takes three times as long.
@lru_cache(maxsize=1 << 16)
def _word_terms(word: str) -> tuple[str, ...]:
    if _PAIRED.search(word):
        return tuple(word[i : i + 2] for i in range(max(1, len(word) - 1)))
    return (IN_DIGITS.get(word) or _stem(word),)


def _codes(text: str) -> list[str]:
    """Addresses, ids and the like as whole words, beside their parts: `10.0.0.7`, `user_42`, `anna@example.org`."""
    return [code for code in _CODE.findall(_folded(text)) if _IS_CODE.search(code)]


def halves(text: str) -> list[str]:
    """The terms of both parts of every word that a line's end divides: its hyphen may be one of its own."""
    return [term for word in _DIVIDED.finditer(text) for term in terms(f"{word['first']} {word['second']}")]


def content_terms(text: str) -> list[str]:
    """`terms` without English function words; all terms if there are only function words."""
    return list(_content_terms(text))


# Each sentence is asked for its terms several times in a row.
@lru_cache(maxsize=512)
def _content_terms(text: str) -> tuple[str, ...]:
    if not (words := _content_words(text)):
        return tuple(terms(text))
    return (*(term for word in words for term in _word_terms(word)), *_codes(text))


def has_content(text: str) -> bool:
    """True if any word is more than an English function word."""
    return bool(_content_words(text))


def content_spans(text: str) -> list[tuple[int, int]]:
    """The characters of each word that is more than an English function word."""
    return [match.span() for match in _WORD.finditer(text) if has_content(match[0])]


def word_set(text: str) -> frozenset[str]:
    return frozenset(content_terms(text))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Cosine of two sets of words, 0 to 1."""
    return len(one & other) / (len(one) * len(other)) ** 0.5 if one and other else 0.0


def names_in(text: str) -> list[str]:
    """The names in a question, and its numbers of three digits or more, each once.

    A name is a capitalised word that does not begin a sentence and is neither a function word nor a title ("Dr."). In
    titles, where function words or all words are capitalised, names cannot be told, and only numbers are returned.
    """
    text = with_two_words_in_digits(plain_spelling(text))
    inner = [match for match in _WORD.finditer(text) if not _begins_sentence(text[: match.start()])]
    inner = [match for match in inner if not (match[0].lower() in TITLES and text[match.end() :].startswith("."))]
    capital = [match[0] for match in inner if match[0] != match[0].lower() and not _PAIRED.search(match[0])]
    functional = [word for word in capital if re.split("n?['\u2019]", word.casefold())[0] in _STOPWORDS]
    numbers = [number for number in _NUMBER.findall(text) if sum(map(str.isdigit, number)) > 2]
    if text.isupper() or any(word[0] != "I" for word in functional):
        return list(dict.fromkeys(numbers))
    capital = [word for word in capital if word not in functional and not any(map(str.isdigit, word))]
    return list(dict.fromkeys(capital + numbers))


def _begins_sentence(before: str) -> bool:
    """True if what follows `before` begins a sentence: not after "Dr."."""
    title = re.search(r"([^\W\d_]+)\.\s*$", before)
    return _BEGINS_SENTENCE.search(before) is not None and (title is None or title[1].lower() not in TITLES)


def variants(name: str) -> list[list[str]]:
    """The terms of a name or number in each way a text may write it: whole, without an elided article before an
    apostrophe ("l'Opéra"), without separators of thousands, a number in words, a version with its "v"."""
    plain = name.replace(",", "")
    version = f"v{name}" if name[:1].isdecimal() and "." in name else ""
    ways = [name, version, re.split("['\u2019]", name)[-1], plain, (plain.isdecimal() and in_words(int(plain))) or ""]
    return [terms(way) for way in dict.fromkeys(ways) if way]


def quotes_are_balanced(text: str) -> bool:
    """True if every quotation mark that opens is closed, and none closes that was not opened."""
    depth, low = 0, 0
    for mark in _QUOTATION_MARK.findall(text):
        # What a low mark opens, as in German, is closed by the mark that opens in English, or by that which closes.
        opens = mark == "\u201e" or (mark == "\u201c" and not low)
        depth += 1 if opens else -1
        low = max(0, low + (1 if mark == "\u201e" else -1 if not opens else 0))
        if depth < 0:
            return False
    return depth == 0 and text.count('"') % 2 == 0


def term_weights(frequencies: NDArray[np.int64], num_passages: int) -> NDArray[np.float64]:
    """log(1 + (N - n + 1/2) / (n + 1/2)) for terms in n of N passages [t]: never negative."""
    return np.log1p((num_passages - frequencies + 0.5) / (frequencies + 0.5))


def bm25_share(
    counts: NDArray[np.int64], lengths: NDArray[np.int64], weights: NDArray[np.float64], mean_length: float
) -> NDArray[np.float64]:
    """BM25 of n passages [n], divided by its limit for endless repetition of all terms: 0 to 1.

    counts [t, n]: of each term; lengths [n]: words; weights [t]: of `term_weights`.
    """
    total = weights.sum()
    if not total:
        return np.zeros(len(lengths))
    norm = _K1 * (1 - _B + _B * lengths / mean_length)
    share: NDArray[np.float64] = weights @ (counts / (counts + norm)) / total
    return share


def _folded(text: str) -> str:
    """`text` in the form in which all spellings of a word are equal."""
    text = with_two_words_in_digits(plain_spelling(text))
    if text.isascii():
        return text.casefold()
    text = _OPTIONAL.sub("", unicodedata.normalize("NFKC", text))
    # Folding may take a letter apart again.
    return _APOSTROPHE.sub("'", unicodedata.normalize("NFKC", text.casefold()))


def _joined(match: re.Match[str]) -> str:
    # A capital after a small letter begins a word of its own, as in "Jean-Paul".
    is_own = match["hyphen"] != "\u00ad" and match["before"][0].islower() and match["after"].isupper()
    return match["before"] + ("-" if is_own else "")


def _content_words(text: str) -> list[str]:
    return [match[0] for match in _WORD.finditer(_folded(text)) if match[0] not in _STOPWORDS]


def _stem(word: str) -> str:
    word = word.removesuffix("'s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
