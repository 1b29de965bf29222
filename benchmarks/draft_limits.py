"""What limits a draft: how often it agrees with its target, text by text, and how often any draft of its window could.

`python -m benchmarks.draft_limits MODEL DRAFT FILE ...`: for the beginnings of each file's texts, and for what the
target draws after them, the accepted length (benchmarks/draft_parts.py) of the draft; that of the target itself where
it sees no more of a text than the draft's window and sink (sparse self-speculation: what all of its layers make of
them); and the mean probability of the target's likeliest token.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import print_table
from benchmarks.draft_parts import WIDEST, K, accepted, judged_texts
from famcli.checkpoint.draft import open_draft
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.nn.draft import Draft
from famcli.reading.engine import read_calls
from famcli.training.draft import draft_logits, read_levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("draft", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--texts", type=int, default=8, help="of each file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = open_model(options.model, dtype="float32", device="cpu")
    draft, rows = open_draft(options.draft, model), []
    with torch.inference_mode():
        for path in options.files:
            for kind, texts in judged_texts(model, path, options.texts).items():
                name = f"{path.name.split('.')[0]}, {kind}"
                levels, wanted = read_levels(
                    model.network, texts, draft.num_levels, WIDEST + K, model.default_memory_mode
                )
                found = [
                    accepted(each, wanted) for each in (guesses(model, draft, texts, levels), cut(model, draft, texts))
                ]
                numbers = [number for pair in found for number in pair] + [float(wanted.amax(-1).mean())]
                rows.append([name, *(f"{number:.2f}" for number in numbers)])
    columns = ["draft, likeliest", "draft, drawn", "target cut short, likeliest", "drawn", "target's likeliest"]
    print_table(f"{model.name}: accepted lengths of {K} drafted tokens", ["text", *columns], rows)


def guesses(model: Model, draft: Draft, texts: Tensor, levels: list[Tensor]) -> Tensor:
    """The draft's distributions [b, places * k, v] behind the widest window."""
    shape = draft.draft
    sinks, first = shape.sink_tokens, WIDEST - shape.window + shape.sink_tokens
    tokens, *levels = (torch.cat((x[:, :sinks], x[:, first:]), dim=1) for x in (texts, *levels))
    return draft_logits(draft, model.network, tokens, levels).flatten(1, 2).float().softmax(-1)


def cut(model: Model, draft: Draft, texts: Tensor) -> Tensor:
    """The target's distributions at the same places, of texts that begin with the sink and a window before."""
    shape, num_places = draft.draft, (texts.shape[1] - WIDEST) // K - 1
    runs = texts.unfold(1, shape.window + K, K)[:, (WIDEST - shape.window) // K + 1 :][:, :num_places]
    sinks = texts[:, None, : shape.sink_tokens].expand(-1, num_places, -1)
    made = []
    for tokens in torch.cat((sinks, runs), dim=2).flatten(0, 1).chunk(len(texts)):
        state = model.network.start(len(tokens), model.default_memory_mode)
        hidden = torch.cat([rows for _, rows, _ in read_calls(model.network, tokens, state)], dim=1)
        made.append(model.network.logits(hidden[:, -K:]).float().softmax(-1).flatten(0, 1))
    return torch.stack(made)


if __name__ == "__main__":
    main()
