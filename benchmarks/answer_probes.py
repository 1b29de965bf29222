"""Fits the probes beside an adapter, `probes.safetensors`: `python -m benchmarks.answer_probes MODEL ADAPTER OUT`.

    --texts FILE ...       texts with what is asked about them, as `benchmarks.grounded_data questions` writes them
    --check FILE           its validation.jsonl, of documents that nothing was trained on
    --every N --written M  of every Nth text all questions, and of every Mth of those two answers to each as well

A text is read once, and each question after it. Of the layers `LEVELS` the rows of the question's last token and the
mean of its tokens are kept with whether the text answers it; the same of answers, which begin with the likeliest
tokens, with whether they are right (F1 of a half or more). The probes are logistic regressions on standardized rows
with a penalty. The table says how often, of a question that the text answers and one that it does not, the former has
the higher log-odds, and of a right and a wrong answer to questions that have one; 0.5 is chance. "elsewhere" is the
same for the questions after another document's text: what their wording alone gives away.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.ask_constants import fit_logistic
from benchmarks.common import print_table
from benchmarks.turn_answers import share_above, written
from famcli.checkpoint.chat_template import open_chat_template
from famcli.checkpoint.device import keep_freed_memory
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.checkpoint.probes import Probes
from famcli.checkpoint.save import save_tensors
from famcli.checkpoint.weights import PROBES_FILE
from famcli.documents.records import read_objects
from famcli.evaluation.overlap import best_f1
from famcli.reading.engine import float_logits, read_any
from famcli.tasks.ask.refusing import Judged, judge
from famcli.tasks.ask.turn_writing import score
from famcli.tasks.prompts import NOT_SAID
from famcli.training.data.turns import open_turns

LEVELS = (19, 20, 21)
# Of the squares of weights, in questions: what is best on documents that were left out.
_PENALTIES = {"answered": 150.0, "right": 300.0}
_BEGINNINGS = 2


@dataclass(frozen=True)
class Said:
    """An answer that was written. rows: [l, 4, d] of the question and of it."""

    likelihood: float
    stands_there: bool
    right: bool
    rows: Tensor


@dataclass(frozen=True)
class Asked:
    """A question after a text. rows: [l, 2, d]."""

    set: str
    answered: bool
    refusal: float
    rows: Tensor
    said: tuple[Said, ...] = ()


def collect(model: Model, path: Path, every: int = 1, each: int = 1, shift: int = 0) -> Iterator[Asked]:
    """Of every `every`th text of a file all questions; of every `each`th of those what is written too, unless they are
    asked after the text that comes `shift` later."""
    network, chat = model.network, open_chat_template(model.path, model.tokenizer)
    assert chat is not None
    turns = open_turns(path, chat, model.sidecar, network.fam.visible_tokens)
    texts = {tuple(q for q, _ in row["asked"]): row for _, row in read_objects(path)}
    for number in range(0, len(turns), every):
        opening = turns[(number + shift) % len(turns)].opening
        row = texts[tuple(one.question for one in turns[number].asked)]
        state = read_any(network, opening, network.start(1))[1]
        for asked in turns[number].asked:
            ids = asked.ids[: -asked.answered]
            judged, said = judge(model, ids, state, len(ids)), list[Said]()
            assert judged.asked is not None
            if asked.answer != NOT_SAID and not shift and number % (every * each) == 0:
                for text in _tried(model, judged):
                    (scored,) = score(model, [text], judged)
                    assert scored.rows is not None
                    right = best_f1([asked.answer], text) >= 0.5
                    both = torch.cat((judged.asked, scored.rows), 1)
                    said.append(Said(scored.likelihood, text.lower() in row["text"].lower(), right, both))
            name = str(row["id"]).split("-")[0]
            yield Asked(name, asked.answer != NOT_SAID, judged.refusal, judged.asked, tuple(said))


def _tried(model: Model, judged: Judged) -> Iterator[str]:
    """Answers that begin with each of the likeliest tokens, without that of a refusal."""
    first = float_logits(model.network, judged.last_hidden)[0, 0].clone()
    first[model.tokenizer.encode(NOT_SAID)[0]] = -torch.inf
    for token in first.topk(_BEGINNINGS).indices.tolist():
        text = (model.tokenizer.decode([token]) + written(model, judged.state, [token])).strip()
        if text:
            yield text


def fitted(x: Tensor, right: Sequence[bool], penalty: float, free: int = 0) -> tuple[Tensor, float]:
    """The weights and the bias of a logistic regression on x [n, k]; the last `free` columns are hardly penalized."""
    mean, scale = x.mean(0), 1 / (x.std(0) + 1e-6)
    scale[x.shape[1] - free :] *= penalty**0.5
    with torch.enable_grad():
        weights = fit_logistic(((x - mean) * scale).double().numpy(), np.array(right, float), penalty / len(right))
    found = torch.from_numpy(weights[:-1]).float() * scale
    return found, float(weights[-1]) - float(mean @ found)


def fit(asked: Sequence[Asked]) -> Probes:
    """Both probes."""
    shape = asked[0].rows.shape
    answered, first = fitted(
        torch.stack([one.rows.flatten() for one in asked]), [one.answered for one in asked], _PENALTIES["answered"]
    )
    said = [one for question in asked for one in question.said]
    # Beside what is known of an answer anyway, which does not become part of the probe.
    known = torch.tensor([[one.likelihood, one.stands_there] for one in said], dtype=torch.float32)
    rows = torch.cat((torch.stack([one.rows.flatten() for one in said]), known), 1)
    right, second = fitted(rows, [one.right for one in said], _PENALTIES["right"], free=2)
    second += float(right[-2:] @ known.mean(0))
    return Probes(LEVELS, answered.view(shape), right[:-2].view(shape[0], -1, shape[2]), (first, second))


def table(probes: Probes, asked: Sequence[Asked], elsewhere: Sequence[Asked]) -> Iterator[list[str]]:
    """A row for each set."""
    for name in dict.fromkeys(one.set for one in asked):
        some, others = ([one for one in all_ if one.set == name] for all_ in (asked, elsewhere))
        said = [one for question in some for one in question.said]
        if all(one.answered for one in some) or not any(one.right for one in said):
            continue
        yield [
            name,
            f"{sum(one.answered for one in some)} + {sum(not one.answered for one in some)}",
            _told_apart([(-one.refusal, one.answered) for one in some]),
            _told_apart([(probes.how_answered(one.rows), one.answered) for one in some]),
            _told_apart([(probes.how_answered(one.rows), one.answered) for one in others]),
            f"{len(said)}",
            _told_apart([(one.likelihood, one.right) for one in said]),
            _told_apart([(float((one.rows * probes.right).sum()), one.right) for one in said]),
        ]


def _told_apart(scored: Sequence[tuple[float, bool]]) -> str:
    return f"{share_above([s for s, yes in scored if yes], [s for s, yes in scored if not yes]):.2f}"


def main() -> None:
    """Collect, fit, write, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    parser.add_argument("--check", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--written", type=int, default=4)
    parser.add_argument("--check-every", type=int, default=1)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_grad_enabled(False)
    model = open_model(options.model, adapter=options.adapter, dtype="bfloat16", device="cpu")
    width = model.network.config.hidden_size
    none = Probes(LEVELS, torch.zeros(len(LEVELS), 2, width), torch.zeros(len(LEVELS), 4, width), (0.0, 0.0))
    model = replace(model, probes=none)
    asked = list[Asked]()
    for path in options.texts:
        asked += collect(model, path, options.every, options.written)
        print(f"{path.name}: {len(asked)} questions so far", flush=True)
    probes = fit(asked)
    tensors = {"levels": torch.tensor(LEVELS), "answered": probes.answered, "right": probes.right}
    options.out.mkdir(parents=True, exist_ok=True)
    save_tensors(options.out / PROBES_FILE, tensors | {"biases": torch.tensor(probes.biases)})
    check = list(collect(model, options.check, options.check_every))
    elsewhere = list(collect(model, options.check, options.check_every, shift=len(check) // 11 or 1))
    columns = ["set", "questions", "refusal", "answered", "elsewhere", "answers", "likelihood", "right"]
    print_table("how often told apart", columns, list(table(probes, check, elsewhere)))


if __name__ == "__main__":
    main()
