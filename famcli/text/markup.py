"""Marks of Markdown and HTML inside a line of text, which a reader does not see."""

from __future__ import annotations

import html
import re

QUOTED = re.compile(r"[ \t]{0,12}(?!>>>)(?:>[ \t]?){1,16}(?![=<>])")
"""The mark before each line of a quotation, as in Markdown and mail."""

# Tags by name: angle brackets in prose and code (`List<String>`) are no tags.
_TAGS = (
    r"<!--.{0,500}?-->|</?(?:a|abbr|b|big|blockquote|br|center|cite|code|dd|del|details|dfn|div|dl|dt|em|font|h[1-6]|hr|"
    r"i|img|ins|kbd|li|mark|ol|p|picture|pre|q|s|samp|small|source|span|strike|strong|sub|summary|sup|table|tbody|td|tfoot|"
    r"th|thead|tr|tt|u|ul|var|video|wbr)(?:\s[^<>]{0,500})?/?>"
)
_ENTITIES = r"&(?:#\d{2,6}|#x[\da-f]{2,5}|[a-z]\w{1,20});"
# Of emphasis that goes on beyond the text, as where it is a sentence. "**kwargs", "src/**", "foo_" and "2**3" are none.
_HALVES = (
    r"(?<![\w*\\(])(?<!, )\*\*(?=[\w\"'`(\[\u201c\u2018])(?!\w*(?:kw|arg|opt|param)\w*)"
    r"|(?<=[\w.!?,:;)%\"'\u201d\u2019\u2026])\*\*(?![\w*])"
    r"|\A[\s>]*[\"\u201c(]?(?:_|\*)(?=(?-i:[^\W\d_a-z]))"
    r"|(?<=[^\W\d_][.!?\u2026])[_*](?=[\"\u201d\u2019)]*\Z)|(?<=[^\W\d_][.!?,;:\u2026])_(?=[\s\"\u201d\u2019)])"
)
# Each group is what stays of its mark. Two underscores are a part of many names.
_MARK = re.compile(
    rf"(?P<code>`[^`\n]{{1,300}}`)|(?P<tag>{_TAGS})|(?P<entity>{_ENTITIES})"
    r"|(?<![\w)\]])!?\[(?P<link>[^\[\]]{1,200})\](?:\([^()\s]{1,500}\)|(?<=[^\W\d]\])\[[^\[\]\n]{0,80}\])"
    r"|(?<![\w*\\])\*\*\*(?=[^\s*])(?P<both>.{1,600}?)(?<=[^\s*])\*\*\*(?![\w*])"
    r"|(?<![\w*\\])\*\*(?=[^\s*])(?P<strong>.{1,600}?)(?<=[^\s*])\*\*(?![\w*])"
    r"|(?<![\w*\\<])\*(?=[^\s*])(?P<starred>(?:[^*\n]|\n(?!\s*\n)){1,600}?)(?<=[^\s*\\])\*(?![\w*])"
    # "__init__" and "__FILE__" are names.
    r"|(?<![\w\\`])__(?=[^\s_])(?P<lined_twice>(?!(?-i:[a-z\d_]+|[A-Z\d_]+)__)[^\n]{1,300}?)(?<=[^\s_\\])__(?!\w)"
    r"|(?<![\w\\])_(?=[^\s_])(?P<lined>(?:[^_\n]|\n(?!\s*\n)){1,600}?)(?<=[^\s_\\])_(?!\w)"
    r"|\\(?P<escaped>[*_\[\]#<>~])"
    rf"|(?P<half>{_HALVES})",
    re.IGNORECASE | re.DOTALL,
)
_MAY_BE_MARKED = re.compile(r"[<&*_\\]|\][(\[]")
# The lines between two of three hyphens, or of three plus signs, at the very beginning of a page.
_FRONT_MATTER = re.compile(r"\ufeff?(---|\+\+\+)[ \t]*\r?\n(.*?)(?<=\n)\1[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FRONT_KEY = re.compile(r"^[\"']?[\w@/.-]+[\"']?[ \t]*[:=]", re.MULTILINE)
_TITLE = re.compile(r"^title[ \t]*[:=][ \t]*([\"']?)(.+?)\1[ \t]*\r?$", re.MULTILINE)
_MOST_FRONT_MATTER = 1 << 14


def without_marks(text: str) -> str:
    """`text` without tags, the marks of emphasis and the addresses of links, and with entities as characters; code
    between backticks stays as it is."""
    return _MARK.sub(_shown, text) if _MAY_BE_MARKED.search(text) else text


def _shown(found: re.Match[str]) -> str:
    kind = found.lastgroup or ""
    if kind in ("code", "tag"):
        return found[0] if kind == "code" else ""
    if kind == "half":
        return found[0].replace("*", "").replace("_", "")
    return html.unescape(found[0]) if kind == "entity" else without_marks(found[kind])


def front_matter(text: str) -> tuple[int, str | None]:
    """The characters of a Markdown page that its front matter takes, 0 without one, and the title that it gives."""
    found = _FRONT_MATTER.match(text[:_MOST_FRONT_MATTER])
    if found is None or not _FRONT_KEY.search(found[2]):
        return 0, None
    title = _TITLE.search(found[2])
    said = "" if title is None else title[2].strip(" \t'\"")
    return found.end(), said or None
