"""What kind of thing a question asks for, as far as its words say, and which texts hold one.

English only; other questions expect nothing in particular. What a question itself names is no answer to it.
"""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["number", "time", "name", "code", "meaning"]

_NUMBERS = (
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|"
    r"nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundreds?|thousands?|millions?|billions?|dozens?|half|"
    r"once|twice|thrice|every|each|daily|weekly|monthly|yearly|annual(?:ly)?|none|several|no limit"
)
_MONTHS = (
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|"
    r"dec(?:ember)?"
)
_DAYS = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?|noon|midnight|christmas|easter|morning|evening|night|century"
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_THINGS: dict[str, re.Pattern[str]] = {
    "number": re.compile(rf"\d[\d.,:/-]*|\b(?:{_NUMBERS})\b", re.I),
    "time": re.compile(
        rf"\b(?:1\d|20)\d\d\b|\b\d{{1,2}}:\d\d|\b(?:{_MONTHS})\.? \d|\d\.? (?:{_MONTHS})\b|\b(?:{_DAYS})\b|\b\w+ "
        r"(?:second|minute|hour|day|week|month|year)s?\b|\b(?:yesterday|today|tomorrow|ago|until|once|after|before|during)\b",
        re.I,
    ),
    # A capital elsewhere than at the start of a sentence, or an account's name.
    "name": re.compile(r"(?<![.!?:*#>\n] )(?<!^)(?<![\w.])(?:[^\W\d_a-z]\w+(?:['\u2019-]\w+)*|@\w[\w-]*)"),
    "code": re.compile(r"`[^`\n]+`|(?<![\w-])--?[a-zA-Z][\w-]*|\b\w+[_./]\w+\b"),
}
# "Who is Syme?", "What is a snapshot?", "What does CSI stand for?"
_ASKS_MEANING = re.compile(
    r"\W*(?:(?:who|what) (?:is|are|was|were)|what does)(?: an?| the)? (?P<term>[\w.-]+(?: [\w.-]+){0,2}?)"
    r"(?: mean| stand for)?\W*",
    re.I,
)
_ASKS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("time", re.compile(r"\b(?:when|(?:what|which) (?:year|date|day|month|time|century)|how long ago)\b", re.I)),
    (
        "number",
        re.compile(
            r"\bhow (?:many|much|long|old|often|far|tall|fast|hot|cold|big|large|high|deep|wide|heavy|soon|quickly)\b|"
            r"\b(?:what|which)(?: \w+)? (?:number|share|percentage|age|price|sum|size|amount|temperature)\b",
            re.I,
        ),
    ),
    ("meaning", _ASKS_MEANING),
    ("name", re.compile(r"\b(?:who|whose|whom)\b|\bname of\b", re.I)),
    (
        "code",
        re.compile(r"\b(?:what|which) (?:\w+ )?(?:flag|option|switch|command|setting|function|variable|file)\b", re.I),
    ),
)


def expected(question: str) -> Kind | None:
    """What the question asks for; None where that cannot be told."""
    # A meaning is all that such a question asks for; other kinds are told by some of its words.
    return next(
        (kind for kind, asks in _ASKS if (asks.fullmatch if kind == "meaning" else asks.search)(question)), None
    )


def holds(kind: Kind, text: str, question: str) -> bool:
    """True if `text` has a thing of this kind that is not in the question."""
    if kind == "meaning":
        asked = _ASKS_MEANING.fullmatch(question)
        return asked is not None and _explains(asked["term"], text)
    known = question.casefold()
    return any(match[0].casefold() not in known for match in _THINGS[kind].finditer(text))


def _explains(term: str, text: str) -> bool:
    """True if `text` says what the term is: it is followed by "is" and the like, or called so."""
    name = rf"\b{re.escape(term)}\b[\"'\u201d\u2019`*_)\]]*"
    said = r"(?: \([^)]*\))?(?:,)? (?:is|are|was|were|means?|refers?|stands?|represents?|denotes?|an?|the)\b"
    return (
        re.search(rf"{name}{said}|\b(?:called|named|termed)(?: an?| the)? [\"'\u201c\u2018`*_]*{name}", text, re.I)
        is not None
    )


def numbers_in(text: str) -> frozenset[str]:
    """The numbers of a text, of any length, without separators of thousands: "priority 2" is not "priority 1"."""
    return frozenset(match[0].replace(",", "") for match in _NUMBER.finditer(text))
