"""Records as text: what a person would read of a row or an object. Short values stand in one line, prose by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from famcli.documents.converted import Part
from famcli.documents.formats.web import text_of_html
from famcli.documents.original import Original
from famcli.documents.source import Location
from famcli.errors import DocumentError

Field = tuple[str, str]
"""The name and the value of a column or key."""

SMALL = 1 << 20
"""Bytes in which there must be prose or names, or a document is refused: nobody waits for a million rows of figures."""

_MANY_FIELDS = 64  # of a row; what has more is a matrix
_MARKUP = re.compile(
    r"</?(?:p|br|div|a|li|ul|ol|h[1-6]|b|i|em|strong|span|table|tr|td|blockquote|pre|code)\b[^<>]*>", re.I
)
# Names that are asked about as words; columns are often named for short.
_IN_FULL = {
    "msg": "message",
    "desc": "description",
    "txt": "text",
    "addr": "address",
    "dept": "department",
    "qty": "quantity",
    "num": "number",
    "no": "number",
    "nr": "number",
    "tel": "telephone",
    "amt": "amount",
    "loc": "location",
}
_WORD = re.compile(r"[^\W\d_]{2,}")
_NAME = re.compile(r"[^\W\d_]{3}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
_END = re.compile("[.!?\u2026\u3002\uff01\uff1f\u0964\u061f][\"'\u2019\u201d)\\]]*$")
_MACHINE = re.compile(r"^(?:https?://\S+|[\w+/=-]{40,}|[\w.-]+@[\w.-]+|data:\S+)$")


def is_prose(value: str) -> bool:
    """True for a value that says something: five words with an end mark, or ten; of a script without blanks twice as
    many characters. "New York City, New York" is a value like any other, and stays beside its column's name."""
    if _MACHINE.match(value.strip()):
        return False
    few = 1 if _END.search(value.strip()) else 2
    return len(_WORD.findall(value[:2000])) >= 5 * few or len(_UNSPACED.findall(value[:2000])) >= 10 * few


def record_text(fields: Sequence[Field]) -> tuple[str, bool]:
    """A record as paragraphs, and whether it has prose: `id: 3; author: Ann; message:`, then what is prose, each
    further one below its own name."""
    short, prose = list[str](), list[Field]()
    for name, value in fields:
        plain = text_of_html(value) if _MARKUP.search(value) else value.strip()
        if not plain:
            continue
        name = _IN_FULL.get(name.lower(), name)
        if is_prose(plain):
            prose.append((name, plain))
        elif len(short) < _MANY_FIELDS:
            value = " ".join(plain.split())
            short.append(f"{name}: {value}" if name else value)
    # What is asked about is often called by the name of its column: "message 3", "the description of the lamp".
    # The colon tells what looks for sentences that this line is none by itself.
    paragraphs = list[str]()
    for number, (name, plain) in enumerate(prose):
        label = ["; ".join([*(short if number == 0 else []), *([f"{name}:"] * bool(name))])]
        paragraphs += [*filter(None, label), plain]
    paragraphs = paragraphs or ["; ".join(short)] * bool(short)
    return "".join(f"{paragraph}\n\n" for paragraph in paragraphs), bool(prose)


def checked_records(
    original: Original, records: Iterator[tuple[Sequence[Field], Location]], what: str
) -> Iterator[Part]:
    """The records as text. Raises DocumentError for a long document whose first mebibyte holds neither prose nor, in
    half of its records, names by which they can be found."""
    held, has_prose, size, names, num_named = list[Part](), False, 0, dict[str, None](), 0
    for fields, location in records:
        text, found = record_text(fields)
        has_prose = has_prose or found
        if has_prose or size > SMALL:
            yield from held
            held = []
            yield text, location
            continue
        held.append((text, location))
        num_named += any(_NAME.search(value) for _, value in fields)
        size = location.span[1] if location.span is not None else size
        names |= dict.fromkeys(name for name, _ in fields[:8] if name and len(names) < 8)
        if size > SMALL and 2 * num_named < len(held):
            raise DocumentError(
                f"{original.name} holds no prose, only {what} of figures "
                f"({', '.join(list(names)[:8]) or 'without names'}), so there is nothing to quote from it; as plain "
                "text it is read all the same",
                remedy={"encoding": "as-is"},
            )
    if not has_prose and (held or size):
        original.note(f"{original.name} holds no prose: each of its {what} is read as a line of its values")
    yield from held
