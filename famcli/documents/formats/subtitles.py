"""Subtitles (.srt, .vtt): what is said, joined to sentences, each with the time at which it begins."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from famcli.documents.converted import Part
from famcli.documents.original import Line, Original
from famcli.documents.source import Location

_STAMP = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{2})(?:[.,](\d{1,3}))?"
_TIMING = re.compile(rf"\s*{_STAMP}\s*-->\s*{_STAMP}(?:\s.*)?$")
_SRT = re.compile(rf"\s*(?:\d+[ \t]*\r?\n)?[ \t]*{_STAMP}[ \t]*-->[ \t]*{_STAMP}")
_VTT = re.compile(r"\s*WEBVTT(?:[ \t].*)?(?:\r?\n|$)")
_NOT_SPOKEN = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
_SPEAKER = re.compile(r"<v(?:\.[\w.]+)?\s+([^>]+)>")
_MARKUP = re.compile(r"</?[a-zA-Z][^>]{0,200}>|<\d[\d:.]*>|\{\\[^}]{0,80}\}")
_PAUSE = 4.0  # seconds of silence that end a paragraph
_ENDS = re.compile(r"[.!?…。！？][\"'”’»)\]]*$")


def looks_like_subtitles(head: str) -> bool:
    """True for text that begins as .srt or .vtt does."""
    return bool(_VTT.match(head) or _SRT.match(head))


def read_subtitles(original: Original) -> Iterator[Part]:
    """The spoken text, without cue numbers, times and markup. A line that the cue before has shown is not repeated."""
    last_line, last_end, speaker = "", 0.0, ""
    for begin, end, lines in _cues(original.lines()):
        spoken = list[str]()
        for line in lines:
            if (found := _SPEAKER.search(line.text)) is not None and found[1].strip() != speaker:
                speaker = found[1].strip()
                spoken.append(f"\n{speaker}: ")
            text = " ".join(html.unescape(_MARKUP.sub("", line.text)).split())
            # Captions that roll show each line twice.
            if text and text != last_line:
                spoken.append(("\n" if text.startswith(("- ", "– ", "— ")) else "") + text)
                last_line = text
        if not spoken:
            continue
        where = Location("time", _clock(begin), line=lines[0].number, span=(lines[0].start, lines[-1].end))
        if last_end:
            is_pause = begin - last_end > _PAUSE
            yield ("\n\n" if is_pause else "" if spoken[0].startswith("\n") else " "), None
        yield " ".join(spoken).replace(": \x20", ": ").replace(" \n", "\n"), where
        last_end = end
    if last_end:
        yield "\n", None


def _cues(lines: Iterator[Line]) -> Iterator[tuple[float, float, list[Line]]]:
    """The cues: when each begins and ends, and its lines. A blank line inside a cue does not end it."""
    begin, end, held = 0.0, 0.0, list[Line]()
    is_cue = is_skipped = after_blank = False
    for line in lines:
        timing = _TIMING.match(line.text)
        if timing is not None:
            # What is directly above a time is the number or name of the cue.
            if held and held[-1].number == line.number - 1 and held[-1].text.strip():
                held.pop()
            if is_cue and any(one.text.strip() for one in held):
                yield begin, end, [one for one in held if one.text.strip()]
            begin, end = _seconds(timing, 1), _seconds(timing, 5)
            held, is_cue, is_skipped = [], True, False
        elif after_blank and _NOT_SPOKEN.match(line.text):
            is_skipped = True
        elif not line.text.strip():
            is_skipped, after_blank = False, True
            continue
        elif is_cue and not is_skipped:
            held.append(line)
        after_blank = False
    if is_cue and held:
        yield begin, end, held


def _seconds(timing: re.Match[str], first: int) -> float:
    hours, minutes, seconds, thousandths = timing.group(first, first + 1, first + 2, first + 3)
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int((thousandths or "0").ljust(3, "0")) / 1000


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
