"""What a list of changes says of one release: when it came, by the date beside its version, and what it changed.

The words of a question are those of every release; its version stands in one heading.
"""

from __future__ import annotations

import re
from itertools import islice

from famcli.tasks.ask.labels import Told
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.tasks.summarize.releases import DATE, release_in
from famcli.text.headings import heading
from famcli.text.markup import without_marks
from famcli.text.passages import Passage
from famcli.text.sentences import Sentence
from famcli.text.words import content_terms, terms

_VERSION = re.compile(
    r"(?<![\w.])v?(\d{1,4}(?:\.\d{1,5}){1,3}(?:[-.]?(?:rc|beta|alpha|dev|post|pre)[-.]?\d*|[a-z])?)(?![\w]|\.\d)"
)
_ASKS_WHEN = re.compile(
    r"\W*(?:when|(?:on )?(?:what|which) (?:date|day|year))\b.*\b(?:released?|published|come|came|out)\b", re.I
)
_ASKS_WHAT = re.compile(
    r"\W*what(?: is|'s| was| has| are| were)? (?:changed|new|added|fixed|removed|the changes)\b"
    r"|\W*what (?:did|does|do) .*\b(?:change|add|fix|remove|bring|introduce)\W*$",
    re.I,
)
_OF_ANY = frozenset(
    content_terms(
        "when what which date day year version release released published come came out changed changes new added "
        "fixed removed bring introduce"
    )
)
_LOOKED_AT = 4096  # passages that have a version's digits
_SHORT = 100  # characters of a line that has the date
_SHOWN = 4  # sentences of what changed


def told_release(index: PassageIndex, question: str) -> Told | None:
    """What is said of the release that a question names; None for other questions, and where no heading has it, or
    several have."""
    version = _VERSION.search(question)
    asks_when = _ASKS_WHEN.match(question) is not None
    if version is None or not (asks_when or _ASKS_WHAT.match(question)):
        return None
    # Beside the version only a name: "When was the parser of 1.8 released?" is another question.
    rest = set(content_terms(_VERSION.sub(" ", question))) - _OF_ANY
    if len(rest) > 1:
        return None
    found, names = list[Told](), (version[1], f"v{version[1]}")
    numbers = {one for name in names for one in islice(index.holding(terms(name)), _LOOKED_AT)}
    for number in sorted(numbers):
        passage = index.passage(number)
        for place, sentence in enumerate(passage.sentences):
            if _is_of(sentence, version[1]):
                below = passage.sentences[place + 1 :]
                quoted = _dated(sentence, below) if asks_when else (sentence, *below[:_SHOWN]) if below else ()
                if quoted:
                    found.append(Told(number, passage, Passage(passage.source, quoted)))
    return found[0] if len({one.quoted.text for one in found}) == 1 else None


def _is_of(sentence: Sentence, version: str) -> bool:
    """True for the heading of this release."""
    own_line = sentence.gap is None or "\n" in sentence.gap
    if not own_line or sentence.is_item or sentence.is_code:
        return False
    title = heading(sentence)
    found = release_in(" ".join(without_marks(sentence.text if title is None else title.title).split()))
    return found is not None and found["version"].lower().removeprefix("v") == version.lower()


def _dated(sentence: Sentence, below: tuple[Sentence, ...]) -> tuple[Sentence, ...]:
    """The heading of a release if it has a date, with the short line below it that has; () if neither has."""
    if DATE.search(sentence.text):
        return (sentence,)
    is_dated = bool(below) and len(below[0].text) <= _SHORT and DATE.search(below[0].text) is not None
    return (sentence, below[0]) if is_dated else ()
