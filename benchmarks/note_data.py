"""Notes as people would write them, to learn from: `python -m benchmarks.note_data CORPUS OUT.jsonl`.

A summary of a long text says of each stretch what matters in the whole. The texts of the summary sets' training parts
are cut into stretches as long as those that `famcli summarize --mode write` reads for a note, and each sentence of a
summary goes to the stretch that has most of its words, if that has enough of them and all its names and numbers. What a
stretch gets is its note. Nothing held out is read but with `--heldout`: those notes judge (`benchmarks.turn_notes`).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.quality.summaries import split
from benchmarks.quality.summary_sets import SummaryItem, read_items
from famcli.tasks.grounding import Sources, support
from famcli.text.words import num_words

# Characters of a stretch: some 700 tokens.
_STRETCH = (1600, 3000)
_LEAST_SUPPORT = 0.6
_WORDS = (8, 70)
# By set: the most notes.
_SETS = {
    "sum_openstax_sections": 900,
    "sum_scitldr_abstract": 500,
    "sum_tech_proposals": 500,
    "sum_squality": 400,
    "sum_qmsum": 300,
}


def notes(item: SummaryItem, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """(stretch, note) of a text."""
    stretches = list(_stretches(item.text, rng))
    sentences = [one.text for one in split(item.references[int(rng.integers(len(item.references)))])]
    sources = [Sources([one]) for one in stretches]
    told: dict[int, list[str]] = {}
    for sentence in sentences:
        shares = [support(sentence, one) for one in stretches]
        best = int(np.argmax(shares))
        if shares[best] >= _LEAST_SUPPORT and not sources[best].missing(sentence):
            told.setdefault(best, []).append(sentence)
    for place, said in told.items():
        note = " ".join(said)
        if _WORDS[0] <= num_words(note) <= _WORDS[1] and note[-1] in ".!?":
            yield stretches[place], note


def _stretches(text: str, rng: np.random.Generator) -> Iterator[str]:
    """Paragraphs in a row."""
    wanted, held = int(rng.integers(*_STRETCH)), ""
    for paragraph in text.split("\n\n"):
        paragraph = paragraph.strip()[: _STRETCH[1]]
        if held and len(held) + len(paragraph) > wanted:
            yield held
            held, wanted = "", int(rng.integers(*_STRETCH))
        held += ("\n\n" if held else "") + paragraph
    if held:
        yield held


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--heldout", action="store_true", help="of the held-out texts, to judge what was learned")
    parser.add_argument("--most", type=int, help="notes of each set")
    options = parser.parse_args()
    made = Counter[str]()
    with options.out.open("w", encoding="utf-8") as file:
        for number, (name, most) in enumerate(_SETS.items()):
            rng, path = np.random.default_rng([11, number]), options.corpus / f"{name}.jsonl.zst"
            items, most = read_items(path, "heldout" if options.heldout else "train"), options.most or most
            for place in rng.permutation(len(items)).tolist():
                for text, note in notes(items[place], rng) if made[name] < most else ():
                    made[name] += 1
                    record = {
                        "id": f"{name}-{made[name]}",
                        "turn": "summarize_note",
                        "text": text,
                        "asked": [("", note)],
                    }
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
            print(f"{name}: {made[name]} notes of {len(items)} texts", flush=True)


if __name__ == "__main__":
    main()
