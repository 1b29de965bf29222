"""What a memory that keeps tokens holds, of a pretrained decoder with an adapter, and what its window saves.

    python -m benchmarks.keep_memory recall MODEL ADAPTER --filler ../shared/corpus/books_heldout.jsonl.zst
    python -m benchmarks.keep_memory speed MODEL ADAPTER --filler ../shared/corpus/books_heldout.jsonl.zst

recall: in the first 1,024 tokens of each stream stand a pass key, four named values and a story of who went where, in
filler; after each length all are asked for, on copies of the state, in the words of `famcli eval`. The same streams are
read with the memory, with nothing but window and sinks (frozen), with tokens kept at random, and with full attention.
A line is printed after each batch of streams, of all streams so far; --answers FILE keeps what each stream gave, and
another run with it goes on from there. speed: tokens a second of the same text with the
adapter's window and with that of the decoder without it, in turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import add_rows, print_table, read_rows
from famcli.checkpoint.device import keep_freed_memory
from famcli.checkpoint.open import open_model
from famcli.cli.eval import parse_lengths
from famcli.evaluation.intervals import wilson
from famcli.evaluation.positions import Subject
from famcli.evaluation.recall import RecallAnswer, Trial, run_trials
from famcli.evaluation.texts import POOL_TOKENS, read_texts
from famcli.nn import FamConfig, Network
from famcli.reading.engine import read_calls
from famcli.synthetic.episodes import Episode, facts, needles, passkey, questions_of, statements_of

VALUES = 4
# Where all is told: a share of the first length, or of this many tokens.
_TOLD = 1024
_PLAIN = FamConfig(block_size=1024, memory_segments=3, fam_length=0, sink_tokens=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("recall", "speed"))
    parser.add_argument("model")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--filler", type=Path, required=True, help="texts that nothing was trained on")
    parser.add_argument("--lengths", default="1k,4k,16k")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--first", type=int, default=0, help="number of the first stream")
    parser.add_argument("--answers", type=Path, help="a file that keeps what each stream gave, for another run")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--ways", default="kept,frozen", help="of kept, frozen, random, full")
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()
    keep_freed_memory()
    (recall if arguments.what == "recall" else speed)(arguments)


def recall(arguments: argparse.Namespace) -> None:
    opened = open_model(arguments.model, adapter=arguments.adapter, dtype=arguments.dtype, device="cpu")
    texts = read_texts([arguments.filler], opened.tokenizer, max_tokens=POOL_TOKENS)
    stops, rows = parse_lengths(arguments.lengths), []
    numbers = range(arguments.first, arguments.first + arguments.streams)
    for way, subject in _ways(opened.network, arguments.ways.split(",")):
        began, answers = time.monotonic(), _known(arguments.answers, way, numbers, stops)
        left = sorted(set(numbers) - {one.trial for one in answers})
        shares = _shares(answers, stops)
        trials = [_trial(number, stops) for number in left]
        for group in run_trials(subject, opened.tokenizer, texts, trials, batch=arguments.batch):
            found = [replace(one, trial=left[one.trial]) for one in group]
            if arguments.answers is not None:
                add_rows(arguments.answers, *({"way": way, **asdict(one)} for one in found))
            answers += found
            shares = _shares(answers, stops)
            print(f"{way}: {' | '.join(shares)}; {time.monotonic() - began:,.0f} s", flush=True)
        rows.append([way, *shares])
    lengths = [f"{what} after {stop:,}" for stop in stops for what in ("key", "values", "where")]
    print_table(f"{arguments.streams} streams, {opened.network.fam}", ["memory", *lengths], rows)


@torch.inference_mode()
def speed(arguments: argparse.Namespace) -> None:
    opened = open_model(arguments.model, adapter=arguments.adapter, dtype=arguments.dtype, device="cpu")
    (length,), fam = parse_lengths(arguments.lengths), opened.network.fam
    texts = read_texts([arguments.filler], opened.tokenizer, max_tokens=length)
    ids = torch.from_numpy(np.asarray(texts.tokens[:length], dtype=np.int64))[None]
    seconds: dict[FamConfig, list[float]] = {fam: [], _PLAIN: []}
    for _ in range(arguments.streams):
        for window, taken in seconds.items():
            opened.network.fam = window
            began, state = time.process_time(), opened.network.start(1, "on" if window.fam_length else "none")
            for _, _, after in read_calls(opened.network, ids, state):
                state = after
            taken.append(time.process_time() - began)
            print(f"{window.visible_tokens} tokens seen: {length / taken[-1]:,.0f} tokens/s", flush=True)
    rows = [[str(window), f"{length / float(np.median(taken)):,.0f}"] for window, taken in seconds.items()]
    print_table(f"{length:,} tokens, median of {arguments.streams}", ["window", "tokens per processor second"], rows)


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


def _trial(number: int, stops: Sequence[int]) -> Trial:
    """All statements stand before the first stop; those of the story in their order."""
    rng = np.random.default_rng([11, number])
    key, values = passkey(rng), needles(rng, count=VALUES, queries=VALUES)
    story = facts(rng, task="qa1", questions=None)
    told = [*statements_of(key), *statements_of(values), *statements_of(story)]
    episode: Episode = (*told, *questions_of(key), *questions_of(values), *questions_of(story))
    share = 0.9 * min(stops[0], _TOLD) / stops[-1]
    others = rng.random(1 + VALUES) * share
    depths = (*others.tolist(), *np.sort(rng.random(len(told) - 1 - VALUES) * share).tolist())
    return Trial("values", episode, tuple(stops), (12, number), depths)


def _known(path: Path | None, way: str, numbers: range, stops: Sequence[int]) -> list[RecallAnswer]:
    """What earlier runs with the same lengths found of these streams."""
    rows = [] if path is None else read_rows(path)
    answers = [RecallAnswer(**row) for row in rows if row.pop("way") == way]
    return [one for one in answers if one.trial in numbers and one.stop in stops]


def _shares(answers: list[RecallAnswer], stops: Sequence[int]) -> list[str]:
    found = []
    for stop in stops:
        for first, last in ((0, 1), (1, 1 + VALUES), (1 + VALUES, 1 << 20)):
            right = [one.right for one in answers if one.stop == stop and first <= one.question < last]
            low, high = wilson(sum(right), len(right))
            found.append(f"{sum(right)}/{len(right)} ({low:.0%}-{high:.0%})")
    return found


if __name__ == "__main__":
    main()
