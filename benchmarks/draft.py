"""How good a draft is, and what it costs beside its target.

`python -m benchmarks.draft MODEL DRAFT FILE [--texts 16] [--prompt 256] [--write 128]`: the target reads the beginning
of held-out texts and writes on; the draft guesses along. Accepted length, as SPIRe counts it: tokens that one reading
of the target settles, its own one included, so 1 without a draft and k + 1 at most. With one token at a time as the
measure, the expected speed follows from the cost of drafting k tokens, of reading k + 1 by the target and of what the
draft then takes over from it, which are printed beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import print_table
from famcli.checkpoint.draft import open_draft
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.evaluation.texts import read_texts
from famcli.nn.draft import Draft, DraftState
from famcli.reading.engine import read_any, start_state


@dataclass
class Written:
    """Tokens [n] of a text that the target read or wrote, its last activations [1, n, d] and its logits [n, v]."""

    tokens: list[int]
    levels: list[Tensor]
    logits: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("draft", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--write", type=int, default=128)
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = open_model(options.model, dtype=options.dtype, device="cpu")
    draft = open_draft(options.draft, model)
    corpus = read_texts([options.file], model.tokenizer, max_document_tokens=4096)
    step = max(1, len(corpus) // options.texts)
    prompts = [corpus.document(index)[-options.prompt :].tolist() for index in range(0, len(corpus), step)]
    with torch.inference_mode():
        lengths = accepted_lengths(model, draft, prompts[: options.texts], options.write)
        times = seconds(model, draft, prompts[0])
    k = draft.draft.drafted_tokens
    rows = []
    for name, found in lengths.items():
        mean = statistics.mean(found)
        cost = (times["a drafted token"] * k + times[f"{k + 1} tokens"] + times["taken over"]) / times["1 token"]
        rows.append([name, len(found), f"{mean:.2f}", f"{mean - 1:.2f}", f"{cost:.2f}", f"{mean / cost:.2f}"])
    print_table(
        f"{model.name}, {k} drafted tokens, {draft.draft.num_layers} of {model.network.config.num_layers} layers",
        ["written", "readings", "accepted length", "drafted ones of it", "cost of one, in tokens", "times as fast"],
        rows,
    )
    print(", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in times.items()))


def accepted_lengths(model: Model, draft: Draft, prompts: list[list[int]], count: int) -> dict[str, list[float]]:
    """The accepted length of each reading, for the likeliest tokens and for drawn ones."""
    found: dict[str, list[float]] = {"greedily": [], "drawn": []}
    generator = torch.Generator().manual_seed(0)

    def drawn(logits: Tensor) -> int:
        return int(torch.multinomial(logits.float().softmax(-1), 1, generator=generator))

    for prompt in prompts:
        for name, choose in (("greedily", _likeliest), ("drawn", drawn)):
            found[name] += _lengths(model, draft, _write(model, prompt, count, choose), len(prompt), name == "drawn")
    return found


def _likeliest(logits: Tensor) -> int:
    return int(logits.argmax())


def _write(model: Model, prompt: list[int], count: int, choose: Callable[[Tensor], int]) -> Written:
    network, tokens = model.network, list(prompt)
    levels: list[Sequence[Tensor]] = []
    _, state = read_any(network, prompt, start_state(network), levels.append)
    for _ in range(count):
        tokens.append(choose(network.logits(levels[-1][-1][:, -1:])[0, -1]))
        made = list[Tensor]()
        _, state = network.write(torch.tensor([[tokens[-1]]]), state, made)
        levels.append(made)
    joined = [torch.cat([part.float() for part in parts], dim=1) for parts in zip(*levels, strict=True)]
    return Written(tokens, joined, network.logits(joined[-1].to(network.dtype))[0])


def _lengths(model: Model, draft: Draft, text: Written, first: int, drawn: bool) -> list[float]:
    """Goes along what the target wrote: each guess is as it would be if the target wrote with the draft.

    Of drawn tokens the expectation is taken, over what the target may draw as well.
    """
    levels, k = text.levels[-draft.num_levels :], draft.draft.drafted_tokens
    state, place, lengths = draft.read([level[:, :first] for level in levels], draft.start()), first, list[float]()
    while place + k < len(text.tokens):
        if drawn:
            lengths.append(_expected_length(model, draft, text, state, place))
            kept = 1
        else:
            guessed = draft.propose(model.network, text.tokens[place], state, _likeliest, k)
            agreed = [guess == token for guess, token in zip(guessed, text.tokens[place + 1 :], strict=False)]
            kept = 1 + (agreed.index(False) if False in agreed else k)
            lengths.append(float(kept))
        state = draft.read([level[:, place : place + kept] for level in levels], state)
        place += kept
    return lengths


def _expected_length(model: Model, draft: Draft, text: Written, state: DraftState, place: int) -> float:
    """1 + a1 + a1 a2 + ..., where a is the sum of the smaller of the two probabilities, along what was written."""
    chances, following = list[float](), iter(text.tokens[place + 1 :])

    def along(logits: Tensor) -> int:
        wanted = text.logits[place + len(chances)].float().softmax(-1)
        chances.append(float(torch.minimum(wanted, logits.float().softmax(-1)).sum()))
        return next(following)

    draft.propose(model.network, text.tokens[place], state, along, draft.draft.drafted_tokens)
    return 1.0 + sum(float(torch.tensor(chances[: index + 1]).prod()) for index in range(len(chances)))


def seconds(model: Model, draft: Draft, prompt: list[int], repeats: int = 40) -> dict[str, float]:
    """Median seconds of the processor: of a drafted token, of readings of 1 and of k + 1 tokens after the prompt, and
    of taking over what the target made of k + 1."""
    network, k = model.network, draft.draft.drafted_tokens
    calls_read = list[Sequence[Tensor]]()
    _, state = read_any(network, prompt, start_state(network), calls_read.append)
    if not state.fill:
        # At the beginning of a block what is seen of the memory would be made again by each call.
        _, state = network.read(torch.tensor([prompt[:1]]), state)
    read = [torch.cat(parts, dim=1) for parts in zip(*calls_read, strict=True)][-draft.num_levels :]
    own = draft.read(read, draft.start())
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "1 token": (lambda: network.logits(network.write(torch.tensor([prompt[:1]]), state)[0]), 1),
        f"{k + 1} tokens": (lambda: network.logits(network.write(torch.tensor([prompt[: k + 1]]), state)[0]), 1),
        "a drafted token": (lambda: draft.propose(network, prompt[0], own, _likeliest, k), k),
        "taken over": (lambda: draft.read([level[:, : k + 1].float() for level in read], own), 1),
    }
    found = {}
    for name, (call, per) in calls.items():
        times = []
        for _ in range(repeats):
            began = time.process_time()
            call()
            times.append((time.process_time() - began) / per)
        found[name] = statistics.median(times)
    return found


if __name__ == "__main__":
    main()
