"""Answers as a report: each question with its answer, beside the document, citations linked to their place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from famcli.tasks.ask.answers import Answer
from famcli.tasks.ask.ask import AskResult
from famcli.tasks.ask.asked_text import AskedText
from famcli.tasks.ask.rereading import pieces_until
from famcli.tasks.report.page import Cited, Item, Report
from famcli.tasks.report.record import Recorder, ShownText


def report_of(result: AskResult, facts: Sequence[str], has_heat: bool) -> Report:
    """The answers in order, each with the passages it rests on."""
    places, items = list[Cited](), list[Item]()
    for answer in result.answers:
        first = len(places) + 1
        places += [
            Cited(one.source, one.span, place_of(answer, number), one.text)
            for number, one in enumerate(answer.citations, 1)
        ]
        numbers = tuple(range(first, len(places) + 1))
        items.append(Item(_told(answer), numbers, heading=answer.question, quotes=True))
    names = ", ".join(source.name for source in result.counts.sources)
    heat = "the memory's attention to each word" if has_heat else None
    return Report(f"Questions about {names}", tuple(facts), tuple(items), tuple(places), heat)


def place_of(answer: Answer, number: int) -> str:
    """Of a citation by its number, from 1: `book.txt, page 3, line 120, confidence 0.83`."""
    cited = answer.citations[number - 1]
    return f"{cited.source}, {answer.place(number)}, confidence {cited.confidence:.2f}"


def texts_of(text: AskedText, recorder: Recorder) -> list[ShownText]:
    """The documents: as they were recorded in this run, or from the files that an earlier run has read. What can no
    longer be read is left out."""
    if recorder.texts:
        return list(recorder.texts)
    return [
        ShownText(place.name, source.num_bytes, partial(pieces_until, place.path, place.encoding, source.num_bytes))
        for place, source in zip(text.places, text.counts.sources, strict=True)
        if place.path is not None and text.readable
    ]


def _told(answer: Answer) -> str:
    text = f"{answer.text} (written by the model, not checked)" if answer.kind == "written" else answer.text
    return f"{text} {answer.doubt}" if answer.doubt else text
