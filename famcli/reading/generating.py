"""Generating text: the next token is drawn from logits, and text is yielded as soon as it is certain."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from famcli.checkpoint.model import Model
from famcli.errors import UsageError
from famcli.nn import State
from famcli.reading.engine import Tokens, as_batch, check_finite, float_logits, read_any, write
from famcli.reading.guessing import Ahead, Drafting, Guess, Guesser, Lookup, kept_or_drawn
from famcli.tokens.stream import StreamDecoder
from famcli.tokens.tokenizer import control_ids

_PENALIZED = 256
StopReason = Literal["end", "stop", "length", "loop"]

_DRAWS = ("top_k", "top_p", "min_p", "seed")
# A stretch of tokens that was just written and is repeated at once, so long at least in all, ends a text.
_LOOP_TOKENS, _LONGEST_PERIOD = 24, 96


@dataclass(frozen=True)
class GenerationConfig:
    """How to write. Raises UsageError for impossible numbers.

    max_tokens: the budget. temperature: 0 takes the most likely token; above it tokens are drawn, from the top_k
    likeliest (0: all), from the fewest that together reach top_p, and from those with at least min_p of the likeliest
    one's probability. seed: None draws anew each time. ends: tokens that end a text besides the checkpoint's own.
    repetition_penalty: 1 is none; logits of the tokens among the last 256 of prompt and answer
    are divided by it if positive, else multiplied (arXiv 1909.05858, section 4.1). stop: writing ends before any of
    these texts. lookup: guess tokens from what is known, the prompt and what was written (guessing.py), which
    changes nothing but the time. The model's draft, if it has one, guesses too: the text is then the same where the
    likeliest tokens are taken, and drawn from the same distribution where they are drawn.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    ends: frozenset[int] = frozenset()
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    lookup: bool = True

    def __post_init__(self) -> None:
        checks = {
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < math.inf, "0 (the likeliest) or more"),
            "top_k": (self.top_k >= 0, "0 (all) or more"),
            "top_p": (0 < self.top_p <= 1, "more than 0 and at most 1"),
            "min_p": (0 <= self.min_p < 1, "at least 0 and less than 1"),
            "seed": (self.seed is None or 0 <= self.seed < 1 << 63, "between 0 and 2^63 - 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "more than 0"),
            "stop": (all(self.stop), "texts that are not empty"),
        }
        for name, (good, wanted) in checks.items():
            if not good:
                raise UsageError(f"{name} is {getattr(self, name)!r}, it must be {wanted}")


def with_sampling(model: Model, config: GenerationConfig, given: Mapping[str, Any]) -> GenerationConfig:
    """`config` with the settings that were `given` by name. Where tokens are drawn at random, the checkpoint's own
    settings fill in for those that were not given. Raises UsageError."""
    config = replace(config, **given)
    if config.temperature == 0:
        if useless := [name for name in _DRAWS if name in given]:
            raise UsageError(f"{useless[0]} needs a temperature above 0", remedy={"temperature": "0.7"})
        return config
    return replace(config, **{name: value for name, value in model.sampling.items() if name not in given})


@dataclass(frozen=True)
class GeneratedText:
    """A piece of text that is certain: whole characters, and no beginning of a stop string."""

    text: str


@dataclass(frozen=True, eq=False)
class GenerationEnd:
    """The last event. text: everything that was written. tokens: what was drawn (the end token not among them).

    reason: "end" (the end token), "stop" (a stop string), "loop" (it repeats itself) or "length" (the budget). state,
    last_hidden: after all of `tokens` was read, so that another turn can follow. seconds: for prompt and answer.
    guessed, right: how many tokens were guessed ahead, and how many of them came.
    """

    text: str
    tokens: tuple[int, ...]
    reason: StopReason
    state: State
    last_hidden: Tensor
    seconds: float
    guessed: int = 0
    right: int = 0


