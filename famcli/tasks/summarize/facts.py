"""What a document is, in a few lines before its summary: its title, and who or what is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from famcli.tasks.summarize.document_kind import is_outcome_title, names_a_document, weight_of
from famcli.tasks.summarize.document_parts import BETWEEN_TITLES, DocumentPart
from famcli.tasks.summarize.extract import Extraction
from famcli.tasks.summarize.minutes import Minutes
from famcli.tasks.summarize.releases import release_in
from famcli.tasks.summarize.summary_result import DocumentKind, Fact
from famcli.text.headings import PLAIN
from famcli.text.markup import without_marks

_MOST_NAMES, _MOST_CHARACTERS = 8, 600
_MOST_PRESENT = 20
_FEWEST_PARTS, _MANY_PARTS = 3, 12
# When a book was printed, which stands on its first pages in letters as large as those of chapters.
_IMPRINT = re.compile(
    r"(?:(?:first |re)?(?:published|printed|copyright)\b.{0,40}\b\d{4}|"
    r"(?-i:M(?:CM|CD|DC{0,3}|M)(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})))",
    re.IGNORECASE,
)
_FEWEST_NUMBERED, _CAPITALS = 3, 3  # chapters; the level of a line in capitals
_CHAPTER = re.compile(r"chapter\s+(?=\w+\W+\w)", re.IGNORECASE)


def facts_of(text: Extraction, kind: DocumentKind) -> tuple[Fact, ...]:
    """What was found of a single document that is summarized as this kind."""
    return tuple(Fact(label, said) for label, said in _facts(text, kind) if said)


def _facts(text: Extraction, kind: DocumentKind) -> Iterator[tuple[str, str]]:
    title = (text.title_above or "").strip(" .:")
    if names_a_document(title) and release_in(title) is None and not text.is_title_low:
        yield "Title", f"{title}, by {text.author}" if text.author else title
    if kind == "changes":
        yield "Changes", text.releases.span()
    elif kind == "talk":
        turns = text.speakers.most_frequent(_MOST_NAMES)
        counted = [f"{name} ({count:,} turns)" for name, count in turns]
        yield "Speakers", _listed(counted, text.speakers.count)
    elif kind == "story":
        counted = [f"{person.name} ({person.count:,} times)" for person in text.cast.people(_MOST_NAMES)]
        yield "Who appears", _listed(counted, len(counted))
        yield "Chapters", _titles(text)
    elif kind == "minutes":
        yield "Present", present_of(text.minutes)
        yield "Topics", _titles(text)
    elif kind == "outline":
        yield "Parts", _titles(text, is_outline=True)


def present_of(minutes: Minutes) -> str:
    """How many were there, and who, or the sentence that says it; nothing of several meetings."""
    present, sentence = minutes.present, minutes.were_present
    if minutes.has_several_lists:
        return ""
    if present:
        between = "; " if any("," in name for name in present) else ", "
        return f"{len(present)}: " + _listed(present[:_MOST_PRESENT], len(present), between)
    return "" if sentence is None else " ".join(without_marks(sentence.sentence.text).split())


def _titles(text: Extraction, is_outline: bool = False) -> str:
    """The headings of the parts, without those of side matters; nothing where there are few.

    is_outline: where there are many, those of the higher levels."""
    parts = [part for part in text.parts.all() if part.title is not None and weight_of(part) >= 0]
    parts = parts if is_outline else _chapters(parts)
    levels = sorted({one.level for part in parts for one in part.path}, reverse=True)
    found = _at_level(text, parts, PLAIN)
    for level in levels if is_outline else ():
        coarser = _at_level(text, parts, level)
        if len(found) <= _MANY_PARTS or len(coarser) < _FEWEST_PARTS:
            break
        found = coarser
    if len(found) < _FEWEST_PARTS:
        return ""
    # Where there is no room for all, some from all over.
    most = len(found)
    while most > 1 and sum(len(one) + 2 for one in _some(found, most)) > _MOST_CHARACTERS:
        most -= 1
    among = f"{len(found)}, among them " if most < len(found) else ""
    return among + "; ".join(_some(found, most))


def _chapters(parts: list[DocumentPart]) -> list[DocumentPart]:
    """The parts with numbers or names like "Preface", where many have them: other lines in capitals are signatures,
    and what letters and newspapers in the story say."""
    named = [part for part in parts if any(one.level < _CAPITALS for one in part.path[-1 - _is_joined(part) :])]
    return named if len(named) >= max(_FEWEST_NUMBERED, len(parts) / 3) else parts


def _is_joined(part: DocumentPart) -> bool:
    """True for a part with its number above its name."""
    return part.title is not None and BETWEEN_TITLES in part.title


def _at_level(text: Extraction, parts: Sequence[DocumentPart], level: int) -> list[str]:
    """The titles of the parts on this level or above, each where it begins."""
    found, last = list[str](), None
    for part in parts:
        own = part.title.rpartition(BETWEEN_TITLES)[2] if part.title is not None else ""
        if level < PLAIN:
            own = next((one.title for one in reversed(part.path) if one.level <= level), "")
        title = _CHAPTER.sub("", own).strip(" .:#")
        is_own = title.casefold() != (text.title or "").casefold() and not _IMPRINT.fullmatch(title)
        if title and title != last and is_own and not is_outcome_title(title):
            found.append(title)
        last = title
    return found


def _some(titles: Sequence[str], count: int) -> list[str]:
    return [titles[number * len(titles) // count] for number in range(count)]


def _listed(names: Sequence[str], count: int, between: str = ", ") -> str:
    """Names, as many as there is room for, and how many there are besides."""
    shown, length = list[str](), 0
    for name in names:
        length += len(name) + len(between)
        if shown and length > _MOST_CHARACTERS:
            break
        shown.append(name)
    more = count - len(shown)
    return between.join(shown) + (f" and {more:,} more" if more > 0 else "")
