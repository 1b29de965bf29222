"""Headings: which lines of a document begin a part of it, and on which level."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from famcli.text.boundaries import LEADER
from famcli.text.markup import QUOTED, without_marks
from famcli.text.sentences import Sentence
from famcli.text.words import terms

PLAIN = 9
"""The level of a short line that stands alone. It counts as a heading only if a document has no others."""

_MAX_LENGTH = 100
_MARKED = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
# In Markdown as HTML, mostly to have it in the middle; what it stands in begins or ends around it.
_TAGGED = re.compile(r"<h([1-6])\b[^<>]*>(.*?)</h\1>\s*(?:</?\w+[^<>]*>\s*)*", re.IGNORECASE | re.DOTALL)
_UNDERLINED = re.compile(r"(.+?)\s*\n(([=\-~^\"'*+#.:`_])\3{2,})$")
# As most documents in reStructuredText use them; parts and chapters of the largest have # and *.
_LEVELS = {"#": 1, "*": 1, "=": 1, "-": 2, "~": 2, "^": 3, '"': 4}
_CODE_INDENT = 4  # columns from which a line of Markdown is code
_NAMED = re.compile(
    r"(?:(part|book|volume|teil|partie|\u0447\u0430\u0441\u0442\u044c)|(chapter|canto|act|letter|stave|"
    r"appendix|prologue|epilogue|preface|introduction|conclusion|abstract|kapitel|chapitre|cap[i\u00ed]tulo|capitolo|"
    r"\u0433\u043b\u0430\u0432\u0430)|(section|scene|abschnitt))\b",
    re.I,
)
# "Chapter" and its like in Chinese and Japanese, with the number inside: part or volume, chapter, section.
_COUNTED = re.compile(
    "\u7b2c[\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341\u767e\u5343\u96f6\u3007\\d]{1,6}(?:([\u90e8\u5377])|"
    "[\u7ae0\u56de\u7bc7\u8a71\u8bdd]|([\u7bc0\u8282]))"
)
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,3})[.)]?\s+[^\W\d]")
# The title of a clause, by itself or before its text on the same line: "5. Conveying Modified Source Versions."
_CLAUSE = re.compile(
    r"(?:article |section |\u00a7 ?)?(\d{1,2}(?:\.\d{1,2}){0,2})\.?\s+([^\W\d_][^.:;!?]{2,70})\.", re.I
)
_LONG_WORD = 4
_ROMAN = re.compile(r"[IVXLC]{1,7}(?:[.:]|$)")

# An entry of a table of contents: with dots before a number, or with a number before and behind it. Several may stand
# on one line.
_DOTTED = re.compile(r"\w(?:\s?\.){4,}\s*[\divxlc]{1,6}\b")
_PAGED = re.compile(
    r"(?:\d{1,2}(?:\.\d{1,3}){0,3}\.?|(?:chapter|part|section|appendix) \w{1,5}[.:]?)\s+[^\W\d_][^\n.;!?]{2,90}?\s"
    r"\d{1,4}$",
    re.I | re.M,
)
_PAGE_NUMBER = re.compile(r"(?:[\s.]*\s\d{1,4}|\s*\(#[^)\s]*\))$")
_ITEM_SIGN = re.compile(r"^(?:[-*+\u2022]|\(?\d{1,3}(?:\.\d{1,3}){0,3}[.)]?)\s+")
_LINK_WITHIN = re.compile(r"^\W{0,6}(?:\d[\d.]*\s+)?\[[^\]\n]+\]\(#[^)\s]*\)\W*$")
_ROW_OF_PAGES = re.compile(r"^\W{0,3}[^|\n]{3,}\|.*?\|?\s*\d{1,4}(?:\s?[-\u2013]\s?\d{1,4})?\W{0,3}$", re.M)
_SAYS_CONTENTS = re.compile(r"\b(?:contents|pages?|inhalt|seite|table des mati\u00e8res|\u00edndice|indice)\b", re.I)
_FEWEST_ENTRIES = 3


@dataclass(frozen=True)
class Heading:
    """title: on one line, without its marks. level: from 1, the highest. is_marked: by number signs or a line below."""

    title: str
    level: int
    is_marked: bool = False


def heading(sentence: Sentence) -> Heading | None:
    """The heading that this sentence is, by its marks or by standing alone; None for text, list items and entries."""
    text = without_marks(sentence.text).strip()
    own_line = sentence.gap is None or "\n" in sentence.gap
    if (
        not text
        or not own_line
        or QUOTED.match(text)
        or sentence.is_code
        # A value of a table or of JSON is no heading, whatever it looks like ("#### 18").
        or (sentence.location is not None and sentence.location.is_of_record)
        or not sentence.whole
        or len(text) > _MAX_LENGTH
        or LEADER.search(text)
    ):
        return None
    indent = (sentence.gap or "").rpartition("\n")[2].expandtabs(_CODE_INDENT)
    if (marked := _MARKED.fullmatch(text)) is not None and marked[2] and len(indent) < _CODE_INDENT:
        return Heading(marked[2], len(marked[1]), is_marked=True)
    if (tagged := _TAGGED.fullmatch(sentence.text)) is not None and without_marks(tagged[2]).strip():
        return Heading(" ".join(without_marks(tagged[2]).split()), int(tagged[1]), is_marked=True)
    if (underlined := _UNDERLINED.fullmatch(text)) is not None:
        return Heading(" ".join(underlined[1].lstrip("# ").split()), _LEVELS.get(underlined[3], 3), is_marked=True)
    # Without marks only what stands alone can be a heading; a heading in capitals may take two lines.
    is_apart = sentence.gap is None or sentence.gap.count("\n") > 1
    if not is_apart or ("\n" in text and not text.isupper()):
        return None
    return _unmarked(" ".join(text.split()), sentence.is_finished)


def _unmarked(text: str, is_finished: bool) -> Heading | None:
    # Three letters, so that an initial or a year with a letter is not a line in capitals.
    is_upper = text.isupper() and sum(map(str.isalpha, text)) >= 3
    if (named := _NAMED.match(text)) is not None and (is_upper or len(text.split()) <= 12):
        if not is_finished or is_upper or len(text.split()) <= 3:
            return Heading(text, 1 if named[1] else 2 if named[2] else 3)
        return None
    if is_finished and not is_upper:
        clause = _CLAUSE.fullmatch(text)
        is_title = clause is not None and all(word[0].isupper() for word in clause[2].split() if len(word) > _LONG_WORD)
        return Heading(text, 2 + clause[1].count(".")) if clause is not None and is_title else None
    if (counted := _COUNTED.match(text)) is not None:
        return Heading(text, 1 if counted[1] else 3 if counted[2] else 2)
    if (numbered := _NUMBERED.match(text)) is not None:
        return Heading(text, 2 + numbered[1].count("."))
    if _ROMAN.match(text):
        return Heading(text, 2)
    if is_upper and not text.endswith((",", ";", ":")):
        return Heading(text, 3)
    words = text.split()
    is_plain = len(words) <= 8 and len(text) <= 60 and words[0][:1].isupper() and text[-1:] not in ",;:-\u2014"
    return Heading(text, PLAIN) if is_plain else None


def title_key(text: str) -> tuple[str, ...]:
    """The same for a heading and for the entry of a table of contents that names it."""
    return tuple(terms(_PAGE_NUMBER.sub("", _ITEM_SIGN.sub("", without_marks(text).strip()))))


def is_contents(
    sentences: Sequence[Sentence], above: Sequence[str] = (), titles: Collection[tuple[str, ...]] = ()
) -> bool:
    """True for a part of a table of contents: all of it are entries with the numbers of pages, links within the page,
    or headings that stand elsewhere. above: the headings that it is under. titles: those of the document, as
    `title_key` has them."""
    num_entries = num_lines = 0
    said = " ".join((*above, *(sentence.text for sentence in sentences[:3])))
    row = _ROW_OF_PAGES if _SAYS_CONTENTS.search(said) else _DOTTED
    for sentence in sentences:
        if sentence.location is not None and sentence.location.is_of_record:
            return False
        text = sentence.text.strip()
        found = max(int(LEADER.search(text) is not None), *(len(one.findall(text)) for one in (_DOTTED, _PAGED, row)))
        is_title = not sentence.is_finished and (_LINK_WITHIN.match(text) or title_key(text) in titles)
        if sentence.is_finished and not found:
            return False  # what it announces is no table of contents
        num_entries += max(found, int(bool(is_title)))
        num_lines += max(found, 1)
    # Its own heading may stand above it, and the names of its columns.
    return num_entries >= _FEWEST_ENTRIES and num_lines - num_entries <= 1 + (row is _ROW_OF_PAGES)
