"""Going on for ever: what a carried memory becomes after thousands of blocks, in the paper's form and with remedies.

    python -m benchmarks.forever                     # train and judge what the log lacks, then print the tables
    python -m benchmarks.forever --table             # print the tables of the log alone

Networks of the ablations (benchmarks/recipes/toy.toml; blocks of 64 tokens) whose memory takes in a block in different
ways read text for 10,000 blocks. At each length: the root mean square of the memory, whether a passkey of the first
block is still known, whether one that is read then is known eight blocks later, and bits per byte of the 16 blocks that
follow, with the memory on and frozen. Results go to docs/experiments/forever.jsonl; what is there is not made again.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import famcli.nn.decoder
import famcli.nn.memory
import famcli.nn.steps
from benchmarks.ablations import RECIPE, RUNS, run_folder
from benchmarks.common import ROOT, complete_log, print_table, read_rows
from famcli.checkpoint.open import open_model
from famcli.evaluation.positions import token_num_bytes
from famcli.evaluation.texts import TokenCorpus
from famcli.nn import Network, State
from famcli.synthetic.episodes import passkey, questions_of
from famcli.synthetic.streams import layout, question_ids
from famcli.training.data.objectives import open_data
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import load_recipe

LOG = ROOT / "docs" / "experiments" / "forever.jsonl"
LENGTHS = (8, 64, 256, 1024, 4096, 10_000)  # blocks
STREAMS = 16
SCORED_BLOCKS = 16
RECENT_BLOCKS = 8
DIGITS = 2

Compress = Callable[..., tuple[Tensor, Tensor, Tensor | None]]


def _leaky(plain: Compress) -> Compress:
    """The additive form with a tenth of the old memory lost at each update."""

    def compress(*arguments: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        attended, kept, gate = plain(*arguments)
        return attended, 0.9 * kept, gate

    return compress


def _capped(plain: Compress) -> Compress:
    """The additive form, the old memory's rows cut to a root mean square of 8."""

    def compress(*arguments: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        attended, kept, gate = plain(*arguments)
        size = kept.square().mean(-1, keepdim=True).sqrt()
        return attended, kept * (8 / size.clamp_min(8)), gate

    return compress


REMEDIES: dict[str, tuple[str, dict[str, Any]]] = {
    "additive (the paper's)": ("additive", {}),
    "gated (ours)": ("gated", {}),
    "gate = the share itself": ("gated", {"memory_gate": lambda share, threshold: share}),
    "gate = the share squared": ("gated", {"memory_gate": lambda share, threshold: share.square()}),
    "leaky carry": ("additive", {"compress": _leaky(famcli.nn.memory.compress)}),
    "norm capped": ("additive", {"compress": _capped(famcli.nn.memory.compress)}),
}

FACTOR_OF = {"additive (the paper's)": "additive update (the paper's)", "gated (ours)": "base"}
"""Runs that the ablations made already are not made again."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the tables of the log alone")
    parser.add_argument("--seeds", type=int, nargs="*", default=(0, 1, 2))
    parser.add_argument("--only", nargs="*", default=list(REMEDIES))
    arguments = parser.parse_args()
    if not arguments.table:
        complete_log(LOG, "remedy", arguments.only, arguments.seeds, _run)
    print_results(read_rows(LOG))


def _run(name: str, seed: int) -> dict[str, Any]:
    update, patches = REMEDIES[name]
    settings = [f"network.memory_update={update}", f"schedule.seed={seed}", f"data.seed={seed + 1}"]
    with _patched(patches):
        ended = train(load_recipe(RECIPE, settings), run_folder(FACTOR_OF.get(name, name), seed))
        assert ended.exported is not None
        return judge(ended.exported)


@contextmanager
def _patched(patches: dict[str, Any]) -> Iterator[None]:
    """The memory's update changed, everywhere it is used."""
    modules = (famcli.nn.memory, famcli.nn.decoder, famcli.nn.steps)
    old = [(module, name, getattr(module, name)) for module in modules for name in patches if hasattr(module, name)]
    for module, name, _ in old:
        setattr(module, name, patches[name])
    try:
        yield
    finally:
        for module, name, value in old:
            setattr(module, name, value)


def judge(checkpoint: Path) -> dict[str, Any]:
    """All measurements, one list over LENGTHS each."""
    model = open_model(checkpoint, device="cpu", dtype="bfloat16")
    (corpus,) = open_data(load_recipe(RECIPE), RUNS / "tokens").validation
    on = _read_on(model.network, model.tokenizer, corpus, "on")
    frozen = _read_on(model.network, model.tokenizer, corpus, "frozen")
    return on | {"bits_per_byte_frozen": frozen["bits_per_byte"]}


def _read_on(network: Network, tokenizer: Any, texts: TokenCorpus, mode: Any) -> dict[str, list[Any]]:
    """STREAMS streams with a key in their first block: the memory, the keys and the text that follows, by length.

    With the memory frozen, what was read before the last blocks changes nothing, and is not read.
    """
    block_size, widths = network.fam.block_size, token_num_bytes(tokenizer)
    total = (LENGTHS[-1] + SCORED_BLOCKS) * block_size
    streams, asked = [], []
    for number in range(STREAMS):
        rng = np.random.default_rng([11, number])
        episode = passkey(rng, digits=DIGITS)
        pieces = layout(episode, tokenizer, texts.filler(rng), total, rng, [0.0])
        streams.append(_Stream(tokenizer.bos_id, pieces))
        asked.append(question_ids(questions_of(episode)[0], tokenizer))
    found: dict[str, list[Any]] = {"memory_rms": [], "first_key": [], "recent_key": [], "bits_per_byte": []}
    done = 0
    with torch.no_grad():
        state = network.start(STREAMS, mode)
        for blocks in LENGTHS:
            while done < blocks:
                count = min(SCORED_BLOCKS, blocks - done)
                tokens = _next(streams, count * block_size)
                done += count
                if mode == "on" or done == blocks:
                    _, state = network.read(tokens, state)
            found["memory_rms"].append([_rms(memory) for memory in state.memories])
            found["first_key"].append(_known(network, state, asked))
            found["recent_key"].append(_knows_recent(network, tokenizer, texts, state, blocks))
            tokens = _next(streams, SCORED_BLOCKS * block_size)
            hidden, state = network.read(tokens, state)
            done += SCORED_BLOCKS
            nats = functional.cross_entropy(
                network.logits(hidden[:, :-1]).float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum"
            )
            found["bits_per_byte"].append(float(nats) / math.log(2) / int(widths[tokens[:, 1:].numpy()].sum()))
    return found


def _knows_recent(network: Network, tokenizer: Any, texts: TokenCorpus, state: State, blocks: int) -> float:
    """Share of the streams that know a key, read after `state`, RECENT_BLOCKS blocks later, on forks."""
    pieces, asked = [], []
    for number in range(STREAMS):
        rng = np.random.default_rng([12, number, blocks])
        episode = passkey(rng, digits=DIGITS)
        num_tokens = RECENT_BLOCKS * network.fam.block_size
        pieces.append(np.concatenate(list(layout(episode, tokenizer, texts.filler(rng), num_tokens, rng, [0.0]))))
        asked.append(question_ids(questions_of(episode)[0], tokenizer))
    _, state = network.read(torch.from_numpy(np.stack(pieces).astype(np.int64)), state)
    return _known(network, state, asked)


class _Stream:
    """The tokens of a stream, in pieces of the size that is asked for."""

    def __init__(self, bos_id: int | None, pieces: Iterator[Any]) -> None:
        self._pieces, self._ahead = pieces, np.array([] if bos_id is None else [bos_id], dtype=np.int32)

    def take(self, count: int) -> Any:
        parts = [self._ahead]
        while sum(map(len, parts)) < count:
            parts.append(next(self._pieces))
        joined = np.concatenate(parts)
        self._ahead = joined[count:]
        return joined[:count]


def _next(streams: Sequence[_Stream], count: int) -> Tensor:
    return torch.from_numpy(np.stack([stream.take(count) for stream in streams]).astype(np.int64))


def _rms(memory: Tensor) -> float:
    return float(memory.square().mean().sqrt())


def _known(network: Network, state: State, asked: Sequence[tuple[Any, Any]]) -> float:
    """Share of the streams that answer their question with every digit right, on forks."""
    right = 0
    for row, (question, answer) in zip(state.split(), asked, strict=True):
        run = torch.from_numpy(np.concatenate((question, answer)).astype(np.int64))[None]
        hidden, _ = network.read(run[:, : network.fam.block_size], row)
        best = network.logits(hidden[:, len(question) - 1 : -1]).argmax(-1)
        right += bool((best[0] == run[0, len(question) :]).all())
    return right / len(asked)


def print_results(entries: Sequence[dict[str, Any]]) -> None:
    """One table for each measurement: rows are remedies, columns lengths in blocks, cells means over seeds (spread)."""
    titles = {
        "memory_rms": "root mean square of the memory, top layer",
        "first_key": "passkey of the first block, share right",
        "recent_key": "passkey of eight blocks ago, share right",
        "bits_per_byte": "bits per byte of the next 16 blocks, memory on",
        "bits_per_byte_frozen": "the same, memory frozen",
    }
    for measure, title in titles.items():
        rows = []
        for name in REMEDIES:
            members = [entry[measure] for entry in entries if entry["remedy"] == name]
            if members:
                top = [[value[-1] if isinstance(value, list) else value for value in member] for member in members]
                cells = [_mean_spread(column, measure) for column in zip(*top, strict=True)]
                rows.append([name, str(len(members)), *cells])
        print_table(title, ["update", "seeds", *(f"{blocks:,}" for blocks in LENGTHS)], rows)


def _mean_spread(values: Sequence[float], measure: str) -> str:
    digits = {"memory_rms": 1, "first_key": 2, "recent_key": 2}.get(measure, 3)
    return f"{statistics.mean(values):.{digits}f} ({max(values) - min(values):.{digits}f})"


if __name__ == "__main__":
    main()
