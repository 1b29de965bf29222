"""How many named values a memory holds, and for how long: ways of taking in a block, three seeds each.

    python -m benchmarks.holding                # train and judge what the log lacks, then print the table
    python -m benchmarks.holding --table        # print the table of the log alone

The task is ARMT's associative retrieval (arXiv 2407.04841, section 4), on tokens instead of words so that a network of
0.1M parameters learns it in minutes of one core: 1 to 16 pairs of a name and a value, a token each, stand among random
filler in the first two blocks of 16 tokens; later blocks are filler, and names in them ask for their values. A decoder
that sees the whole text learns this first; from it each memory learns, where a token sees its own block alone and the
memory is all that can answer. Trained with 1 to 4 later blocks; judged after 4, 64 and 1,000, with the memory on and
frozen (what guessing gets). A memory that keeps tokens leaves that decoder as it is: it is given scores that tell pairs
from filler. The results of every run go to docs/experiments/holding.jsonl; a run that is there is not made again.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.common import ROOT, complete_log, print_table, read_rows
from famcli.nn import DecoderConfig, FamConfig, MemoryMode, Network, make_network
from famcli.nn.decoder import Decoder
from famcli.nn.kept import token_rows

LOG = ROOT / "docs" / "experiments" / "holding.jsonl"
SEEDS = (0, 1, 2)
UPDATES = ("gated", "delta", "kept")
BLOCK, STATED, LATER = 16, 2, 4
NAMES = VALUES = FILLERS = 16
PLAIN = NAMES + VALUES + FILLERS
CONFIG = DecoderConfig(PLAIN + NAMES * VALUES, 64, 96, 2, 4, 4, 16, tie_embeddings=True)
COUNTS, TAUGHT = (1, 2, 4, 8, 16), (2, 4, 8, 16)
BLOCKS = (4, 64, 1000)
BASE_STEPS, BASE_RATE = 250, 1e-2
STEPS, RATE = 600, 5e-3
BATCH = 16
STREAMS, READ_AT_ONCE = 32, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the table of the log alone")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--updates", nargs="*", default=UPDATES)
    arguments = parser.parse_args()
    if not arguments.table:
        complete_log(LOG, "update", arguments.updates, arguments.seeds, _run)
    print_results(read_rows(LOG))


def _run(name: Any, seed: int) -> dict[str, Any]:
    network = make_network(CONFIG, FamConfig(BLOCK, 0, BLOCK, memory_update=name))
    network.reset_parameters(seed)
    network.load_state_dict(base_weights(seed), strict=False)
    before, losses = time.process_time(), list[float]()
    if name == "kept":
        fit_scores(network, seed)
    for loss in () if name == "kept" else train(network, seed, STEPS, RATE):
        losses.append(loss)
        if len(losses) % 100 == 0:
            print(f"{name}, seed {seed}: step {len(losses)}, loss {statistics.mean(losses[-100:]):.3f}", flush=True)
    return {
        "loss": _rounded(losses[-100:]),
        "cpu_seconds": round(time.process_time() - before),
        "on": judge(network, "on", BLOCKS),
        # A frozen memory is the same at any length.
        "frozen": judge(network, "frozen", BLOCKS[:1]),
    }


def _rounded(losses: Sequence[float]) -> float | None:
    return round(statistics.mean(losses), 4) if losses else None


def fit_scores(network: Network, seed: int) -> None:
    """By least squares, what tells the keys and values of pairs from those of filler: choosing has no gradient."""
    assert isinstance(network, Decoder)
    tokens, _, _ = stated(torch.Generator().manual_seed(2000 + seed), 8, 64)
    levels: list[Tensor] = []
    with torch.no_grad():
        network.read(tokens, network.start(len(tokens), "none"), levels=levels)
        for layer, x in zip(network.layers, levels[:-1], strict=True):
            rows = token_rows(*layer.self_attn.keys_values(layer.attention_input(x))).flatten(0, 1)
            wanted = (tokens.flatten() >= PLAIN).float()[:, None] - 0.5
            network.memory_scores[layer.index] = torch.linalg.lstsq(rows, wanted, driver="gelsd").solution[:, 0]


def filler(generator: torch.Generator, blocks: int, batch: int) -> Tensor:
    return torch.randint(NAMES + VALUES, PLAIN, (batch, blocks * BLOCK), generator=generator)


def stated(generator: torch.Generator, count: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Filler of STATED blocks with `count` pairs in it [b, n], and the names and values of those [b, count]."""
    draw = [torch.rand(batch, size, generator=generator).argsort(1)[:, :count] for size in (NAMES, STATED * BLOCK)]
    values = torch.randint(VALUES, (batch, count), generator=generator)
    tokens = filler(generator, STATED, batch).scatter(1, draw[1], PLAIN + VALUES * draw[0] + values)
    return tokens, draw[0], NAMES + values


