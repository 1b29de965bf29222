"""Answers of a pretrained decoder beside the usual way and famcli's quotes: `python -m benchmarks.answers CORPUS OUT`.

Held-out questions about whole documents: SQuAD titles whose hash is held out, with their unanswerable questions, and
stories of FairytaleQA (validation and test) from which a quarter of the passages is left out, so that their questions
have no answer. Systems: `adapter` and `plain` write with SmolLM2 with and without its adapter through `famcli ask`;
`usual` is the same file through transformers with BM25's three passages and a prompt that says what to write where they
do not answer; `quotes` is fam-tiny through `famcli ask`. Each answer is a line of OUT as soon as it is there, with why
it is what it is: the same command goes on where it stopped, and `--systems` may name one at a time; `candidate` is the
adapter in `--candidate`, to be judged before it ships. The table pairs the questions that all have answered; an answer
"holds" a right one whose words stand in it.

`--tuning` asks about the documents of the training parts that nothing was trained on, to choose by, and `--files
FOLDER --half HALF` questions about real files (`benchmarks.quality.real_files`, which says how FOLDER is filled).
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.common import add_rows, gap, read_rows
from benchmarks.grounded_data import VALIDATION_BELOW
from benchmarks.quality.qa_sets import Rules, by_group, place, read_items
from benchmarks.quality.real_files import get_file, has_right, read_set
from benchmarks.real_decoder import UsualWay, bm25_passages
from famcli.checkpoint.device import keep_freed_memory
from famcli.checkpoint.locate import resolve
from famcli.checkpoint.open import open_model
from famcli.documents.opening import open_source
from famcli.evaluation.overlap import best_f1, exact_match
from famcli.tasks.ask.answers import Answer, AskConfig
from famcli.tasks.ask.ask import Ask

SYSTEMS = ("usual", "quotes", "plain", "adapter")
_ALL = (*SYSTEMS, "candidate")
_MODELS = {"plain": "smollm2-plain", "adapter": "smollm2", "quotes": "fam-tiny"}
_REASONS = ("because", "draft", "unsupported", "missing")
_ABSENT = 0.25
_DENIED = re.compile(
    r"not in the text|does not (?:say|mention|specify|provide|state)|not mentioned|no information", re.I
)
_SETS = {
    "squad": ("qa_squad_dev", Rules(hash_field="title", hash_from=205)),
    "fairytales": ("qa_fairytaleqa", Rules(where=(("split", ("val", "test")),))),
}
_TUNING_SETS = {
    "squad": ("qa_squad_dev", Rules(hash_field="title", hash_below=205)),
    "fairytales": ("qa_fairytaleqa", Rules(where=(("split", ("train",)),))),
}


@dataclass(frozen=True)
class Document:
    """A text and what is asked about it: (id, question, right answers; none where it has none). path: the file that
    has it, None where the text is all there is."""

    name: str
    text: str
    asked: tuple[tuple[str, str, tuple[str, ...]], ...]
    path: Path | None = None


@dataclass(frozen=True)
class Given:
    """An answer, "" where it is that the text does not answer. why: what `Answer` says of how it came about."""

    text: str
    why: dict[str, Any] = field(default_factory=dict)


def documents(name: str, corpus: Path, count: int, tuning: bool = False) -> Iterator[Document]:
    """The documents of a set with `count` questions over all, drawn alike from each of at most twelve."""
    file, rules = (_TUNING_SETS if tuning else _SETS)[name]
    groups, rng = by_group(read_items(corpus / f"{file}.jsonl.zst", rules)), np.random.default_rng(7)
    if tuning:
        groups = {name: some for name, some in groups.items() if _is_for_choosing(name)}
    names = [list(groups)[number] for number in rng.permutation(len(groups))[:12]]
    for number, group in enumerate(names):
        made = place({group: groups[group]}, "", rng, 0.0 if name == "squad" else _ABSENT)
        wanted = count * (number + 1) // len(names) - count * number // len(names)
        chosen = [made.asked[index] for index in rng.permutation(len(made.asked))[:wanted]]
        asked = [(one.item.id, one.item.question, one.item.answers if one.spans else ()) for one in chosen]
        yield Document(f"{name}: {group}", made.text, tuple(asked))


def real_files(folder: Path, half: str) -> Iterator[Document]:
    """Real files with all that is asked about them."""
    for file in read_set():
        if file.half == half:
            path = get_file(file, folder, "https://github.com/{}")
            with open_source(path) as source:
                text = "".join(piece.text for piece in source.pieces())
            asked = tuple((f"{file.name}: {one.ask}", one.ask, one.answers) for one in file.questions)
            yield Document(f"files, {half}: {file.name}", text, asked, path)


def _is_for_choosing(group: str) -> bool:
    return hashlib.sha256(group.encode()).digest()[0] < VALIDATION_BELOW


class Asked:
    """A system that answers."""

    def __init__(self, system: str, candidate: Path | None = None) -> None:
        self.system = system
        if system == "usual":
            self._usual = UsualWay(resolve("smollm2-plain").path)
        elif system == "candidate":
            self._model = open_model("smollm2-plain", adapter=candidate, dtype="bfloat16")
        else:
            self._model = open_model(_MODELS[system], dtype="bfloat16")

    def answers(self, document: Document) -> Iterator[Given]:
        """The answers in order."""
        questions = [question for _, question, _ in document.asked]
        if self.system == "usual":
            for question, passages in zip(questions, bm25_passages(document.text, questions), strict=True):
                said = self._usual.answers(question, passages)
                yield Given("" if _DENIED.search(said) else said)
            return
        with TemporaryDirectory() as folder:
            file = document.path or Path(folder) / "text.txt"
            if document.path is None:
                file.write_text(document.text, encoding="utf-8")
            style: Any = "sentence" if self.system == "quotes" else "write"
            task = Ask(self._model, questions, AskConfig(style=style))
            for event in task.events([file]):
                if isinstance(event, Answer):
                    why = {name: getattr(event, name) for name in ("kind", "confidence", *_REASONS)}
                    yield Given(event.text if event.found else "", why)
            task.close()


def measure(system: str, docs: Sequence[Document], out: Path, candidate: Path | None = None) -> None:
    """Answer what `out` does not have yet, a line for each answer."""
    done = {(row["system"], row["id"]) for row in read_rows(out)}
    left = [one for one in docs if any((system, id_) not in done for id_, _, _ in one.asked)]
    if not left:
        return
    asked = Asked(system, candidate)
    for number, document in enumerate(left, 1):
        began = time.monotonic()
        for (id_, question, right), given in zip(document.asked, asked.answers(document), strict=True):
            row = {
                "system": system,
                "set": document.name.split(":")[0],
                "id": id_,
                "question": question,
                "right": right,
                "given": given.text,
                "f1": best_f1(right, given.text) if right else None,
                "exact": exact_match(right, given.text) if right else None,
                "holds": has_right(right, given.text) if right else None,
                **given.why,
            }
            if (system, id_) not in done:
                add_rows(out, row)
        seconds = (time.monotonic() - began) / len(document.asked)
        print(f"{system}: {number} of {len(left)} documents, {seconds:.1f} s a question", file=sys.stderr, flush=True)


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown: each set and system, and how the adapter differs, paired by question."""
    yield (
        "| set | system | questions | F1 | exact | adapter's F1 minus it | holds it | adapter's minus it "
        "| refused of unanswerable | refusals right |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name in dict.fromkeys(row["set"] for row in rows):
        by_system = {s: {r["id"]: r for r in rows if r["set"] == name and r["system"] == s} for s in _ALL}
        present = {system: found for system, found in by_system.items() if found}
        shared = sorted(set.intersection(*(set(found) for found in present.values())))
        for system, found in present.items():
            some = [found[id_] for id_ in shared]
            scored = [row for row in some if row["right"]]
            refused, none = [row for row in some if not row["given"]], [row for row in some if not row["right"]]
            both = sum(not row["given"] for row in none)
            means = {key: np.mean([row[key] for row in scored]) for key in ("f1", "exact", "holds")}
            gaps = dict.fromkeys(means, "")
            if system != "adapter" and "adapter" in present:
                ours = [present["adapter"][row["id"]] for row in scored]
                gaps = {key: gap([row[key] for row in ours], [row[key] for row in scored]) for key in means}
            yield (
                f"| {name} | {system} | {len(scored)} + {len(none)} | {means['f1']:.3f} | {means['exact']:.3f} "
                f"| {gaps['f1']} | {means['holds']:.3f} | {gaps['holds']} | {both} of {len(none)} "
                f"| {both} of {len(refused)} |"
            )


def main() -> None:
    """Parse, answer, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=96, help="questions of each set")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--candidate", type=Path, help="folder of an adapter; the system is `candidate`")
    parser.add_argument("--tuning", action="store_true", help="documents to choose by, of the training parts")
    parser.add_argument("--files", type=Path, help="ask about the real files in this folder instead")
    parser.add_argument("--half", default="held-out", help="whose questions: tuning, held-out, fresh")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_grad_enabled(False)
    if options.files is not None:
        docs = list(real_files(options.files, options.half))
    else:
        docs = [one for name in _SETS for one in documents(name, options.corpus, options.count, options.tuning)]
    for system in options.systems.split(","):
        measure(system, docs, options.out, options.candidate)
    print("\n".join(table(read_rows(options.out))))


if __name__ == "__main__":
    main()
