"""Where sentences end: rules on end marks and line breaks that look at most `LOOKAHEAD` characters ahead.

Each rule answers True, False, or None if the text so far does not tell, so nothing depends on where a stream was cut.
Lines that are units of their own (headings, list items, entries of a table of contents, turns of a play, code) end
with their line; inside code nothing else ends a sentence.
"""
# Own rules, because they measured best (benchmarks/sentence_splitters.py: of 65 marked cases 63 are right; of pysbd and
# sentencex 36, syntok 27, blingfire 25), and because the libraries need the whole text at once.

from __future__ import annotations

import re
import unicodedata

from famcli.text.abbreviations import CAPITALIZED, COUNTED, SHORTENED, TITLES, words
from famcli.text.markup import QUOTED
from famcli.text.words import MARKS

LOOKAHEAD = 200
"""White space that is searched for what follows an end mark."""

_NARROWEST = 12  # a shorter line is not one of wrapped prose
_SHORT_LINE = 40  # a shorter line without an end mark is a heading if a capital follows
# Characters of the next word and of the next line, as many as any rule needs: with fewer there, a rule must wait.
_NEXT_WORD, _NEXT_LINE = 24, 48

_EAST_ASIAN = "\u3002\uff01\uff1f\uff61"
_OWN = "\u0964\u0965\u061f\u06d4\u0589\u1362\u104b\u17d4"  # danda, Arabic, Armenian, Ethiopic, Burmese, Khmer
_CLOSING = "\"'\u201d\u2019\u00bb)\\]*_"
_CLOSING_ELSEWHERE = "\u201c\u2018\u00ab"  # in German and Danish, where English and French open with them
# An end mark with what belongs to it: closing quotes, the space before a French quote, and footnote marks such as [12].
# The Greek question mark looks like a semicolon, and is one only after Greek letters.
CANDIDATE = re.compile(
    rf"""[.!?\u2026{_OWN}]++(?:[{_CLOSING}]|[ \u00a0\u202f]\u00bb(?!\w)|[{_CLOSING_ELSEWHERE}](?!\w)){{0,4}}+
        (?:\[\d{{1,3}}\]){{0,4}}+
      | (?<=[\u0370-\u03ff\u1f00-\u1fff]);
      | [{_EAST_ASIAN}]++[\u201d\u2019\u300d\u300f\uff09\u300b"]{{0,4}}+
      | \n""",
    re.VERBOSE,
)
END = re.compile(
    rf"[.!?\u2026{_OWN}{_EAST_ASIAN}][{_CLOSING}{_CLOSING_ELSEWHERE}\u300d\u300f\uff09\u300b ]*(?:\[\d{{1,3}}\])*$"
)

_SPACE = re.compile(r"[\s\ufeff]*")
_INLINE_SPACE = re.compile(rf"[ \t\r\f\v\ufeff]{{0,{LOOKAHEAD}}}")
_BLANK_LINE = re.compile(r"\n[ \t\r\f\v\ufeff]*\n")
_LAST_WORD = re.compile(rf"[\w.&\u00b0{MARKS}]+$")
_WORD = re.compile(r"\w+")
# Words that are no part of an address, a path or a name in a program.
_PLAIN_WORD = re.compile(rf"(?:^|[\s\"\u201c\u2018(-])([^\W\d_{{}}][\w'\u2019{MARKS}]+|\d+)$")
_WORD_ALONE = re.compile(r"[\"\u201c\u2018(]?([^\W\d_][\w'\u2019-]*)(?=[\s,;:])")
_MANY_BLANKS = 3
_DASH = re.compile(r"[\u2014\u2013-]\s*")


