"""Whether an answer of which a number was exchanged is told from the right one by the check of what was written.

    python -m benchmarks.exchanged_facts ../shared/corpus/qa_squad_dev.jsonl.zst

Answers that hold one number, and the same with another number of the passage in its place: how many of each
`tasks.grounding` flags. Of SQuAD the titles for training (first byte of their sha256 below 205). Numbers that the
passage lacks are flagged by that alone, which is the row to compare with.
"""

from __future__ import annotations

import argparse
import random
import re
from pathlib import Path

from benchmarks.common import print_table
from benchmarks.quality.qa_sets import Item, Rules, read_items
from famcli.tasks.grounding import Sources

_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("--hash-below", type=int, default=205)
    options = parser.parse_args()
    rng, items = random.Random(0), read_items(options.set, Rules(hash_below=options.hash_below))
    numbers = [(item, _NUMBER.findall(item.answers[0])) for item in items if item.answers]
    single = [(item, found[0]) for item, found in numbers if len(found) == 1]
    everywhere = sorted({number for _, number in single})
    flagged = {"the right one": 0, "another of the passage": 0, "another of the set": 0}
    total = 0
    for item, number in single:
        others = _others(item)
        if not others:
            continue
        total += 1
        sources = Sources(item.contexts, item.question)
        for name, told in zip(flagged, (number, rng.choice(others), rng.choice(everywhere)), strict=True):
            flagged[name] += bool(sources.missing(item.answers[0].replace(number, told)))
    rows = [(name, f"{count / total:.1%}") for name, count in flagged.items()]
    print_table(f"{total:,} answers with a number", ["the number", "flagged"], rows)


def _others(item: Item) -> list[str]:
    """Numbers of the passage that neither the question nor an answer has."""
    known = " ".join((item.question, *item.answers))
    return sorted({number for text in item.contexts for number in _NUMBER.findall(text) if number not in known})


if __name__ == "__main__":
    main()
