"""What roff does with the lines of a source before its macros are called: conditional requests, as a terminal takes
them, the bodies of macros, and strings. See groff(7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from famcli.documents.original import Line

_CONDITIONAL = re.compile(r"[.']\s*(?P<name>if|ie|el)\b\s*(?P<rest>.*)")
# A condition is a word, or has brackets or quotes with blanks within.
_CONDITION = re.compile(
    r"(?P<condition>!?(?:'[^']*'[^']*'|\"[^\"]*\"[^\"]*\"|\([^\s]*\)[^\s]*|[^\s(]\S*?(?=\s|\\\{|$)))\s*"
)
_TRUE = frozenset(("n", "!t", r"\n(.g", r"\n[.g]", "1"))
_DEFINES = re.compile(r"[.']\s*(?:de1?|am1?|ig)\b")
_END_OF_DEFINITION = re.compile(r"[.']\s*\.\s*$")
_STRING = re.compile(r"[.']\s*ds\s+(?P<name>\S+)\s+\"?(?P<value>.*)")
_USED = re.compile(r"\\\*(?:\((..)|\[([^\]]*)\]|(.))")


def chosen_lines(lines: Iterator[Line]) -> Iterator[Line]:
    """The lines that a terminal shows: of `.ie n A` and `.el B` that is A."""
    # For each block that is open: whether it is shown, and whether the last `.ie` outside it was true.
    blocks, was_true, is_definition = list[tuple[bool, bool]](), True, False
    strings = {"Aq": "'", 'L"': '"', 'R"': '"', "lq": "\u201c", "rq": "\u201d", "R": "\u00ae", "Tm": "\u2122"}
    for line in lines:
        text = line.text
        if is_definition:
            is_definition = _END_OF_DEFINITION.match(text) is None
            continue
        shown = all(is_shown for is_shown, _ in blocks)
        while found := _CONDITIONAL.match(text):
            name, text = found["name"], found["rest"]
            is_met = not was_true
            if name != "el" and (told := _CONDITION.match(text)):
                is_met, text = told["condition"] in _TRUE, text[told.end() :]
                was_true = is_met if name == "ie" else was_true
            if text.startswith(r"\{"):
                blocks.append((is_met, was_true))
                text = text[2:].lstrip("\\ ")
            shown = shown and is_met
        for _ in range(min(text.count(r"\}"), len(blocks))):
            was_true = blocks.pop()[1]
        text = text.replace(r"\}", "")
        if _DEFINES.match(text):
            is_definition = True
        elif shown and (named := _STRING.match(text)):
            strings[named["name"]] = named["value"]
        elif shown and (text == line.text or text.strip(".' ")):
            text = _USED.sub(lambda used: strings.get(used[1] or used[2] or used[3], ""), text)
            yield replace(line, text=text)
