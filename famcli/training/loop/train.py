"""The training loop: plan the lanes, compute gradients through memory and segments, take an optimiser step, repeat.

`train` runs a recipe in a run folder, continues from the folder's last checkpoint if there is one, and reports events
through a callback. Every process of a run goes through the same loop; the first one logs, checks and saves.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch

from famcli.checkpoint.device import set_threads
from famcli.checkpoint.fingerprints import weights_fingerprint
from famcli.checkpoint.open import open_model
from famcli.documents.writing import write_text
from famcli.errors import RecipeError
from famcli.evaluation.positions import token_num_bytes
from famcli.nn import Network
from famcli.training.adapt import open_base, teacher_of
from famcli.training.data.corpus import ignore_progress
from famcli.training.data.lanes import Lanes
from famcli.training.data.objectives import open_data
from famcli.training.keep import fit_kept
from famcli.training.loop import networks
from famcli.training.loop import run_folder as runs
from famcli.training.loop.networks import trained
from famcli.training.loop.optimizer import Optimizers, WeightAverage, rate_factor
from famcli.training.loop.processes import Processes
from famcli.training.loop.sharding import ShardedGradients, check_shardable, placed_like, shard, whole_tensor
from famcli.training.loop.step import Gradients, objective_losses
from famcli.training.loop.turns_step import TurnsGradients, check_turns, open_queue, turns_of
from famcli.training.loop.validation import check_documents, check_passkeys, choose_validation, heldout_figures
from famcli.training.recipe.checking import differing_keys
from famcli.training.recipe.recipe import Recipe

EXPORT_NAME = "export"
FIGURES_NAME = "figures.json"
# Raised when older training checkpoints can no longer be continued.
_FORMAT = 3


def train(
    recipe: Recipe,
    run_folder: Path,
    on_event: Callable[[runs.TrainEvent], None] = ignore_progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> runs.RunEnded:
    """Run `recipe` in `run_folder`, or continue the run there; returns when the budget is used or `should_stop`.

    A finished run is exported to the checkpoint folder `run_folder/export`, with `figures.json` in it if the recipe
    names a held-out corpus; calling this for a finished run exports it again. With `steps` alone, a run that is killed
    and started again gives the losses of an unbroken one; with `max_minutes` the rates depend on the clock. Under
    `torchrun` the lanes are divided over the processes, and only the first one reports events. Raises RecipeError for
    data or a run folder that do not fit the recipe, for a folder that another process trains in, and after more than
    `schedule.max_skipped` steps that were not finite.
    """
    if recipe.adapt is not None and recipe.adapt.method == "keep":
        return fit_kept(recipe, run_folder, on_event, should_stop)
    processes = Processes.join(recipe.hardware.device)
    try:
        with runs.running_alone(run_folder) if processes.is_first else nullcontext():
            ended = Trainer(recipe, run_folder, processes, on_event).run(should_stop)
        # gloo's threads free the tensors of the last sum in Python, and kill a process that ends before they have.
        processes.wait()
        return ended
    finally:
        processes.leave()


class Trainer:
    """One run: its network, lanes and counters; `run` does everything."""

    def __init__(
        self, recipe: Recipe, run_folder: Path, processes: Processes, on_event: Callable[[runs.TrainEvent], None]
    ) -> None:
        self._recipe, self._folder, self._processes = recipe, run_folder, processes
        self._emit = on_event if processes.is_first else ignore_progress
        set_threads(recipe.hardware.threads)
        run_folder.mkdir(parents=True, exist_ok=True)
        self._cache = recipe.data.cache or run_folder.parent / "tokens"
        with processes.first_before_others():
            self._data = open_data(recipe, self._cache, on_progress=self._emit)
        self.tokenizer = self._data.tokenizer
        self._build()
        self.step, self.tokens, self.skipped, self._elapsed, self._checked = 0, 0, 0, 0.0, 0
        self._resume()

    def _build(self) -> None:
        """Make network, optimisers and lanes as they are before the first step."""
        recipe, processes, schedule = self._recipe, self._processes, self._recipe.schedule
        network = self.network = networks.start_network(recipe, self.tokenizer)
        # A run is only resumed with the base weights that it began with.
        self._base = None if recipe.adapt is None else weights_fingerprint(open_base(recipe.adapt)[2])
        dtype, own = getattr(torch, recipe.hardware.dtype), processes.share(schedule.lanes)
        if recipe.hardware.shard:
            check_shardable(recipe, processes)
            shard(network, dtype, processes)
        else:
            network.to(processes.device)
        kind = TurnsGradients if recipe.learns_turns else ShardedGradients if recipe.hardware.shard else Gradients
        self._gradients = kind(
            network,
            dtype,
            processes,
            token_num_bytes(self.tokenizer),
            num_objectives=len(self._data.objectives),
            max_rows=-(-len(own) // schedule.accumulate),
            teacher=teacher_of(recipe, network),
        )
        self._compute = self._gradients.compute
        self._compute.checkpoint_gradients = recipe.hardware.checkpoint_gradients
        if recipe.hardware.compile:
            networks.compile_layers(self._compute)
        self._optimizers, self._average = Optimizers(network, schedule), WeightAverage(network, schedule.average_decay)
        # `Lanes` or a `TurnsQueue`, whose plans only its own kind of gradients reads.
        self.lanes: Any
        if isinstance(self._gradients, TurnsGradients):
            self.lanes = self._gradients.queue = open_queue(recipe, self._data, own)
            return
        reading = (schedule, recipe.network.block_size, self.tokenizer.bos_id, recipe.data.seed, own)
        self.lanes = Lanes(self._data.sources, recipe.all_objectives, *reading)

    def run(self, should_stop: Callable[[], bool]) -> runs.RunEnded:
        self._start()
        self._began, self._saved = time.monotonic() - self._elapsed, self._elapsed
        stopped = False
        while self._progress() < 1.0 and not stopped:
            stopped = self._one_step(should_stop)
            self._check()
        self._save()
        finished = self._progress() >= 1.0
        exported = self._finish() if finished else None
        ended = runs.RunEnded(self.step, self.tokens, self._elapsed, finished, exported)
        self._tell(ended)
        return ended

    def _start(self) -> None:
        recipe, processes, network = self._recipe, self._processes, self.network
        longest = recipe.schedule.longest_step
        self._flops_per_token = networks.flops_per_token(
            network.config, network.fam, longest, frozen=recipe.trains_updates
        )
        self._peak = sum(processes.gather(networks.machine_flops(processes.device, self._compute.dtype)))
        self._tell(
            runs.RunStarted(
                name=recipe.name,
                num_parameters=sum(parameter.numel() for parameter in network.parameters()),
                num_trained=sum(parameter.numel() for parameter in trained(network).values()),
                corpus_tokens={corpus.name: corpus.num_tokens for corpus in self._data.corpora},
                tokens_per_step=recipe.schedule.lanes * longest * recipe.network.block_size,
                step=self.step,
                seconds=self._elapsed,
                num_processes=processes.size,
                flops_per_token=self._flops_per_token,
                peak_flops=self._peak,
                training_distance=recipe.longest_distance,
            )
        )

    def _finish(self) -> Path:
        """Export the checkpoint; if the recipe names a held-out corpus, score it and write its figures beside it."""
        recipe, folder, checks = self._recipe, self._folder / EXPORT_NAME, self._recipe.checks
        network = self._whole_network(self.network)
        if not self._processes.is_first:
            return folder
        checked = checks.every_steps and choose_validation(self._data.validation, checks.documents, checks.tokens)
        with self._average.applied_to(network):
            networks.export_checkpoint(folder, network, self.tokenizer, recipe, checks.tokens if checked else None)
            if checks.heldout is None:
                return folder
            base = recipe.adapt.model if recipe.adapt is not None and recipe.trains_updates else None
            # The card's figures are those of the exported weights, read as users read them.
            device, adapter = self._processes.device.type, folder if base else None
            shipped = open_model(base or folder, device=device, dtype="bfloat16", adapter=adapter).network
            figures = heldout_figures(shipped, self.tokenizer, checks.heldout, self._cache, self._emit)
            figures |= {"steps": self.step, "training_tokens": self.tokens, "training_seconds": self._elapsed}
            # Written again, because fam.json names the length that was just scored.
            networks.export_checkpoint(folder, network, self.tokenizer, recipe, figures["longest_document_tokens"])
        write_text(folder / FIGURES_NAME, json.dumps(figures, indent=2) + "\n")
        return folder

    def _progress(self) -> float:
        return self._recipe.schedule.progress(self.step, self._elapsed)

    def _one_step(self, should_stop: Callable[[], bool]) -> bool:
        """Take a step, or skip it; returns True if any process was told to stop."""
        began, schedule = time.monotonic(), self._recipe.schedule
        progress = self._progress()
        plan = self.lanes.plan(self.step, progress)
        own, states, teacher_states = self._gradients.read(plan)
        norm = self._gradients.add_up()
        # All processes go by the first one's clock, so that they take the same decisions.
        gathered = self._processes.gather((own, began - self._began, should_stop()))
        sums = reduce(add, (part for part, _, _ in gathered))
        self._elapsed, stopped = gathered[0][1], any(stop for _, _, stop in gathered)
        # Both are the same in every process, so all of them skip or none does.
        if not (math.isfinite(norm) and sums.is_finite):
            self.skipped += 1
            self.lanes.abandon_documents()
            self._tell(runs.StepSkipped(self.step, self.skipped))
            if self.skipped > schedule.max_skipped:
                raise RecipeError(
                    f"{self._folder}: too many steps were not finite ({self.skipped}); the last checkpoint is kept, "
                    "lower the rates"
                )
            return stopped
        if self._elapsed - self._saved >= 60 * self._recipe.checks.save_minutes:
            # Saved here, because these weights have just given a finite loss.
            self._save()
            self._saved = self._elapsed
        if schedule.clip_norm and norm > schedule.clip_norm:
            self._gradients.scale(schedule.clip_norm / norm)
        rate = self._optimizers.step(rate_factor(self.step, progress, schedule))
        self._gradients.refresh()
        self.step += 1
        self.tokens += plan.num_targets
        self._average.update(self.step)
        self.lanes.advance(plan, states, teacher_states)
        speed = plan.num_targets / (time.monotonic() - began)
        self._tell(
            runs.StepDone(
                step=self.step,
                loss=sums.weighted / max(plan.weight_sum, 1e-9),
                bits_per_byte=sums.bits_per_byte,
                tokens=self.tokens,
                tokens_per_second=speed,
                lr=rate,
                grad_norm=norm,
                memory_rms=sums.memory_rms,
                seconds=self._elapsed,
                progress=progress,
                num_skipped=self.skipped,
                num_blocks=plan.num_blocks,
                peak_share=speed * self._flops_per_token / self._peak,
                by_objective=objective_losses(self._data.objectives, sums.tally),
            )
        )
        return stopped

    def _check(self) -> None:
        """Score the validation documents when it is time to, with the averaged weights if there are any."""
        checks, step = self._recipe.checks, self.step
        documents = checks.every_steps and step % checks.every_steps == 0
        passkeys = checks.passkey_every_steps and step % checks.passkey_every_steps == 0
        if not (documents or passkeys) or step == self._checked:
            return
        # A skipped step leaves the step number as it is, and must not check again.
        self._checked = step
        network = self._whole_network(self._compute)
        if not self._processes.is_first:
            return
        validation = self._data.validation
        with self._average.applied_to(network):
            if documents and checks.turns is not None:
                longest = self._recipe.network.visible_tokens
                texts = turns_of(self._recipe, checks.turns, self.tokenizer, longest)[: checks.documents]
                self._tell(check_turns(network, self.tokenizer, texts, step))
            elif documents:
                self._tell(check_documents(network, validation, self.tokenizer, checks, step))
            if passkeys:
                longest = self._recipe.schedule.longest_step * self._recipe.network.block_size
                lengths = [factor * (self._recipe.longest_distance or longest) for factor in checks.passkey_distances]
                streams = checks.passkey_streams
                self._tell(check_passkeys(network, validation, self.tokenizer, lengths, streams, step))

    def _whole_network(self, network: Network) -> Network:
        """`network`; or, if it is divided over the processes, which must all call this, a copy on this one's CPU."""
        if not isinstance(self._gradients, ShardedGradients):
            return network
        return self._gradients.whole(lambda: networks.start_network(self._recipe, self.tokenizer))

    def _save(self) -> None:
        """Write a training checkpoint. If weights are not finite, stop instead, and keep the last good one."""
        lane_tensors, lane_values = runs.merge_lanes(self._processes.gather(self.lanes.to_tensors()))
        sections = {
            "network": {name: whole_tensor(value) for name, value in trained(self.network).items()},
            "optimizer": {name: whole_tensor(value) for name, value in self._optimizers.to_tensors().items()},
            "average": self._average.to_tensors(),
        }
        # The loss was finite before this step; the step itself may have broken the weights.
        if not all(bool(torch.isfinite(value).all()) for part in sections.values() for value in part.values()):
            raise RecipeError(
                f"{self._folder}: the weights are not finite after step {self.step:,}; the checkpoint before is kept, "
                "lower the rates"
            )
        if not self._processes.is_first:
            return
        sections["lanes"] = lane_tensors
        values: dict[str, Any] = {
            "format": _FORMAT,
            "recipe": self._recipe.learning_keys(),
            "tokenizer": self.tokenizer.fingerprint,
            **({"base": self._base} if self._base else {}),
            "step": self.step,
            "tokens": self.tokens,
            "skipped": self.skipped,
            "seconds": self._elapsed,
            "lanes": lane_values,
        }
        self._tell(runs.RunSaved(self.step, runs.save_run(self._folder, self.step, sections, values)))

    def _resume(self) -> None:
        """Continue from the last training checkpoint, if there is one. Raises RecipeError if it does not fit."""
        saved = runs.load_run(self._folder)
        if saved is None:
            if self._processes.is_first:
                runs.cut_log(self._folder, 0)
            return
        path, sections, values = saved
        changed = ", ".join(differing_keys(values.get("recipe"), self._recipe.learning_keys()))
        tokenizer_changed = values.get("tokenizer") != self.tokenizer.fingerprint
        problems = {
            "written by another version of famcli; use another run folder": values.get("format") != _FORMAT,
            f"the run began with another recipe; undo the change of {changed}, or use another run folder": changed,
            "the run began with another tokenizer; use that, or another run folder": tokenizer_changed,
            "adapt.model has other weights now; go back to those the run began with": values.get("base") != self._base,
        }
        for message, applies in problems.items():
            if applies:
                raise RecipeError(f"{path}: {message}")
        with torch.no_grad():
            for name, parameter in trained(self.network).items():
                parameter.copy_(placed_like(sections["network"][name], parameter))
        self._gradients.refresh()
        self._optimizers.load_tensors(sections.get("optimizer", {}), placed_like)
        self._average.load_tensors(sections.get("average", {}))
        self.lanes.load_tensors(sections.get("lanes", {}), values["lanes"], self._processes.device)
        self.step, self.tokens, self.skipped = values["step"], values["tokens"], values["skipped"]
        self._elapsed = values["seconds"]
        if self._processes.is_first:
            runs.cut_log(self._folder, values["log_bytes"])

    def _tell(self, event: runs.TrainEvent | None) -> None:
        if event is None or not self._processes.is_first:
            return
        runs.add_to_log(self._folder, runs.to_json(event))
        self._emit(event)
