"""What each part of a draft brings: SPIRe's ablation (arXiv 2504.06419), small.

`python -m benchmarks.draft_parts MODEL TEXTS HELD_OUT [--steps 200] [--texts 4]`: drafts that lack a part each, and one
that lacks none, learn side by side from the same places of the same texts, one step of each at a time. Accepted length:
tokens that one reading of the target settles, its own one included (at most k + 1), in held-out texts and in what the
target itself draws after their beginnings; "likeliest" follows the target's and the draft's likeliest tokens, "drawn"
is the expectation of speculative sampling. The text before each place is given in both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import print_table
from famcli.checkpoint.draft import default_layers, make_draft
from famcli.checkpoint.model import Model
from famcli.checkpoint.open import open_model
from famcli.evaluation.texts import read_texts
from famcli.nn import Network, State, make_network
from famcli.nn.draft import Draft, DraftConfig
from famcli.reading.engine import read_any
from famcli.training.data.corpus import pack
from famcli.training.data.made import filler_of
from famcli.training.draft import draft_logits, read_levels
from famcli.training.loop.optimizer import Optimizers, rate_factor
from famcli.training.recipe.sections import CorpusRecipe, ScheduleRecipe

K, WIDEST, PLACES = 4, 128, 32
NUM_TOKENS = WIDEST + K * (PLACES + 1)
"""Of each text: every draft has its first place behind the widest window."""


@dataclass(frozen=True)
class Parts:
    """A draft's parts. loss: weights of the cross-entropy with the target's distribution, of minus the expected
    acceptance, and of the cross-entropy with the text's own tokens. older: whose activations older tokens have."""

    name: str
    window: int = 64
    sinks: int = 1
    begins_as_target: bool = True
    older: str = "target"
    feedback: bool = True
    loss: tuple[float, float, float] = (0.5, 0.5, 0.0)


VARIANTS = (
    Parts("all parts"),
    Parts("weights drawn, not the target's last layers", begins_as_target=False),
    Parts("older tokens: the draft's own activations", older="draft"),
    Parts("no feedback: each layer sees its own input", feedback=False),
    Parts("cross-entropy alone", loss=(1.0, 0.0, 0.0)),
    Parts("acceptance alone", loss=(0.0, 1.0, 0.0)),
    Parts("no distillation: the text's tokens", loss=(0.0, 0.0, 1.0)),
    Parts("no sink", sinks=0),
    Parts("window 16", window=16),
    Parts("window 128", window=128),
)


@dataclass
class Learner:
    """A draft that learns."""

    parts: Parts
    draft: Draft
    optimizers: Optimizers
    found: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Parts, target: Network, schedule: ScheduleRecipe, seed: int) -> Learner:
        shape = DraftConfig(default_layers(target.config.num_layers), parts.window, parts.sinks, K)
        draft = make_draft(target, shape).train()
        if not parts.begins_as_target:
            drawn = make_network(target.config, target.fam)
            drawn.reset_parameters(seed)
            draft.begin(drawn)
        if not parts.feedback:
            # Level i, what enters layer i, and nothing of the others.
            own = torch.eye(*draft.layer_weights.shape)
            draft.layer_weights.requires_grad_(False).copy_(100 * own)
        return cls(parts, draft, Optimizers(draft, schedule))

    def guesses(self, target: Network, tokens: Tensor, levels: list[Tensor]) -> Tensor:
        """Logits [b, places * k, v] behind the widest window of texts [b, n]; levels: the target's [b, n, d]."""
        if self.parts.older == "draft":
            levels = own_levels(self.draft, target, tokens)
        sinks, first = self.parts.sinks, WIDEST - self.parts.window + self.parts.sinks
        tokens, *levels = (torch.cat((x[:, :sinks], x[:, first:]), dim=1) for x in (tokens, *levels))
        return draft_logits(self.draft, target, tokens, levels).flatten(1, 2).float()


