"""Generating text: the next token is drawn from logits, and text is yielded as soon as it is certain."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
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

StopReason = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class GenerationConfig:
    """How to write. Raises UsageError for impossible numbers.

    max_tokens: the budget. temperature: 0 is greedy (the four below it then change nothing but the penalty). top_k:
    0 is all. top_p in (0, 1]: the fewest most likely tokens that together reach it. min_p in [0, 1): at least this
    fraction of the most likely token's probability. repetition_penalty: 1 is none; logits of the tokens among the last
    `repetition_window` of prompt and answer are divided by it if positive, else multiplied (arXiv 1909.05858, section
    4.1). seed: None draws anew each time. stop: writing ends before any of these texts. ignore_end: the end
    token is never drawn.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_window: int = 256
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_end: bool = False

    def __post_init__(self) -> None:
        checks = {
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < math.inf, "0 (greedy) or more"),
            "top_k": (self.top_k >= 0, "0 (all) or more"),
            "top_p": (0 < self.top_p <= 1, "more than 0 and at most 1"),
            "min_p": (0 <= self.min_p < 1, "at least 0 and less than 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "more than 0"),
            "repetition_window": (self.repetition_window >= 0, "0 or more"),
            "seed": (self.seed is None or 0 <= self.seed < 1 << 63, "between 0 and 2^63 - 1"),
            "stop": (all(self.stop), "texts that are not empty"),
        }
        for name, (good, wanted) in checks.items():
            if not good:
                raise UsageError(f"{name} is {getattr(self, name)!r}, it must be {wanted}")


def default_config(model: Model, max_tokens: int = 256) -> GenerationConfig:
    """The settings that the checkpoint's generation_config.json asks for."""
    wants = model.generation
    return GenerationConfig(
        max_tokens=max_tokens,
        temperature=wants.temperature,
        top_k=wants.top_k,
        top_p=wants.top_p,
        min_p=wants.min_p,
        repetition_penalty=wants.repetition_penalty,
    )


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
    config: GenerationConfig | None = None,
    *,
    last_hidden: Tensor | None = None,
) -> Iterator[GeneratedText | GenerationEnd]:
    """Read `prompt` after `state` and write on. `state` itself does not change.

    prompt: token ids; may be empty if `last_hidden` [1, 1, d] of what was read is given. Control tokens other than the
    end are never drawn. A character that the budget leaves unfinished is left out. Raises UsageError if there is
    nothing to continue from.
    """
    config, network = config or GenerationConfig(), model.network
    began = time.perf_counter()
    read, state = read_any(network, prompt, state)
    hidden = last_hidden if read is None else read
    if hidden is None:
        raise UsageError("there is nothing to write on from: the prompt is empty and nothing was read")
    forbidden, ends = _forbidden(model, config), frozenset() if config.ignore_end else model.end_ids
    generator = torch.Generator()
    generator.seed() if config.seed is None else generator.manual_seed(config.seed)
    recent = deque(as_batch(prompt, network)[0].tolist(), maxlen=config.repetition_window)
    decoder, stops, tokens, written = StreamDecoder(model.tokenizer), _StopStrings(config.stop), list[int](), ""
    ended = False
    while len(tokens) < config.max_tokens and not stops.met:
        token = choose(_logits(model, hidden, forbidden), torch.tensor(recent, dtype=torch.int64), config, generator)
        if ended := token in ends:
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


@torch.inference_mode()
def _logits(model: Model, hidden: Tensor, forbidden: Tensor) -> Tensor:
    """Of the next token [v], float32 on the CPU: the same draw for the same seed on every device."""
    logits = model.network.logits(hidden)[0, -1].float().cpu()
    check_finite(logits)
    logits[forbidden] = -torch.inf
    return logits


def _forbidden(model: Model, config: GenerationConfig) -> Tensor:
    """Ids that are never drawn: control tokens, and rows of the embedding that no token uses."""
    tokenizer, size = model.tokenizer, model.network.config.vocab_size
    # Rows behind the vocabulary only round the embedding's size up: nothing ever trained their logits.
    ids = {*control_ids(tokenizer), *range(tokenizer.vocab_size, size)}
    ids |= {special for special in (tokenizer.bos_id, tokenizer.eos_id) if special is not None}
    if not config.ignore_end:
        ids -= model.end_ids
    return torch.tensor(sorted(token for token in ids if token is not None and token < size), dtype=torch.int64)


def choose(logits: Tensor, recent: Tensor, config: GenerationConfig, generator: torch.Generator) -> int:
    """The next token from `logits` [v] float32 on the CPU; `recent` [k] int64 are the tokens the penalty counts."""
    if config.repetition_penalty != 1.0 and len(recent):
        # A token is penalized once, however often it occurs.
        seen, penalty = torch.unique(recent), config.repetition_penalty
        values = logits[seen]
        logits = logits.index_copy(0, seen, torch.where(values > 0, values / penalty, values * penalty))
    if config.temperature == 0:
        return int(logits.argmax())
    kept, order = (logits / config.temperature).sort(descending=True)
    if config.top_k:
        kept = kept[: config.top_k]
    probabilities = kept.softmax(0)
    keep = probabilities >= config.min_p * probabilities[0]
    # The token that reaches top_p is kept too: what counts is what comes before it.
    keep &= probabilities.cumsum(0) - probabilities < config.top_p
    probabilities = torch.where(keep, probabilities, 0.0)
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


class _StopStrings:
    """Lets text through up to a stop string, and holds back what may still become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops, self._held, self.met = stops, "", False

    def feed(self, text: str) -> str:
        """The text that is certain now; once a stop string was met, the text before it."""
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.met = True
            return self._held[: min(places)]
        first = len(self._held) - self._may_begin()
        text, self._held = self._held[:first], self._held[first:]
        return text

    def flush(self) -> str:
        """The text that was held back, once nothing follows."""
        text, self._held = self._held, ""
        return text

    def _may_begin(self) -> int:
        """The number of characters at the end that a stop string could begin with."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
