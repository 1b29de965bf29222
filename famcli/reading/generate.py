"""Writing: tokens drawn one after the other, and their text as soon as it is certain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.nn.state import State
from famcli.reading.engine import Tokens

StopReason = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class GenerationConfig:
    """How to write. Raises UsageError for numbers that make no sense.

    max_tokens: the budget. temperature: 0 is greedy. top_k: 0 is all. top_p in (0, 1]: the most likely tokens that
    together reach it. min_p in [0, 1): at least this fraction of the most likely token's probability.
    repetition_penalty: 1 is none; logits of tokens among the prompt's and the answer's last `repetition_window` are
    divided by it if positive, else multiplied (arXiv 1909.05858, section 4.1). seed: None draws anew each time.
    stop: writing ends before any of these texts. ignore_end: go on after the end token.
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


@dataclass(frozen=True)
class GeneratedText:
    """A piece of text that is certain: whole characters, and no beginning of a stop string."""

    text: str


@dataclass(frozen=True, eq=False)
class GenerationEnd:
    """The last event. text: everything that was written. tokens: what was drawn (the end token not among them).

    reason: "end" (the end token), "stop" (a stop string) or "length" (the budget). state, last_hidden: after
    all of `tokens` was read, so that another turn can follow.
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
    """Read `prompt` (token ids, may be empty if `last_hidden` is given) after `state` and write on. `state` stays."""
