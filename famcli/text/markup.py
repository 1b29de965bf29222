"""Marks of Markdown and HTML inside a line of text, which a reader does not see."""

from __future__ import annotations

import html
import re

_LINK = re.compile(r"(?<![\w)\]])!?\[([^\[\]]{1,200})\]\([^()\s]{1,500}\)")
# Tags by name: angle brackets in prose and code (`List<String>`) are no tags.
_TAG = re.compile(
    r"<!--.{0,500}?-->|</?(?:a|abbr|b|big|blockquote|br|center|cite|code|dd|del|details|dfn|div|dl|dt|em|font|h[1-6]|hr|"
    r"i|img|ins|kbd|li|mark|ol|p|picture|pre|q|s|samp|small|source|span|strike|strong|sub|summary|sup|table|tbody|td|tfoot|"
    r"th|thead|tr|tt|u|ul|var|video|wbr)(?:\s[^<>]{0,500})?/?>",
    re.IGNORECASE | re.DOTALL,
)
_ENTITY = re.compile(r"&(?:#\d{2,6}|#x[\da-f]{2,5}|[a-z]\w{1,20});", re.IGNORECASE)
# Not two underscores, which are a part of many names.
_STRONG = re.compile(r"(?<![\w*])\*\*(?=[^\s*])(.{1,300}?)(?<=[^\s*])\*\*(?![\w*])", re.DOTALL)
# The lines between two of three hyphens, or of three plus signs, at the very beginning of a page.
_FRONT_MATTER = re.compile(r"\ufeff?(---|\+\+\+)[ \t]*\r?\n(.*?)(?<=\n)\1[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title[ \t]*[:=][ \t]*([\"']?)(.+?)\1[ \t]*\r?$", re.MULTILINE)
_MOST_FRONT_MATTER = 1 << 14


def without_marks(text: str) -> str:
    """`text` without tags, the marks of strong emphasis and the addresses of links, and with entities as characters."""
    if "<" in text:
        text = _TAG.sub("", text)
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    if "&" in text:
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
    return _STRONG.sub(r"\1", text) if "**" in text else text


def front_matter(text: str) -> tuple[int, str | None]:
    """The characters of a Markdown page that its front matter takes, 0 without one, and the title that it gives."""
    found = _FRONT_MATTER.match(text[:_MOST_FRONT_MATTER])
    if found is None or not re.search(r"^[\w-]+[ \t]*[:=]", found[2], re.MULTILINE):
        return 0, None
    title = _TITLE.search(found[2])
    return found.end(), None if title is None else title[2].strip()