def generate(
    model: Model,
    state: State,
    prompt: Tokens,
    config: GenerationConfig,
    *,
    last_hidden: Tensor | None = None,
    known: Sequence[int] = (),
) -> Iterator[GeneratedText | GenerationEnd]:
    """Read `prompt` after `state` and write on. `state` itself does not change.

    prompt: token ids; may be empty if `last_hidden` [1, 1, d] of what was read is given. known: tokens that were read
    into `state` and may come again, for lookup. Control tokens other than the end are never drawn. A character that the
    budget leaves unfinished is left out. Raises UsageError if there is nothing to continue from.
    """
    network, began = model.network, time.perf_counter()
    prompt = as_batch(prompt, network)
    forbidden, ends, generator = _forbidden(model, config), model.end_ids | config.ends, _generator(config)
    given = prompt[0].tolist()
    recent = deque(given, maxlen=_PENALIZED)
    guessers: list[tuple[Guesser, float]] = [(Lookup([*known, *given]), 0.0)] if config.lookup else []
    draft, drafting = model.draft, None
    if draft is not None:

        def choose(logits: Tensor, guessed: Sequence[int]) -> Guess:
            _restrict(logits, forbidden, [*recent, *guessed][-_PENALIZED:], config)
            if config.temperature == 0:
                return Guess(int(logits.argmax()))
            likely = probabilities(logits, config)
            return Guess(int(torch.multinomial(likely, 1, generator=generator)), likely)

        drafting = Drafting(draft, network, choose)
        guessers.append((drafting, draft.draft.num_layers / network.config.num_layers))
    read, state = read_any(network, prompt, state, None if drafting is None else drafting.read)
    hidden = last_hidden if read is None else read
    if hidden is None:
        raise UsageError("there is nothing to write on from: the prompt is empty and nothing was read")
    # With a draft the tokens that are drawn depend on what it guessed, so that a seed must lead to the same guesses.
    ahead = Ahead(network, state, hidden, guessers, timed=drafting is None or config.temperature == 0)
    decoder, stops, tokens, written = StreamDecoder(model.tokenizer), _StopStrings(config.stop), list[int](), ""
    ended = looping = False
    while len(tokens) < config.max_tokens and not stops.met and not looping:
        token = _next_token(ahead.logits, forbidden, recent, config, generator, ahead.guess)
        if ended := token in ends:
            break
        tokens.append(token)
        recent.append(token)
        looping = is_looping(tokens)
        if text := stops.feed(decoder.feed(token)):
            written += text
            yield GeneratedText(text)
        # Also after the last token: another turn may follow, and needs all of this one in the state.
        ahead.append(token)
    if not stops.met and (text := stops.flush()):
        written += text
        yield GeneratedText(text)
    reason: StopReason = "end" if ended else "stop" if stops.met else "loop" if looping else "length"
    state, hidden = ahead.end()
    seconds = time.perf_counter() - began
    yield GenerationEnd(written, tuple(tokens), reason, state, hidden, seconds, ahead.guessed, ahead.right)


def generate_together(
    model: Model, states: Sequence[State], prompt: Tokens, config: GenerationConfig
) -> list[tuple[str, tuple[int, ...], StopReason]]:
    """What `generate` writes after each of `states` (of one shape) and the same prompt, side by side: text, tokens and
    reason. A network reads a token after a few states in about the time that it takes after one. No stop strings."""
    network, forbidden, ends = model.network, _forbidden(model, config), model.end_ids | config.ends
    ids = as_batch(prompt, network).expand(len(states), -1)
    hidden, state = read_any(network, ids, State.stack(list(states)))
    recent = [deque(ids[0].tolist(), maxlen=_PENALIZED) for _ in states]
    generator, tokens = _generator(config), [list[int]() for _ in states]
    reasons = list[StopReason | None]([None] * len(states))
    while None in reasons:
        assert hidden is not None
        logits = float_logits(network, hidden)[:, -1]
        step = [0] * len(states)
        for row in (row for row, reason in enumerate(reasons) if reason is None):
            token = _next_token(logits[row], forbidden, recent[row], config, generator)
            if token in ends:
                reasons[row] = "end"
                continue
            tokens[row].append(token)
            recent[row].append(token)
            step[row] = token
            full = len(tokens[row]) >= config.max_tokens
            reasons[row] = "loop" if is_looping(tokens[row]) else "length" if full else None
        if None in reasons:
            hidden, state = write(network, torch.tensor(step)[:, None], state)
    texts = []
    for written in tokens:
        decoder = StreamDecoder(model.tokenizer)
        texts.append("".join(map(decoder.feed, written)))
    return [(text, tuple(run), reason or "end") for text, run, reason in zip(texts, tokens, reasons, strict=True)]