_STARTERS = words(
    """
    the this that these those there he she it we they you his her its our their my in on at as by for from with when
    where what who why how if but and so then after before although while since because however no not did do does was
    were is are can could would will one some many most all each every both here now once also nobody nothing such
    """
)
_DAYS = words(
    """
    monday tuesday wednesday thursday friday saturday sunday today yesterday tomorrow est edt gmt utc pst cet
    """
)
_MONTHS = words("januar februar m\u00e4rz april mai juni juli august september oktober november dezember")
_SPEECH = re.compile(
    r"(?:[A-Z][\w.'\u2019-]* ){1,3}(?:said|asked|cried|replied|answered|shouted|whispered|exclaimed|called|muttered)\b"
)
# The dots, tabs or spaces before a page number in a table of contents. Possessive quantifiers keep a line of a million
# dots linear.
LEADER = re.compile(r"(?:(?<!\.)\.{3,}+|(?<!\. )(?:\. ){2,}+\.?|(?<!\u2026)\u2026++|\t|(?<! ) {3,}+) *[\divxlc]{1,6}$")
_CHAPTER = re.compile(r"(?:chapter|part|book|section|volume|canto|act|scene)\s+[\w-]+$", re.I)
_ROMAN = re.compile(r"[IVXLC]+\b(?!['\u2019])")
_ROMAN_ORDINAL = re.compile(r"(?=..)X{0,3}(?:IX|IV|V?I{0,3})")
_NUMBER = re.compile(r"\(?(?:\d{1,3}|[ivxlc]{1,6}|[a-z])", re.I)
_ITEM = re.compile(
    r"""(?:[*+\u2022\u2043-]|\#{1,6})[ \t] | \u2043 | [\u2013\u2014][ ](?=[^a-z])
      | (?:\d{1,3}(?:\.\d{1,3})*|[ivxlc]{1,5}|[IVXLC]{1,6})[.)][ \t]\S | \(\w{1,4}\)[ \t]\S
      | [A-Z][\w.'\u2019-]{0,20}(?:[ ][A-Z0-9][\w.'\u2019-]{0,16}){0,2}:[ ]\S
      | ```|~~~|[=\#*_-]{3}
      | [\[<(]?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d | [\[<(]?\d\d:\d\d:\d\d[\s.,\])>]
      | [A-Z][a-z]{2}[ ][ \d]\d[ ]\d\d:\d\d:\d\d[ ]  # a line of a log, and below of a chat
      | \[\d{1,2}:\d\d\][ ] | \[?\d{1,2}[/.]\d{1,2}[/.]\d{2,4},?[ ]\d{1,2}:\d\d
      | \d{1,2}:\d\d[ ](?:-[ ])?[A-Z][\w ]{0,24}:[ ]""",
    re.VERBOSE,
)
# How the line before a numbered clause ends: "4.5 Euro" may begin a line of wrapped prose.
_CLAUSE_ENDS = (*".;:!?", "\u201d", '"')
_CLAUSE = re.compile(r"\d{1,3}(?:\.\d{1,3}){1,4}[ \t]+[A-Z\"\u201c\u2018(\[]")
# "entitled it" and below "1.0. On": a version at the beginning of a line of wrapped prose.
_DOTTED = re.compile(r"\d{1,3}(?:\.\d{1,3})+[.)][ \t]")
# "shall process Personal" and below "Data: (1) to fulfil": no turn of a play, where prose is wrapped before a list.
_ANNOUNCES = re.compile(r"[A-Z][\w'\u2019-]{0,20}: \((?:\d{1,2}|[a-z]|[ivx]{1,4})\)")
_MARKED = re.compile(r"#{1,6}\s")
_RULE = re.compile(r"[=\-*_#~]{3,}")
_UNDERLINE = re.compile(r"(?:={3,}|-{3,}|~{3,})[ \t\r]*(?:\n|$)")
# Of reStructuredText, as long as the title at least: shorter ones are breaks between scenes, and figures.
_OTHER_UNDERLINE = re.compile(r"((?P<sign>[\^\"'*+#.:`_])(?P=sign){2,})[ \t\r]*(?:\n|$)")
_CODE = re.compile(
    r"""(?:[ ]{4}|\t)\s*(?:[\w.\[\]>-]+\(|[\w.\[\]>]+[ ][-+*/|&]?=[ ]|//|/\*|[{}()]+\s*$
        |.*[{};]\s*$|(?:if|for|while)[ ]\()
      | \s*(?:\$|>>>|\.\.\.|%)[ ]\S | \#include""",
    re.VERBOSE,
)
# Below the names of the columns of a table of Markdown.
TABLE_RULE = re.compile(r"\|[ \t]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t\r]*")
FENCE = re.compile(rf"(?:{QUOTED.pattern})?[ \t]*(?P<fence>```+|~~~+)(?P<info>(?!.*`).*)")
# What stands alone above a list without signs: "Present:", "Board Members Present:".
_LABEL = re.compile(r"[*_]{0,3}[^\W\d_a-z][\w'\u2019()/&-]*(?: [\w'\u2019()/&-]+){0,5}(?::[*_]{0,3}|[*_]{1,3}:)\s*$")
_LONGEST_ENTRY = 60  # characters of such a list's lines