@cache
def base_weights(seed: int) -> dict[str, Tensor]:
    """Of a decoder without memory that was trained on the task with all of its text in sight."""
    network = make_network(CONFIG, FamConfig(BLOCK, STATED + LATER, 0))
    network.reset_parameters(seed)
    with torch.no_grad():
        # The embedding of a pair begins as the sum of its name's and its value's.
        rows = dict(network.named_parameters())["model.embed_tokens.weight"]
        rows[PLAIN:] = (rows[:NAMES, None] + rows[NAMES : NAMES + VALUES]).flatten(0, 1)
    losses = list(train(network, seed, BASE_STEPS, BASE_RATE))
    print(f"base, seed {seed}: loss {statistics.mean(losses[-20:]):.3f}", flush=True)
    return network.state_dict()


def train(network: Network, seed: int, steps: int, rate: float) -> Iterator[float]:
    """The loss of each step: nats of the values that are asked for."""
    generator = torch.Generator().manual_seed(1000 + seed)
    named = dict(network.named_parameters())
    matrices = [value for name, value in named.items() if value.ndim == 2 and "layers." in name]
    rest = [value for name, value in named.items() if value.ndim != 2 or "layers." not in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for step in range(steps):
        count = TAUGHT[int(torch.randint(len(TAUGHT), (), generator=generator))]
        # Few blocks at first, so that the memory is found sooner.
        later = 1 + int(torch.randint(min(LATER, 1 + 6 * step // steps), (), generator=generator))
        tokens, names, values = stated(generator, count, BATCH)
        asking = filler(generator, later, BATCH)
        asked = min(count, later * BLOCK)
        # A name asks for its value, which is never shown again.
        places = torch.rand(BATCH, later * BLOCK, generator=generator).argsort(1)[:, :asked]
        asking = asking.scatter(1, places, names[:, :asked])
        hidden, _ = network.read(torch.cat((tokens, asking), dim=1), network.start(BATCH))
        rows = STATED * BLOCK + places
        logits = network.logits(hidden.gather(1, rows[..., None].expand(-1, -1, hidden.shape[2])))
        loss = functional.cross_entropy(logits.flatten(0, 1), values[:, :asked].flatten())
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 50, 2 * (1 - step / steps))
            optimizer.step()
        yield float(loss.detach())


@torch.no_grad()
def judge(network: Network, mode: MemoryMode, lengths: Sequence[int]) -> dict[str, dict[str, float]]:
    """{number of pairs: {blocks since: the mean number of values known}}, over STREAMS streams of each."""
    generator = torch.Generator().manual_seed(0)
    made = [stated(generator, count, STREAMS) for count in COUNTS]
    batch, done = STREAMS * len(COUNTS), 0
    _, state = network.read(torch.cat([tokens for tokens, _, _ in made]), network.start(batch, mode))
    known: dict[str, dict[str, float]] = {str(count): {} for count in COUNTS}
    for length in lengths:
        while done < length:
            blocks = min(READ_AT_ONCE, length - done)
            _, state = network.read(filler(generator, blocks, batch), state)
            done += blocks
        best = []
        for index in range(max(COUNTS)):
            # Streams with fewer pairs are asked something too, which is not counted.
            asked = torch.cat([names[:, min(index, names.shape[1] - 1), None] for _, names, _ in made])
            hidden, _ = network.read(asked, state)
            best.append(network.logits(hidden)[:, 0].argmax(-1))
        for row, (_, _, values) in enumerate(made):
            found = torch.stack(best, dim=1)[row * STREAMS : (row + 1) * STREAMS, : values.shape[1]]
            known[str(values.shape[1])][str(length)] = int((found == values).sum()) / STREAMS
    return known


def print_results(entries: Sequence[Mapping[str, Any]]) -> None:
    """Of each number of values: how many are known, mean of seeds (seed by seed), by blocks read since."""
    rows = []
    for name in UPDATES:
        members = [entry for entry in entries if entry["update"] == name]
        for mode, lengths in (("on", BLOCKS), ("frozen", BLOCKS[:1])) if members else ():
            for length in lengths:
                cells = [_cell([member[mode][str(count)][str(length)] for member in members]) for count in COUNTS]
                rows.append([name, mode, f"{length:,}", *cells])
    columns = ["update", "memory", "blocks", *(f"of {count}" for count in COUNTS)]
    print_table("named values known, mean (seed by seed)", columns, rows)


def _cell(known: Sequence[float]) -> str:
    return f"{statistics.mean(known):.1f} ({' '.join(f'{each:.1f}' for each in known)})"


if __name__ == "__main__":
    main()
