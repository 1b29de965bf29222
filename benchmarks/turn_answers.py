"""How adapters answer from passages that are given: `python -m benchmarks.turn_answers MODEL ADAPTER ... --texts FILE`.

FILE has texts with what is asked about them, as `benchmarks.grounded_data` writes them: its validation.jsonl holds
documents that nothing was trained on. The passages are not searched for, so that an answer costs a tenth of what it
costs in `benchmarks.answers`, and adapters are chosen by this. As in `ask`, a refusal is believed from even odds on. F1
and exact match are of questions with an answer; a refusal counts 0. Differences from the first adapter are paired by
question, with their standard error. The last column says how well the likelihood of a refusal tells questions without
an answer from the others: how often it is the higher one in a pair of them (0.5 is chance).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import gap, print_table
from famcli.checkpoint.chat_template import open_chat_template
from famcli.checkpoint.device import keep_freed_memory
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.documents.records import read_objects
from famcli.evaluation.overlap import best_f1, exact_match
from famcli.nn import State
from famcli.reading.engine import read_any
from famcli.reading.generating import GeneratedText, GenerationConfig, generate
from famcli.tasks.ask.refusing import judge
from famcli.tasks.prompts import NOT_SAID
from famcli.training.data.turns import open_turns

_MOST_TOKENS = 24


@dataclass(frozen=True)
class Given:
    """A question's right answer and what was said."""

    set: str
    right: str
    said: str
    refusal: float

    @property
    def f1(self) -> float:
        return best_f1([self.right], self.said)

    @property
    def refused(self) -> bool:
        return self.said == NOT_SAID


def answers(model_name: str, adapter: Path, texts: Path, dtype: str) -> Iterator[Given]:
    """All questions of `texts` in order."""
    model = open_model(model_name, adapter=adapter, dtype=dtype, device="cpu")
    chat = open_chat_template(model.path, model.tokenizer)
    assert chat is not None
    turns = open_turns(texts, chat, model.sidecar, model.network.fam.visible_tokens)
    names = [str(row["id"]).split("-")[0] for _, row in read_objects(texts)]
    if len(turns) < len(names):
        raise SystemExit(f"{texts}: {len(names) - len(turns)} of its texts are longer than {adapter} sees")
    for name, text in zip(names, turns, strict=True):
        state = read_any(model.network, text.opening, model.network.start(1))[1]
        for asked in text.asked:
            judged = judge(model, asked.ids[: -asked.answered], state)
            said = NOT_SAID if judged.refuses else written(model, judged.state, [], judged.last_hidden)
            if said == NOT_SAID and not judged.refuses:
                said = model.tokenizer.decode([judged.other]) + written(model, judged.state, [judged.other])
            yield Given(name, asked.answer, said.strip(), judged.refusal)


def written(model: Model, state: State, ids: list[int], last_hidden: Tensor | None = None) -> str:
    """What follows `ids` after a state."""
    events = generate(model, state, ids, GenerationConfig(max_tokens=_MOST_TOKENS), last_hidden=last_hidden)
    return "".join(one.text for one in events if isinstance(one, GeneratedText))


def rows_of(found: Mapping[str, Sequence[Given]]) -> Iterator[list[str]]:
    """A row of the table for each set and adapter."""
    (_, first), *_ = found.items()
    for name in dict.fromkeys(one.set for one in first):
        base = [one.f1 for one in first if one.set == name and one.right != NOT_SAID]
        for adapter, given in found.items():
            some = [one for one in given if one.set == name]
            scored = [one for one in some if one.right != NOT_SAID]
            none = [one for one in some if one.right == NOT_SAID]
            yield [
                name,
                adapter,
                f"{len(scored)} + {len(none)}",
                f"{np.mean([one.f1 for one in scored]):.3f}",
                f"{np.mean([exact_match([one.right], one.said) for one in scored]):.3f}",
                "" if given is first else gap([one.f1 for one in scored], base),
                f"{sum(one.refused for one in none)} of {len(none)}",
                f"{sum(one.refused for one in none)} of {sum(one.refused for one in some)}",
                f"{share_above([one.refusal for one in none], [one.refusal for one in scored]):.2f}",
            ]


def share_above(ones: Sequence[float], others: Sequence[float]) -> float:
    """The share of pairs in which the first is the higher one, ties counting half: the area under the ROC curve."""
    first, second = np.array(ones)[:, None], np.array(others)[None]
    return float(((first > second) + 0.5 * (first == second)).mean()) if ones and others else 0.5


def adapters_asked(description: str | None, nargs: str) -> argparse.Namespace:
    """MODEL ADAPTER ... --texts FILE [--dtype TYPE] of the command line, with torch set up for reading alone."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("adapter", type=Path, nargs=nargs)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--dtype", default="bfloat16")
    keep_freed_memory()
    torch.set_grad_enabled(False)
    return parser.parse_args()


def main() -> None:
    options = adapters_asked(__doc__, nargs="+")
    found = {str(one): list(answers(options.model, one, options.texts, options.dtype)) for one in options.adapter}
    columns = ["set", "adapter", "questions", "F1", "exact", "minus the first", "refused of unanswerable"]
    print_table(str(options.texts), [*columns, "refusals right", "told apart"], list(rows_of(found)))


if __name__ == "__main__":
    main()