def end_mark_ends(
    text: str, at: int, mark: re.Match[str], indent: str | None, final: bool, spaced: bool = True
) -> bool | None:
    """True if the sentence that begins at `at` ends with this end mark.

    indent: the white space before the sentence on its line; None if it does not begin a line. spaced: white space
    followed the end mark before this one.
    """
    place = mark.end()
    if place == len(text):
        return True if final else None
    if mark[0][0] in _EAST_ASIAN:
        # Japanese goes on after a quotation with a particle for "said".
        return not (len(mark[0]) > 1 and text.startswith(("\u3068", "\u3063\u3066"), place))
    if mark[0][0] in _OWN:
        return True
    found = _SPACE.match(text, place, place + LOOKAHEAD)
    assert found is not None
    if not found[0]:
        if place + _NEXT_WORD > len(text) and not final:
            return None
        return _is_unspaced_end(text, at, mark, indent, spaced)
    if _BLANK_LINE.search(found[0]) or len(found[0]) == LOOKAHEAD:
        return True
    if found.end() + _NEXT_WORD > len(text) and not final:
        return None
    line = _line(text, at, mark.start(), indent)
    # A Markdown heading ends with its line: "### 1. Account Controls".
    if is_code(line) or _MARKED.match(line):
        return False
    return _begins_sentence(text, at, mark, found.end(), indent is not None)


def _is_unspaced_end(text: str, at: int, mark: re.Match[str], indent: str | None, spaced: bool) -> bool:
    """True if a sentence ends at an end mark and the next one follows without white space."""
    before = _PLAIN_WORD.search(text, max(at, mark.start() - 2 * _NEXT_WORD), mark.start())
    after = _WORD_ALONE.match(text, mark.end(), mark.end() + _NEXT_WORD)
    if (
        before is None
        or after is None
        or not after[1][0].isupper()
        or mark[0].startswith("..")
        or is_code(_line(text, at, mark.start(), indent))
    ):
        return False
    if _is_abbreviation(text, at, mark.start(), text[after.start(1) : after.end()], indent is not None):
        return False
    if after[1].lower() in _STARTERS or after[1] in ("A", "An"):
        return True
    # "asyncio.Queue" is a name where other sentences end with a blank, and in a beginning that is short.
    return not spaced and before[1].islower() and text.count(" ", at, mark.start()) >= _MANY_BLANKS


def _begins_sentence(text: str, at: int, mark: re.Match[str], place: int, at_line_start: bool) -> bool:
    """True if the text at `place`, after an end mark and white space, begins a sentence."""
    after = text[place : place + 2 * _NEXT_WORD]
    if after[:1] in ".\u2026" and not after[1:2].isalnum():
        return False  # an ellipsis or a leader with spaces between its dots
    dashed = _DASH.match(after)
    first = after[dashed.end() :] if dashed and mark[0][-1] not in ".!?" else after
    # "iPhone" and its like begin sentences with a small letter.
    if first[:1].islower() and not first[1:2].isupper():
        return False
    if dashed and after[dashed.end() : dashed.end() + 1].islower():
        return False
    is_leader = mark[0].startswith(("..", "\u2026")) or text[max(at, mark.start() - 2) : mark.start()] == ". "
    if is_leader and after[:1].isdigit():
        return False
    if mark[0][-1] in "\"\u201d\u2019'" and mark[0][0] in "!?" and _SPEECH.match(after):
        return False
    return not (mark[0] in (".", ".)") and _is_abbreviation(text, at, mark.start(), after, at_line_start))


def _is_abbreviation(text: str, at: int, place: int, after: str, at_line_start: bool) -> bool:
    """True if the full stop at `place` belongs to the word before it and does not end the sentence from `at` on."""
    found = _LAST_WORD.search(text, max(at, place - 16), place)
    if found is None:
        return False
    word, follower = unicodedata.normalize("NFC", found[0]).lower(), _WORD.match(after)
    following = follower[0].lower() if follower else ""
    # A number that begins the line or the sentence numbers an item: "1. First", "a. Second".
    stands_first = not text[at : found.start()].strip(" \t\u2022\u2043*-(")
    if stands_first and (_NUMBER.fullmatch(word) if at_line_start else word.isdigit() and len(word) <= 2):
        return True
    if at_line_start and _CHAPTER.fullmatch(text, at, place):
        return True
    if word in TITLES:
        return True
    if word in COUNTED and (after[:1].isdigit() or _ROMAN.match(after)):
        return True
    if word in ("a.m", "p.m"):
        return following in _DAYS
    if word.isdigit() and len(word) <= 2 and following in _MONTHS:
        return True
    if _ROMAN_ORDINAL.fullmatch(found[0]) and _may_be_ordinal(text[at : found.start()]):
        return True
    last = word.rsplit(".", 1)[-1]
    is_initial = len(last) == 1 and last.isalpha()
    # "I" is an initial only after a name, and a pronoun elsewhere ("so do I. Then ...").
    if found[0] == "I":
        before = text[max(at, found.start() - 20) : found.start()].split()
        is_initial = bool(before) and before[-1][:1].isupper() and before[-1] != "I"
    is_shortened = word in SHORTENED or (found[0][0].isupper() and word in CAPITALIZED)
    return (is_initial or is_shortened) and following not in _STARTERS


