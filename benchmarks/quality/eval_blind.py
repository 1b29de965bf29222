"""`python -m benchmarks.quality blind`: summaries for a judge who does not know whose they are."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import print_table
from benchmarks.quality.summaries import split, within
from benchmarks.quality.summary_sets import rankings
from famcli.checkpoint.open import open_model
from famcli.errors import UsageError
from famcli.tasks.summarize.candidates import Budget
from famcli.tasks.summarize.quotable import is_quotable
from famcli.tasks.summarize.summarize import summarize
from famcli.text.markup import without_marks
from famcli.text.words import num_words

RUBRIC = """Judge each summary of each document by itself, after reading the document. what: 2 if the summary says
what the document is, 1 if that can be guessed, 0 if not. points: how many of the document's three main points, which
you set down before reading the summaries, it tells (0 to 3). Write FOLDER/marks.json:
{"DOCUMENT": {"A": [what, points], ...}}.
"""


def blind(
    *,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the summaries and then the marks are.")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE...]", help="Documents; none prints the marks.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the order of the systems.")] = 0,
) -> None:
    """Write summaries by famcli, LexRank and LEAD as A, B and C, or print what a judge gave them.

    famcli's is its default for the kind of document, with the facts that stand above it; the others have as many words
    of the same sentences. Headings and places are left out of all.
    """
    names = ["famcli", *(name for name in rankings() if name != "TextRank")]
    if files:
        _write(folder, files, names, random.Random(seed))
        return
    try:
        key, marks = (json.loads((folder / name).read_text()) for name in ("key.json", "marks.json"))
    except OSError as error:
        raise UsageError(f"{error.filename}: no such file; write the summaries first, then the marks") from error
    given = {
        name: [marks[document][letter] for document in key for letter in key[document] if key[document][letter] == name]
        for name in names
    }
    count = len(key)
    rows = [
        (name, sum(what for what, _ in all_), sum(points for _, points in all_), sum(mark == [2, 3] for mark in all_))
        for name, all_ in given.items()
    ]
    columns = ["system", f"what it is, of {2 * count}", f"main points, of {3 * count}", f"both in full, of {count}"]
    print_table("Summaries judged blind", columns, rows)


def _write(folder: Path, files: list[Path], names: list[str], draw: random.Random) -> None:
    model, peers, key = open_model("fam-tiny"), rankings(), dict[str, dict[str, str]]()
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        sentences = [sentence for sentence in split(path.read_text(encoding="utf-8")) if is_quotable(sentence)]
        texts = [" ".join(sentence.text.split()) for sentence in sentences]
        result = summarize(model, [path])
        facts = [f"{fact.label}: {fact.text}" for fact in result.facts]
        chosen = {"famcli": [*facts, *(quote.text for quote in result.sentences)]}
        budget = Budget(sum(map(num_words, chosen["famcli"])), "words")
        for name in names[1:]:
            chosen[name] = [texts[number] for number in within(peers[name](texts), sentences, budget)]
        order = draw.sample(names, len(names))
        key[path.name] = dict(zip("ABC", order, strict=True))
        parts = [
            f"{letter}\n" + "\n".join(f"- {' '.join(without_marks(text).split())}" for text in chosen[name])
            for letter, name in key[path.name].items()
        ]
        (folder / f"{path.name}.summaries.txt").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    (folder / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    (folder / "rubric.txt").write_text(RUBRIC.replace("FOLDER", str(folder)), encoding="utf-8")
