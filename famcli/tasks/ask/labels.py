"""What a text says of itself, and values under a name: `Date: ...`, `**When**: ...`, `license: MIT`, a list below
its heading.

"Who sent it?" and "When was the meeting?" share no word with the line that answers them, and "Who attended?" is
answered by all that stands below "Present". English only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from famcli.tasks.ask.expecting import expected, holds
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.text.headings import PLAIN, heading
from famcli.text.markup import without_marks
from famcli.text.name_lists import ends_list, is_people, may_be_name
from famcli.text.passages import Passage
from famcli.text.sentences import Sentence
from famcli.text.words import content_terms, has_content, terms

# Words for the text itself and what is said of any: they do not tell which value is asked for.
_ITSELF = frozenset(
    terms(
        "summary abstract guide manual readme tutorial document paper article essay post page web website file "
        "text book novel story report message mail email e-mail letter meeting call session minutes entry record "
        "item terms policy agreement contract dataset data package project list thing latest update current here "
        "it this that full complete exact exactly held take took place happen give given name named called say "
        "says did publish published find found see use used get please send sent write written wrote group team "
        "company product organization mean means stand stands column rule act law bill regulation plan version "
        "notice announcement"
    )
)
_ANOTHER = frozenset(terms("next previous last following upcoming earlier former original forwarded first second"))


@dataclass(frozen=True)
class _Labels:
    """What a question in these words asks for: the names that its value may have, each as terms. is_list: it may be a
    list below such a name. opening: what the first lines of a text say it by, where no name stands before it. said:
    what any sentence says it by, which then has one of the names' words."""

    asks: re.Pattern[str]
    names: tuple[frozenset[str], ...]
    is_list: bool = False
    opening: re.Pattern[str] | None = None
    said: re.Pattern[str] | None = None


def _labels(
    asks: str, names: str, is_list: bool = False, opening: str | None = None, said: str | None = None
) -> _Labels:
    found = tuple(frozenset(terms(name)) for name in names.split(", "))
    known = (None if pattern is None else re.compile(pattern) for pattern in (opening, said))
    return _Labels(re.compile(asks, re.I), found, is_list, *known)