def is_looping(tokens: Sequence[int]) -> bool:
    """True if the last tokens are one stretch said twice or more, at least 24 tokens in all."""
    for period in range(1, min(_LONGEST_PERIOD, len(tokens) // 2) + 1):
        length = max(2 * period, _LOOP_TOKENS)
        if tokens[-1] == tokens[-1 - period] and len(tokens) >= length:
            tail = tokens[-length:]
            if tail[period:] == tail[:-period]:
                return True
    return False


def _generator(config: GenerationConfig) -> torch.Generator:
    generator = torch.Generator()
    generator.seed() if config.seed is None else generator.manual_seed(config.seed)
    return generator


def _forbidden(model: Model, config: GenerationConfig) -> Tensor:
    """Ids that are never drawn: control tokens but the ends, and rows of the embedding that no token uses."""
    tokenizer, size = model.tokenizer, model.network.config.vocab_size
    # Rows behind the vocabulary only round the embedding's size up: nothing ever trained their logits.
    ids = {*control_ids(tokenizer), *range(tokenizer.vocab_size, size), tokenizer.bos_id, tokenizer.eos_id}
    ids -= model.end_ids | config.ends
    return torch.tensor(sorted(id for id in ids if id is not None and id < size), dtype=torch.int64)


@torch.inference_mode()
def _next_token(
    logits: Tensor,
    forbidden: Tensor,
    recent: Sequence[int],
    config: GenerationConfig,
    generator: torch.Generator,
    guess: Guess | None = None,
) -> int:
    """The next token by `logits` [v], once those in `recent` are penalized. The logits are used up."""
    check_finite(logits)
    _restrict(logits, forbidden, recent, config)
    if config.temperature == 0:
        return int(logits.argmax())
    if guess is None or guess.probabilities is None:
        return draw(logits, config, generator)
    return kept_or_drawn(probabilities(logits, config), guess, generator)


def _restrict(logits: Tensor, forbidden: Tensor, recent: Sequence[int], config: GenerationConfig) -> None:
    """Forbid and penalize tokens, in place."""
    penalty = config.repetition_penalty
    logits[forbidden] = -torch.inf
    if penalty != 1.0 and recent:
        # A token is penalized once, however often it occurs.
        seen = torch.tensor(sorted(set(recent)))
        values = logits[seen]
        logits[seen] = torch.where(values > 0, values / penalty, values * penalty)


def draw(logits: Tensor, config: GenerationConfig, generator: torch.Generator) -> int:
    """A token drawn from `logits` [v] float32, as `config` (with a temperature above 0) says."""
    kept, order = _kept(logits, config)
    return int(order[torch.multinomial(kept, 1, generator=generator)])


def probabilities(logits: Tensor, config: GenerationConfig) -> Tensor:
    """The distribution [v] that `draw` draws from."""
    kept, order = _kept(logits, config)
    return torch.zeros_like(logits).scatter(0, order, kept / kept.sum())


def _kept(logits: Tensor, config: GenerationConfig) -> tuple[Tensor, Tensor]:
    """What tokens are drawn by [k], likeliest first and not normalized, and which tokens; the rest is never drawn."""
    kept, order = (logits / config.temperature).sort(descending=True)
    if config.top_k:
        kept, order = kept[: config.top_k], order[: config.top_k]
    likely = kept.softmax(0)
    keep = likely >= config.min_p * likely[0]
    # The token that reaches top_p is kept too: what counts is what comes before it.
    keep &= likely.cumsum(0) - likely < config.top_p
    return torch.where(keep, likely, 0.0), order


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
