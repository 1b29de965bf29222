"""Manual pages in the macros man and mdoc of roff (`fzf.1`), as text: sections as headings, an option and what it does
as one item, without the marks of fonts. See man(7) and mdoc(7)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from famcli.documents.converted import Part
from famcli.documents.formats.roff import chosen_lines
from famcli.documents.original import Line, Original

_TITLE = re.compile(r"^\.(?:TH|Dd)\s", re.M)
_MACRO = re.compile(r"^\.\s*(?:SH|SS|TP|IP|PP|P|LP|B|I|BR|BI|IR|RB|RI|Sh|Ss|It|Pp|Nm|Fl|Bl|El)\b", re.M)
_FEWEST = 5
_FONT = re.compile(r"\\f(?:\[[^\]]*\]|\(..|.)|\\s[-+]?\d|\\[&|^/,:%)]|\\m\[[^\]]*\]|\\[hvw]'[^']*'")
_NAMED = re.compile(r"\\(?:\((?P<two>..)|\[(?P<long>[^\]]*)\]|(?P<one>.))")
# A bullet or number that is moved to the left of its text, as DocBook writes it for terminals.
_HANGING = "\\h'-"
_SIGNS = {
    "bu": "\u2022", "em": "\u2014", "en": "\u2013", "hy": "-", "aq": "'", "dq": '"', "lq": "\u201c", "rq": "\u201d",
    "oq": "\u2018", "cq": "\u2019", "rs": "\\", "ti": "~", "ha": "^", "co": "\u00a9", "<=": "\u2264", ">=": "\u2265",
    "->": "\u2192", "bv": "|",
}  # fmt: skip
_ONE = {"e": "\\", "~": " ", "0": " ", " ": " ", "t": "\t", "c": ""}
_JOINED = frozenset(("BR", "BI", "IR", "RB", "RI", "IB", "SB"))
_WORDS = ("Ar", "Pa", "Cm", "Ev", "Va", "Em", "Sy", "Li", "Xr", "Nm", "Nd", "Ic", "Dv", "An")
_PLAIN = frozenset(("B", "I", "SM", "R", *_WORDS))
_CODE_BEGINS, _CODE_ENDS = frozenset(("nf", "EX", "Bd", "Vb")), frozenset(("fi", "EE", "Ed", "Ve"))


def looks_like_manual(head: str) -> bool:
    """True for the source of a manual page."""
    return _TITLE.search(head) is not None and len(_MACRO.findall(head)) >= _FEWEST


def read_manual(original: Original) -> Iterator[Part]:
    """The text of a manual page."""
    # What waits for the text that belongs to it: an option's tag.
    tag, page, wants_tag, in_code = "", "", False, False
    for line in chosen_lines(original.lines()):
        name, rest = _macro(line)
        if name == "Nm":
            # Without a name it stands for that of the page.
            page = page or rest
            rest = rest or page
        if name is None and in_code:
            yield f"    {_shown(line.text)}\n", line.location
        elif name in ("SH", "SS", "Sh", "Ss"):
            title = rest.capitalize() if rest.isupper() else rest
            yield f"{_open(tag)}\n\n{'##' if name[1] in 'Hh' else '###'} {title}\n\n", line.location
            tag, wants_tag = "", False
        elif name == "TH":
            yield f"# {rest}\n", line.location
        elif name in ("TP", "TQ"):
            yield f"{_open(tag)}\n", None
            tag, wants_tag = "", True
        elif name == "IP" and (rest or not tag):
            yield f"{_open(tag)}\n", None
            tag = rest
        elif name == "It":
            yield f"{_open(tag)}\n", None
            tag = rest or "\u2022"
        elif name == "br":
            yield "\n", None
        elif name in ("PP", "P", "LP", "Pp", "sp", "Sp", "HP"):
            yield "\n\n", None
        elif name in _CODE_BEGINS | _CODE_ENDS:
            in_code = name in _CODE_BEGINS
            yield f"{_open(tag)}\n", None
            tag = ""
        elif line.text.startswith(_HANGING):
            yield f"{_open(tag)}\n", None
            tag = rest
        elif wants_tag and rest:
            tag, wants_tag = rest, False
        elif rest:
            # Lines of the source are no lines of the text.
            yield f"{_open(tag, False)}{rest} ", line.location
            tag = ""
    yield _open(tag), None


def _open(tag: str, alone: bool = True) -> str:
    """The tag of an item before its text, or alone."""
    if not tag:
        return ""
    return f"\n- {tag}\n" if alone else "\n- " + ("" if tag == "\u2022" else f"{tag.rstrip(':')}: ")


def _macro(line: Line) -> tuple[str | None, str]:
    """The macro that a line calls, None for text, and what it shows."""
    text = line.text
    if not text.startswith((".", "'")):
        return None, _shown(text).strip()
    name, _, rest = text[1:].strip().partition(" ")
    if name.startswith(('\\"', '"')) or not name:
        return "", ""
    words = _arguments(rest)
    if name in _JOINED:
        return name, "".join(words)
    if name == "IP":
        return name, words[0] if words else ""
    if name in ("SH", "SS", "Sh", "Ss", *_PLAIN):
        return name, " ".join(words)
    if name == "TH":
        return name, f"{words[0]}({words[1]})" if len(words) > 1 else " ".join(words)
    if name in ("It", "Fl", "Op", "Oo", "Ar", "Dl", "D1", "Ql", "Dq", "Sq", "Pq", "Brq"):
        return name, _in_mdoc([name, *words] if name == "Fl" else words)
    return name, ""


def _in_mdoc(words: list[str]) -> str:
    """Words of mdoc among which are its macros: `Fl v Ar file` is `-v file`."""
    shown, is_flag = list[str](), False
    for word in words:
        if word == "Fl":
            is_flag = True
        elif word not in _PLAIN and word not in ("Op", "Oo", "Oc", "Ns", "Ap", "No", "Xo", "Xc"):
            shown.append(f"-{word}" if is_flag and word[:1].isalnum() else word)
            is_flag = False
    return " ".join(shown)


def _arguments(rest: str) -> list[str]:
    lexer = shlex.shlex(rest, posix=True)
    lexer.quotes, lexer.escape, lexer.commenters, lexer.whitespace_split = '"', "", "", True
    try:
        return [_shown(word) for word in lexer]
    except ValueError:
        return [_shown(word) for word in rest.replace('"', "").split()]


def _shown(text: str) -> str:
    """Text without the marks of fonts, and with signs for their names."""
    return _NAMED.sub(_sign, _FONT.sub("", text))


def _sign(found: re.Match[str]) -> str:
    if (one := found["one"]) is not None:
        return _ONE.get(one, one)
    return _SIGNS.get(found["two"] or found["long"] or "", "")
