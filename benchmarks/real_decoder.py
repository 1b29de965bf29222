"""A pretrained decoder through famcli and in the usual way, with the same weights: `python -m benchmarks.real_decoder`.

    speed                     reading, writing and opening beside transformers, llama.cpp and the machine's own rates
    book FILE                 time of a written summary and of two questions, peak memory
    summaries SET...          ROUGE, and names and numbers that the text has, beside map-reduce over chunks

The usual way runs through transformers: chunks of 1,500 tokens are summarized one by one and their summaries once more.
With `--rows FILE` each text's summaries are kept as soon
as they are there. Sets are those of `benchmarks.quality`. Answers have a script of their own, `benchmarks.answers`.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks import decoder_speed
from benchmarks.common import add_rows, read_rows
from benchmarks.quality.summaries import MEASURES, rouge, split
from benchmarks.quality.summary_sets import SummaryItem, drawn, read_items
from famcli.checkpoint.device import keep_freed_memory
from famcli.checkpoint.locate import resolve
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.documents.source import Piece
from famcli.tasks.ask.answers import AskConfig
from famcli.tasks.ask.ask import Ask
from famcli.tasks.ask.reading_cache import ReadingCache
from famcli.tasks.summarize.candidates import Budget
from famcli.tasks.summarize.summarize import Summarizer, summarize
from famcli.tasks.summarize.summary_result import SummarizeConfig
from famcli.tasks.summarize.write import Note
from famcli.text.passages import PassageBuilder
from famcli.text.words import num_words

CHUNK_TOKENS, PASSAGES = 1500, 3
WAYS = ("famcli", "usual")
_LENGTH = 0.25
_NAMES = re.compile(r"(?<=[a-z,;] )[A-Z][\w'\u2019-]+|(?<![\w.,])\d[\d,.]*\d|(?<![\w.,])\d(?!\w)")


def named(written: str) -> list[str]:
    """Capitalised words inside sentences, and numbers: cruder than the check that famcli makes, and not made by it."""
    found = _NAMES.findall(re.sub(r"\[\d+\]", "", written))
    return [name.removesuffix("'s").removesuffix("\u2019s") for name in found if name != "I"]


def precision(pairs: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """(names and numbers that the text has, all) over (written, text) pairs."""
    names = [(name, text) for written, text in pairs for name in named(written)]
    return sum(name in text for name, text in names), len(names)


class UsualWay:
    """The same weights through transformers."""

    def __init__(self, path: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        place = decoder_speed.as_transformers_name(path)
        self.tokenizer = AutoTokenizer.from_pretrained(**place)
        self.network = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32).eval()

    def says(self, request: str, max_tokens: int) -> str:
        """The greedy answer to one message."""
        ids = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": request}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=False,
            enable_thinking=False,
        )
        with torch.inference_mode():
            found = self.network.generate(ids, max_new_tokens=max_tokens, do_sample=False)
        return str(self.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)).strip()

    def summarizes(self, text: str, words: int) -> str:
        """Map-reduce: chunks, then their summaries."""
        ids = self.tokenizer(text)["input_ids"]
        if len(ids) > CHUNK_TOKENS:
            chunks = [self.tokenizer.decode(ids[i : i + CHUNK_TOKENS]) for i in range(0, len(ids), CHUNK_TOKENS)]
            notes = [self.says(f"Summarize this text in three sentences.\n\n{chunk}", 96) for chunk in chunks]
            return self.summarizes("\n".join(notes), words)
        return self.says(f"Summarize this text in about {words} words.\n\n{text}", int(1.6 * words) + 16)

    def answers(self, question: str, passages: Sequence[str]) -> str:
        """From passages that were found."""
        asked = (
            "Answer the question from the text in as few words as possible. If the text does not answer it, write: "
            f"not in the text.\n\nQuestion: {question}\nAnswer:"
        )
        return self.says("\n\n".join(passages) + "\n\n" + asked, 64)


def book(model: Model, path: Path) -> dict[str, Any]:
    """Seconds to the first note, to the summary, to a first and a second answer; peak memory in bytes."""
    began, first = time.monotonic(), None
    task = Summarizer(model)
    for event in task.events([path]):
        if isinstance(event, Note) and first is None:
            first = time.monotonic() - began
    figures: dict[str, Any] = {"first note": first, "summary": time.monotonic() - began}
    figures["written"] = task.result().written
    with TemporaryDirectory() as folder:
        for name in ("first answer", "second answer"):
            began = time.monotonic()
            asked = Ask(model, ["What happens at the end?"], AskConfig(), ReadingCache(Path(folder), 10**9))
            for _ in asked.events([path]):
                pass
            figures[name] = time.monotonic() - began
            asked.close()
    figures["peak bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return figures


def summaries(model: Model, usual: UsualWay, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """ROUGE of both on one set, to the length of the references, how many of their names the texts have, and how many
    summaries are within a quarter of the length that was asked for."""
    chosen = drawn(read_items(path, "heldout"), options.count, seed=0)
    texts = [_written(model, usual, path.stem, item, options.rows) for item in chosen]
    score = rouge()
    pairs = [[_plain(one[way]) for way in WAYS] for one in texts]
    table = np.array(
        [
            [score(item.references, "\n".join(one.text for one in split(text))) for text in pair]
            for item, pair in zip(chosen, pairs, strict=True)
        ]
    )  # [texts, systems, measures]
    gaps = table[:, 0] - table[:, 1]
    named_ = [precision([(pair[way], item.text) for item, pair in zip(chosen, pairs, strict=True)]) for way in (0, 1)]
    kept = [
        sum(abs(num_words(pair[way]) / one["asked"] - 1) <= _LENGTH for one, pair in zip(texts, pairs, strict=True))
        for way in (0, 1)
    ]
    means = table.mean(0).tolist()
    return {
        "texts": len(texts),
        **{way: dict(zip(MEASURES, mean, strict=True)) for way, mean in zip(WAYS, means, strict=True)},
        "gap in standard errors": (gaps.mean(0) / (gaps.std(0) / len(texts) ** 0.5 + 1e-9)).tolist(),
        "names in the text": dict(zip(WAYS, named_, strict=True)),
        "within a quarter of the length": dict(zip(WAYS, kept, strict=True)),
        "minutes": {way: sum(one["seconds"][way] for one in texts) / 60 for way in WAYS},
    }


def _written(model: Model, usual: UsualWay, name: str, item: SummaryItem, rows: Path | None) -> dict[str, Any]:
    """Both summaries of one text; taken from the file `rows` where they stand there, else added to it."""
    for row in [] if rows is None else read_rows(rows):
        if (row["set"], row["id"]) == (name, item.id):
            return row
    words = round(statistics.median(map(num_words, item.references)))
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "text.txt"
        file.write_text(item.text, encoding="utf-8")
        result = summarize(model, [file], SummarizeConfig(mode="write", length=Budget(words, "words")))
    ours = " ".join(one.text for one in result.sentences) if result.written is None else result.written.text
    between = time.monotonic()
    theirs = usual.summarizes(item.text, words)
    seconds = dict(zip(WAYS, (between - began, time.monotonic() - between), strict=True))
    row = {"set": name, "id": item.id, "asked": words, "famcli": ours, "usual": theirs, "seconds": seconds}
    row["struck"] = None if result.written is None else len(result.written.struck)
    lengths = {way: num_words(_plain(row[way])) for way in WAYS}
    print(item.id, f"asked {words}", lengths, "struck", row["struck"], seconds, file=sys.stderr, flush=True)
    if rows is not None:
        add_rows(rows, row)
    return row


def _plain(written: str) -> str:
    """Without the numbers of its quotes."""
    return re.sub(r" \[\d+\]", "", written)


def bm25_passages(text: str, questions: Sequence[str]) -> list[list[str]]:
    """The three best passages for each question by BM25 (the package bm25s)."""
    import bm25s

    builder = PassageBuilder(0)
    builder.feed(Piece(text, 0, len(text.encode("utf-8", "replace"))))
    passages = [one.text for one in builder.take(None)]
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(passages, show_progress=False), show_progress=False)
    found, _ = retriever.retrieve(
        bm25s.tokenize(list(questions), show_progress=False), k=min(PASSAGES, len(passages)), show_progress=False
    )
    return [[passages[number] for number in row] for row in found]


def results(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """The figures of what was asked for, one by one."""
    keep_freed_memory()
    model = open_model(options.model, dtype=options.dtype)
    if options.what == "book":
        for path in options.files:
            yield str(path), book(model, path)
        return
    usual = UsualWay(resolve(options.model).path)
    for path in options.files:
        yield path.stem, summaries(model, usual, path, options)


def main() -> None:
    """Parse, measure, print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    decoder_speed.add_options(commands.add_parser("speed"))
    for name in ("book", "summaries"):
        command = commands.add_parser(name)
        command.add_argument("files", nargs="+", type=Path)
        command.add_argument("--model", default="smollm2")
        command.add_argument("--dtype", default="auto")
        command.add_argument("--count", type=int, default=40, help="texts of each set")
        command.add_argument(
            "--rows", type=Path, help="file of what was written, text by text; a later run goes on with it"
        )
        command.set_defaults(run=_print_results)
    options = parser.parse_args()
    options.run(options)


def _print_results(options: argparse.Namespace) -> None:
    for name, figures in results(options):
        print(json.dumps({"set": name, **figures}, default=str, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
