"""Questions for which a memory should matter, answered with it, without it, and from BM25's passages.

    python -m benchmarks.memory_questions --filler books_heldout.jsonl.zst [--stories 100] [--tokens 8k] [--json FILE]

Stories of eight statements stand at random places in novels. "overturned": where a person is, who is named in several
places before the last one. "two facts": where an object is that somebody has carried off: one statement says who has
it, another one where he went. The network chooses the likeliest of the places that the story could name, by
- memory on, memory frozen: what it has read, with no passage to look at;
- ask on, ask frozen: the same, after the three passages that `famcli ask` finds, in the order of the text;
- BM25: the same network, which has read nothing but BM25's three best passages, in the order of the text;
- BM25, ranked: the same passages, best first.
Shares have Wilson's 95 % intervals, differences paired standard errors over stories; chance is one in six.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import gap, print_table
from benchmarks.networks import score_continuation
from benchmarks.quality.qa_rankers import LibraryBM25
from famcli.checkpoint.locate import resolve
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.cli.eval import parse_lengths
from famcli.evaluation.intervals import wilson
from famcli.evaluation.texts import TokenCorpus, read_texts
from famcli.nn import MemoryMode
from famcli.reading.engine import read_any, start_state
from famcli.synthetic.episodes import Episode, RecallQuestion, facts, questions_of, statements_of
from famcli.synthetic.streams import layout, question_ids
from famcli.tasks.ask.answering import Answerer
from famcli.tasks.ask.asked_text import AskedText, TextReader
from famcli.tasks.ask.question import Question as Asked
from famcli.text.passages import Passage
from famcli.tokens.tokenizer import begin_ids

TASKS = {"overturned": "qa1", "two facts": "qa2"}
SYSTEMS = ("memory on", "memory frozen", "ask on", "ask frozen", "BM25", "BM25, ranked")
PAIRS = (("memory on", "memory frozen"), ("memory on", "BM25"), ("ask on", "ask frozen"), ("ask on", "BM25"))
_STATEMENTS = 8
_PASSAGES = 3
_POOL = 2_000_000  # tokens of novels to draw from


@dataclass(frozen=True)
class Story:
    """A text on disk, what is asked about it, and the answer among its choices."""

    kind: str
    text: str
    question: RecallQuestion


def stories(kind: str, count: int, tokens: int, texts: TokenCorpus, model: Model, seed: int) -> Iterator[Story]:
    """So many stories of a kind, each in `tokens` tokens of novels."""
    rng = np.random.default_rng([seed, list(TASKS).index(kind)])
    for _ in range(count):
        episode = _episode(kind, rng)
        pieces = layout(episode, model.tokenizer, texts.filler(rng), tokens, rng)
        question = questions_of(episode)[0]
        yield Story(kind, model.tokenizer.decode(np.concatenate(list(pieces)).tolist()), question)


def _episode(kind: str, rng: np.random.Generator) -> Episode:
    while True:
        episode = facts(rng, task=TASKS[kind], count=_STATEMENTS, questions=1)
        question = questions_of(episode)[0]
        told = statements_of(episode)
        person = question.text.removeprefix("Where is ").split("?")[0]
        if kind != "overturned" or sum(text.startswith(person) for text in told) > 1:
            return episode


def judged(model: Model, story: Story) -> dict[str, bool]:
    """Which systems answer the story's question right."""
    asked, right = story.question.text.split("?")[0] + "?", dict[str, bool]()
    with tempfile.TemporaryDirectory(prefix="famcli-") as folder:
        path = Path(folder) / "text.txt"
        path.write_text(story.text, encoding="utf-8")
        for mode in ("on", "frozen"):
            text = _read(model, path, mode)
            (weighed,) = Answerer(text).ranked([Asked.parse(asked)])
            found = [one.passage for one in weighed[:_PASSAGES]]
            right[f"memory {mode}"] = _chooses_right(model, text, [], story.question)
            right[f"ask {mode}"] = _chooses_right(model, text, sorted(found, key=lambda one: one.span), story.question)
            if mode == "on":
                best = [text.index.passage(number) for number in LibraryBM25(text.index).ranked(asked, _PASSAGES)]
                right["BM25, ranked"] = _chooses_right(model, None, best, story.question)
                right["BM25"] = _chooses_right(model, None, sorted(best, key=lambda one: one.span), story.question)
            text.close()
    return right


def _read(model: Model, path: Path, mode: MemoryMode) -> AskedText:
    reading = TextReader(model, mode)
    for _ in reading.events([path]):
        pass
    return reading.text()


def _chooses_right(model: Model, text: AskedText | None, passages: Sequence[Passage], question: RecallQuestion) -> bool:
    """Whether the right answer is the likeliest one after a text that was read (None: nothing) and the passages."""
    tokenizer, network = model.tokenizer, model.network
    if text is None:
        hidden, state = read_any(network, begin_ids(tokenizer), start_state(network, "on"))
    else:
        hidden, state = text.last_hidden, text.state
    shown = tokenizer.encode("\n\n" + "\n\n".join(one.text for one in passages)) if passages else []
    hidden, state = read_any(network, [*shown, *question_ids(question, tokenizer)[0].tolist()], state)
    runs = [tokenizer.encode(choice) for choice in question.choices]
    nats = [float(score_continuation(network, state, run, hidden).sum()) for run in runs]
    return question.choices[nats.index(min(nats))] == question.answer


def report(kind: str, rows: Sequence[dict[str, bool]]) -> dict[str, object]:
    """Print what one kind of question came to, and give it back."""
    shares, gaps = list[list[object]](), list[list[object]]()
    for name in SYSTEMS:
        right = sum(row[name] for row in rows)
        low, high = wilson(right, len(rows))
        shares.append([name, right, f"{100 * right / len(rows):.0f} %", f"{100 * low:.0f} - {100 * high:.0f} %"])
    for one, other in PAIRS:
        points = ([100.0 * row[name] for row in rows] for name in (one, other))
        gaps.append([f"{one} minus {other}", gap(*points, digits=1)])
    print_table(f"{kind}, {len(rows)} stories", ["system", "right", "share", "95 % interval"], shares)
    print_table("", ["paired difference", "points \u00b1 s.e."], gaps)
    return {"kind": kind, "stories": len(rows), "right": {name: sum(row[name] for row in rows) for name in SYSTEMS}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filler", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--stories", type=int, default=100, help="of each kind, at least 2")
    parser.add_argument("--tokens", default="8k", help="of each story's text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = open_model(resolve(options.model))
    tokens, found = parse_lengths(options.tokens)[0], list[dict[str, object]]()
    texts = read_texts([options.filler], model.tokenizer, max_tokens=_POOL, max_document_tokens=_POOL // 20)
    for kind in TASKS:
        made = stories(kind, options.stories, tokens, texts, model, options.seed)
        found.append(report(kind, [judged(model, story) for story in made]))
    if options.json is not None:
        options.json.write_text(json.dumps({"tokens": tokens, "kinds": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
