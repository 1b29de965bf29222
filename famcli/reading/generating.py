"""Generating text: the next token is drawn from logits, and text is yielded as soon as it is certain."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.errors import UsageError
from famcli.nn import State
from famcli.reading.engine import Tokens, as_batch, check_finite, read_any
from famcli.tokens.stream import StreamDecoder
from famcli.tokens.tokenizer import control_ids

_PENALIZED = 256
StopReason = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class GenerationConfig:
    """How to write: the most likely token, one after the other. Raises UsageError for impossible numbers.

    max_tokens: the budget. repetition_penalty: 1 is none; logits of the tokens among the last 256 of prompt and answer
    are divided by it if positive, else multiplied (arXiv 1909.05858, section 4.1). stop: writing ends before any of
    these texts.
    """

    max_tokens: int = 256
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = {
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "more than 0"),
            "stop": (all(self.stop), "texts that are not empty"),
        }
        for name, (good, wanted) in checks.items():
            if not good:
                raise UsageError(f"{name} is {getattr(self, name)!r}, it must be {wanted}")


@dataclass(frozen=True)
class GeneratedText:
    """A piece of text that is certain: whole characters, and no beginning of a stop string."""

    text: str


@dataclass(frozen=True, eq=False)
class GenerationEnd:
    """The last event. text: everything that was written. tokens: what was drawn (the end token not among them).

    reason: "end" (the end token), "stop" (a stop string) or "length" (the budget). state, last_hidden: after all of
    `tokens` was read, so that another turn can follow. seconds: for prompt and answer.
    """

    text: str
    tokens: tuple[int, ...]
    reason: StopReason
    state: State
    last_hidden: Tensor
    seconds: float


def generate(
    model: Model,
    state: State,
    prompt: Tokens,
    config: GenerationConfig,
    *,
    last_hidden: Tensor | None = None,
) -> Iterator[GeneratedText | GenerationEnd]:
    """Read `prompt` after `state` and write on. `state` itself does not change.

    prompt: token ids; may be empty if `last_hidden` [1, 1, d] of what was read is given. Control tokens other than the
    end are never drawn. A character that the budget leaves unfinished is left out. Raises UsageError if there is
    nothing to continue from.
    """
    network, began = model.network, time.perf_counter()
    read, state = read_any(network, prompt, state)
    hidden = last_hidden if read is None else read
    if hidden is None:
        raise UsageError("there is nothing to write on from: the prompt is empty and nothing was read")
    forbidden = _forbidden(model)
    recent = deque(as_batch(prompt, network)[0].tolist(), maxlen=_PENALIZED)
    decoder, stops, tokens, written = StreamDecoder(model.tokenizer), _StopStrings(config.stop), list[int](), ""
    ended = False
    while len(tokens) < config.max_tokens and not stops.met:
        token = _next_token(model, hidden, forbidden, recent, config.repetition_penalty)
        if ended := token in model.end_ids:
            break
        tokens.append(token)
        recent.append(token)
        if text := stops.feed(decoder.feed(token)):
            written += text
            yield GeneratedText(text)
        # Also after the last token: another turn may follow, and needs all of this one in the state.
        read, state = read_any(network, [token], state)
        assert read is not None
        hidden = read
    if not stops.met and (text := stops.flush()):
        written += text
        yield GeneratedText(text)
    reason: StopReason = "end" if ended else "stop" if stops.met else "length"
    yield GenerationEnd(written, tuple(tokens), reason, state, hidden, time.perf_counter() - began)


def _forbidden(model: Model) -> Tensor:
    """Ids that are never drawn: control tokens but the ends, and rows of the embedding that no token uses."""
    tokenizer, size = model.tokenizer, model.network.config.vocab_size
    # Rows behind the vocabulary only round the embedding's size up: nothing ever trained their logits.
    ids = {*control_ids(tokenizer), *range(tokenizer.vocab_size, size), tokenizer.bos_id, tokenizer.eos_id}
    return torch.tensor(sorted(id for id in ids - model.end_ids if id is not None and id < size), dtype=torch.int64)


@torch.inference_mode()
def _next_token(model: Model, hidden: Tensor, forbidden: Tensor, recent: Sequence[int], penalty: float) -> int:
    """The most likely token after `hidden` [1, 1, d], once those in `recent` are penalized."""
    logits = model.network.logits(hidden)[0, -1].float().cpu()
    check_finite(logits)
    logits[forbidden] = -torch.inf
    if penalty != 1.0 and recent:
        # A token is penalized once, however often it occurs.
        seen = torch.tensor(sorted(set(recent)))
        values = logits[seen]
        logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
    return int(logits.argmax())


class _StopStrings:
    """Lets text through up to a stop string, and holds back what may still become one. met: one has come."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops, self._held, self.met = stops, "", False

    def feed(self, text: str) -> str:
        """The text that is certain now; once a stop string was met, the text before it."""
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.met = True
            return self._held[: min(places)]
        # From here on the end could be the beginning of a stop string.
        longest = max(map(len, self._stops), default=1) - 1
        first = max(0, len(self._held) - longest)
        while not any(stop.startswith(self._held[first:]) for stop in self._stops) and first < len(self._held):
            first += 1
        text, self._held = self._held[:first], self._held[first:]
        return text

    def flush(self) -> str:
        """The text that was held back, once nothing follows."""
        text, self._held = self._held, ""
        return text
