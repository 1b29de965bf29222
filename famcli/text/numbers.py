"""Numbers in English words: "two" is 2, "twenty-one" 21, "three hundred and sixty-five" 365."""

from __future__ import annotations

import re
from collections.abc import Iterator

_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {word: value for value, word in enumerate(_UNITS + _TEENS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}
IN_DIGITS = {word: str(value) for word, value in _VALUES.items() if value > 1}
"""Words of one number, without "one", which is mostly none, and "zero", which is a thing ("leading zeros")."""

_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
_ROMAN = re.compile(r"C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")

_MAY_BE_TWO = re.compile(rf"ty[-\u2010\s](?:{'|'.join(_UNITS[1:])})\b", re.I)
_TWO_WORDS = re.compile(rf"\b({'|'.join(_TENS)})[-\u2010\s]({'|'.join(_UNITS[1:])})\b", re.I)
_WORD = "|".join((*_VALUES, *_SCALES))
_SPELLED = re.compile(
    rf"\b(?:a (?=hundred|thousand|million))?(?:{_WORD})(?:(?:[-\u2010\s]|\s+and\s+)(?:{_WORD}))*\b", re.I
)


def with_two_words_in_digits(text: str) -> str:
    """`text` with each number of two words, "twenty-one", as one of digits."""
    # The search for few letters is much faster than that for all words.
    if _MAY_BE_TWO.search(text) is None:
        return text
    return _TWO_WORDS.sub(lambda match: str(_VALUES[match[1].lower()] + _VALUES[match[2].lower()]), text)


def numbers_in_words(text: str) -> Iterator[int]:
    """The numbers of a text that are spelled out, but for a "one" by itself."""
    for match in _SPELLED.finditer(text):
        words = [word for word in re.findall(r"[a-z]+", match[0].lower()) if word not in ("a", "and")]
        if words != ["one"]:
            yield from _values(words)


def _values(words: list[str]) -> Iterator[int]:
    """The numbers that some words say: "two three" are two."""
    total, part, last = 0, 0, 0
    for word in words:
        value = _VALUES.get(word)
        if value is None:
            scale = _SCALES[word]
            if scale == 100:
                part = max(1, part) * 100
            else:
                total, part = total + max(1, part) * scale, 0
            last = scale
            continue
        # A word goes on with a number that ends with noughts enough for it.
        goes_on = last >= 100 or (20 <= last < 100 and 0 < value < 10)
        if last and not goes_on:
            yield total + part
            total, part = 0, 0
        part, last = part + value, value
    yield total + part


def in_words(number: int) -> str | None:
    """A number below a thousand, or of whole thousands below a million, in words."""
    if number >= 1000:
        thousands = in_words(number // 1000) if number % 1000 == 0 and number < 1_000_000 else None
        return thousands and f"{thousands} thousand"
    if number >= 100:
        rest = in_words(number % 100) if number % 100 else None
        return f"{_UNITS[number // 100]} hundred" + (f" and {rest}" if rest else "")
    if number < 20:
        return (_UNITS + _TEENS)[number]
    return _TENS[number // 10 - 2] + (f"-{_UNITS[number % 10]}" if number % 10 else "")


def number_of(word: str) -> int | None:
    """The number that a word is, in digits, Roman or spelled out: "12", "XII", "Twelve"."""
    if word.isdecimal():
        return int(word)
    if word.isupper() and _ROMAN.fullmatch(word):
        digits = [_ROMAN_DIGITS[digit] for digit in word]
        return sum(-one if one < max(digits[at:]) else one for at, one in enumerate(digits))
    small = word.lower()
    return 1 if small == "one" else next(numbers_in_words(small), None)
