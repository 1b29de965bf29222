"""Training a draft (famcli/nn/draft.py) on the text that its target reads, as SPIRe does (arXiv 2504.06419).

Of each text the target reads `text_tokens`. From every k-th place the draft goes on for k tokens, side by side for all
places: what it sees of older tokens are the target's activations, so that no more than k steps follow one another. The
loss of a token is half the cross-entropy with the target's distribution and half minus the expected acceptance, the
sum over the vocabulary of the smaller of the two probabilities. Embedding, final norm and head are the target's own
and stay as they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from famcli.checkpoint.draft import make_draft, save_draft
from famcli.checkpoint.model import Model
from famcli.errors import RecipeError
from famcli.nn import MemoryMode, Network
from famcli.nn.draft import Draft, DraftConfig
from famcli.reading.engine import read_calls
from famcli.tokens.tokenizer import begin_ids
from famcli.training.data.made import OpenFiller
from famcli.training.loop import run_folder as runs
from famcli.training.loop.optimizer import Optimizers, rate_factor
from famcli.training.recipe.sections import ScheduleRecipe

_FORMAT = 2


@dataclass(frozen=True)
class DraftTraining:
    """How a draft is trained. texts: read side by side in a step. text_tokens: of each. learning_rate: Muon's, for the
    matrices; AdamW has a quarter of it for the rest."""

    draft: DraftConfig
    steps: int
    texts: int = 4
    text_tokens: int = 512
    learning_rate: float = 2e-2
    seed: int = 0
    save_minutes: float = 3.0

    def __post_init__(self) -> None:
        needed = self.draft.window + 2 * self.draft.drafted_tokens
        if self.text_tokens < needed:
            raise RecipeError(
                f"texts of {self.text_tokens} tokens leave nothing to draft after a window of {self.draft.window}; "
                f"give at least {needed}"
            )


@dataclass(frozen=True)
class DraftStep:
    """One step. acceptance: by place, the share of drafted tokens that would be accepted where the ones before were."""

    step: int
    steps: int
    loss: float
    acceptance: tuple[float, ...]
    tokens_per_second: float
    seconds: float

    @property
    def accepted(self) -> float:
        """Tokens that the target would take at a time, its own one included."""
        return 1.0 + float(np.cumprod(self.acceptance).sum())


def train_draft(
    model: Model,
    open_filler: OpenFiller,
    training: DraftTraining,
    folder: Path,
    out: Path,
    emit: Callable[[DraftStep], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train a draft for `model` (float32) on text in the run folder, or go on there, and write it to `out`.

    Returns False if it was stopped, and saved, before the end. Raises RecipeError for a run that began otherwise.
    """
    network, began = model.network.requires_grad_(False), time.monotonic()
    draft = make_draft(network, training.draft).train()
    schedule = ScheduleRecipe(lanes=training.texts, blocks_per_step=1, steps=training.steps)
    schedule = replace(schedule, muon_lr=training.learning_rate, adamw_lr=training.learning_rate / 4)
    optimizers = Optimizers(draft, schedule)
    chosen = {"target": model.fingerprints.weights, **asdict(training), "steps": None, "save_minutes": None}
    with runs.running_alone(folder):
        step, before = _resume(folder, draft, optimizers, chosen)
        saved = began
        while step < training.steps:
            started = time.monotonic()
            tokens = _texts(open_filler, training, step, begin_ids(model.tokenizer))
            loss, acceptance = draft_loss(draft, network, tokens, model.default_memory_mode)
            for parameter in draft.parameters():
                parameter.grad = None
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(draft.parameters(), schedule.clip_norm)
            optimizers.step(rate_factor(step, step / training.steps, schedule))
            step += 1
            now = time.monotonic()
            seconds, speed = before + now - began, tokens.numel() / (now - started)
            event = DraftStep(step, training.steps, loss.item(), tuple(acceptance.tolist()), speed, seconds)
            runs.add_to_log(folder, asdict(event))
            emit(event)
            stopped = should_stop() and step < training.steps
            if stopped or now - saved >= 60 * training.save_minutes or step == training.steps:
                _save(folder, step, draft, optimizers, chosen, seconds)
                saved = now
            if stopped:
                return False
        save_draft(out, draft, model, training.draft)
    return True


