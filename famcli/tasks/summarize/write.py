"""A summary that the checkpoint writes: notes on forks while the text is read, and a last pass over memory and notes.

A note is written on a fork of the state at the end of each stretch of text, so reading goes on undisturbed. When the
notes outgrow the window they are condensed, level by level, so that each stretch is condensed a logarithmic number of
times and what is held stays bounded. The last pass reads notes and numbered quotes on a fork of the final state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from famcli.checkpoint.chat import open_chat_template
from famcli.checkpoint.model import Model
from famcli.errors import CheckpointError
from famcli.nn import State
from famcli.reading.engine import read_any, start_state
from famcli.reading.generate import GeneratedText, generate
from famcli.reading.sampling import GenerationConfig
from famcli.tasks.prompts import ABOUT, fill, prompt
from famcli.tasks.summarize.summary_result import Quote, SummarizeConfig

_MIN_STRETCH = 2048  # tokens a note is about where a memory carries what left the window
_TOKENS_A_WORD = 2.0
_NUMBER = re.compile(r"\[(\d{1,3})\]")
_QUOTED = re.compile('[\u201c"]([^\u201c\u201d"]{12,})[\u201d"]')


@dataclass(frozen=True)
class Note:
    """An event: a note was written. index: in order of writing. level: 0 is about the text, more about notes."""

    index: int
    level: int
    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"index": self.index, "level": self.level, "text": self.text}


@dataclass(frozen=True)
class WrittenText:
    """A written summary. cited: numbers of quotes that it names, in order. unverified: what it puts in quotation marks
    or names by number though no quote it was given has it."""

    text: str
    cited: tuple[int, ...]
    unverified: tuple[str, ...]


class Writer:
    """Writes notes while a text is read, and a summary at its end."""

    def __init__(self, model: Model, config: SummarizeConfig) -> None:
        """Raises CheckpointError for a chat template that cannot be used."""
        self.model, self.config = model, config
        self.num_notes = 0
        self._chat = open_chat_template(model.path, model.tokenizer)
        self._notes: list[Note] = []
        self._blocks, self._parts = 0, 1  # since the last note, and parts begun until then
        fam = model.sidecar.fam
        self._window = (fam.memory_segments + 1) * fam.block_size
        remembers = model.sidecar.memory_trained and fam.fam_length > 0
        self._stretch = max(self._window, _MIN_STRETCH if remembers else 0) // fam.block_size

    @property
    def doubt(self) -> str | None:
        """Why nothing good may come of it; None if the checkpoint is known to follow instructions."""
        if self._chat is not None or self.model.sidecar.tasks.get("summarize") == "write":
            return None
        return (
            f"{self.model.name} is not known to follow instructions (its fam.json does not say that it writes "
            "summaries, and it has no chat template): what it writes may be nonsense; --mode extract quotes instead"
        )

    def after_block(self, state: State, last_hidden: Tensor | None, num_parts: int) -> Iterator[Note]:
        """A block was closed: write a note if a stretch of text, or a section, ended. num_parts: begun so far."""
        self._blocks += 1
        ended = num_parts > self._parts and self._blocks >= self._stretch // 4
        if self._blocks < self._stretch and not ended:
            return
        self._blocks, self._parts = 0, num_parts
        yield from self._add(0, self._ask("summarize_note", state, last_hidden, self.config.max_note_tokens))

    def write(
        self, state: State, last_hidden: Tensor | None, quotes: Sequence[Quote], num_words: int
    ) -> Iterator[str | Note | WrittenText]:
        """The summary in pieces as they are written, then as a whole; notes that had to be condensed come before.

        Raises CheckpointError where nothing is written.
        """
        if self._blocks:
            yield from self._add(0, self._ask("summarize_note", state, last_hidden, self.config.max_note_tokens))
        notes = "\n".join(f"- {note.text}" for note in self._notes) or "(none)"
        numbered = "\n".join(f"[{number}] {_flat(quote.text)}" for number, quote in enumerate(quotes, start=1))
        values = {"notes": notes, "quotes": numbered or "(none)", "words": str(num_words)}
        text = ""
        for piece in self._generate("summarize", state, last_hidden, int(num_words * _TOKENS_A_WORD) + 16, values):
            new = piece if text else piece.lstrip()
            text += new
            if new:
                yield new
        if not text.strip():
            raise CheckpointError(f"{self.model.name} wrote nothing; --mode extract quotes the text instead")
        yield check_written(text.strip(), quotes)

    # ------------------------------------------------------------------------------------------------ notes

    def _add(self, level: int, text: str) -> Iterator[Note]:
        note = Note(self.num_notes, level, text)
        self.num_notes += 1
        self._notes.append(note)
        yield note
        if len(self._notes) > 1 and self._size() > self._window // 3:
            yield from self._condense()

    def _condense(self) -> Iterator[Note]:
        """Make one note of those of the lowest level, or of the last two where it has only one."""
        lowest = self._notes[-1].level
        first = min(next(place for place, note in enumerate(self._notes) if note.level == lowest), len(self._notes) - 2)
        old, self._notes = self._notes[first:], self._notes[:first]
        notes = "\n".join(f"- {note.text}" for note in old)
        state = start_state(self.model.network, "none" if not self.model.sidecar.memory_trained else "on")
        bos = self.model.tokenizer.bos_id
        hidden, state = read_any(self.model.network, [] if bos is None else [bos], state)
        text = self._ask("summarize_condense", state, hidden, self.config.max_note_tokens, {"notes": notes})
        yield from self._add(max(note.level for note in old) + 1, text)

    def _size(self) -> int:
        return sum(len(self.model.tokenizer.encode(note.text)) + 3 for note in self._notes)

    # ------------------------------------------------------------------------------------------------ writing

    def _ask(
        self, name: str, state: State, hidden: Tensor | None, max_tokens: int, values: dict[str, str] | None = None
    ) -> str:
        words = {"words": str(max(8, int(max_tokens / _TOKENS_A_WORD)))}
        return _flat("".join(self._generate(name, state, hidden, max_tokens, words | (values or {}))))

    def _generate(
        self, name: str, state: State, hidden: Tensor | None, max_tokens: int, values: dict[str, str]
    ) -> Iterator[str]:
        """What comes of an instruction on a fork of `state`."""
        about = "" if self.config.focus is None else fill(ABOUT, {"focus": self.config.focus})
        asked = prompt(self.model.sidecar, name, {"about": about, "focus": self.config.focus or "", **values})
        tokenizer = self.model.tokenizer
        ids = tokenizer.encode(f"\n\n{asked}\n\n") if self._chat is None else self._chat.around(tokenizer, asked)
        stop = ("\n\n",) if self._chat is None else ()
        settings = GenerationConfig(max_tokens=max_tokens, stop=stop, repetition_penalty=1.1)
        for event in generate(self.model, state, ids, settings, last_hidden=hidden):
            if isinstance(event, GeneratedText):
                yield event.text


def check_written(text: str, quotes: Sequence[Quote]) -> WrittenText:
    """Which of the quotes a written text names, and what it quotes or names that is none of them."""
    numbers = [int(number) for number in _NUMBER.findall(text)]
    cited = tuple(dict.fromkeys(number for number in numbers if 1 <= number <= len(quotes)))
    wrong = [f"[{number}]" for number in dict.fromkeys(numbers) if not 1 <= number <= len(quotes)]
    known = [_flat(quote.text) for quote in quotes]
    said = [_flat(match) for match in _QUOTED.findall(text)]
    invented = [quotation for quotation in said if not any(quotation.rstrip(".,;") in one for one in known)]
    return WrittenText(text, cited, tuple(wrong + invented))


def _flat(text: str) -> str:
    return " ".join(text.split())
