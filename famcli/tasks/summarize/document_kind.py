"""What kind of document a text is, by its headings and turns of phrase: plain rules, for English first of all."""

from __future__ import annotations

import re
from collections.abc import Sequence

from famcli.tasks.summarize.document_parts import BETWEEN_TITLES, DocumentPart
from famcli.text.headings import PLAIN
from famcli.text.words import terms

# A document is structured if it has at least this many headings, and no more sentences than this for each.
_MIN_PARTS, _MAX_SENTENCES_A_PART = 3, 60
_FEW_WORDS = 6  # a longer heading is a question or a sentence, whose words do not name the part
_NOUNS = (
    r"(?:document|paper|report|article|book|essay|guide|policy|agreement|contract|specification|standard|proposal|"
    r"study|project|thesis|handbook|manual|tutorial|memo|module|library|package|tool|program|repository|page|notice|"
    r"RFC|PEP|KEP|section|chapter|survey|plan)"
)
_SAYS_WHAT = re.compile(
    rf"^\W*(?:(?:th[ei]s?|our|the present) (?:\w+ ){{0,3}}{_NOUNS}\b.{{0,60}}?\b(?:is|are|was|describes?|defines?|"
    r"presents?|specif(?:y|ies)|explains?|covers?|sets? out|provides?|proposes?|introduces?|outlines?|discusses|"
    r"examines?|aims?|adds?|reports?|summari[sz]es|contains?|governs?|applies)\b(?! not\b)"
    rf"|this is (?:the|an?|our) (?:\S+ ){{0,5}}{_NOUNS}\b"
    rf"|(?:in|with) this {_NOUNS}\b|the (?:purpose|aim|goal|objective) of this\b|we (?:present|propose|introduce)\b)",
    re.IGNORECASE,
)
_WELCOMES = re.compile(
    r"(?:[\w. ]{1,40}: ?)?\W*(?:(?:\w+ ){0,6}welcome (?:back )?to|today,? (?:on|we|i)\b|(?:\w+ ){0,4}"
    r"(?:joined|joining \w+) (?:today )?by\b|(?:our|my) guests?\b)",
    re.IGNORECASE,
)
_IS_SOMETHING = re.compile(
    r"\W*(?:the )?([\w.+#-]+)(?: \([^)]*\))?,? (?:is|are|aims|provides|lets|helps) ", re.IGNORECASE
)
_MAIN_PARTS = re.compile(
    r"\b(?:abstract|summary|overview|introduction|motivation|purpose|scope|what|why|features?|goals?|principles?|"
    r"design|specification|requirements?|conclusions?|results|findings|recommendations?|proposal|key)\b",
    re.IGNORECASE,
)
_SIDE_PARTS = re.compile(
    r"\b(?:licen[cs]e|contribut\w+|table of contents|contents|changelog|history|references|acknowledg\w+|thanks|"
    r"credits|authors?|sponsor\w*|backers|support|install\w*|build\w*|compil\w+|tests?|testing|translations?|security|"
    r"vulnerab\w+|related|see also|links?|resources|further reading|appendix|faq|examples?|notation|unresolved|"
    r"comments?|citation|registration|logistics|signatures?|"
    r"signature page|exhibit \w|more information|about|playground|future|"
    r"project members|maintainers?|maintenance|partners?|donat\w+|funding|code of conduct|star history|used by|"
    r"downloads?|trademarks?|badges?|disclaimers?|attendees|present|miscellaneous|general provisions|notes?)\b",
    re.IGNORECASE,
)
# What stands below these is of no more matter than they are.
_SIDE_BRANCHES = re.compile(
    r"\b(?:licen[cs]e|contribut\w+|contents|changelog|acknowledg\w+|thanks|credits|sponsor\w*|backers|install\w*|"
    r"translations?|badges?|donat\w+|members|partners?)\b",
    re.IGNORECASE,
)
_NUMBERED_PART = re.compile(
    r"(?:chapter|part|section|article|book|volume|kapitel|chapitre)\s+[\divxlc]+\b|\d{1,2}(?:\.\d{1,2})*[.)]?\s|[IVXLC]+\.",
    re.IGNORECASE,
)
_MINUTES_TITLE = re.compile(
    r"\b(?:minutes|meeting|protokoll|sitzung|r\u00e9union|compte rendu|acta|reuni\u00f3n)\b", re.I
)
_MINUTES_PART = re.compile(
    r"[\W\d]*(?:present|in attendance|attend(?:ees|ance|ing)|participants|apologies|absent|agenda|action items?|"
    r"anwesend\w*|teilnehmer\w*|tagesordnung|pr\u00e9sents|participants|asistentes|orden del d\u00eda)\b",
    re.I,
)
_DECIDED = re.compile(
    r"\b(?:decided|decision|agreed|resolved|resolution|approved?|approval|consensus|voted|vote[sd]?|motion|"
    r"(?:poll|vote|it) (?:passe[sd]|fail(?:s|ed))|carried|"
    r"adopted|rejected|postponed|deferred|elected|appointed|beschlossen|vereinbart|d\u00e9cid\u00e9|adopt\u00e9|acordado)\b",
    re.I,
)
_ACTION = re.compile(
    r"^\W*(?:action(?: items?)?|todo|AI|next steps?|follow[- ]up|owner|deadline|aufgabe)\b|\b(?:action|next steps?):|"
    r"\b(?:assigned to|to follow up|by (?:mon|tues|wednes|thurs|fri)day)\b",
    re.I,
)
# What says of itself that it was decided or is to be done, or stands below a heading that does.
_OUTCOME = (
    r"(?:conclusions?|resolutions?|resolved|decisions?|decided|outcomes?|agreed|consensus|action items?|actions?|AIs?|"
    r"next steps?|todos?|follow[- ]ups?)"
)
_LABELLED = re.compile(rf"^\W*{_OUTCOME}(?: \([^)]*\))?\W{{0,3}}[:\u2013=]", re.I)
_OUTCOMES = re.compile(rf"\W*(?:\w+ )?{_OUTCOME}(?:(?: ?/ ?| and | & | or ){_OUTCOME})*\W*", re.I)
_PLANNED = re.compile(r"\b(?:will|shall|is going to|are going to|needs? to|should)\b")
_NORMATIVE = re.compile(
    r"\b(?:must|shall|required|may not|will not|agrees?|owns?|prohibit\w*|responsible|guarantees?|never|always)\b",
    re.I,
)


