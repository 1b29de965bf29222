"""Question sets, and long documents made of them: passages with their questions, placed in other text.

A set is one .jsonl(.zst) file of records with `context` (a text, or several that are placed far apart, in order),
`question`, `answers`, optionally `unanswerable`, and what belongs together (`story_id`, `title`, else the context).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from famcli.documents.opening import open_source
from famcli.documents.records import holds_records, read_objects, read_records
from famcli.documents.source import Piece, utf8_widths
from famcli.errors import DocumentError, UsageError
from famcli.tasks.ask.passage_index import PassageIndex
from famcli.text.passages import PassageBuilder
from famcli.tokens.tokenizer import Tokenizer

_GROUPS = ("story_id", "title")
_COVERED = 0.8  # a context is made of others if so much of it is


@dataclass(frozen=True)
class Rules:
    """Which records of a set are asked.

    where: fields that must have one of the given values. hash_field, hash_from, hash_below: only records of which the
    sha256 of that field begins with a byte in this range (the corpus's way to hold titles out).
    """

    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    hash_field: str = "title"
    hash_from: int = 0
    hash_below: int = 256


@dataclass(frozen=True)
class Item:
    """One question. contexts: what answers it, in one place or several. answers: right ones; none where it is
    unanswerable. group: what it is drawn together with."""

    id: str
    group: str
    contexts: tuple[str, ...]
    question: str
    answers: tuple[str, ...]

    @property
    def unanswerable(self) -> bool:
        """Whether its own context does not answer it."""
        return not self.answers


@dataclass(frozen=True)
class Asked:
    """A question about a placed document. spans: where its contexts stand in it, in characters; none where they were
    left out."""

    item: Item
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class PlacedDocument:
    """name: of its groups. text: contexts among filler, blank lines between. asked: all that is asked about it."""

    name: str
    text: str
    asked: tuple[Asked, ...]


def read_items(path: Path, rules: Rules) -> list[Item]:
    """The questions of a set that the rules leave. Raises DocumentError for what is no such set, UsageError where
    nothing is left."""
    items = list[Item]()
    for line, record in read_objects(path):
        try:
            context, question, answers = record["context"], record["question"], record["answers"]
        except KeyError as error:
            raise DocumentError(f"{path}: line {line} has no {error.args[0]!r}; correct it") from error
        byte = hashlib.sha256(str(record.get(rules.hash_field)).encode("utf-8", "replace")).digest()[0]
        if not rules.hash_from <= byte < rules.hash_below:
            continue
        if any(str(record.get(name)) not in values for name, values in rules.where):
            continue
        contexts = tuple(_clean(part) for part in (context if isinstance(context, list) else [context]))
        group = next((str(record[name]) for name in _GROUPS if record.get(name)), contexts[0])
        right = () if record.get("unanswerable") else tuple(_one_line(answer) for answer in answers)
        if all(contexts) and _one_line(question):
            items.append(Item(str(record.get("id", line)), group, contexts, _one_line(question), right))
    if not items:
        raise UsageError(f"{path}: the rules leave no question; relax them")
    return items


def is_right(span: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    """Whether a passage at `span` and one of the contexts at `spans` share at least half of the shorter of the two."""
    return any(
        2 * (min(span[1], end) - max(span[0], start)) >= min(span[1] - span[0], end - start) for start, end in spans
    )


def by_group(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Items that belong together."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    return groups


def filler_texts(paths: Sequence[Path]) -> Iterator[str]:
    """The texts that passages are placed in: files, and the records of .jsonl(.zst) files."""
    for path in paths:
        if holds_records(path):
            for record in read_records(path):
                yield _clean(record.text)
        else:
            try:
                yield _clean(path.read_text(encoding="utf-8", errors="replace"))
            except OSError as error:
                raise DocumentError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def place(groups: dict[str, list[Item]], filler: str, rng: np.random.Generator, absent: float = 0.0) -> PlacedDocument:
    """All contexts of the groups, each at its own place between two paragraphs of `filler`, drawn at random; groups are
    mixed, and the contexts of each come in their order. absent: the share of contexts that are left out, whose
    questions cannot be answered."""
    texts = {text: name for name, items in groups.items() for item in items for text in item.contexts}
    atoms, made_of = _atoms(list(texts))
    contexts = _mixed(atoms, texts, rng)
    left_out = frozenset(text for text in contexts if rng.random() < absent)
    placed = [text for text in contexts if text not in left_out]
    breaks = [match.end() for match in re.finditer(r"\n\n+", filler)] or [len(filler)]
    places = np.sort(rng.choice(len(breaks), len(placed), replace=len(placed) > len(breaks)))
    parts, spans, length, last = list[str](), dict[str, tuple[int, int]](), 0, 0
    for context, index in zip(placed, places, strict=True):
        before = filler[last : breaks[index]]
        begin = length + len(before)
        parts += [before, context, "\n\n"]
        spans[context] = (begin, begin + len(context))
        length, last = begin + len(context) + 2, breaks[index]
    parts.append(filler[last:])
    asked = list[Asked]()
    for item in (item for items in groups.values() for item in items):
        needed = [atom for text in item.contexts for atom in made_of[text]]
        there = tuple(spans[atom] for atom in needed if atom in spans)
        if len(there) in (0, len(needed)):  # what is there in part can be neither asked nor missed
            asked.append(Asked(item, there))
    return PlacedDocument(", ".join(groups), "".join(parts), tuple(asked))


def _atoms(texts: Sequence[str]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The contexts to place, in their order, and of which of them each context consists: some hold others."""
    distinct = list(dict.fromkeys(texts))
    chosen: list[str] = []
    made_of: dict[str, tuple[str, ...]] = {}
    for text in sorted(distinct, key=len):
        inside = tuple(other for other in chosen if other in text)
        if inside and sum(map(len, inside)) >= _COVERED * len(text):
            made_of[text] = inside
        else:
            chosen.append(text)
            made_of[text] = (text,)
    order = {text: index for index, text in enumerate(distinct)}
    return sorted(chosen, key=order.__getitem__), made_of


def _mixed(texts: Sequence[str], group_of: dict[str, str], rng: np.random.Generator) -> list[str]:
    """The texts in an order drawn at random, but those of one group as they were."""
    waiting: dict[str, list[str]] = {}
    for text in reversed(texts):
        waiting.setdefault(group_of[text], []).append(text)
    return [waiting[group_of[texts[index]]].pop() for index in rng.permutation(len(texts))]


def _clean(text: str) -> str:
    """Line breaks as one character, no lone surrogates, nothing at the edges: what a file gives back as it is."""
    return str(text).replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode().strip("\ufeff\n ")


def _one_line(text: object) -> str:
    return " ".join(str(text).encode("utf-8", "replace").decode().split())


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
    """The passages of a text file, as a reading indexes them."""
    with open_source(path, encoding="utf-8") as document:
        return index_of(document.pieces())


def index_of(pieces: Iterable[Piece]) -> PassageIndex:
    """The passages of a source."""
    index, builder = PassageIndex(), PassageBuilder(0)
    for piece in pieces:
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
