"""Words as lexical evidence compares them, and BM25.

BM25 is that of Robertson and Zaragoza (2009), equation 3.15, with k1 = 1.2 and b = 0.75.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

_K1, _B = 1.2, 0.75
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_NUMBER = re.compile(r"(?<!\w)\d+(?:[.,:/-]\d+)*(?!\w)")
_BEGINS_SENTENCE = re.compile(r"(?:^|[.?!:])[^\w]*$")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
_ENDINGS = ("ings", "ing", "edly", "ed", "ies", "es", "s", "ly", "y", "e")
_FUNCTION_WORDS = """
a about after all an and any are as at be because been before being but by can could did do does doing for from had has
have having he her hers him his how i if in into is it its me my no not of off on or our out over own she so some such
than that the their them then there these they this those to too under until up very was we were what when where which
while who whom whose why will with would you your happens happen happened
"""
_STOPWORDS = frozenset(_FUNCTION_WORDS.split())


def terms(text: str) -> list[str]:
    """The words of `text`, without case and English endings; East Asian words as pairs of characters."""
    found = []
    for match in _WORD.finditer(text.casefold().replace("\u2019", "'")):
        word = match[0]
        if _EAST_ASIAN.search(word):
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        else:
            found.append(_stem(word))
    return found


def content_terms(text: str) -> list[str]:
    """`terms` without English function words; all of them if nothing else is there."""
    return [term for word in _content_words(text) or [text] for term in terms(word)]


def names_in(text: str) -> list[str]:
    """The names in a question and its numbers of three digits or more, each once.

    A name is a word with a capital letter that neither begins a sentence nor is a function word. Where function words
    have capitals or all words have, as in titles, none can be told.
    """
    inner = [match for match in _WORD.finditer(text) if not _BEGINS_SENTENCE.search(text[: match.start()])]
    capital = [match[0] for match in inner if match[0] != match[0].lower() and not _EAST_ASIAN.search(match[0])]
    functional = [word for word in capital if re.split("n?['\u2019]", word.casefold())[0] in _STOPWORDS]
    numbers = [number for number in _NUMBER.findall(text) if sum(map(str.isdigit, number)) > 2]
    if text.isupper() or any(word[0] != "I" for word in functional):
        return list(dict.fromkeys(numbers))
    capital = [word for word in capital if word not in functional and not any(map(str.isdigit, word))]
    return list(dict.fromkeys(capital + numbers))


def variants(name: str) -> list[list[str]]:
    """The terms of a name or number in each way that it may stand in a text: whole, without what is elided before an
    apostrophe, without separators of thousands."""
    ways = [name, re.split("['\u2019]", name)[-1], name.replace(",", "")]
    return [terms(way) for way in dict.fromkeys(ways) if way]


def has_content(text: str) -> bool:
    """Whether any word is more than an English function word."""
    return bool(_content_words(text))


def _content_words(text: str) -> list[str]:
    return [match[0] for match in _WORD.finditer(text.casefold()) if match[0] not in _STOPWORDS]


def _stem(word: str) -> str:
    word = word.removesuffix("'s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def term_weights(frequencies: NDArray[np.int64], num_passages: int) -> NDArray[np.float64]:
    """log(1 + (N - n + 1/2) / (n + 1/2)) for terms in n of N passages [t]: never negative."""
    return np.log1p((num_passages - frequencies + 0.5) / (frequencies + 0.5))


def bm25_share(
    counts: NDArray[np.int64], lengths: NDArray[np.int64], weights: NDArray[np.float64], mean_length: float
) -> NDArray[np.float64]:
    """BM25 of n passages [n], as a share of what endless repetition of all terms would give: 0 to 1.

    counts [t, n]: of each term; lengths [n]: words; weights [t]: of `term_weights`.
    """
    total = weights.sum()
    if not total:
        return np.zeros(len(lengths))
    norm = _K1 * (1 - _B + _B * lengths / mean_length)
    share: NDArray[np.float64] = weights @ (counts / (counts + norm)) / total
    return share