@torch.no_grad()
def own_levels(draft: Draft, target: Network, tokens: Tensor) -> list[Tensor]:
    """The levels [b, n, d] of a draft that reads texts [b, n] alone, one token after the other."""
    state, rows = draft.start(), list[list[Tensor]]()
    for x in target.embed(tokens).chunk(tokens.shape[1], dim=1):
        # The first token sees nothing.
        seen = draft.seen(state) if state.window else []
        place = seen[0][0].shape[2] if seen else 0
        rows.append(draft.levels(x, [[part] for part in seen], place) if seen else [x] * draft.num_levels)
        state = draft.read(rows[-1], state)
    return [torch.cat(level, dim=1) for level in zip(*rows, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--texts", type=int, default=4, help="read side by side in a step")
    parser.add_argument("--judged", type=int, default=16, help="held-out texts")
    parser.add_argument("--lr", type=float, default=2e-2, help="of the matrices; a quarter of it for the rest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="how the names of the variants begin")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "draft-parts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = open_model(options.model, dtype="float32", device="cpu")
    model.network.requires_grad_(False)
    schedule = ScheduleRecipe(
        options.texts,
        steps=options.steps,
        muon_lr=options.lr,
        adamw_lr=options.lr / 4,
        warmup_steps=options.steps // 10,
    )
    chosen = [parts for parts in VARIANTS if not options.only or parts.name.startswith(tuple(options.only))]
    learners = [Learner.of(parts, model.network, schedule, options.seed) for parts in chosen]
    judged = judged_texts(model, options.held_out, options.judged)
    corpus = pack(CorpusRecipe("texts", options.data.resolve(), 1.0), model.tokenizer, options.cache, options.seed)
    open_filler, began = filler_of([corpus], [1.0]), time.process_time()
    for step in range(options.steps):
        rng = np.random.default_rng([options.seed, step])
        texts = np.stack([open_filler(rng).take(NUM_TOKENS) for _ in range(options.texts)])
        learn(model, torch.from_numpy(texts).long(), learners, rate_factor(step, step / options.steps, schedule))
        if (step + 1) % max(1, options.steps // 2) == 0:
            for learner in learners:
                learner.found = {}
                for kind, text in judged.items():
                    for way, length in zip(("likeliest", "drawn"), judge(model, learner, text), strict=True):
                        learner.found[f"{kind}, {way}"] = length
                print(json.dumps({"step": step + 1, "parts": learner.parts.name, **learner.found}), flush=True)
    minutes, drafted = (time.process_time() - began) / 60, options.steps * options.texts * PLACES * K
    print_table(
        f"{model.name}: {options.steps} steps, {drafted:,} drafted tokens, one seed, {minutes:.0f} minutes of a core",
        ["", *learners[0].found],
        [[each.parts.name, *(f"{length:.2f}" for length in each.found.values())] for each in learners],
    )


def learn(model: Model, tokens: Tensor, learners: list[Learner], factor: float) -> None:
    """A step of each draft on texts [b, n]."""
    num_levels = learners[0].draft.num_levels
    levels, wanted = read_levels(model.network, tokens, num_levels, WIDEST + K, model.default_memory_mode)
    following = tokens[:, WIDEST + K + 1 :]
    for learner in learners:
        log_drafted = learner.guesses(model.network, tokens, levels).log_softmax(-1)
        # The last guess is of the token after the text, which only the target's distribution tells.
        by_text = -log_drafted[:, : following.shape[1]].gather(-1, following[..., None])
        entropy = -(wanted[:, : log_drafted.shape[1]] * log_drafted).sum(-1)
        acceptance = torch.minimum(wanted[:, : log_drafted.shape[1]], log_drafted.exp()).sum(-1)
        parts = zip(learner.parts.loss, (entropy, -acceptance, by_text), strict=True)
        loss = torch.stack([weight * part.mean() for weight, part in parts if weight]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learner.draft.parameters(), 1.0)
        learner.optimizers.step(factor)
        learner.draft.zero_grad()


@torch.no_grad()
def judge(model: Model, learner: Learner, texts: Tensor) -> tuple[float, float]:
    """Accepted length of the likeliest tokens, and expected of drawn ones, in texts [b, n]."""
    drafted, wanted = list[Tensor](), list[Tensor]()
    for part in texts.chunk(-(-len(texts) // 4)):
        levels, made = read_levels(model.network, part, learner.draft.num_levels, WIDEST + K, model.default_memory_mode)
        drafted.append(learner.guesses(model.network, part, levels).softmax(-1))
        wanted.append(made)
    return accepted(torch.cat(drafted), torch.cat(wanted))


def accepted(drafted: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Accepted length of the likeliest tokens, and expected of drawn ones, from distributions [b, places * k, v]."""
    wanted = wanted[:, : drafted.shape[1]]
    agreed, chances = (drafted.argmax(-1) == wanted.argmax(-1)).float(), torch.minimum(drafted, wanted).sum(-1)
    likeliest, drawn = (1 + x.reshape(-1, K).cumprod(-1).sum(-1).mean() for x in (agreed, chances))
    return float(likeliest), float(drawn)


@torch.no_grad()
def judged_texts(model: Model, path: Path, count: int) -> dict[str, Tensor]:
    """Held-out texts [count, n], and what the target draws in place of all behind the widest window."""
    corpus = read_texts([path], model.tokenizer, max_document_tokens=4 * NUM_TOKENS)
    documents = [corpus.document(index)[-NUM_TOKENS:].tolist() for index in range(len(corpus))]
    texts = torch.tensor([tokens for tokens in documents if len(tokens) == NUM_TOKENS][:count])
    generator = torch.Generator().manual_seed(0)
    hidden, state = _read(model, texts[:, :WIDEST], model.network.start(len(texts), model.default_memory_mode))
    written = [texts[:, :WIDEST]]
    while sum(part.shape[1] for part in written) < NUM_TOKENS:
        chances = model.network.logits(hidden[:, -1:])[:, -1].float().softmax(-1)
        written.append(torch.multinomial(chances, 1, generator=generator))
        hidden, state = _read(model, written[-1], state)
    return {"held out": texts, "the target's own": torch.cat(written, dim=1)}


def _read(model: Model, tokens: Tensor, state: State) -> tuple[Tensor, State]:
    hidden, state = read_any(model.network, tokens, state)
    assert hidden is not None
    return hidden, state


if __name__ == "__main__":
    main()