_NAMES = r"(?:[^\W\d_a-z]\w+ ?){2}"
_DATED = (
    r"\b\d{4}-\d\d?-\d\d?\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b|(?i:\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"\w*\.? \d{1,2}\b|\b\d{1,2}\.? (?:of )?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))"
)
_A_TITLE = r"\w"
_NAMED_AND_DATED = r"(?m:(?:^|\t)[ \t]*(?:[^\W\d_a-z][\w.'\u2019-]* ){1,2}[^\W\d_a-z][\w'\u2019-]+, ?\(?\d)"
_TIME_IN_WORDS = r"(?:half|quarter) (?:past|to)|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b"
_MEETING = r"(?i:meeting|session|call|council|board|committee|assembly|hearing|it|chair\w*|president|moderator)"
_AT_TIME = (
    r"\W{1,4}(?:(?i:at|around|about|by)\W+(?:\w+\W+){0,2}?)?(?:\d{1,2}[.:]?\d\d\b|\d{1,2} ?(?i:[ap]\.?m\b|o.clock)"
    rf"|(?i:noon|midnight|{_TIME_IN_WORDS}))"
)
_WRITTEN = r"(?i:written|posted|published|told|novel|story|tales?|book|paper|article|essay|report|poems?)"
_BYLINE = (
    rf"{_NAMED_AND_DATED}|(?m:^\W*|[,;|] ?|\b{_WRITTEN} )[Bb]y:? (?:[^\W\d_a-z][\w.'\u2019-]*[ ,]*){{2}}|\S@\S+\.\w"
)
# The first that fits counts. What a question says beside these words must be about the text itself.
_ALIASES = (
    _labels(
        r"\bwho(?: all| else)? (?:\w+ )??(?:attend(?:ed|s)?|participated|joined|took part|came|was there|were there)\b"
        r"|\bwho (?:was|were|is|are) (?:present|in attendance|(?:the )?(?:attendees|participants))\b",
        "attendees, attendance, present, participants, in attendance, attending, members present, roll call",
        is_list=True,
        opening=rf"(?i:\b(?:present|in attendance|attend(?:ed|ing|ees))\b).*{_NAMES}.*{_NAMES}",
    ),
    _labels(r"\bwho (?:was|were|is) (?:absent|missing|excused)\b", "absent, excused, regrets, apologies", is_list=True),
    _labels(
        r"\bwho (?:\w+ )??(?:sent|wrote|writes|authored|published|posted)\b|\bby whom\b|\bwho\b.* \bfrom\b"
        r"|\bwho (?:is|was|are|were) the (?:sender|author|writer)s?\b",
        "from, author, authors, sender, by, written by, posted by",
        opening=_BYLINE,
    ),
    _labels(
        r"\bto whom\b|\bwho\b.* to\W*$|\bwho (?:is|was) the recipient|\bwho received|\baddressed to", "to, recipient"
    ),
    _labels(
        r"\b(?:when|date|day|time|how long ago)\b.*\b(?:updated|modified|changed|revised|edited|reviewed)\b",
        "last updated, updated, last modified, modified, last changed, revised, last reviewed, date modified",
    ),
    _labels(
        r"\b(?:when|date|day|time|how long ago)\b.*\bcreated\b", "created, date created, creation date, created at"
    ),
    _labels(r"\bwhen\b.*\b(?:effective|in effect|into force|take effect)\b", "effective, effective date"),
    _labels(
        r"\b(?:when|(?:what|which) time)\b.*\b(?:end(?:ed)?|finish(?:ed)?|closed?|adjourn(?:ed)?|conclude[d]?|over)\b",
        "adjourned, adjournment, end, ended, end time, meeting ended, closed, concluded, finished, closing",
        said=rf"\b{_MEETING}\b.{{0,40}}\b(?i:adjourned|closed|ended|concluded|finished|terminated){_AT_TIME}"
        rf"|\b(?i:adjourn(?:ed|ment)|closed|ended)(?: the {_MEETING})?{_AT_TIME}",
    ),
    _labels(
        r"\b(?:when|(?:what|which) time)\b.*\b(?:start(?:ed)?|beg[aiu]n|open(?:ed)?|convened?|"
        r"called to order)\b",
        "called to order, call to order, start, started, start time, began, opened, convened, opening",
        said=rf"\b(?i:called|call) (?:the {_MEETING} )?(?i:to order)(?: by [^.;]{{2,60}}?)?{_AT_TIME}"
        rf"|\b{_MEETING}\b.{{0,40}}\b(?i:started|began|opened|convened|commenced){_AT_TIME}",
    ),
    _labels(
        r"\bwho (?:\w+ )??(?:chaired|presided|led|moderated|facilitated|hosted)\b|\bwho (?:was|is) (?:the |in the )?"
        r"(?:chair(?:man|woman|person)?|facilitator|moderator|host)\b",
        "chair, chairperson, chairman, chairwoman, chaired by, facilitator, moderator, host",
    ),
    _labels(
        r"\bwho (?:\w+ )??(?:took|kept|wrote|recorded) (?:the )?(?:minutes|notes)\b"
        r"|\bwho (?:was|is) (?:the )?(?:scribe|note.?taker)",
        "scribe, scribes, note taker, minute taker, minutes taken by, notes taken by, recorder, secretary, clerk",
    ),
    _labels(
        r"\b(?:when|(?:what|which|on what|on which) (?:date|day|time))\b",
        "date, when, sent, published, time, day, date and time",
        opening=_DATED,
    ),
    _labels(r"\bsubject\b|\btopic\b|\btitle\b", "subject, title, topic", opening=_A_TITLE),
    _labels(r"\bwhere\b", "where, location, place, venue"),
    _labels(r"\b(?:other|alternative) names?\b|\balso (?:known|called)\b|\balias", "aliases, alias, also known as"),
    _labels(
        r"\bwhom? (?:do|can|should|must|to) .*\bcontact\b|\bwho is the contact\b",
        "contact, contact person",
        is_list=True,
    ),
)
_ASKS_ONE = re.compile(r"\W*(?:(?:to|by|on|under|since|until|from) )?(?:what|which|who|whose|whom|when|where)\b", re.I)
_MANY = re.compile(r"\W*(?:what|which|who) (?:\w+ )?(?:is|are|were|was)\b", re.I)
_LINE = re.compile(
    r"^[ \t>*+\u2022-]*(?P<name>[^\W\d_][\w ./()'-]{0,40}?)[*_]{0,2}[ \t]*:[*_]{0,2}"
    r"(?:[ \t]+(?P<value>\S.*?))?[*_ \t]*$",
    re.M,
)
_OPENING = 3  # passages in which a text says what it is
_LOOKED_AT = 64  # passages that have a name's words
_ENDS_WITH_NAME = re.compile(r"(?:^|; )([^:;\n]{1,80}):$")  # what is prose stands below its name
_MOST_SENTENCES = 3  # of such prose
_BY = re.compile(r"\W*[Bb]y (?:\S+ ?){2,7}$")  # the line of an author, which may end with a stop
_LONGEST = 100  # characters of a line of a title
_MOST_ITEMS, _LARGEST = 60, 4000  # items and characters of a list