def draft_loss(draft: Draft, target: Network, tokens: Tensor, memory_mode: MemoryMode = "on") -> tuple[Tensor, Tensor]:
    """The loss on texts [b, n] from their beginnings, and the mean acceptance at each drafted place [k]."""
    window, k = draft.draft.window, draft.draft.drafted_tokens
    levels, wanted = read_levels(target, tokens, draft.num_levels, window + k, memory_mode)
    drafted = draft_logits(draft, target, tokens, levels)
    wanted = wanted[:, : drafted.shape[1] * k].reshape(drafted.shape)
    log_drafted = torch.log_softmax(drafted.float(), dim=-1)
    entropies = -(wanted * log_drafted).sum(-1)
    acceptance = torch.minimum(wanted, log_drafted.exp()).sum(-1)
    loss = 0.5 * (entropies - acceptance).mean()
    return loss, acceptance.detach().mean((0, 1))


def draft_logits(draft: Draft, target: Network, tokens: Tensor, levels: list[Tensor]) -> Tensor:
    """Logits [b, g, k, v] after each token that is drafted from the g places k, 2 k ... behind the first window."""
    window, k, sinks = draft.draft.window, draft.draft.drafted_tokens, draft.draft.sink_tokens
    num_places = (tokens.shape[1] - window) // k - 1
    rows = draft.keys_values(levels)

    def at_places(x: Tensor) -> Tensor:
        """What each place sees of keys or values [b, hk, n, e]: [b * g, hk, sinks + window, e]."""
        own = x.unfold(2, window, k)[:, :, 1 : num_places + 1].transpose(-1, -2)
        # Before the window has left them, sinks are in it; the first place has left k tokens behind.
        first = x[:, :, None, : min(sinks, k)].expand(-1, -1, num_places, -1, -1)
        return torch.cat((first, own), dim=3).transpose(1, 2).flatten(0, 1)

    seen = [[part] for part in draft.rotated([(at_places(keys), at_places(values)) for keys, values in rows], 0)]
    place = window + min(sinks, k)
    inputs = tokens[:, window + k :][:, : num_places * k].reshape(-1, k)
    hidden = []
    for index in range(k):
        made = draft.levels(target.embed(inputs[:, index : index + 1]), seen, place + index)
        hidden.append(made[-1])
        own = draft.rotated(draft.keys_values(made), place + index)
        for parts, part in zip(seen, own, strict=True):
            parts.append(part)
    logits = target.logits(torch.cat(hidden, dim=1))
    return logits.view(len(tokens), num_places, k, -1)


@torch.no_grad()
def read_levels(
    target: Network, tokens: Tensor, num_levels: int, first: int, memory_mode: MemoryMode = "on"
) -> tuple[list[Tensor], Tensor]:
    """The target's last activations [b, n, d] of texts, and its distributions [b, n - first, v] from `first` on."""
    calls: list[Sequence[Tensor]] = []
    for _ in read_calls(target, tokens, target.start(len(tokens), memory_mode), calls.append):
        pass
    levels = [torch.cat(parts, dim=1) for parts in zip(*(call[-num_levels:] for call in calls), strict=True)]
    return levels, torch.softmax(target.logits(levels[-1][:, first:]).float(), dim=-1)


def _texts(open_filler: OpenFiller, training: DraftTraining, step: int, opening: list[int]) -> Tensor:
    """The texts [b, n] of a step, each from a random place of a document, behind `opening`."""
    rng = np.random.default_rng([training.seed, step])
    n = training.text_tokens
    rows = [[*opening, *open_filler(rng).take(n).tolist()][:n] for _ in range(training.texts)]
    return torch.tensor(rows)


def _save(
    folder: Path, step: int, draft: Draft, optimizers: Optimizers, chosen: dict[str, Any], seconds: float
) -> None:
    sections: dict[str, dict[str, Tensor]] = {
        "draft": {name: value.detach() for name, value in draft.named_parameters()},
        "optimizer": optimizers.to_tensors(),
    }
    runs.save_run(folder, step, sections, {"format": _FORMAT, "training": chosen, "step": step, "seconds": seconds})


def _resume(folder: Path, draft: Draft, optimizers: Optimizers, chosen: dict[str, Any]) -> tuple[int, float]:
    """Steps and seconds of the run so far."""
    saved = runs.load_run(folder)
    if saved is None:
        runs.cut_log(folder, 0)
        return 0, 0.0
    path, sections, values = saved
    before, now = values.get("training"), json.loads(json.dumps(chosen))
    changed = [name for name in now if not isinstance(before, dict) or before.get(name) != now[name]]
    if values.get("format") != _FORMAT or changed:
        raise RecipeError(f"{path}: the run began with another {', '.join(changed)}; use another run folder")
    with torch.no_grad():
        for name, parameter in draft.named_parameters():
            parameter.copy_(sections["draft"][name])
    optimizers.load_tensors(sections["optimizer"])
    runs.cut_log(folder, values["log_bytes"])
    return values["step"], values["seconds"]
