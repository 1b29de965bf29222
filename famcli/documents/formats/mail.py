"""Mail (.eml, mbox): each message with its sender, date and subject, its text decoded, and quoted replies once.

A reply's quotation is left out where the message that it answers was read before; where it was not, it stays, without
its marks.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header
from email.message import Message
from email.utils import parseaddr, parsedate_to_datetime
from hashlib import blake2b
from typing import cast

from famcli.documents.converted import Part
from famcli.documents.encodings import declared_encoding
from famcli.documents.formats.web import text_of_html
from famcli.documents.original import Original
from famcli.documents.source import Location

_HEADER = re.compile(r"[!-9;-~]{1,76}:(?:[ \t]|\r?$)", re.M)
_FROM_LINE = re.compile(rb"From \S.*\d{2}:\d{2}.*\d{4}\s*$|From \S+@\S+ .*\d{4}\s*$")
_KNOWN = re.compile(r"(?im)^(from|to|date|subject|received|message-id|mime-version|return-path|delivered-to|reply-to):")
_BASE64 = re.compile(rb"[A-Za-z0-9+/=]{60,}\s*$")
_MOST_BASE64 = 20_000  # lines of a body in base64: a longer one is a file, and no text
_LARGEST = 1 << 23  # bytes of a message that are held
_LARGEST_HTML = 1 << 21
_MAX_DEPTH = 20
_LONGEST_HEADER = 4000  # characters that are decoded
_MAX_KNOWN = 10_000  # messages whose replies are recognised
_REPLY = re.compile(r"^(?:\s*(?:re|aw|antw|sv|vs|fwd?|wg|rv|r)(?:\[\d+\])?\s*[:：])+\s*", re.I)
_LIST_TAG = re.compile(r"^\s*\[[\w .-]+\]\s*")
_QUOTED = re.compile(r"\s{0,3}(?:[A-Za-z]{0,4}>|\|\s)")
_MARKS = re.compile(r"\s{0,3}(?:[A-Za-z]{0,4}>[ \t]?)+")
_ATTRIBUTION = re.compile(
    r"(?:wrote|writes|said|schrieb|a écrit|écrivait|escribió|ha scritto|skrev|schreef|napisał|escreveu)\s*:?\s*$|"
    r"(?=.*(?:\d{4}|@|\d\d:\d\d)).*:\s*$",
    re.I | re.S,
)
_ORIGINAL = re.compile(
    r"\s*(?:-{2,}\s*(?:original message|ursprüngliche nachricht|message d'origine|forwarded message)\s*-{2,}|_{20,})",
    re.I,
)
_FORWARDED_HEADER = re.compile(r"(?:From|Von|De|Da): .+")


def looks_like_mail(head: str) -> bool:
    """True for a mailbox, and for text that begins with the header of a message."""
    if head.startswith("From "):
        first, _, head = head.partition("\n")
        if not first.strip().count("@") and _FROM_LINE.match(first.encode("utf-8", "replace")) is None:
            return False
        return _HEADER.match(head) is not None or head.startswith(">From ")
    header = re.split(r"\r?\n\r?\n", head, maxsplit=1)[0]
    lines = [line for line in header.splitlines() if not line.startswith((" ", "\t"))]
    known = {name.lower() for name in _KNOWN.findall(header)}
    num_good = sum(_HEADER.match(line) is not None for line in lines)
    # Programs that fold a line wrongly are not rare.
    is_header = num_good > 0 and len(lines) - num_good <= len(lines) // 6 and _HEADER.match(lines[0]) is not None
    return is_header and len(known) >= 2 and bool(known & {"from", "received"})


def read_mail(original: Original) -> Iterator[Part]:
    seen, num_files = _Seen(), 0
    for number, (envelope, data, start, end, line, is_cut) in enumerate(_messages(original), start=1):
        try:
            message = message_from_bytes(data)
            texts, files = _texts(message)
        except (MessageError, RecursionError, ValueError, LookupError, AttributeError) as error:
            original.note(f"{original.name}: message {number:,} is damaged and left out ({error})")
            continue
        num_files += files
        if is_cut:
            original.note(f"{original.name}: message {number:,} is larger than 8 MB, and only that much of it was read")
        headers = {name.lower(): str(value) for name, value in reversed(list(message.raw_items()))}
        sender, subject = _decoded(headers.get("from")), _decoded(headers.get("subject"))
        # A mailbox knows when a message came, also where the message itself does not.
        date = _date(headers.get("date", "")) or _date(envelope)
        name = parseaddr(sender)[0] or parseaddr(sender)[1] or sender
        detail = ", ".join(filter(None, (name, "" if date is None else f"{date:%Y-%m-%d}", subject and f'"{subject}"')))
        where = Location("message", f"{number:,}", detail, line=line, span=(start, end))
        day = headers.get("date") if date is None else f"{date:%A}, {date.day} {date:%B %Y, %H:%M}"
        yield "".join(_header(sender, _decoded(headers.get("to")), _decoded(day), subject)), where
        answers = seen.answers(message, subject)
        body = "\n\n".join(filter(None, (_without_quotes(text, answers) for text in texts)))
        yield body + "\n\n" * bool(body), where
        seen.add(message, subject)
    if num_files:
        original.note(f"{original.name}: {num_files:,} attached file{'' if num_files == 1 else 's'} left out")


def _header(sender: str, to: str, date: str, subject: str) -> Iterator[str]:
    yield f"# {subject or 'No subject'}\n\n"
    lines = [("From", sender), ("To", to if len(to) < 300 else ""), ("Date", date)]
    yield "".join(f"{name}: {value}\n" for name, value in lines if value) + "\n"


# -------------------------------------------------------------------------------------------------------- the mailbox

_Raw = tuple[str, bytes, int, int, int, bool]


def _messages(original: Original) -> Iterator[_Raw]:
    """Each message: the date of its envelope, its bytes, its span, its first line, and whether it was cut."""
    # Without a buffer lines are looked for a byte at a time.
    stream, place, number = io.BufferedReader(cast(io.RawIOBase, original.raw()), 1 << 16), 0, 0
    lines, size, start, first, run = list[bytes](), 0, 0, 1, 0
    envelope, is_mailbox, after_blank, is_cut = "", False, True, False
    while data := stream.readline(1 << 20):
        number += data.endswith(b"\n")
        if after_blank and data.startswith(b"From ") and (not place or (is_mailbox and _FROM_LINE.match(data))):
            if lines:
                yield envelope, b"".join(lines), start, place, first, is_cut
            envelope = data.decode("ascii", "replace").split(maxsplit=2)[-1]
            lines, size, run, is_mailbox, is_cut = [], 0, 0, True, False
            start, first = place, number
        else:
            run = run + 1 if _BASE64.match(data) else 0
            if size + len(data) <= _LARGEST and run <= _MOST_BASE64:
                # ">From " is how a mailbox writes a line that begins with "From ".
                lines.append(data[1:] if is_mailbox and re.match(rb">+From ", data) else data)
                size += len(data)
            elif run <= _MOST_BASE64:
                is_cut = True
        after_blank = not data.strip()
        place += len(data)
    if any(line.strip() for line in lines):
        yield envelope, b"".join(lines), start, place, first, is_cut


class _Seen:
    """Which messages were read, by their ids and subjects; of the last 10,000."""

    def __init__(self) -> None:
        self._keys: dict[int, None] = {}  # the latest last

    def add(self, message: Message, subject: str) -> None:
        for key in (_key(str(message.get("message-id", ""))), _key("subject " + _topic(subject))):
            self._keys.pop(key, None)
            self._keys[key] = None
        while len(self._keys) > 2 * _MAX_KNOWN:
            del self._keys[next(iter(self._keys))]

    def answers(self, message: Message, subject: str) -> bool:
        """True if the message answers one that was read."""
        references = f"{message.get('in-reply-to', '')} {message.get('references', '')}"
        ids = re.findall(r"<[^<>\s]+>", references)
        if ids:
            return any(_key(one) in self._keys for one in ids)
        return bool(_REPLY.match(_LIST_TAG.sub("", subject))) and _key("subject " + _topic(subject)) in self._keys


def _key(text: str) -> int:
    return int.from_bytes(blake2b(text.strip().encode("utf-8", "replace"), digest_size=7).digest())


def _topic(subject: str) -> str:
    return " ".join(_REPLY.sub("", _LIST_TAG.sub("", _REPLY.sub("", subject))).casefold().split())


# -------------------------------------------------------------------------------------------------------- one message


def _texts(message: Message, depth: int = 0) -> tuple[list[str], int]:
    """The texts of a message in their order, and how many attached files it has besides."""
    if depth > _MAX_DEPTH:
        return [], 1
    kind = message.get_content_type()
    payload = message.get_payload()
    if isinstance(payload, list):
        found = [_texts(part, depth + 1) for part in payload if isinstance(part, Message)]
        if kind == "multipart/alternative":
            # The same text in several forms, the plainest first.
            best = next((one for one in found if any(text.strip() for text in one[0])), ([], 0))
            return best[0], sum(files for _, files in found)
        texts = [text for one, _ in found for text in one]
        if kind == "message/rfc822" and depth and isinstance(payload[0], Message):
            head = [_decoded(str(payload[0].get(name, ""))) for name in ("from", "subject")]
            texts.insert(0, "Forwarded: " + ", ".join(filter(None, head)))
        return texts, sum(files for _, files in found)
    names = [message.get_param("filename", None, "content-disposition"), message.get_param("name")]
    is_file = message.get_content_disposition() == "attachment" or names != [None, None]
    if message.get_content_maintype() != "text" or (is_file and kind not in ("text/plain", "text/html")):
        return [], 1
    if is_file:
        return [], 1
    data = message.get_payload(decode=True)
    charset = message.get_param("charset")
    # What the library would decode by yet another charset, that is named in the parameter, is taken as it is.
    charset = charset[2] if isinstance(charset, tuple) else charset
    text = _decode(data if isinstance(data, bytes) else b"", charset or None)
    return [text_of_html(text[:_LARGEST_HTML]) if kind == "text/html" else text], 0


def _decode(data: bytes, charset: str | None) -> str:
    for encoding in filter(None, (declared_encoding(charset or ""), "utf-8")):
        with suppress(ValueError):
            return data.decode(encoding)
    return data.decode("cp1252", "replace")


def _decoded(value: str | None) -> str:
    """The text of a header on one line, its encoded words decoded, and bytes that should not be there."""
    if not value:
        return ""
    value = _decode(value[:_LONGEST_HEADER].encode("utf-8", "surrogateescape"), None)
    try:
        parts = decode_header(value)
    except (MessageError, ValueError):
        return " ".join(value.split())
    texts = [text if isinstance(text, str) else _decode(text, charset) for text, charset in parts]
    return " ".join("".join(texts).split())


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _without_quotes(text: str, answers: bool) -> str:
    """A body without its signature; what it quotes without its marks, or left out if that was read before."""
    lines = [line.rstrip() for line in text.splitlines()]
    if "--" in lines[1:]:
        end = len(lines) - 1 - lines[::-1].index("--")
        # A signature has a few lines; more is text below a line of two dashes.
        lines = lines[:end] if len(lines) - end <= 12 else lines
    kept = list[str]()
    for place, line in enumerate(lines):
        if answers and kept and _begins_original(lines, place):
            break
        if not _QUOTED.match(line):
            kept.append(line)
            continue
        if place and not _QUOTED.match(lines[place - 1]):
            _drop_attribution(kept)
            kept.append("")
        if not answers:
            kept.append(_MARKS.sub("", line))
    return "\n".join(kept).strip()


def _begins_original(lines: list[str], place: int) -> bool:
    """True where the message that is answered is put below as a whole, as some programs do."""
    if not _ORIGINAL.match(lines[place]):
        return False
    return any(map(_FORWARDED_HEADER.match, lines[place + 1 : place + 4]))


def _drop_attribution(kept: list[str]) -> None:
    """Leave out "On Monday Ann wrote:" above a quotation, which may take up to three lines."""
    while kept and not kept[-1]:
        kept.pop()
    for count in (1, 2, 3):
        above = kept[-count:]
        if len(above) == count and all(above) and _ATTRIBUTION.search(" ".join(above)):
            starts = re.match(r"(?:On|Am|Le|El|Il|Den|Op|Em|W dniu)\b|.*@|\d", above[0]) is not None
            if starts or count == 1:
                del kept[-count:]
                return
