"""Where the main text of a page begins and ends, by the package trafilatura (Barbaresi 2021, ACL demonstrations).

trafilatura says which text is the main one, but neither where in the page it stands nor how it is laid out. So the
paragraphs stay those of web.py, and only what stands before the first and after the last one that trafilatura names is
left out: menus, teasers, comments. Nothing in between is lost.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from famcli.documents.converted import Part

LARGEST_PAGE = 4 << 20
"""Bytes; trafilatura holds a page as a tree, so a larger one is read without it."""

# A paragraph is known again by its first letters, if it has some words.
_KNOWN_BY, _FEWEST_WORDS = 60, 5
_LEAST_SHARE, _LEAST_LETTERS = 0.25, 1000
"""Where trafilatura names less than this, or than this share of the letters there are (a list, an index, a short page),
all is kept."""


def without_surroundings(parts: Sequence[Part], page: str) -> list[Part]:
    """The parts from the first paragraph of the main text to its last, with the title and headings right before it.

    All of them where trafilatura is not installed, or cannot tell.
    """
    main = _letters(_main_text(page))
    paragraphs = _paragraphs(parts)
    texts = ["".join(text for text, _ in parts[first:end]) for first, end in paragraphs]
    if len(main) < max(_LEAST_LETTERS, _LEAST_SHARE * sum(len(_letters(text)) for text in texts)):
        return list(parts)
    named = [
        number
        for number, text in enumerate(texts)
        if len(text.split()) >= _FEWEST_WORDS and _letters(text)[:_KNOWN_BY] in main
    ]
    if not named:
        return list(parts)
    first, last = named[0], named[-1]
    while first and texts[first - 1].lstrip().startswith("#"):
        first -= 1
    title = parts[: paragraphs[0][1]] if first and texts[0].startswith("# ") else []
    kept = parts[paragraphs[first][0] : paragraphs[last][1]]
    return [*title, *([("\n\n", None)] if title else []), *kept]


def _main_text(page: str) -> str:
    try:
        from trafilatura import extract
    except ImportError:
        return ""
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    # A page that it fails at, in whatever way, is read whole.
    with contextlib.suppress(Exception):
        return extract(page, include_comments=False, include_tables=True, favor_recall=True) or ""
    return ""


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _paragraphs(parts: Sequence[Part]) -> list[tuple[int, int]]:
    """The first part of each paragraph and the one behind its last: breaks between them have no place in the page."""
    found, first = list[tuple[int, int]](), None
    for number, (text, location) in enumerate(parts):
        if location is None and text.isspace():
            if first is not None:
                found.append((first, number))
            first = None
        elif first is None:
            first = number
    return found if first is None else [*found, (first, len(parts))]
