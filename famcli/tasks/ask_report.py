"""Answers as a report: each question with its answer, beside the document, citations linked to their place."""

from __future__ import annotations

from collections.abc import Sequence

from famcli.tasks.answers import Answer, Citation
from famcli.tasks.ask import AskResult
from famcli.tasks.asked_text import AskedText
from famcli.tasks.report.page import Cited, Item, Report
from famcli.tasks.report.record import FileText, Recorder
from famcli.tasks.report.text import Text


def report_of(result: AskResult, facts: Sequence[str], has_heat: bool) -> Report:
    """The answers in order, each with the passages it rests on."""
    places, items = list[Cited](), list[Item]()
    for answer in result.answers:
        first = len(places) + 1
        places += [Cited(one.source, one.span, place_of(one), one.text) for one in answer.citations]
        numbers = tuple(range(first, len(places) + 1))
        items.append(Item(_told(answer), numbers, heading=answer.question, quotes=True))
    names = ", ".join(source.name for source in result.counts.sources)
    heat = "the memory's attention to each word" if has_heat else None
    return Report(f"Questions about {names}", tuple(facts), tuple(items), tuple(places), heat)


def place_of(citation: Citation) -> str:
    """`book.txt, page 3, line 120, confidence 0.83`."""
    page = "" if citation.page is None else f"page {citation.page:,}, "
    return f"{citation.source}, {page}line {citation.line:,}, confidence {citation.confidence:.2f}"


def texts_of(text: AskedText, recorder: Recorder) -> list[Text]:
    """The documents: as they were recorded in this run, or from the files that an earlier run has read. What can no
    longer be read is left out."""
    if recorder.texts:
        return list(recorder.texts)
    return [
        FileText(place.name, place.path, place.encoding, source.num_bytes)
        for place, source in zip(text.places, text.counts.sources, strict=True)
        if place.path is not None and text.readable
    ]


def _told(answer: Answer) -> str:
    return f"{answer.text} (written by the model, not checked)" if answer.kind == "written" else answer.text
