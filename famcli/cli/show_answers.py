"""How answers look: text that is being written at once, whole answers with their confidence and citations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from famcli.cli.render import describe_bytes
from famcli.cli.work import Work, describe_counts, paragraphs

if TYPE_CHECKING:
    from famcli.tasks.ask.answers import Answer, AskResult

_EVEN = 0.5  # below this confidence a written answer is more likely wrong than right


class AnswersShown:
    """Shows answers as they come, and what the result adds."""

    def __init__(self, work: Work, threshold: float, several: bool = False, heading: str | None = None) -> None:
        """threshold: the confidence that an answer needed."""
        self._work = work
        self._threshold = threshold
        self._several = several
        self._heading = heading
        self._writing: int | None = None
        self._shown = 0

    def event(self, event: Any) -> None:
        from famcli.tasks.ask.answering import AnswerText
        from famcli.tasks.ask.answers import Answer
        from famcli.tasks.task import ReadCounts

        if isinstance(event, ReadCounts):
            size = describe_bytes(event.num_bytes)
            self._work.notes.note(f"read before, so not again: {size} (see `famcli readings`)")
            return
        if self._work.form == "json":
            return
        self._work.make_room()
        if isinstance(event, Answer):
            self._answer(event)
        elif isinstance(event, AnswerText):
            self._work.emit("text", event)
            if self._work.form == "text":
                self._begin(event.question)
                self._work.output.write(event.text)

    def result(self, result: AskResult, each: bool = False) -> None:
        """Show what no event told: answers after an interruption, and what was read. each: other results may follow."""
        if self._work.form != "json":
            self._work.make_room()
            for answer in result.answers[self._shown :]:
                self._answer(answer)

        self._work.show(result, lambda: self._work.end_text("", result.partial), told="answers", each=each)
        # Where an earlier reading served, that was said before the answers.
        if self._work.form == "text" and not result.cached:
            self._work.notes.note(describe_reading(result))

    def _answer(self, answer: Answer) -> None:
        output, index = self._work.output, self._shown
        self._shown += 1
        if self._work.form == "jsonl":
            self._work.emit("answer", answer)
            return
        if self._writing == index:
            # A warning may have ended it.
            output.end_line()
        else:
            self._head(index, answer.question)
        # A written answer stands there already, as it came.
        if self._writing != index or answer.kind != "written":
            for paragraph in paragraphs(answer.text):
                output.paragraph(paragraph, "bold" if answer.found else "")
        if answer.kind == "written":
            how = "from its memory of the text; not checked."
            if answer.citations:
                how = "not all of it is in the passages." if answer.unsupported else "from the passages below."
                how = f"confidence {answer.confidence:.2f}, {how}"
            is_doubted = bool(answer.unsupported) or answer.confidence < _EVEN
            output.paragraph(f"Written by the model, {how}", "yellow" if is_doubted else "dim", "  ")
        elif answer.kind == "none" and 0 < answer.confidence < self._threshold and self._writing != index:
            from famcli.tasks.ask.ranking import NEAR_THRESHOLD

            # Rounded up it might seem to be enough.
            confidence = math.floor(100 * answer.confidence) / 100
            least = min(self._threshold, NEAR_THRESHOLD)
            hint = f"The best passage has a confidence of {confidence:.2f}, below {least:g}"
            output.paragraph(f"{hint}; --threshold 0 shows it.", "dim", "  ")
        if answer.because:
            output.paragraph(answer.because, "dim", "  ")
        if answer.doubt:
            output.paragraph(answer.doubt, "yellow", "  ")
        for number, citation in enumerate(answer.citations, 1):
            mark = "quoted exactly" if citation.verified else "from what was piped"
            output.paragraph(f"[{number}] {answer.described_place(number)}, {mark}:", "cyan", "  ")
            for paragraph in paragraphs(citation.text):
                output.paragraph(paragraph, indent="      ")

    def _begin(self, question: int) -> None:
        if self._writing != question:
            self._writing = question
            self._head(question)

    def _head(self, index: int, question: str | None = None) -> None:
        if self._heading is not None and index == 0:
            self._work.output.line(f"== {self._heading}", "bold")
        if self._several:
            self._work.output.line(f"Q{index + 1}: {question}" if question else f"Q{index + 1}:")


def describe_reading(result: AskResult) -> str:
    """What was read, and by whom: this run, an earlier one whose reading was kept, or the makers of a memory file."""
    if result.cached:
        return describe_counts(result.counts, "an earlier reading")
    return describe_counts(result.counts, result.memory_file)
