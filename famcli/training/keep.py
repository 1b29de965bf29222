"""Fitting the scores by which a memory keeps tokens (famcli/nn/kept.py): least squares, in one pass over documents.

The decoder is frozen and reads each document with full attention. For each token and layer, the target of the fit is

    sqrt(largest attention that a token of a later block gives it, times how much that token counts)
    + 1, if the token belongs to a fact that a made document states

A token counts by the loss weight (at most 1) of what is predicted there or soon after, so that the question before an
answer counts too. The 1 makes layers keep facts that they do not look for themselves. The target is fitted as a linear
function of the token's keys and values: no gradient is needed, and of a document only two sums remain. Plain text with
a small loss weight shows what not to keep.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from famcli.checkpoint.device import set_threads
from famcli.checkpoint.fingerprints import weights_fingerprint
from famcli.errors import RecipeError
from famcli.nn import Network
from famcli.nn.shapes import memory_layers, memory_width
from famcli.nn.wanted import wanted_later
from famcli.training.adapt import adapted_network, open_base
from famcli.training.data.corpus import ignore_progress
from famcli.training.data.objectives import open_data
from famcli.training.data.turns import TextTurns, TurnsQueue
from famcli.training.loop import networks
from famcli.training.loop import run_folder as runs
from famcli.training.loop.turns_step import open_queue
from famcli.training.recipe.recipe import Recipe

_FORMAT = 2
# Of each number's mean square: what keeps the solution from resting on numbers that hardly vary.
_RIDGE = 1e-3
# Targets ahead whose loss weight a token counts by: about the length of a question.
_AHEAD = 16


class Sums:
    """What is known of the documents, by layer: products [l, w + 1, w + 2] of rows, a one, and what is wanted."""

    def __init__(self, network: Network) -> None:
        self._network, self._layers = network, memory_layers(network.config, network.fam)
        width = memory_width(network.config, network.fam)
        self.products = torch.zeros(len(self._layers), width + 1, width + 2, dtype=torch.float64)
        self.scores = torch.zeros(len(self._layers), width + 1)

    def add(self, inputs: Tensor, shares: Tensor, stated: Tensor, block_size: int) -> tuple[float, float]:
        """Add documents [b, n]: squares that the scores so far leave unexplained there, and all squares about the mean.

        Tokens of the first block's beginning, which stay visible as sinks, and of the last block do not count.
        """
        network = self._network
        inputs, shares, stated = (part.to(network.device) for part in (inputs, shares, stated))
        counted = slice(network.fam.sink_tokens, inputs.shape[1] - block_size)
        left, place, given = [0.0, 0.0], 0, wanted_later(network, inputs, shares, block_size)
        for part in given:
            if part is None:
                continue
            rows, wanted = part[0][:, counted].flatten(0, 1), (part[1].sqrt() + stated)[:, counted].flatten()
            rows = torch.cat((rows, torch.ones_like(rows[:, :1])), dim=1)
            left[0] += float((rows @ self.scores[place].to(rows) - wanted).square().sum())
            left[1] += float((wanted - wanted.mean()).square().sum())
            both = torch.cat((rows, wanted[:, None]), dim=1)
            self.products[place] += (rows.T @ both).double().cpu()
            place += 1
        return left[0], left[1]

    def solve(self) -> None:
        """The scores that fit best."""
        square, right = self.products[..., :-1], self.products[..., -1:]
        ridge = torch.diagonal(square, dim1=1, dim2=2) * _RIDGE + 1e-9
        self.scores = torch.linalg.solve(square + torch.diag_embed(ridge), right)[..., 0].float()

    def write(self) -> None:
        """Give the network its scores; what is added for every token alike decides nothing."""
        with torch.no_grad():
            for place, layer in enumerate(self._layers):
                self._network.memory_scores[layer] = self.scores[place, :-1]


def fit_kept(
    recipe: Recipe,
    folder: Path,
    on_event: Callable[[runs.TrainEvent], None] = ignore_progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> runs.RunEnded:
    """Run a recipe whose method is "keep" in its run folder, or go on there; see `famcli.training.loop.train.train`."""
    assert recipe.adapt is not None
    schedule, size = recipe.schedule, recipe.network.block_size
    set_threads(recipe.hardware.threads)
    with runs.running_alone(folder):
        data = open_data(recipe, recipe.data.cache or folder.parent / "tokens", on_progress=on_event)
        network = adapted_network(recipe, recipe.network.fam)
        queue = open_queue(recipe, data, range(schedule.lanes))
        sums, chosen = Sums(network), _chosen(recipe)
        step, tokens, before = _resume(folder, sums, queue, chosen)
        on_event(
            runs.RunStarted(
                recipe.name,
                num_parameters=sum(parameter.numel() for parameter in network.parameters()),
                corpus_tokens={corpus.name: corpus.num_tokens for corpus in data.corpora},
                tokens_per_step=schedule.lanes * schedule.longest_step * size,
                step=step,
                seconds=before,
                num_trained=network.memory_scores.numel(),
            )
        )
        began, saved, stopped = time.monotonic() - before, before, False
        seconds = before

        def progress() -> float:
            return schedule.progress(step, seconds)

        while progress() < 1.0 and not stopped:
            started, plan = time.monotonic(), queue.plan(step, progress())
            left = [_add(sums, text, size) for text in plan.texts.values()]
            queue.advance(plan)
            sums.solve()
            step, tokens = step + 1, tokens + plan.num_targets
            now = time.monotonic()
            seconds, stopped = now - began, should_stop()
            unexplained = sum(part for part, _ in left) / max(sum(whole for _, whole in left), 1e-9)
            event = runs.FitDone(step, unexplained, tokens, plan.num_targets / (now - started), seconds, progress())
            runs.add_to_log(folder, runs.to_json(event))
            on_event(event)
            if stopped or progress() >= 1.0 or seconds - saved >= 60 * recipe.checks.save_minutes:
                _save(folder, sums, queue, {"step": step, "tokens": tokens, "seconds": seconds, "keys": chosen})
                saved = seconds
        finished = progress() >= 1.0
        exported = None
        if finished:
            sums.write()
            exported = networks.export_checkpoint(folder / "export", network, data.tokenizer, recipe, None)
    ended = runs.RunEnded(step, tokens, seconds, finished, exported)
    on_event(ended)
    return ended


def _add(sums: Sums, text: TextTurns, block_size: int) -> tuple[float, float]:
    assert text.weights is not None
    assert text.stated is not None
    inputs, stated = torch.tensor([text.opening[:-1]]), text.stated[None, :-1]
    return sums.add(inputs, shares_of(text.weights[None]), stated, block_size)


def shares_of(weights: Tensor) -> Tensor:
    """How much each token [b, n] counts, 0 to 1: the largest loss weight of its own and the next few targets."""
    ahead = torch.nn.functional.pad(weights.clamp(max=1), (0, _AHEAD - 1))
    return torch.nn.functional.max_pool1d(ahead[:, None], _AHEAD, stride=1)[:, 0]


def _chosen(recipe: Recipe) -> dict[str, Any]:
    assert recipe.adapt is not None
    return recipe.learning_keys() | {"base": weights_fingerprint(open_base(recipe.adapt)[2])}


def _save(folder: Path, sums: Sums, queue: TurnsQueue, values: dict[str, Any]) -> None:
    _, places = queue.to_tensors()
    sections = {"sums": {"products": sums.products, "scores": sums.scores}}
    runs.save_run(folder, values["step"], sections, {"format": _FORMAT, **values, "lanes": places})


def _resume(folder: Path, sums: Sums, queue: TurnsQueue, chosen: dict[str, Any]) -> tuple[int, int, float]:
    """Steps, tokens and seconds of the run so far."""
    saved = runs.load_run(folder)
    if saved is None:
        runs.cut_log(folder, 0)
        return 0, 0, 0.0
    path, sections, values = saved
    if values.get("format") != _FORMAT or values.get("keys") != json.loads(json.dumps(chosen, default=str)):
        raise RecipeError(f"{path}: the run began with another recipe; use another run folder")
    sums.products, sums.scores = sections["sums"]["products"], sections["sums"]["scores"]
    queue.load_tensors({}, values["lanes"], torch.device("cpu"))
    runs.cut_log(folder, values["log_bytes"])
    return values["step"], values["tokens"], values["seconds"]