def _may_be_ordinal(before: str) -> bool:
    """True if a Roman numeral with a full stop may be an ordinal after this, as it is not in English: behind a word in
    small letters, in words with letters that English has not."""
    last = before.split()[-1:]
    return bool(last) and last[0].islower() and any(one.isalpha() and not one.isascii() for one in before)


def line_break_ends(text: str, at: int, place: int, indent: str | None, final: bool) -> bool | None:
    """True if the sentence that begins at `at` ends with the line break at `place`. indent: as above."""
    found = _INLINE_SPACE.match(text, place + 1)
    assert found is not None
    if found.end() == len(text):
        return True if final else None
    if text[found.end()] == "\n":
        return True
    if found.end() + _NEXT_LINE > len(text) and not final:
        return None  # a list item or an underline may follow
    line, begins = _line(text, at, place, indent), found.end()
    quoted, was_quoted = QUOTED.match(text, place + 1), QUOTED.match(line)
    if quoted is not None:
        begins = quoted.end()
        if not text[begins : begins + _NEXT_LINE].partition("\n")[0].strip():
            return True
    # A line that began in an earlier sentence is quoted if the next one is.
    if line and (quoted is None) != (was_quoted is None):
        return quoted is not None or not text[begins].islower()
    line = line if was_quoted is None else line[was_quoted.end() :]
    is_own = _is_own_line(line, text[place + 1 if quoted is None else begins : begins + _NEXT_LINE].partition("\n")[0])
    is_label = _LABEL.fullmatch(line) is not None and "\n" not in text[at:place] and text[begins].isupper()
    if is_label or (is_own and not _is_unit(line)):
        following = text[begins : begins + LOOKAHEAD]
        if len(following) < LOOKAHEAD and following.count("\n") < 2 and not final:
            return None
        first, *rest = following.split("\n")
        is_label = is_label and len(first) < _LONGEST_ENTRY and not END.search(first.rstrip())
        is_own = is_label or not _is_wrapped(line, text[at:place].split("\n")[-2:-1], [first, *rest])
    if is_own:
        return not _is_underlined(text, begins, line) or _RULE.fullmatch(line.strip()) is not None
    if _CLAUSE.match(text, begins) and line.rstrip()[-1:] in _CLAUSE_ENDS:
        return True
    is_broken = line[-1:].islower() and len(line) >= _SHORT_LINE
    if is_broken and (_ANNOUNCES.match(text, begins) or (_DOTTED.match(text, begins) and not line[0].isdigit())):
        return False
    return bool(_ITEM.match(text, begins)) and not _is_underlined(text, begins, line)


def _is_underlined(text: str, place: int, line: str) -> bool:
    """True if what stands at `place`, below a line, makes a heading of it."""
    if _UNDERLINE.match(text, place):
        return True
    other = _OTHER_UNDERLINE.match(text, place)
    return other is not None and len(other[1]) >= len(line.strip()) > 1


def _is_own_line(line: str, next_line: str) -> bool:
    """True if a line is a unit of its own before this next line: a rule, an entry, code or a heading."""
    bare = line.strip()
    if is_code(next_line) or _is_unit(line):
        return True
    is_short = 0 < len(bare) < _SHORT_LINE and not END.search(bare) and bare[-1] not in ",;:-\u2010\u00ad\u2014"
    return is_short and next_line.lstrip()[:1].isupper()


def _is_unit(line: str) -> bool:
    """True if a line is a unit of its own before any other."""
    bare = line.strip()
    is_marked = _RULE.fullmatch(bare) or LEADER.search(bare) or FENCE.match(bare) or _MARKED.match(bare)
    return bool(is_marked) or is_code(line)


def _is_wrapped(line: str, before: list[str], following: list[str]) -> bool:
    """True if a short line is one of narrow prose: the next word has no room on it, and a line begins in small letters.

    before: the line before in the same sentence, if any. following: the lines after it, as far as they are known.
    """
    first, *rest = following
    width = max(map(len, (first, *before, *rest[:1])))
    is_full = len(line.rstrip()) + 1 + len(first.partition(" ")[0]) > width and len(first) >= _NARROWEST
    return is_full and any(one.lstrip()[:1].islower() for one in (line, *rest[:1]))


def is_code(line: str) -> bool:
    """True if a line, or its beginning, looks like code: indented with calls or assignments, or after a prompt."""
    return _CODE.match(line) is not None


def _line(text: str, at: int, place: int, indent: str | None) -> str:
    """The line up to `place`, with its indent; nothing if the line began in an earlier sentence."""
    before = text.rfind("\n", at, place) + 1
    if before > at:
        return text[before:place]
    return "" if indent is None else indent + text[at:place]
