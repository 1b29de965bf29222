"""What a page of HTML is known by, and its elements: in the line, headings, the main part, and those that are left out
by name, role or class."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from famcli.documents.source import Piece


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


INLINE = _words(
    """
    a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q rb rp rt ruby s samp small
    span strike strong sub sup time tt u var wbr
    """
)
SKIPPED = _words(
    """
    script style noscript template svg math canvas iframe object embed applet audio video map select button textarea
    datalist nav menu aside footer dialog rp
    """
)
VOID = _words("area base br col embed hr img input link meta param source track wbr")
SKIPPED_ROLES = _words("navigation banner contentinfo complementary search menu menubar toolbar dialog alert")
SKIPPED_CLASSES = _words(
    """
    nav navbar navigation navbox menu sidebar breadcrumb breadcrumbs footer site-footer site-header cookie cookies
    cookie-banner pagination skip-link skip-to-content headerlink mw-editsection noprint sphinxsidebar related
    toctree-wrapper share social comments-link sr-only visually-hidden screen-reader-text
    """
)
# Of feeds: what begins one, what begins one of its items, and what is said of these for programs. The part of a name
# before a colon says whose name it is.
_FEEDS = _words("rss feed")
_FEED_ITEMS = _words("item entry")
_FEED_FACTS = _words(
    """
    category cloud comments commentrss docs format generator guid icon id identifier image language link logo rating
    rights copyright skipdays skiphours source subject textinput ttl type updatebase updatefrequency updateperiod url
    """
)
HEADING = re.compile(r"h([1-6])$")
MAIN = re.compile(rb"<main[\s>]|role\s*=\s*[\"']?main\b", re.I)
ARTICLE = re.compile(rb"<article[\s>]", re.I)

_PAGE = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!doctype\s+html|<html[\s>]|<head[\s>]|<body[\s>]|<\?xml[\s]"
    r"|<!doctype\s+\w+|<(?:div|p|h[1-6]|article|section|main|table|ul|ol|title|meta|center|rss|feed)(?:\s[^<>]*)?>)",
    re.I | re.S,
)
_ANY_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_MARKDOWN = re.compile(r"^(?:#{1,6}|[-*+]|\d{1,3}\.) \S|^```|^[=-]{3,}$", re.M)
_MARKED_DOWN, _FEWEST_MARKED = re.compile(r"^#{1,6} \S|^```", re.M), 2
# Of site generators: settings of the page, which the page itself does not show.
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?:[^\n]*\n){1,60}?---[ \t]*\n")


def looks_like_html(head: str) -> bool:
    """True for a page or a part of one, and for XML."""
    front = _FRONT_MATTER.match(head)
    if front is not None:
        # Below it is mostly Markdown, some lines of which may be tags.
        body = head[front.end() : 20000].lstrip()
        return body.startswith("<") and _MARKDOWN.search(body) is None and len(_ANY_TAG.findall(body)) >= 4
    found = _PAGE.match(head)
    if found is None:
        return False
    # A lone tag at the beginning of a text is not yet a page, and many a README begins with a few.
    if found[0].rstrip().lower().startswith(("<!", "<html", "<head", "<body", "<?")):
        return True
    return len(_ANY_TAG.findall(head[:20000])) >= 4 and len(_MARKED_DOWN.findall(head[:20000])) < _FEWEST_MARKED


class Feed:
    """Reads the elements of a feed (RSS, Atom) as those of a page: the title of an item is a heading, and what is said
    for programs is a script."""

    def __init__(self) -> None:
        self.is_told: bool | None = None
        """True for a feed; None before the first element."""
        self._has_items = False

    def element(self, tag: str, attrs: Iterable[tuple[str, str | None]] = ()) -> str:
        """The element of a page that one of the document is; of what is no feed, the same."""
        own = tag.rpartition(":")[2]
        if self.is_told is None:
            self.is_told = own in _FEEDS or (own == "rdf" and any("/rss/" in (value or "") for _, value in attrs))
        if not self.is_told:
            return tag
        self._has_items |= own in _FEED_ITEMS
        if own == "title":
            return "h2" if self._has_items else own
        return "script" if own in _FEED_FACTS else own


def without_front_matter(piece: Piece) -> Piece:
    """The beginning of a page with blanks in place of its front matter, at the same offsets."""
    front = _FRONT_MATTER.match(piece.text)
    if front is None:
        return piece
    blank = re.sub(r"[^\n]", " ", front[0])
    return replace(piece, text=blank + piece.text[front.end() :], widths=np.diff(piece.char_offsets()))