@dataclass(frozen=True)
class Told:
    """A passage with the value that is asked for. quoted: the part that says it."""

    number: int
    passage: Passage
    quoted: Passage


def told(index: PassageIndex, question: str) -> Told | None:
    """The value that a question asks for by a name; None where it asks for something else, or the value stands
    nowhere, or in several places that cannot be told apart."""
    if not _ASKS_ONE.match(question) or not index.num_passages:
        return None
    asked = [term for term in content_terms(question) if term not in _ITSELF]
    alias = next((one for one in _ALIASES if one.asks.search(question) is not None), None)
    if alias is not None:
        said = set(terms(" ".join(match[0] for match in alias.asks.finditer(question))))
        rest = set(asked) - said
        if rest and not any(set(asked) <= name for name in alias.names):
            alias = None
        elif set(asked) & _ANOTHER - {"last"} or ("last" in asked and not any("last" in name for name in alias.names)):
            return None
    names = [frozenset(asked)] if asked and len(asked) < 4 and alias is None else []
    if alias is not None:
        names = [*alias.names]
    if not names:
        return None
    is_list = alias.is_list if alias is not None else _MANY.match(question) is not None
    found = [one for one in _found(index, names, question, is_list) if alias is not None or not _is_loose(one)]
    if not found and alias is not None and alias.said is not None:
        found = [*_said(index, alias.said, alias.names)]
    if found and (len({one.quoted.text for one in found}) == 1 or _is_first(index, found[0])):
        return found[0]
    return None if found or alias is None else _opening(index, alias)


def _said(index: PassageIndex, said: re.Pattern[str], names: Sequence[frozenset[str]]) -> Iterator[Told]:
    """The sentences that say it, each once."""
    numbers = {number for name in names for number in _holding(index, name)}
    for number in sorted(numbers):
        passage = index.passage(number)
        for sentence in passage.sentences:
            if said.search(" ".join(without_marks(sentence.text).split())) is not None:
                yield Told(number, passage, Passage(passage.source, (sentence,)))


def _is_loose(one: Told) -> bool:
    """True for lines below a heading that are no items: what a question calls by its usual name is such a list, but any
    other heading may have any lines below it."""
    sentences = one.quoted.sentences
    return len(sentences) > 1 and heading(sentences[0]) is not None and not any(each.is_item for each in sentences)


def _is_first(index: PassageIndex, one: Told) -> bool:
    """True if it is in the opening of the only source, and no record of many."""
    location = one.passage.location
    is_record = location is not None and location.is_of_record
    return one.number < _OPENING and not is_record and not _has_parts(index)


