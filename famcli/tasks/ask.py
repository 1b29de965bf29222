"""Questions about documents: one reading for any number of questions, answers with verified citations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from famcli.checkpoint.model import Model
from famcli.nn import MemoryMode
from famcli.tasks.common import Advance, Documents, Notice, ReadCounts, Stage


@dataclass(frozen=True)
class AskConfig:
    """generate: None is as the checkpoint's sidecar says (tasks: {"ask": "write"}); True lets it write; False is
    extractive. max_passages: evidence shown per question. memory_mode: None is the checkpoint's default."""

    generate: bool | None = None
    max_passages: int = 3
    max_answer_tokens: int = 64
    memory_mode: MemoryMode | None = None


@dataclass(frozen=True)
class Citation:
    """A passage that supports an answer. verified: `text` was found in the source at `span` by exact comparison.

    checked_against: "source" (cut from the file again) or "text read" (a pipe cannot be read twice).
    """

    source: str
    line: int
    span: tuple[int, int]
    text: str
    score: float
    lexical: float
    gain: float | None
    verified: bool
    checked_against: Literal["source", "text read"]

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Answer:
    """found: False when no evidence reached the threshold; then `text` says so and nothing is cited.

    kind: "extracted" (a sentence of the evidence, verbatim), "written" (generated), "none". cited: False when the
    evidence could not be checked against a source (a memory file whose source is gone).
    """

    question: str
    found: bool
    text: str
    kind: Literal["extracted", "written", "none"]
    cited: bool
    citations: tuple[Citation, ...]

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class AnswerText:
    """An event: some more text of a written answer, as it is generated."""

    question: int
    text: str


@dataclass(frozen=True)
class AskResult:
    """answers: one for each question, in order."""

    model: str
    memory_mode: MemoryMode
    answers: tuple[Answer, ...]
    counts: ReadCounts
    warnings: tuple[str, ...]
    partial: bool

    def to_json(self) -> dict[str, Any]: ...


AskEvent = Stage | Advance | Notice | AnswerText | Answer


class Ask:
    """Answers questions. Give `events` documents to read, or `events_from_memory` a memory file.

    Interrupted while reading: call `.result()`, which answers from the evidence so far (extractive), marked partial.
    """

    def __init__(self, model: Model, questions: Sequence[str], config: AskConfig = AskConfig()) -> None:
        """Raises UsageError when a question is empty."""

    def events(self, documents: Documents) -> Iterator[AskEvent]: ...

    def events_from_memory(self, path: Path) -> Iterator[AskEvent]: ...

    def result(self) -> AskResult: ...


def ask(
    model: Model, questions: str | Sequence[str], documents: Documents, config: AskConfig = AskConfig()
) -> AskResult:
    """Answer one question or several about `documents` (paths, "-", or opened ones)."""
