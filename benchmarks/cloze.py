"""Whether training made a decoder forget how texts go on: `python -m benchmarks.cloze MODEL ADAPTER --texts BOOKS`.

Items are made from texts that nothing was trained on: about a hundred words of a novel, up to the last word of a
sentence, and four words to choose from, all of which end sentences of that novel, are about as frequent in it and have
the same ending (as in LAMBADA, arXiv 1606.06031, and the Children's Book Test, arXiv 1511.02301). The word with the
likeliest tokens, its full stop with them, is the choice; a quarter is chance. The decoder as published and each adapter
answer the same items: the differences are paired, with their standard error.

    python -m benchmarks.cloze smollm2-plain models/fam-smollm2 --texts ../shared/corpus/books_heldout.jsonl.zst
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import gap, print_table
from famcli.checkpoint.device import keep_freed_memory
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.documents.records import read_objects
from famcli.evaluation.intervals import wilson
from famcli.nn import MemoryMode
from famcli.reading.engine import copies, read_any, read_side_by_side
from famcli.reading.scoring import cross_entropy
from famcli.text.words import content_terms
from famcli.tokens.tokenizer import begin_ids

CHOICES = 4
# Items of each novel.
_EACH = 6
_WORDS = 100
# Words whose frequencies in the novel lie within this factor.
_FACTOR = 2.0
_ENDINGS = ("ing", "ed", "ly", "ness", "s", "")
_LAST = re.compile(r"(?<=[a-z,;] )([a-z]{4,})\.(?=\s)")


@dataclass(frozen=True)
class Item:
    """context: ends before the blank of the word. choices: the first is right."""

    context: str
    choices: tuple[str, ...]


def items_of(text: str, count: int, rng: np.random.Generator) -> Iterator[Item]:
    """At most `count` items of a text, drawn alike from all its sentences; each word is asked for once."""
    frequency = Counter(re.findall(r"[a-z]+", text))
    ends = [found for found in _LAST.finditer(text) if content_terms(found[1])]
    words = sorted({found[1] for found in ends})
    asked = set[str]()
    for place in rng.permutation(len(ends)).tolist():
        word, before = ends[place][1], text[: ends[place].start(1)].split(" ")
        others = [
            one
            for one in words
            if one != word
            and _ending(one) == _ending(word)
            and 1 / _FACTOR <= frequency[one] / frequency[word] <= _FACTOR
        ]
        # The first words of a novel are its title page.
        if word in asked or len(others) < CHOICES - 1 or len(before) < 10 * _WORDS:
            continue
        asked.add(word)
        drawn = [others[number] for number in rng.permutation(len(others))[: CHOICES - 1]]
        yield Item(" ".join(before[-_WORDS - 1 : -1]), (word, *drawn))
        if len(asked) == count:
            return


def right_of(model: Model, items: Sequence[Item], memory_mode: MemoryMode) -> list[bool]:
    """Whether the right word of each item is the likeliest."""
    network, encode, found = model.network, model.tokenizer.encode, list[bool]()
    for item in items:
        opening = [*begin_ids(model.tokenizer), *encode(item.context)]
        last, state = read_any(network, opening, network.start(1, memory_mode))
        assert last is not None
        tails = [encode(f" {word}.") for word in item.choices]
        rows = read_side_by_side(network, copies(state, CHOICES), tails, [range(len(tail) - 1) for tail in tails])
        nats = [
            float(cross_entropy(network, torch.cat((last[0], hidden))[None], torch.tensor([tail]))[0].sum())
            for hidden, tail in zip(rows, tails, strict=True)
        ]
        found.append(min(range(CHOICES), key=nats.__getitem__) == 0)
    return found


def _ending(word: str) -> str:
    return next(one for one in _ENDINGS if word.endswith(one))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("adapter", type=Path, nargs="+")
    parser.add_argument("--texts", type=Path, required=True, help="texts that nothing was trained on")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--answers", type=Path, help="a file that keeps which items each system had right")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_grad_enabled(False)
    items = list[Item]()
    for number, (_, record) in enumerate(read_objects(options.texts)):
        items += items_of(record["text"], _EACH, np.random.default_rng([31, number]))
        if len(items) >= options.count:
            break
    items = items[: options.count]
    given = options.answers
    known = json.loads(given.read_text(encoding="utf-8")) if given is not None and given.exists() else {}
    for name in [options.model, *map(str, options.adapter)]:
        if len(known.get(name, ())) != len(items):
            adapter = None if name == options.model else Path(name)
            model = open_model(options.model, adapter=adapter, dtype=options.dtype, device="cpu")
            known[name] = right_of(model, items, "none" if adapter is None else "on")
            if given is not None:
                given.write_text(json.dumps(known), encoding="utf-8")
        print(f"{name}: {sum(known[name])} of {len(items)}", flush=True)
    plain = known[options.model]
    found = {name: known[name] for name in [options.model, *map(str, options.adapter)]}
    rows = []
    for name, right in found.items():
        low, high = wilson(sum(right), len(right))
        share = f"{np.mean(right):.3f} ({low:.0%}-{high:.0%})"
        over_chance = gap(right, [1 / CHOICES] * len(right))
        rows.append([name, share, "" if right is plain else gap(right, plain), over_chance])
    print_table(f"{len(items)} items", ["system", "right", "minus the decoder as published", "minus chance"], rows)


if __name__ == "__main__":
    main()
