"""Which sentence splitter is right most often: ours beside libraries, on marked cases and on time.

    python -m benchmarks.sentence_splitters [CASES...]      # default: tests/tasks/sentence_cases.txt

A case is right if every boundary is; precision and recall are of boundaries inside cases. Libraries take whole strings:
each is given one case at a time, which a stream could not do. Libraries that are not installed are left out
(`pip install pysbd syntok sentencex blingfire`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from famcli.evaluation.texts import example_book
from famcli.text.sentences import SentenceSplitter

CASES = Path(__file__).parent.parent / "tests" / "text" / "sentence_cases.txt"
MARK = "\u2016"
Split = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Case:
    """A text and its sentences."""

    kind: str
    text: str
    sentences: tuple[str, ...]


def read_cases(path: Path) -> Iterator[Case]:
    """The cases of a file: `=== kind`, then a text with a mark wherever a sentence ends and another begins."""
    _, *parts = ("\n" + path.read_text(encoding="utf-8")).split("\n=== ")
    for part in parts:
        kind, _, marked = part.partition("\n")
        sentences = tuple(piece.strip() for piece in marked.split(MARK))
        yield Case(kind.strip(), marked.replace(MARK, "").strip("\n"), sentences)


def ours(text: str) -> list[str]:
    """famcli's own splitter."""
    splitter = SentenceSplitter()
    found = splitter.feed(text, np.arange(len(text) + 1, dtype=np.int64))
    return [sentence.text for sentence in found + splitter.flush()]


def splitters() -> dict[str, Split]:
    """Ours and those that are installed."""
    found: dict[str, Split] = {"famcli": ours}
    if find_spec("pysbd"):
        import pysbd

        segmenter = pysbd.Segmenter(language="en", clean=False)
        found["pysbd"] = segmenter.segment
    if find_spec("syntok"):
        from syntok import segmenter as syntok

        found["syntok"] = lambda text: [
            "".join(token.spacing + token.value for token in sentence)
            for paragraph in syntok.process(text)
            for sentence in paragraph
        ]
    if find_spec("sentencex"):
        import sentencex

        found["sentencex"] = lambda text: list(sentencex.segment("en", text))
    if find_spec("blingfire"):
        import blingfire

        found["blingfire"] = lambda text: blingfire.text_to_sentences(text).split("\n")
    return found


def boundaries(sentences: Sequence[str]) -> frozenset[int]:
    """After how many visible characters a sentence ends, but for the last."""
    lengths = np.cumsum([len("".join(sentence.split())) for sentence in sentences])
    return frozenset(lengths[:-1].tolist()) - {0, int(lengths[-1])} if len(lengths) else frozenset()


def main(paths: Sequence[Path]) -> None:
    """Print a table: right cases by kind, precision and recall of boundaries, and speed on a novel."""
    cases = [case for path in paths for case in read_cases(path)]
    kinds = list(dict.fromkeys(case.kind for case in cases))
    book = example_book()
    novel = book.read_text(encoding="utf-8") if book else ""
    print("splitter    " + "".join(f"{kind[:12]:>14}" for kind in kinds) + "   precision  recall   MB/s")
    for name, split in splitters().items():
        right = dict.fromkeys(kinds, 0)
        found = wanted = both = 0
        for case in cases:
            mine, gold = boundaries(split(case.text)), boundaries(case.sentences)
            right[case.kind] += mine == gold
            found, wanted, both = found + len(mine), wanted + len(gold), both + len(mine & gold)
        began = time.process_time()
        for paragraph in novel.split("\n\n"):
            split(paragraph)
        speed = len(novel) / 1e6 / (time.process_time() - began)
        counts = {kind: sum(case.kind == kind for case in cases) for kind in kinds}
        columns = "".join(f"{f'{right[kind]} of {counts[kind]}':>14}" for kind in kinds)
        print(f"{name:12}{columns}{both / max(1, found):>12.3f}{both / wanted:>8.3f}{speed:>7.2f}", flush=True)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [CASES])