def is_structured(parts: Sequence[DocumentPart]) -> bool:
    """True if the parts are those of a document that is read by its headings: a README, a specification, a contract."""
    titled = [part for part in parts if part.title is not None and part.level < PLAIN]
    sentences = sum(part.num_sentences for part in parts)
    return len(titled) >= _MIN_PARTS and sentences <= _MAX_SENTENCES_A_PART * len(titled)


def says_what_it_is(text: str, title: str | None) -> bool:
    """True if a sentence at the beginning of a document says what the document is, or what its title names."""
    if _SAYS_WHAT.match(text) or _WELCOMES.match(text):
        return True
    found = _IS_SOMETHING.match(text)
    return title is not None and found is not None and bool(set(terms(found[1])) & set(terms(title)))


def part_weight(title: str | None, above: Sequence[str] = ()) -> float:
    """How much a part matters by its title: about 1 for those that say what a document is, below 0 for side matters.

    above: the titles that it is below, without the document's own.
    """
    if title is None:
        return 0.0
    # Of a title that was joined of several the last one is the part's own.
    own = title.rpartition(BETWEEN_TITLES)[2]
    is_main = len(own.split()) <= _FEW_WORDS and _MAIN_PARTS.search(own) is not None
    is_side = _SIDE_PARTS.search(own) is not None or any(map(_SIDE_BRANCHES.search, above))
    return 1.0 * is_main - 1.5 * is_side


def weight_of(part: DocumentPart) -> float:
    """`part_weight` of a part below the headings that it has."""
    return part_weight(part.title, [one.title for one in part.path[:-1] if one.level > 1])


def normative_weight(text: str) -> float:
    """More for a sentence that obliges, forbids or grants."""
    return 0.5 * bool(_NORMATIVE.search(text))


def is_minutes_title(text: str) -> bool:
    """True if a heading or a first line is that of the minutes of a meeting."""
    return len(text) <= 120 and _MINUTES_TITLE.search(text) is not None


def is_minutes_part(text: str) -> bool:
    """True if a line begins a list of who was there, or of what was to be discussed or done."""
    return len(text) <= 400 and _MINUTES_PART.match(text) is not None


def is_outcome_title(text: str) -> bool:
    """True for a heading below which stands what was decided or is to be done: "Conclusion/Resolution"."""
    return _OUTCOMES.fullmatch(text) is not None


def is_outcome(text: str) -> bool:
    """True for a line that says of itself that it was decided or is to be done: "RESOLVED: ..."."""
    return _LABELLED.match(text) is not None


def decision_weight(text: str, is_below: bool = False) -> float:
    """How much a line of minutes says what was decided, or who is to do what; 0 for none. is_below: it stands below a
    heading that says so."""
    is_said = is_below or is_outcome(text)
    # Others have the same words while they discuss it.
    return (
        4.0 * is_said
        + 3.0 * bool(_DECIDED.search(text))
        + 2.5 * bool(_ACTION.search(text))
        + 0.5 * bool(_PLANNED.search(text))
    )


def names_a_document(title: str) -> bool:
    """True if a title is a document's own, not that of a first part: "Summary", "1. Definitions", "Chapter I"."""
    own = _NUMBERED_PART.sub("", title).strip(" .:")
    is_part = _NUMBERED_PART.match(title) is not None
    generic = _MAIN_PARTS.sub("", _SIDE_PARTS.sub("", own)).strip(" .:&/-")
    return bool(generic) and not is_part