def _found(index: PassageIndex, names: Sequence[frozenset[str]], question: str, is_list: bool) -> Iterator[Told]:
    """The values under these names, in the order of the names and then of the text."""
    seen = set[int]()
    for name in names:
        for number in _holding(index, name):
            if number not in seen:
                seen.add(number)
                yield from _values(index, number, names, question, is_list)


def _holding(index: PassageIndex, name: frozenset[str]) -> list[int]:
    """The first passages that have all of these terms."""
    return list(islice(index.holding(sorted(name)), _LOOKED_AT))


def _values(
    index: PassageIndex, number: int, names: Sequence[frozenset[str]], question: str, is_list: bool
) -> Iterator[Told]:
    passage = index.passage(number)
    for place, sentence in enumerate(passage.sentences):
        is_record = sentence.location is not None and sentence.location.is_of_record
        if is_list and _is_name(sentence, names) and (items := _items(index, number, place)) is not None:
            yield Told(number, *items)
            return
        if is_record and _ENDS_WITH_NAME.search(sentence.text) is not None:
            name = _ENDS_WITH_NAME.search(sentence.text)
            after = passage.sentences[place + 1 : place + 1 + _MOST_SENTENCES]
            if name is not None and after and _is(name[1], names) and _fits(after[0].text, question):
                yield Told(number, passage, Passage(passage.source, after))
                continue
        for label, start, end, value in _named(sentence, is_record):
            # People are also named as their accounts are, without capitals.
            if _is(label, names) and (_fits(value, question) or (is_list and value.count(",") > 1)):
                yield Told(number, passage, Passage(passage.source, (_part(sentence, start, end),)))
                break


def _named(sentence: Sentence, is_record: bool) -> Iterator[tuple[str, int, int, str]]:
    """The named values of a sentence: name, characters of both, value."""
    if is_record:
        for field in FIELD.finditer(sentence.text):
            yield field["name"], field.start(), field.end(), field["value"]
        return
    for line in _LINE.finditer(sentence.text):
        if line["value"]:
            # A list of names may take several lines.
            end = len(sentence.text) if line["value"].endswith(",") else line.end()
            yield line["name"], line.start(), end, sentence.text[line.start("value") : end]


FIELD = re.compile(r"(?:^|(?<=; ))(?P<name>[^:;\n]{1,80}): (?P<value>.+?)(?=; [^:;\n]{1,80}:(?: |\Z)|\Z)", re.DOTALL)
"""A value of a record with its name, as `documents.formats.records` writes them."""


def _is(name: str, names: Sequence[frozenset[str]]) -> bool:
    """True if a line's name is one of these, or one with a word more that does not make another thing of it."""
    found = set(terms(re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name)))
    # "Tested by" is not "by".
    return any(
        wanted <= found and len(found - wanted) < (2 if has_content(" ".join(wanted)) else 1)
        for wanted in names
        if not (found - wanted) & _ANOTHER
    )


def _fits(value: str, question: str) -> bool:
    """True if the value has what the question asks for."""
    kind = expected(question)
    if kind == "time":
        return holds(kind, value, question) or re.search(_DATED, value) is not None
    if kind == "name":
        return "@" in value or holds(kind, f"x {value}", question)
    return any(map(str.isalnum, value))


def _part(sentence: Sentence, start: int, end: int) -> Sentence:
    """Some characters of a sentence as a sentence; the whole where its offsets are not those of UTF-8."""
    text, before = sentence.text[start:end], sentence.text[:start]
    if len(sentence.text.encode("utf-8", "replace")) != sentence.end - sentence.start:
        return sentence
    first = sentence.start + len(before.encode("utf-8", "replace"))
    line = sentence.line if sentence.location is not None else sentence.line + before.count("\n")
    last = first + len(text.encode("utf-8", "replace"))
    return replace(sentence, text=text, start=first, end=last, line=line, gap=None)


