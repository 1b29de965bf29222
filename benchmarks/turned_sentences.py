"""Whether a sentence that was turned around is told from a right one by the check of what was written.

    python -m benchmarks.turned_sentences ../shared/corpus/onestop_english.jsonl.zst

Right sentences are those of OneStopEnglish's elementary texts, which teachers wrote from the advanced text about the
same thing: how many does `tasks.turned` flag? Turned ones are made of sentences of the advanced texts themselves: a
"not" taken out or put in, or a condition taken out with what it governs.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import print_table
from famcli.documents.records import read_objects
from famcli.plain import plural
from famcli.tasks.grounding import sentences_of
from famcli.tasks.turned import Said, turned_around

_AUXILIARY = r"(?:is|are|was|were|will|would|can|could|may|might|must|should|has|have|had|does|do|did)"
_NOT = re.compile(rf"\b({_AUXILIARY})(?: not\b|n['\u2019]t\b)", re.I)
_CANNOT = re.compile(r"\bcan(?:not|['\u2019]t)\b", re.I)
_PLAIN = re.compile(rf"\b({_AUXILIARY})\b(?! not| no\b|n['\u2019]t)", re.I)
_CONDITION = re.compile(r",? ?\b(?:unless|except)\b[^,.;]*|\bonly ", re.I)
_FEWEST_WORDS = 8


def turned(sentence: str) -> Iterator[tuple[str, str]]:
    """The kind of each change, and the sentence with it."""
    for marks, without in ((_CANNOT, "can"), (_NOT, r"\1")):
        if marks.search(sentence):
            yield "not, taken out", marks.sub(without, sentence, count=1)
            break
    else:
        if _PLAIN.search(sentence):
            yield "not, put in", _PLAIN.sub(r"\1 not", sentence, count=1)
    if (found := _CONDITION.search(sentence)) is not None:
        yield (
            "only, taken out" if "only" in found[0] else "unless or except, taken out",
            _CONDITION.sub("", sentence, count=1),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("--show", action="store_true", help="The right sentences that are flagged.")
    options = parser.parse_args()
    groups = dict[str, dict[str, str]]()
    for _, record in read_objects(options.set):
        groups.setdefault(record["group"], {})[record["level"]] = record["text"]
    counts = dict[str, list[bool]]()
    for levels in groups.values():
        advanced = sentences_of(levels.get("Adv", ""))
        sources = [Said.of(sentence) for sentence in advanced]
        for sentence in sentences_of(levels.get("Ele", "")):
            flagged = turned_around(sentence, sources)
            counts.setdefault("right, by teachers", []).append(bool(flagged))
            if flagged and options.show:
                print(f"{flagged}: {sentence}")
        for sentence in advanced:
            if len(sentence.split()) >= _FEWEST_WORDS:
                counts.setdefault("right, word by word", []).append(bool(turned_around(sentence, sources)))
                for kind, changed in turned(sentence):
                    counts.setdefault(kind, []).append(bool(turned_around(changed, sources)))
    rows = [(name, f"{len(found):,}", f"{sum(found) / len(found):.1%}") for name, found in counts.items()]
    print_table(plural(len(groups), "text"), ["sentences", "how many", "flagged"], rows)


if __name__ == "__main__":
    main()
