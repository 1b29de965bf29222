"""How the next token is drawn from logits: greedy, temperature, top-k, top-p, min-p, repetition penalty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.errors import UsageError


@dataclass(frozen=True)
class GenerationConfig:
    """How to write. Raises UsageError for numbers that make no sense.

    max_tokens: the budget. temperature: 0 is greedy (the four below it then change nothing but the penalty). top_k:
    0 is all. top_p in (0, 1]: the fewest most likely tokens that together reach it. min_p in [0, 1): at least this
    fraction of the most likely token's probability. repetition_penalty: 1 is none; logits of the tokens among the last
    `repetition_window` of prompt and answer are divided by it if positive, else multiplied (arXiv 1909.05858, section
    4.1). seed: None draws anew each time. stop: writing ends before any of these texts. ignore_end: never end by
    oneself.
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
    """How the checkpoint wants to write."""
    wants = model.generation
    return GenerationConfig(
        max_tokens=max_tokens,
        temperature=wants.temperature,
        top_k=wants.top_k,
        top_p=wants.top_p,
        min_p=wants.min_p,
        repetition_penalty=wants.repetition_penalty,
    )


def choose(logits: Tensor, recent: Tensor, config: GenerationConfig, generator: torch.Generator) -> int:
    """The next token from `logits` [v] float32 on the CPU; `recent` [k] int64 are the tokens the penalty counts."""
    if config.repetition_penalty != 1.0 and len(recent):
        logits = _penalized(logits, recent, config.repetition_penalty)
    if config.temperature == 0:
        return int(logits.argmax())
    kept, order = (logits / config.temperature).sort(descending=True)
    if config.top_k:
        kept = kept[: config.top_k]
    probabilities = kept.softmax(0)
    keep = probabilities >= config.min_p * probabilities[0]
    keep &= probabilities.cumsum(0) - probabilities < config.top_p  # what comes before does not reach it yet
    probabilities = torch.where(keep, probabilities, 0.0)
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


def _penalized(logits: Tensor, recent: Tensor, penalty: float) -> Tensor:
    seen = torch.unique(recent)
    values = logits[seen]
    return logits.index_copy(0, seen, torch.where(values > 0, values / penalty, values * penalty))
