"""A summary that the checkpoint writes: notes on forks while the text is read, and a last pass over memory and notes.

A note is written on a fork of the state at the end of each stretch of text, so reading is not disturbed. When the notes
outgrow the window they are condensed, level by level: each stretch is condensed a logarithmic number of times, and the
notes that are held stay bounded. The last pass reads notes and numbered quotes on a fork of the final state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from famcli.checkpoint.chat_template import open_chat_template
from famcli.checkpoint.model import Model
from famcli.errors import CheckpointError
from famcli.nn import State
from famcli.reading.engine import read_any, start_state
from famcli.reading.generating import GeneratedText, GenerationConfig, generate
from famcli.tasks.prompts import ABOUT, fill, prompt
from famcli.tasks.summarize.summary_result import Quote, SummarizeConfig, WrittenSummary

# Tokens that a note is about where a memory carries what left the window; without one, a note is about the window.
_MIN_STRETCH = 2048
_TOKENS_A_WORD = 2.0
_NUMBER = re.compile(r"\[(\d{1,3})\]")
_QUOTED = re.compile('[\u201c"]([^\u201c\u201d"]{12,})[\u201d"]')


@dataclass(frozen=True)
class Note:
    """An event: a note was written. index: in the order of writing. level: 0 is about the text, more about notes."""

    index: int
    level: int
    text: str


class Writer:
    """Writes notes while a text is read, and a summary at its end."""

    def __init__(self, model: Model, config: SummarizeConfig) -> None:
        """Raises CheckpointError for a chat template that cannot be used."""
        self.model, self.config = model, config
        self.num_notes = 0
        self._chat = open_chat_template(model.path, model.tokenizer)
        self._notes: list[Note] = []
        self._num_blocks, self._num_parts = 0, 1  # blocks since the last note, and parts begun until then
        fam = model.sidecar.fam
        self._window = (fam.memory_segments + 1) * fam.block_size
        remembers = model.sidecar.memory_trained and fam.fam_length > 0
        self._stretch = max(self._window, _MIN_STRETCH if remembers else 0) // fam.block_size

    @property
    def doubt(self) -> str | None:
        """Why the result may be useless; None if the checkpoint is known to follow instructions."""
        if self._chat is not None or self.model.sidecar.tasks.get("summarize") == "write":
            return None
        return (
            f"{self.model.name} is not known to follow instructions (its fam.json does not say that it writes "
            "summaries, and it has no chat template): what it writes may be nonsense; mode 'extract' quotes instead"
        )

    def after_block(self, state: State, last_hidden: Tensor | None, num_parts: int) -> Iterator[Note]:
        """Write a note if a stretch of text, or a part of it, ended with the block. num_parts: begun so far."""
        self._num_blocks += 1
        # A section gets a note of its own only where it is not much shorter than a stretch.
        part_ended = num_parts > self._num_parts and self._num_blocks >= self._stretch // 4
        if self._num_blocks >= self._stretch or part_ended:
            self._num_blocks, self._num_parts = 0, num_parts
            yield from self._note(state, last_hidden)

    def write(
        self, state: State, last_hidden: Tensor | None, quotes: Sequence[Quote], num_words: int
    ) -> Iterator[GeneratedText | Note | WrittenSummary]:
        """The summary in pieces as they are generated, then as a whole; the last notes come before it.

        Raises CheckpointError where nothing is written.
        """
        if self._num_blocks:
            yield from self._note(state, last_hidden)
        numbered = "\n".join(f"[{number}] {_on_one_line(quote.text)}" for number, quote in enumerate(quotes, start=1))
        values = {
            "notes": _listed(self._notes) or "(none)",
            "quotes": numbered or "(none)",
            "words": str(num_words),
        }
        text = ""
        for piece in self._generate("summarize", state, last_hidden, int(num_words * _TOKENS_A_WORD) + 16, values):
            new = piece if text else piece.lstrip()
            text += new
            if new:
                yield GeneratedText(new)
        if not text.strip():
            raise CheckpointError(
                f"{self.model.name} wrote nothing; quote the text instead", remedy={"mode": "extract"}
            )
        yield WrittenSummary(text.strip(), *check_written(text, quotes), self.num_notes)

    # ------------------------------------------------------------------------------------------------ notes

    def _note(self, state: State, last_hidden: Tensor | None) -> Iterator[Note]:
        yield from self._add(0, self._ask("summarize_note", state, last_hidden))

    def _add(self, level: int, text: str) -> Iterator[Note]:
        note = Note(self.num_notes, level, text)
        self.num_notes += 1
        self._notes.append(note)
        yield note
        # 3 for the dash and the line break. Two thirds of the window are left for quotes, instruction and answer.
        num_tokens = sum(len(self.model.tokenizer.encode(note.text)) + 3 for note in self._notes)
        if len(self._notes) > 1 and num_tokens > self._window // 3:
            yield from self._condense()

    def _condense(self) -> Iterator[Note]:
        """Make one note of those of the lowest level, or of the last two where that level has only one."""
        lowest = self._notes[-1].level
        first = min(next(i for i, note in enumerate(self._notes) if note.level == lowest), len(self._notes) - 2)
        old, self._notes = self._notes[first:], self._notes[:first]
        # From a fresh start: the text around a note would be summed up again with it.
        state = start_state(self.model.network, "none" if not self.model.sidecar.memory_trained else "on")
        bos = self.model.tokenizer.bos_id
        hidden, state = read_any(self.model.network, [] if bos is None else [bos], state)
        text = self._ask("summarize_condense", state, hidden, {"notes": _listed(old)})
        yield from self._add(max(note.level for note in old) + 1, text)

    # ------------------------------------------------------------------------------------------------ generating

    def _ask(self, name: str, state: State, hidden: Tensor | None, values: dict[str, str] | None = None) -> str:
        """The note that comes of an instruction, on one line."""
        max_tokens = self.config.max_note_tokens
        words = {"words": str(max(8, int(max_tokens / _TOKENS_A_WORD)))}
        return _on_one_line("".join(self._generate(name, state, hidden, max_tokens, words | (values or {}))))

    def _generate(
        self, name: str, state: State, hidden: Tensor | None, max_tokens: int, values: dict[str, str]
    ) -> Iterator[str]:
        """The text that the checkpoint writes when a fork of `state` reads an instruction."""
        focus, tokenizer = self.config.focus, self.model.tokenizer
        about = "" if focus is None else fill(ABOUT, {"focus": focus})
        asked = prompt(self.model.sidecar, name, {"about": about, "focus": focus or "", **values})
        ids = tokenizer.encode(f"\n\n{asked}\n\n") if self._chat is None else self._chat.around(tokenizer, asked)
        # Without a chat template nothing but a blank line says that the answer is over.
        stop = ("\n\n",) if self._chat is None else ()
        # Small checkpoints repeat themselves in greedy decoding.
        settings = GenerationConfig(max_tokens=max_tokens, stop=stop, repetition_penalty=1.1)
        for event in generate(self.model, state, ids, settings, last_hidden=hidden):
            if isinstance(event, GeneratedText):
                yield event.text


def check_written(text: str, quotes: Sequence[Quote]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The numbers of the quotes that a written text cites, and what it cites or quotes that is none of them."""
    numbers = list(dict.fromkeys(int(number) for number in _NUMBER.findall(text)))
    known = [_on_one_line(quote.text) for quote in quotes]
    quotations = [_on_one_line(quotation) for quotation in _QUOTED.findall(text)]
    cited = tuple(number for number in numbers if 1 <= number <= len(quotes))
    wrong = tuple(f"[{number}]" for number in numbers if number not in cited)
    return cited, wrong + tuple(one for one in quotations if not any(one.rstrip(".,;") in quote for quote in known))


def _listed(notes: Sequence[Note]) -> str:
    return "\n".join(f"- {note.text}" for note in notes)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
