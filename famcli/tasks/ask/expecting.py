"""What kind of thing a question asks for, as far as its words say, and which texts hold one.

English only; other questions expect nothing in particular. What a question itself names is no answer to it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import chain
from typing import Literal

from famcli.tasks.grounding import claims
from famcli.text.numbers import numbers_in_words
from famcli.text.words import has_content, plain_spelling, terms

Kind = Literal[
    "number", "version", "duration", "money", "temperature", "frequency", "time", "name", "place", "reason", "code",
    "meaning",
]  # fmt: skip

_NUMBERS = (
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|"
    r"nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundreds?|thousands?|millions?|billions?|dozens?|half|"
    r"once|twice|thrice|none|several|no limit"
)
_COUNT = (
    r"(?:\d[\d.,/-]*|\b(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|"
    r"fifty|sixty|ninety|hundred|thousand|half|several|few)\b)"
)
_SPANS_OF_TIME = r"(?:milli)?second|minute|hour|day|night|week|month|quarter|year|decade|centur(?:y|ies)|sprint"
_LENGTHS = (
    r"metre|meter|kilomet(?:er|re)|km|cm|mm|feet|foot|ft|inch|mile|yard|page|chapter|line|word|character|byte|letter"
)
_QUANTITIES = (
    r"number|size|length|height|width|weight|speed|population|revenue|income|turnover|profit|percentage|share|amount|"
    r"capacity|budget|age|total|maximum|minimum"
)
_MONTHS = (
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|"
    r"dec(?:ember)?"
)
# Words that have a capital in titles and lists, where others begin a sentence.
_NO_NAMES = (
    r"I|It|Its|He|She|We|You|They|My|Your|Our|Their|His|Her|This|That|These|Those|The|A|An|And|Or|But|If|In|On|At|For|To|Of|"
    r"As|By|No|Not|Yes|When|Where|What|Who|How|Why|All|Any|Each|Some|There|Here|With|From|Is|Are|Was|Do|Does|Did|Can|Will|"
    r"May|Must|Please|See|Note"
)
_NTH = r"\d(?:\.|st|nd|rd|th)?(?: of)?"
_DAYS = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?|noon|midnight|christmas|easter|morning|evening|night|century"
# Of a date the year alone is a number that something else may have too.
_NUMBER = re.compile(r"(?<!\d)[12]\d{3}(?=-\d\d-\d\d)|(?<=\d{4})-\d\d-\d\d(?!\d)|\d+(?:[.,:]\d+)*")
_THINGS: dict[str, re.Pattern[str]] = {
    "number": re.compile(rf"\d[\d.,:/-]*|\b(?:{_NUMBERS})\b", re.I),
    "version": re.compile(r"(?<![\w.])v?\d+(?:\.\d+)+(?!\s?%)|\b(?:version|release|v) ?\d+", re.I),
    "duration": re.compile(rf"{_COUNT}(?:\W{{1,3}}\w+)?[\W_]{{1,3}}(?:{_SPANS_OF_TIME}|{_LENGTHS})(?:e?s)?\b", re.I),
    "money": re.compile(
        r"[$\u20ac\u00a3\u00a5\u20b9]\s?\d[\d.,]*|\d[\d.,]*\s?(?:%|(?:percent|per cent|dollars?|euros?|pounds?|cents?|"
        r"francs?|yen|USD|EUR|GBP|CHF)\b)|\bfree\b|\bno (?:cost|charge|fee)",
        re.I,
    ),
    "temperature": re.compile(r"\d\s?(?:\u00b0|\u00ba|degrees?\b|[CFK]\b)"),
    "frequency": re.compile(
        rf"\b(?:every|each|per|once|twice|times|hourly|daily|weekly|fortnightly|monthly|quarterly|yearly|annual(?:ly)?|"
        rf"always|never|an? (?:{_SPANS_OF_TIME}))\b|/\s?(?:{_SPANS_OF_TIME})",
        re.I,
    ),
    "time": re.compile(
        rf"\b(?:1\d|20)\d\ds?\b|\b\d{{1,2}}:\d\d|\b(?:{_MONTHS})\.? \d|{_NTH} (?:{_MONTHS})\b|\b(?:{_DAYS})\b|\b\w+ "
        r"(?:second|minute|hour|day|week|month|year)s?\b|\b\d{1,2}(?:\.\d\d)? ?[ap]\.?m\b|\b(?:at|past|to) (?:one|two|"
        r"three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b(?! \w)|\b(?:yesterday|today|tomorrow|ago|until|"
        r"once|after|before|during)\b",
        re.I,
    ),
    # A capital elsewhere than at the start of a sentence, or an account's name.
    "name": re.compile(
        rf"(?<![.!?:*#>\n] )(?<!^)(?<![\w.])(?!(?:{_NO_NAMES})\b)(?:[^\W\d_a-z]\w+(?:['\u2019-]\w+)*|@\w[\w-]*)"
    ),
    "place": re.compile(
        r"https?://\S+|\S+@\S+\.\w|(?<![\w:])/?\w[\w.-]*/[\w./-]+|(?i:\b(?:in|at|on|from|to|near|of|within|inside|"
        r"between|behind|below|above|into|under)\b)(?: (?i:the|its|an?))? (?:[^\W\d_a-z]\w+|`)"
        r"|\b[^\W\d_a-z][\w'\u2019-]+, (?:[A-Z]{2}\b|[^\W\d_a-z][^\W\d_]+)"
    ),
    "reason": re.compile(
        r"\b(?:because|since|due to|so that|in order to|therefore|reasons?|thus|as a result|owing to|thanks to|"
        r"to (?:avoid|prevent|keep|make|ensure)|otherwise|cause[ds]?|for)\b",
        re.I,
    ),
    "code": re.compile(r"`[^`\n]+`|(?<![\w-])--?[a-zA-Z][\w-]*|\b\w+[_./]\w+\b"),
}
# A question for one of these is not answered by what has none.
_NEEDED = frozenset(("number", "version", "duration", "money", "temperature", "frequency"))
# Of software the version says when.
_CHANGES = re.compile(r"\bwhen\b.*\b(?:added|introduced|deprecated|removed|dropped|renamed|fixed|supported)\b", re.I)
_SINCE = re.compile(r"(?:^[#*=\s\[-]*|\b(?:in|since|as of|until|by|with)\s(?:\w+\s){0,2})v?\d+(?:\.\d+)+", re.I | re.M)
_ASKS_YEAR = re.compile(r"\b(?:what|which)(?: \w+)? year\b", re.I)
_YEAR = re.compile(r"\b(?:1\d|20)\d\ds?\b|\b\w+ century\b|\B['\u2019]\d\d\b", re.I)
# What may be done, and what was done at no time yet, has a condition as often as a time.
_ASKS_TIME = re.compile(
    r"\bwhen (?:did|was|were|will)\b|\b(?:what|which)(?: \w+)? (?:date|day|month|century)\b"
    # "When is the next meeting?"; "When is a key needed?" has a condition.
    r"|\bwhen (?:is|are) (?!.*\w(?:ed|en)\b)(?:the|my|our|your|their|his|her|its|\S+['\u2019]s) [\w'\u2019 -]{1,40}\?",
    re.I,
)
# "How did he feel when they said his name?" asks for none.
_ASKS_NAME = re.compile(
    r"\b(?:what|which)\b.{0,60}?\b(?:name of|(?:his|her|its|their|\w+['\u2019]s)(?: \w+)? name)\b", re.I
)
_TITLED = re.compile("[\"\u201c`'\u2018][^\"\u201c\u201d`'\u2019\n]{1,40}[\"\u201d`'\u2019]|@\\w")
# Of parts and words, which no text counts itself.
_COUNTS = re.compile(
    r"\bhow many (?P<of>times|words|lines|rows|records|entries|pages|chapters|sections|paragraphs|sentences|characters|"
    r"releases|versions|"
    r"letters|messages|e?-?mails|files|documents|questions|footnotes|mentions|occurrences)\b"
    r"|\bhow (?:often|frequently) (?:do|does|did|is|are|was|were) .{1,80}\b(?:appear|occur|come up|mentioned|named)\b",
    re.I,
)
_HOW_MANY = re.compile(r"\bhow many (\w+?)s?\b", re.I)
_ASKS_FIGURES = re.compile(r"\b(?:what|which)\b.{0,30}\b(?:port|(?:phone|telephone|fax|account|room) number)\b", re.I)
_FIGURES = re.compile(r"\d[\d.-]*")
# The number of an item in a list is not what it says.
_ITEM = re.compile(r"^\s*(?:[-*+\u2022]\s+)?\(?\d{1,3}[.)]\s", re.M)
_ADDRESS = re.compile(r"(?<=\])\([^)\s]*\)|\bhttps?://\S+")
_OTHER_FLAGS = r"(?:[ /,|]+-{1,2}[\w-]+)*"  # the tag of an option may name it twice
_ONE = r"(?:an?|the|one of|my|his|her|our|your|their|its|[\w.-]+['\u2019]s?)"
# After a term, what says what it is; not "Syme was walking", "Syme is in the park", "it is read by the network".
_NO_NOUNS = (
    r"not|being|\w+ing|\w+ed|\w+ly|in|on|at|by|to|of|for|from|with|very|too|so|as|still|now|there|here|also|always|never|quite|"
    r"all|only|just|about|going|able|unable|glad|sure|aware|afraid|certain|it|he|she|we|they|you|I|that|this"
)
_IS_SAID = (
    r"(?: \([^)]*\))?,?(?: (?:is|are|was|were|am)(?: \w+ly| now| then| also| still| not (?:merely|only|just))? "
    rf"(?:{_ONE}\b|(?!(?:{_NO_NOUNS})\b)[\w-]+(?: [\w-]+){{0,3}} (?:of|that|which|who)\b)"
    r"| (?:means?|refers?|stands?|represents?|denotes?|(?:became|becomes) an?|served as|serves as|works as|worked as)\b"
    rf"|, (?:{_ONE} [\w-]+|whose|who (?:is|was|had been) (?:an?|the)\b|aged|"
    rf"(?!(?:{_NO_NOUNS}|and|or|but|then)\b)(?:\w+ )?[\w-]+ (?:of|to) )| \(|: )"
)
_NAMED = (
    r"\b(?:called(?: (?:him|her|it|my|your)self)?|named|termed|known as|name(?: was| is|'s)|by the name of|"
    r"I am|I'm|this is)(?: an?| the)? "
)
_BESIDE = r"\b(?:[Tt]he|[Aa]n?|[Mm]y|[Hh]is|[Hh]er|[Oo]ur|[Yy]our|[Tt]heir|\w+['\u2019]s)(?: [a-z-]+)?"
# Before a name these say not what it is: prepositions, and most adjectives.
_NO_KIND = re.compile(
    r"towards?|upon|against|beside|near|behind|like|past|across|through|around|without|within|beyond|along|poor|old|young|"
    r"little|great|good|dear|same|late|big|tall|other|\w+(?:less|ful|ous|ed|ing|ible|ish|ly)"
)
_TITLES = (
    r"(?:Dr|Prof|Professor|Captain|Colonel|General|Major|Sergeant|Inspector|Detective|President|Senator|Judge|Justice|"
    r"Count|Countess|Baron|Baroness|Duke|Duchess|Prince|Princess|King|Queen|Emperor|Pope|Bishop|Father|Sister|Brother|"
    r"Uncle|Aunt|Saint|Chaplain|Chairman|Director|Minister|Secretary|Mayor)\.?"
)
_IS_TITLED = re.compile(rf"(?:{_TITLES}|(?:Mr|Mrs|Ms|Miss|Sir|Lady|Lord)\.?) (?=[^\W\d_a-z])")
# "Who is Syme?", "What is a snapshot?", "What does CSI stand for?"
_ASKS_MEANING = re.compile(
    r"\W*(?:(?:who|what) (?:is|are|was|were)|what does)(?: an?| the)? (?P<term>[\w.-]+(?: [\w.-]+){0,2}?)"
    r"(?: mean| stand for| do)?\W*",
    re.I,
)
_ASKS_ROLE = re.compile(r"\bwho (?:is|was|are|were) (?:the|my|our|your|their|his|her|its)\b", re.I)
# A role that is called as a name is: "Who is the Secretary?"
_NAMES_ROLE = re.compile(r"\W*[Ww]ho (?:is|was) the (?P<role>[^\W\d_a-z][\w-]+(?: [^\W\d_a-z][\w-]+)?)\W*")
# "Who is the captain of the Pequod?", "Where was Queequeg born?"
_ASKS_HOLDER = re.compile(r"\W*[Ww]ho (?:is|was) the (?P<role>[a-z][\w-]+) of (?:the )?(?P<of>[^\W\d_a-z][^?]*)\W*$")
_BEGINS_WHO_OR_WHERE = re.compile(r"\W*[Ww](?:ho|here) (?:is|was|are|were)\b")
_ASKS_WHERE_DONE = re.compile(
    r"\W*[Ww]here (?:was|were|is|are) (?P<name>[^\W\d_a-z][^?]*) (?P<verb>\w+(?:ed|rn|lt|nt|ept))\W*$"
)
_PLACED = "in|at|on|near|from|to|into|within|inside|under|beside|behind|between|off|above|below|here|there"
# What is counted, or who is asked for by a role: "How many calories ...?", "Who is the mayor?"
_ASKED_NOUN = re.compile(
    r"\bhow many (?!(?:people|persons|things|ways|times|kinds|types|parts)\b)([\w-]{4,})"
    r"|\bwho (?:is|was|are|were) (?:the|my|our|your|their|his|her|its) ([\w-]{4,})(?=\W*$| of\b)",
    re.I,
)
_NEXT, _PREVIOUS = "next|upcoming|following|future", "previous|prior|last|earlier|preceding|former"
_ASKS_ANOTHER = re.compile(r"\b(next|upcoming|following|previous|prior|preceding) ([^\W\d_]{3,})", re.I)
_DOES = r"do|does|did|has|have|had|can|could|will|would|may|must|should|happens|happened|changes|changed"
_ENDS_WITH_PREPOSITION = re.compile(r" (?:for|of|in|on|at|by|to|from|with|about)$", re.I)
_ASKS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "money",
        re.compile(
            r"\bhow much\b.*\b(?:cost|pay|paid|charge|earn|spend|owe|worth|money|salary|fee|premium)\w*|"
            r"\b(?:what|which)\b.{0,40}\b(?:price|costs?|fees?|salary|wage|rent|deposit|fine|damages)\b|"
            r"\bcan I (?:spend|expense)\b",
            re.I,
        ),
    ),
    ("temperature", re.compile(r"\bhow (?:hot|cold|warm)\b|\btemperature\b", re.I)),
    ("frequency", re.compile(r"\bhow (?:often|frequently|regularly)\b", re.I)),
    (
        "duration",
        re.compile(
            r"\bhow (?:long|soon|quickly)\b(?! ago)|\bhow (?:far|much time)\b|\bhow many (?:day|week|month|year)s\b",
            re.I,
        ),
    ),
    (
        "time",
        re.compile(
            r"\bwhen\b|\b(?:what|which)(?: \w+)? (?:year|date|day|month|time|century|deadline)\b|\bhow long ago\b", re.I
        ),
    ),
    # "What did version 2.4 fix?" names one.
    (
        "version",
        re.compile(rf"\b(?:what|which)(?: (?!(?:{_DOES})\b)[\w.+-]+){{0,2}} (?:versions?|releases?)\b(?! v?\d)", re.I),
    ),
    (
        "number",
        re.compile(
            r"\bhow (?:many|much|old|tall|fast|big|large|high|deep|wide|heavy)\b|"
            r"\b(?:what|which)(?: \w+)? (?:number|share|percentage|age|sum|size|amount|port)\b|"
            r"\bwhat (?:is|are|was|were) (?:the|my|our|your|his|her|its|their|\S+['\u2019]s) (?:[\w'\u2019-]+ ){0,3}"
            rf"(?:{_QUANTITIES})\b",
            re.I,
        ),
    ),
    ("meaning", _ASKS_MEANING),
    ("name", re.compile(r"\b(?:who|whose|whom)\b|\bname of\b", re.I)),
    (
        "place",
        re.compile(r"\bwhere\b|\b(?:what|which) (?:city|country|town|place|address|room|building|court)\b", re.I),
    ),
    ("reason", re.compile(r"\bwhy\b|\bwhat (?:is|was) the reason\b", re.I)),
    (
        "code",
        re.compile(r"\b(?:what|which) (?:\w+ )?(?:flag|option|switch|command|setting|function|variable|file)\b", re.I),
    ),
)


def expected(question: str) -> Kind | None:
    """What the question asks for; None where that cannot be told."""
    # A meaning is all that such a question asks for; other kinds are told by some of its words.
    found = [(match.start(), kind) for kind, asks in _ASKS if (match := asks.search(question)) is not None]
    if asked_about(question) is None or _ASKS_ROLE.search(question):
        found = [one for one in found if one[1] != "meaning"]
    # "Which function is called when it ends?" asks for a function; of two that begin together, the first in the list.
    return min(found, key=lambda one: one[0])[1] if found else None


def holds(kind: Kind, text: str, question: str) -> bool:
    """True if `text` has a thing of this kind that is not in the question."""
    if kind == "meaning":
        term, text = asked_about(question), " ".join(text.split())
        # "Gabriel Syme" is mostly called "Syme".
        names = [] if term is None else [term, *re.findall(r"(?<= )[^\W\d_a-z]\w+$", term)]
        return any(_explains(name, text, is_titled=_IS_TITLED.match(term or "") is not None) for name in names)
    known = question.casefold()
    things: Iterable[re.Match[str]] = _THINGS[kind].finditer(text)
    if kind == "time" and _CHANGES.search(question):
        things = chain(things, _SINCE.finditer(text))
    return any(match[0].casefold() not in known for match in things)


def lacks(question: str, text: str) -> bool:
    """True if the question is for a figure, a time or a name, and `text` has none but those in the question."""
    # Figures and names in an address are not what is said.
    kind, text = expected(question), _ADDRESS.sub("", _ITEM.sub("", text))
    if (counts := _COUNTS.search(question)) is not None:
        return counts["of"] is None or re.search(rf"{_COUNT}(?: \w+)? {counts['of']}\b", text, re.I) is None
    if _ASKS_FIGURES.search(question):
        return not any(match[0] not in question for match in _FIGURES.finditer(text))
    if kind == "number" and (many := _HOW_MANY.search(question)) is not None:
        # "90 days" says nothing of how many letters there are.
        things = "|".join(_THINGS[one].pattern for one in ("duration", "money"))
        text = re.sub(things, lambda one: one[0] if many[1].casefold() in one[0].casefold() else "", text, flags=re.I)
    if _ASKS_YEAR.search(question):
        return not any(match[0] not in question for match in _YEAR.finditer(text))
    if _ASKS_NAME.search(question):
        # A name may be told in a quotation, which is one claim.
        known, spoken = question.casefold(), re.sub('["\u201c\u201d]', "", text)
        named = any(claim.kind == "name" and claim.text.casefold() not in known for claim in claims(spoken))
        return not named and _TITLED.search(text) is None
    return kind is not None and asks_value(question) and not holds(kind, text, question)


def asks_value(question: str) -> bool:
    """True for a question for a number, a time or the like, which an answer has in the words of the text."""
    return expected(question) in _NEEDED or _ASKS_TIME.search(question) is not None


def asked_noun(question: str) -> str | None:
    """What a question counts, the role that it asks for, or the one word that it asks the meaning of; else None."""
    found, term = _ASKED_NOUN.search(question), asked_about(question)
    if found is not None:
        return found[1] or found[2]
    return term if term is not None and " " not in term and has_content(term) else None


def asks_term(question: str) -> bool:
    """True if it asks what a word is or means, which no other word tells: "What is a snapshot?", not "the price"."""
    return asked_about(question) == asked_noun(question) is not None and re.search(r"\bthe\b", question, re.I) is None


def is_count(question: str, of_rows: bool = False) -> bool:
    """True if it asks how often something stands in a text, or of how many parts the text is. of_rows: the text is a
    table, of which any "how many" is a count."""
    return (_HOW_MANY if of_rows else _COUNTS).search(question) is not None


def asked_role(question: str) -> str | None:
    """The role, called as a name is, of whom a question asks who it is; None for others."""
    asked = _NAMES_ROLE.fullmatch(question)
    return None if asked is None else asked["role"]


def without_title(name: str) -> str:
    """A name without the title before it, under which a text may name somebody first: "Bull" of "Dr. Bull"."""
    return _IS_TITLED.sub("", name)


def has_role(role: str, text: str) -> bool:
    """True if `text` says who has a role: somebody is it, became it, or is named with it."""
    role, text = rf"(?:[\w-]+ ){{0,2}}{re.escape(role)}\b", " ".join(text.split())
    article = r"(?:(?:the|our|its|their|an?) )?"
    is_it = rf"\b(?:is|was|am|are|were|be|been|as|became|becomes?|elected|appointed|named|made) {article}{role}"
    beside = rf"[^\W\d_a-z]\w+, {article}{role}"
    somebody = rf"(?!(?:{_NO_NAMES})\b)[^\W\d_a-z]\w+"
    named = rf"{role}(?:[\"\u201d]?(?: of [^.,;]{{2,40}})?(?:,| is| was|:| means| refers to))? {somebody}"
    return any(re.search(pattern, text) is not None for pattern in (is_it, beside, named))


def is_stated(question: str, text: str) -> bool:
    """False where a question asks who has a role, or where something was done, and `text` has the words but no name
    beside the role, or no place behind the verb. True for other questions."""
    # Of nearly all questions nothing is looked for, and each sentence of each candidate comes by here.
    if _BEGINS_WHO_OR_WHERE.match(question) is None:
        return True
    question, text = (" ".join(unicodedata.normalize("NFKC", plain_spelling(one)).split()) for one in (question, text))
    if (asked := _ASKS_HOLDER.match(question)) is not None:
        role, of = re.escape(asked["role"]), "|".join(map(re.escape, re.findall(r"[^\W\d_a-z]\w+", asked["of"])))
        somebody = rf"(?!(?:{_NO_NAMES}|{of})\b)[^\W\d_a-z]\w+"
        behind = rf"of [^.;?!]{{0,40}}?\b(?:{of})\b"
        is_it = r"(?:is|was|am|became|becomes|as|elected|appointed|named|made)"
        forms = (
            rf"{somebody}(?: \w+)?(?:,|,? {is_it}|,? the) (?:[\w-]+ ){{0,3}}{role} {behind}",
            rf"{somebody} (?:is|was|became) (?:the|our) {role}\b(?! of)",
            rf"\b(?i:{role}) {behind}\W{{0,3}}(?:is|was|named|called)?\W{{0,3}}{somebody}",
            rf"\b(?:{of})['\u2019]s (?:[\w-]+ ){{0,2}}{role}\W{{1,3}}(?:is |was )?{somebody}",
            rf"{somebody}(?: \w+)?(?:,|,? {is_it}) (?:the )?(?:{of})['\u2019]s (?:[\w-]+ ){{0,2}}{role}\b",
            rf"\b(?i:{role})[*_]*:\W{{0,4}}{somebody}",
        )
        return any(re.search(form, text) is not None for form in forms)
    # A hyphen may be of a line's end or not.
    if (asked := _ASKS_WHERE_DONE.match(question.replace("-", ""))) is not None:
        verb = re.escape(terms(asked["verb"])[0])
        somebody = "|".join([*map(re.escape, asked["name"].split()), "[Hh]e", "[Ss]he", "[Ii]t", "[Tt]hey", "who"])
        return (
            re.search(
                rf"\b(?:{somebody})\b[^.;?!]*?\b{verb}\w*(?:\W+\w+){{0,4}}?\W+(?:{_PLACED})\b",
                text.replace("-", ""),
                re.I,
            )
            is not None
        )
    return True


def _explains(term: str, text: str, is_titled: bool = False) -> bool:
    """True if `text` says what or who the term is: it is followed by "is" and a noun or what stands beside it, named
    after its kind ("the poet Syme", "Captain Syme"), or called so. is_titled: the question says the title itself."""
    name = rf"\b{re.escape(term)}\b[\"'\u201d\u2019`*_)\]]*{_OTHER_FLAGS}"
    if re.search(rf"{name}{_IS_SAID}", text, re.I) or re.search(rf"{_NAMED}[\"'\u201c\u2018`*_(\[]*{name}", text, re.I):
        return True
    # Of a name alone: lower-case words before it, or a title.
    if not term[:1].isupper():
        return False
    before = re.search(rf"{_BESIDE} (?P<last>[a-z-]+),? [\"\u201c]?{re.escape(term)}\b", text)
    is_kind = before is not None and has_content(before["last"]) and not _NO_KIND.fullmatch(before["last"])
    return is_kind or (not is_titled and re.search(rf"\b{_TITLES} {name}", text) is not None)


def asked_about(question: str) -> str | None:
    """What a question is about that asks who or what it is; None for others."""
    asked = _ASKS_MEANING.fullmatch(question)
    return None if asked is None or _ENDS_WITH_PREPOSITION.search(asked["term"]) else asked["term"]


def another_of(question: str) -> re.Pattern[str] | None:
    """What a text must say that answers a question for the next or the previous of its kind; None for others."""
    asked = _ASKS_ANOTHER.search(question)
    if asked is None:
        return None
    words = _NEXT if re.match(_NEXT, asked[1], re.I) else _PREVIOUS
    return re.compile(rf"\b(?:{words})\W+(?:\w+\W+){{0,2}}{re.escape(terms(asked[2])[0])}", re.I)


def numbers_in(text: str) -> frozenset[str]:
    """The numbers of a text, of any length, without separators of thousands: "priority 2" is not "priority 1"."""
    return frozenset(match[0].replace(",", "") for match in _NUMBER.finditer(text))


def all_numbers_in(text: str) -> frozenset[str]:
    """The same with those that are spelled out."""
    return numbers_in(text) | frozenset(map(str, numbers_in_words(text)))