# ------------------------------------------------------------------------------------------------------- lists


def _is_name(sentence: Sentence, names: Sequence[frozenset[str]]) -> bool:
    """True for a heading, or a line that ends with a colon, of this name."""
    found = heading(sentence)
    text = without_marks(sentence.text).strip(" \t\n*_-+#")
    if found is None and not (text.endswith(":") and "\n" not in text):
        return False
    title = set(terms(found.title if found is not None else text))
    return any(wanted <= title and len(title - wanted) < 2 and not title & _ANOTHER for wanted in names)


def _items(index: PassageIndex, number: int, place: int) -> tuple[Passage, Passage] | None:
    """What is listed below the sentence at `place`, as long as the list goes on, and the passages that hold it."""
    passage = index.passage(number)
    sentences, end = [*passage.sentences], place + 1
    while True:
        while end < len(sentences) and _is_listed(sentences, place, end):
            end += 1
        number += 1
        # A long list is several passages.
        if end < len(sentences) or end - place > _MOST_ITEMS or number >= index.num_passages:
            break
        after = index.passage(number)
        size = sentences[-1].end - sentences[place].start
        if after.source != passage.source or after.sentences[0].gap is None or size > _LARGEST:
            break
        if not _is_listed([*sentences, after.sentences[0]], place, len(sentences)):
            break
        sentences += after.sentences
    while end > place + 1 and (last := heading(sentences[end - 1])) is not None and last.level < PLAIN:
        end -= 1
    if end == place + 1:
        return None
    first = passage.sentences[: max(0, place)]
    whole = Passage(passage.source, (*first, *sentences[place:end]), passage.headings)
    return whole, Passage(passage.source, tuple(sentences[place:end]))


def _is_listed(sentences: Sequence[Sentence], place: int, number: int) -> bool:
    """True for an item, for lines of a list without signs, for what goes on in an item, and for a heading of a part of
    the list."""
    name, one = sentences[place], sentences[number]
    above, found = heading(name), heading(one)
    if one.gap is None:
        return False
    if found is not None and found.level < PLAIN and not one.is_item:
        of_people = ends_list(found.title) and all(may_be_name(each.text) for each in sentences[place + 1 : number])
        return above is not None and above.is_marked and found.level > above.level and not of_people
    if one.is_item:
        return not name.is_item or indent(one) > indent(name)
    if number == place + 1:
        # Names line by line, or in one line.
        return not one.is_finished or may_be_name(one.text)
    if is_people(sentences[place + 1 : number + 1]):
        return True
    return one.gap.count("\n") < 2 and found is None and (not one.is_finished or sentences[place + 1].is_item)


def indent(sentence: Sentence) -> int:
    """The columns before an item, which tell whose item it is."""
    return len((sentence.gap or "").rpartition("\n")[2].expandtabs(4))


# ------------------------------------------------------------------------------------------------- the first lines


def _opening(index: PassageIndex, alias: _Labels) -> Told | None:
    """What the title of the only text says of it, or its first lines."""
    if _has_parts(index):
        return None
    for number in range(min(_OPENING, index.num_passages)):
        passage = index.passage(number)
        for sentence in passage.sentences:
            text = without_marks(sentence.text)
            is_finished = sentence.is_finished and _BY.match(text) is None
            is_title = len(text) <= _LONGEST * (1 + text.count("\n")) and not is_finished
            if alias.opening is None or not (is_title or alias.is_list) or alias.opening.search(text) is None:
                continue
            if alias.opening.pattern != _A_TITLE or heading(sentence) is not None:
                return Told(number, passage, Passage(passage.source, (sentence,)))
    return None


def _has_parts(index: PassageIndex) -> bool:
    """True for several texts, and for a mailbox, whose messages are texts of their own."""
    first, last = index.passage(0), index.passage(index.num_passages - 1)
    is_mailbox = first.location is not None and first.location.kind == "message" and first.location != last.location
    return last.source > 0 or is_mailbox
