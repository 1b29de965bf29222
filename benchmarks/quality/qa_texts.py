"""Placed documents as texts that can be asked: indexed as `famcli ask` does it, with or without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.quality.qa_sets import Item, PlacedDocument, filler_texts, place
from famcli.documents.opening import open_source
from famcli.documents.source import utf8_widths
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.text.passages import PassageBuilder
from famcli.tokens.tokenizer import Tokenizer

_SAMPLE = 200_000  # characters by which a text's tokens are estimated


def placed_documents(
    groups: dict[str, list[Item]],
    filler: Sequence[Path],
    num_tokens: int,
    tokenizer: Tokenizer,
    *,
    questions: int,
    most: int | None = None,
    absent: float = 0.0,
    seed: int = 0,
) -> Iterator[PlacedDocument]:
    """Groups in an order drawn by `seed`, so many in a document that at least `questions` are asked about it, among so
    much filler that it has at least `num_tokens`. Groups that are left over in the end, too few, come with the last
    ones again: no document has fewer questions. most: of a document with more questions, so many are drawn. The filler
    goes on from document to document.
    """
    rng = np.random.default_rng(seed)
    names = [list(groups)[index] for index in rng.permutation(len(groups))]
    texts = _endless(lambda: filler_texts(filler))
    waiting = dict[str, list[Item]]()
    for number, name in enumerate(names):
        waiting[name] = groups[name]
        left = sum(len(groups[other]) for other in names[number + 1 :])
        if sum(map(len, waiting.values())) < questions or 0 < left < questions:
            continue
        yield _drawn(place(waiting, _filler(texts, num_tokens, tokenizer), rng, absent), most, rng)
        waiting = {}
    if waiting:  # all groups together have too few questions
        yield _drawn(place(waiting, _filler(texts, num_tokens, tokenizer), rng, absent), most, rng)


def index_without_network(path: Path) -> PassageIndex:
    """The passages of a file, as a reading indexes them."""
    index, builder = PassageIndex(), PassageBuilder(0)
    with open_source(path, encoding="utf-8") as document:
        for piece in document.pieces():
            builder.feed(piece)
            for passage in builder.take(piece.end):
                index.add(passage)
    for passage in builder.take(None):
        index.add(passage)
    return index


def byte_spans(document: PlacedDocument) -> list[tuple[tuple[int, int], ...]]:
    """The spans of each question's context in bytes of the document's UTF-8."""
    ends = np.concatenate(([0], np.cumsum(utf8_widths(document.text))))
    return [tuple((int(ends[first]), int(ends[last])) for first, last in asked.spans) for asked in document.asked]


def _drawn(document: PlacedDocument, most: int | None, rng: np.random.Generator) -> PlacedDocument:
    """The document with at most so many of its questions."""
    if most is None or len(document.asked) <= most:
        return document
    kept = sorted(rng.permutation(len(document.asked))[:most].tolist())
    return replace(document, asked=tuple(document.asked[number] for number in kept))


def _filler(texts: Iterator[str], num_tokens: int, tokenizer: Tokenizer) -> str:
    """So much of the texts, from where they are, that it has `num_tokens`; cut after a paragraph."""
    parts, found = list[str](), 0.0
    while found < num_tokens:
        text = next(texts)
        sample = text[:_SAMPLE]
        per_character = len(tokenizer.encode(sample)) / max(1, len(sample))
        wanted = int((num_tokens - found) / max(per_character, 1e-9)) + 1
        end = text.find("\n\n", wanted)
        parts.append(text if end < 0 else text[:end])
        found += len(parts[-1]) * per_character
    return "\n\n".join(parts)


def _endless(make: Callable[[], Iterator[str]]) -> Iterator[str]:
    while True:
        yield from make()
