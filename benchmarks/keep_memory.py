"""What a memory that keeps tokens holds, of a pretrained decoder whose weights stay as they are.

    python -m benchmarks.smollm2_base SmolLM2-135M-Instruct.Q4_1.gguf ../shared/corpus
    famcli train benchmarks/recipes/keep-smollm2.toml
    python -m benchmarks.keep_memory runs/smollm2 runs/keep-smollm2/export

In each stream a pass key and four named values stand in the first blocks; after 2, 4, 8 and 16 blocks of validation
novels all five are asked for, on copies of the state. The same streams are read with the memory, with nothing but the
window and its sinks (frozen), with tokens kept at random, and with full attention. Bits per byte of windows of eight
blocks, all of it and the later half.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import ROOT, print_table
from famcli.checkpoint.open import open_model
from famcli.evaluation.intervals import wilson
from famcli.evaluation.positions import Subject, token_num_bytes
from famcli.evaluation.recall import RecallAnswer, Trial, run_trials
from famcli.evaluation.texts import TokenCorpus
from famcli.nn import Network
from famcli.synthetic.episodes import Episode, needles, passkey, questions_of, statements_of
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.data.corpus import pack
from famcli.training.recipe.recipe import load_recipe

VALUES = 4
_BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--blocks", default="2,4,8,16")
    parser.add_argument("--streams", type=int, default=24)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--ways", default="kept,frozen,random,full")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe, for its texts")
    arguments = parser.parse_args()
    opened = open_model(arguments.model, adapter=arguments.adapter, dtype="bfloat16", device="cpu")
    recipe = load_recipe(ROOT / "benchmarks" / "recipes" / "keep-smollm2.toml", arguments.set)
    cache = recipe.data.cache or ROOT / "runs" / "tokens"
    packed = pack(recipe.corpora[0], opened.tokenizer, cache, recipe.data.seed, validation=True)
    texts = TokenCorpus(tuple(packed.ids), packed.tokens, packed.offsets)
    stops = [int(count) * opened.network.fam.block_size for count in arguments.blocks.split(",")]
    rows = []
    for way, subject in _ways(opened.network, arguments.ways.split(",")):
        began = time.monotonic()
        answers = [
            answer
            for group in run_trials(subject, opened.tokenizer, texts, _trials(stops, arguments.streams), batch=_BATCH)
            for answer in group
        ]
        bits = _bits(subject, opened.tokenizer, texts, arguments.windows)
        rows.append([way, *_shares(answers, stops), *(f"{part[0].sum() / part[1].sum():.4f}" for part in bits)])
        print(f"{way}: {' | '.join(rows[-1][1:])}; {time.monotonic() - began:,.0f} s", flush=True)
    lengths = [f"{what} after {stop:,}" for stop in stops for what in ("key", "values")]
    columns = ["memory", *lengths, "bits per byte", "of the later half"]
    print_table(f"{arguments.streams} streams, {arguments.windows} windows, {opened.network.fam}", columns, rows)


def _ways(network: Network, names: list[str]) -> Iterator[tuple[str, Subject]]:
    fam, scores = network.fam, network.memory_scores.data.clone()
    for name in names:
        network.memory_scores.data.copy_(scores)
        network.fam = replace(fam, memory_segments=1 << 10) if name == "full" else fam
        if name == "random":
            drawn = torch.randn(scores.shape, generator=torch.Generator().manual_seed(0))
            network.memory_scores.data.copy_(drawn)
        yield name, Subject(name, network, {"frozen": "frozen", "full": "none"}.get(name, "on"))  # type: ignore[arg-type]
    network.fam = fam


def _trials(stops: list[int], streams: int) -> list[Trial]:
    """All statements stand before the first stop."""
    trials = []
    for number in range(streams):
        rng = np.random.default_rng([11, number])
        key, values = passkey(rng), needles(rng, count=VALUES, queries=VALUES)
        episode: Episode = (*statements_of(key), *statements_of(values), *questions_of(key), *questions_of(values))
        depths = tuple((rng.random(1 + VALUES) * 0.4 * stops[0] / stops[-1]).tolist())
        trials.append(Trial("values", episode, tuple(stops), (12, number), depths))
    return trials


def _shares(answers: list[RecallAnswer], stops: list[int]) -> list[str]:
    shares = []
    for stop in stops:
        for is_key in (True, False):
            right = [answer.right for answer in answers if answer.stop == stop and (answer.question == 0) == is_key]
            low, high = wilson(sum(right), len(right))
            shares.append(f"{sum(right)}/{len(right)} ({low:.0%}-{high:.0%})")
    return shares


@torch.no_grad()
def _bits(subject: Subject, tokenizer: Tokenizer, texts: TokenCorpus, count: int) -> list[np.ndarray]:
    """[2, windows] each: bits and bytes of all but the first token, and of those of the later half."""
    network, size = subject.network, 8 * subject.network.fam.block_size
    widths, found = token_num_bytes(tokenizer), []
    for place in np.linspace(0, texts.num_tokens - size - 1, count).astype(int).tolist():
        ids = torch.from_numpy(texts.tokens[place : place + size].astype(np.int64))[None]
        hidden, _ = network.read(ids, network.start(1, subject.memory_mode))
        log_p = network.logits(hidden[:, :-1])[0].float().log_softmax(-1)
        bits = -log_p.gather(1, ids[0, 1:, None])[:, 0].numpy() / math.log(2)
        num_bytes = widths[ids[0, 1:].numpy()]
        late = slice(size // 2, None)
        found.append([(bits.sum(), num_bytes.sum()), (bits[late].sum(), num_bytes[late].sum())])
    return [np.array([window[half] for window in found]).T for half in (0, 1)]


if __name__ == "__main__":
    main()
