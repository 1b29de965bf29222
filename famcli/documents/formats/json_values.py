"""JSON of any size, and files of one JSON value a line: each object is a record, told by its path.

Read token by token: neither the document nor an array of it is ever held as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from famcli.documents.converted import Part
from famcli.documents.formats.records import Field, checked_records, is_prose
from famcli.documents.original import Original
from famcli.documents.source import RECORD, Location, Offsets, Piece
from famcli.errors import DocumentError

MAX_DEPTH = 500
_LONGEST = 1 << 24  # characters of one string
_SHORTEST = 16  # characters that JSON with something to read takes at least
_SHORT = 1000  # characters of an array of short values that is shown as one value
_TOKEN = re.compile(r'[\s\x1e]*+(?:([{}\[\],:])|("(?:[^"\\]|\\.)*+")|([^\s{}\[\],:"]++))', re.DOTALL)
_BLANK = re.compile(r"[\s\x1e]*+")
_BEGINS = re.compile(r'\s*(?:\{\s*(?:["}]|$)|\[\s*(?:[{"\[\]]|-?\d+(?:\.\d+)?\s*[,\]]|(?:true|false|null)\s*[,\]]|$))')
_DECODER = json.JSONDecoder(strict=False)
_NAME = re.compile(r"[A-Za-z_]\w*")


def looks_like_json(head: str, at_end: bool) -> bool:
    """True if the text is JSON as far as it goes."""
    if len(head) < _SHORTEST or not _BEGINS.match(head):
        return False
    machine = _Machine()
    scanner = _Scanner(iter([_ascii_piece(head)]), "")
    try:
        for token, start in scanner.tokens(partial=True):
            for _ in machine.take(token, start, 1):
                pass
    except (DocumentError, _MalformedError):
        return False
    # One pair of brackets with a word in it begins many a log; what has keys is JSON, also where it was cut short.
    return machine.num_keys > 0 or (machine.is_whole if at_end else head.count(",") > 1)


def read_json(original: Original) -> Iterator[Part]:
    """The objects in their order, each as a record. Raises DocumentError for what is not JSON, with the line."""
    yield from checked_records(original, _records(original), "records")


def _records(original: Original) -> Iterator[tuple[list[Field], Location]]:
    machine, scanner = _Machine(), _Scanner(original.pieces(), original.name)
    try:
        for token, start in scanner.tokens():
            for path, fields, begin, line in machine.take(token, start, scanner.line):
                yield fields, _location(path, line, (begin, scanner.end), machine.num_values > 0)
    except _MalformedError as error:
        raise DocumentError(
            f"{original.name}: line {scanner.line:,} is not JSON ({error}); correct it, or read it as plain text",
            remedy={"encoding": "as-is"},
        ) from error
    if not machine.is_whole:
        raise DocumentError(f"{original.name} ends in the middle of a JSON value: it was cut short; fetch it again")


def _location(path: str, line: int, span: tuple[int, int], is_one_of_many: bool) -> Location:
    """A file of several values has a line for each, by which it is known; a single value has paths."""
    if path in ("", "."):
        return Location("line", f"{line}", RECORD, line=line, span=span)
    return Location("path", path, f"line {line:,}" if is_one_of_many else "", line=line, span=span)


class _MalformedError(ValueError):
    """What is no JSON, and why."""


class _Scanner:
    """Tokens of a stream with the byte at which each begins. Holds about one token. line, end: of the last token."""

    def __init__(self, pieces: Iterator[Piece], name: str) -> None:
        self._pieces, self._name = pieces, name
        self._text, self._at = "", 0
        self._offsets: Offsets = np.zeros(1, np.int64)
        self.line = 1

    @property
    def end(self) -> int:
        """The byte at which the last token ends."""
        return int(self._offsets[self._at])

    def tokens(self, partial: bool = False) -> Iterator[tuple[str, int]]:
        """The tokens and where each begins. partial: what is unfinished at the end is left out."""
        while True:
            found = _TOKEN.match(self._text, self._at)
            if found is None or (found.end() == len(self._text) and found[3] is not None):
                if self._refill():
                    continue
                # What is held has moved to the front.
                found = _TOKEN.match(self._text, self._at)
                blank = _BLANK.match(self._text, self._at)
                assert blank is not None
                if partial or blank.end() == len(self._text):
                    return
                if found is None:
                    raise _MalformedError("a string is not closed")
            start = found.start(found.lastindex or 0)
            self.line += self._text.count("\n", self._at, start)
            self._at, token = found.end(), found[found.lastindex or 0]
            yield token, int(self._offsets[start])
            self.line += token.count("\n")

    def _refill(self) -> bool:
        """Read on: at least as much as is held, so that a long string is not searched again and again."""
        held = self._text[self._at :]
        if len(held) > _LONGEST:
            raise DocumentError(f"{self._name}: line {self.line:,} has a value of more than {_LONGEST:,} characters")
        offsets = [self._offsets[self._at : -1]]
        texts, length, last = [held], 0, int(self._offsets[-1])
        for piece in self._pieces:
            texts.append(piece.text)
            offsets.append(piece.char_offsets()[:-1])
            length, last = length + len(piece.text), piece.end
            if length >= len(held):
                break
        self._text, self._at = "".join(texts), 0
        self._offsets = np.concatenate([*offsets, [last]])
        return length > 0


@dataclass
class _Open:
    """An object or an array that is not closed. key: of the value that is being read. fields: not given out yet."""

    is_object: bool
    start: int
    line: int
    key: str | None = None
    index: int = 0
    expects: str = "first"  # "first", "key", ":", "value" or ","
    fields: list[Field] = field(default_factory=list)
    is_plain: bool = True  # an array of short values so far


_Found = tuple[str, list[Field], int, int]


class _Machine:
    """Follows the tokens, and gives out the records: path, fields, and where each begins."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self.num_values = self.num_keys = 0

    @property
    def is_whole(self) -> bool:
        """True if a value was read and nothing is open."""
        return not self._open and self.num_values > 0

    def take(self, token: str, start: int, line: int) -> Iterator[_Found]:
        top = self._open[-1] if self._open else None
        if token in ("}", "]"):
            yield from self._closed(token, top)
        elif token == ",":
            if top is None or top.expects != ",":
                raise _MalformedError("a comma where none belongs")
            top.expects = "key" if top.is_object else "value"
        elif token == ":":
            if top is None or top.expects != ":":
                raise _MalformedError("a colon where none belongs")
            top.expects = "value"
        elif top is not None and top.is_object and top.expects in ("first", "key"):
            if not token.startswith('"'):
                raise _MalformedError("a key without quotation marks")
            top.key, top.expects = str(_value(token)), ":"
            self.num_keys += 1
        else:
            if top is not None and top.expects not in ("first", "value"):
                raise _MalformedError("a value where none belongs")
            yield from self._begun(token, start, line)

    def _begun(self, token: str, start: int, line: int) -> Iterator[_Found]:
        if token in ("{", "["):
            if len(self._open) >= MAX_DEPTH:
                raise _MalformedError(f"more than {MAX_DEPTH} levels")
            if token == "{":
                yield from self._flush()
            self._open.append(_Open(token == "{", start, line))
            return
        value = _value(token)
        top = self._open[-1] if self._open else None
        if value is None or isinstance(value, bool):
            text = "" if value is None else str(value).lower()
        else:
            text = value if isinstance(value, str) else token
        self._ended()
        if top is None:
            yield "", [("", text)], start, line
        elif top.is_object:
            top.fields.append((top.key or "", text))
        else:
            top.fields.append(("", text))
            if is_prose(text) or sum(len(one) for _, one in top.fields) > _SHORT:
                yield from self._flush()

    def _closed(self, token: str, top: _Open | None) -> Iterator[_Found]:
        if top is None or top.is_object != (token == "}") or top.expects not in ("first", ","):
            raise _MalformedError(f"{token} where none belongs")
        parent = self._open[-2] if len(self._open) > 1 else None
        if not top.is_object and top.is_plain and parent is not None and parent.is_object:
            parent.fields += [(parent.key or "", ", ".join(one for _, one in top.fields if one))] * bool(top.fields)
            top.fields = []
        elif top.fields:
            yield from self._flush()
        self._open.pop()
        self._ended()

    def _ended(self) -> None:
        if not self._open:
            self.num_values += 1
            return
        self._open[-1].expects = ","
        self._open[-1].index += 1

    def _flush(self) -> Iterator[_Found]:
        """Give out what the open values hold, the outer ones first."""
        for depth, one in enumerate(self._open):
            if one.fields:
                path = self._path(depth)
                if one.is_object:
                    yield path, one.fields, one.start, one.line
                else:
                    first = one.index - len(one.fields)
                    for number, each in enumerate(one.fields):
                        yield f"{path}[{first + number}]", [each], one.start, one.line
                one.fields = []
            one.is_plain = False

    def _path(self, depth: int) -> str:
        """As jq writes it: `.messages[2]`."""
        steps = []
        for one in self._open[:depth]:
            if not one.is_object:
                steps.append(f"[{one.index}]")
            elif _NAME.fullmatch(one.key or ""):
                steps.append(f".{one.key}")
            else:
                steps.append(f"[{json.dumps(one.key)}]")
        path = "".join(steps)
        return path if path.startswith(".") else f".{path}"


def _value(token: str) -> str | float | int | bool | None:
    if token.startswith('"') and "\\" not in token:
        return token[1:-1]
    try:
        value = _DECODER.decode(token)
    except (ValueError, RecursionError) as error:
        raise _MalformedError(f"{token[:20]!r} is no value") from error
    return value if isinstance(value, str | int | float | bool) else None


def _ascii_piece(text: str) -> Piece:
    return Piece(text, 0, len(text), np.ones(len(text), np.int64))
