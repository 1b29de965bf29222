"""A checkpoint writes, sentence by sentence, within a turn of its chat template, or after a plain prompt without one.

What is shown of a written text are whole sentences, each once: a text that repeats itself is cut there. Thoughts,
refusals and introductions ("Here is a summary:") are no part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
from torch import Tensor

from famcli.checkpoint.chat_template import Message, open_chat_template
from famcli.checkpoint.model import Model
from famcli.nn import State
from famcli.reading.engine import start_state
from famcli.reading.generating import GeneratedText, GenerationConfig, generate, generate_together, with_sampling
from famcli.tasks.prompts import Exchange, prompt, turn
from famcli.text.markup import without_marks
from famcli.text.sentences import SentenceSplitter
from famcli.text.words import compounds, has_content
from famcli.tokens.tokenizer import begin_ids

# A repeated word of up to this length may be correct English ("had had", "that that").
_SHORT = 4
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_MARKUP = re.compile(
    r"\*\*|^\s*(?:#{1,6}\s+|[-*\u2022]\s+|\(?\d{1,2}[.)]\s+)|^\s*(?:summary|note|answer)\s*:\s*", re.IGNORECASE
)
_NO_CONTENT = re.compile(
    r"(?:i'?m|i am) (?:sorry|an ai|a language|a helpful|unable|smollm|qwen|here to)|sorry[,.]|as an ai"
    r"|i (?:can'?t|cannot|can not) |i'd be happy|sure[!,.]|certainly[!,.]|of course[!,.]|let me know"
    r"|(?:here'?s|here is|here are|below is|the (?:summary|note) is)\b.*:$",
    re.IGNORECASE,
)


class TurnWriter:
    """Lets a model write. chat: its chat template, None if it has none."""

    def __init__(self, model: Model, sampling: Mapping[str, Any] | None = None) -> None:
        """sampling: settings of `GenerationConfig` by name; without any the likeliest token is taken. Raises
        CheckpointError for a chat template that cannot be used, UsageError for impossible settings."""
        self.model = model
        self.chat = open_chat_template(model.path, model.tokenizer)
        # Without a chat template nothing but a blank line says that the answer is over.
        stop, ends = (("\n\n",), frozenset[int]()) if self.chat is None else ((), self.chat.end_ids)
        self._config = with_sampling(model, GenerationConfig(stop=stop, ends=ends), sampling or {})

    def around(self, name: str, values: Mapping[str, str], said: Exchange | None = None) -> tuple[list[int], list[int]]:
        """The ids of the turn `name` before and after the text that it is about; of a checkpoint without a chat
        template, what begins any text, and the prompt of that name. said: what was asked and answered before."""
        model = self.model
        if self.chat is None:
            asked = prompt(model.sidecar, name, dict(values))
            return begin_ids(model.tokenizer), model.tokenizer.encode(f"\n\n{asked.lstrip()}\n\n")
        asked_for = turn(model.sidecar, self.chat.source, name, values)
        messages = [Message("system", asked_for.system)] if asked_for.system else []
        if said is not None:
            messages += [Message("user", said[0]), Message("assistant", said[1])]
        before, _, after = asked_for.user.partition("{text}")
        return self.chat.around([*messages, Message("user", before)], after)

    def sentences(
        self,
        ids: list[int],
        max_tokens: int,
        state: State | None = None,
        last_hidden: Tensor | None = None,
        begun: str = "",
        known: Sequence[int] = (),
    ) -> Iterator[str]:
        """The sentences that the checkpoint writes after `ids`, read after `state` (default: nothing), as they come.

        begun: how the text begins, where its first tokens are the last of `ids`. known: tokens of what `state` has read
        that may come again. It stops where it says a sentence again. A last sentence that `max_tokens` cut off is left
        out unless it is the only one.
        """
        return _sentences(chain([begun] if begun else [], self._pieces(ids, max_tokens, state, last_hidden, known)))

    def sentences_together(self, ids: list[int], max_tokens: int, states: Sequence[State]) -> list[list[str]]:
        """`sentences` after each of several states of one shape, written side by side."""
        written = generate_together(self.model, states, ids, replace(self._config, max_tokens=max_tokens))
        return [list(_sentences(iter([_THOUGHTS.sub("", text)]))) for text, _, _ in written]

    def _pieces(
        self, ids: list[int], max_tokens: int, state: State | None, last_hidden: Tensor | None, known: Sequence[int]
    ) -> Iterator[str]:
        """Generated text without thoughts."""
        mode = self.model.default_memory_mode
        state = start_state(self.model.network, mode) if state is None else state
        held, settings = "", replace(self._config, max_tokens=max_tokens)
        for event in generate(self.model, state, ids, settings, last_hidden=last_hidden, known=known):
            if not isinstance(event, GeneratedText):
                continue
            held += event.text
            start = held.lstrip()
            # Thoughts stand at the beginning, and their end is waited for.
            if "<think>".startswith(start[:7]) or (start.startswith("<think>") and "</think>" not in start):
                continue
            yield _THOUGHTS.sub("", held) if start.startswith("<think>") else held
            held = ""
        if not held.lstrip().startswith("<think>"):
            yield held


def _sentences(pieces: Iterator[str]) -> Iterator[str]:
    """The sentences of a text that comes in pieces, up to one that was said before."""
    splitter, seen, place = SentenceSplitter(), set[str](), 0
    for piece in chain(pieces, [None]):
        if piece is None:
            found = splitter.flush()
        else:
            found = splitter.feed(piece, np.arange(place, place + len(piece) + 1))
            place += len(piece)
        for sentence in found:
            text = _content(sentence.text)
            words = " ".join(compounds(text))
            if text and words in seen:
                return
            # The last sentence may have been cut off.
            if text and (sentence.is_finished or piece is not None or not seen):
                seen.add(words)
                yield text


def _content(sentence: str) -> str:
    """A written sentence on one line, without marks of lists, emphasis and links; empty if it says nothing."""
    text = " ".join(without_marks(_MARKUP.sub("", sentence)).split())
    return "" if _NO_CONTENT.match(text) or not any(map(str.isalnum, text)) or _turns_in_circles(text) else text


def _turns_in_circles(sentence: str) -> bool:
    """True for "The chairman, who was the chairman of the panel, was the chairman of the panel": what small checkpoints
    write when they have nothing to say."""
    words = compounds(sentence)
    fours = zip(words, words[1:], words[2:], words[3:], strict=False)
    runs = [run for run in fours if has_content(" ".join(run))]
    return len(set(runs)) < len(runs) or any(one == other and len(one) > _SHORT for one, other in pairwise(words))
