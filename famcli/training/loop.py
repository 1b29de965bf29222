"""The training loop: lanes in, gradients through memory and segments, one optimiser step, and again.

`train` runs a recipe in a run folder, goes on from that folder's last checkpoint if there is one, and tells what
happens through a callback. Weights and optimiser are float32; the products run on a copy in the recipe's dtype.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from famcli.checkpoint.device import select_device
from famcli.errors import RecipeError
from famcli.nn.config import DecoderConfig, FamConfig, RopeConfig
from famcli.nn.decoder import Decoder
from famcli.nn.state import State
from famcli.tokens.folder import open_tokenizer
from famcli.tokens.tokenizer import Tokenizer
from famcli.training.checks import DocumentScore, bits_per_byte, bucket_starts, choose_validation, score_documents
from famcli.training.corpus import PackedCorpus, pack, token_num_bytes
from famcli.training.events import (
    CheckDone,
    RunEnded,
    RunSaved,
    RunStarted,
    StepDone,
    StepSkipped,
    TrainEvent,
    to_json,
)
from famcli.training.export import export_checkpoint
from famcli.training.heldout import heldout_figures
from famcli.training.lanes import IGNORE, Lanes, StepPlan, start_state
from famcli.training.objective import language_model_gradient
from famcli.training.optimizer import Optimizers, rate_factor
from famcli.training.recipe import Recipe
from famcli.training.sampler import DocumentSampler
from famcli.training.saving import cut_log, load_run, save_run

LOG_NAME = "log.jsonl"
EXPORT_NAME = "export"
FIGURES_NAME = "figures.json"


def train(
    recipe: Recipe,
    run_folder: Path,
    on_event: Callable[[TrainEvent], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunEnded:
    """Run `recipe` in `run_folder`, or go on with what is there; returns when the budget is used or `should_stop`.

    A finished run is exported to `run_folder/export`, a checkpoint folder, with `figures.json` in it if the recipe
    names a held-out corpus; calling this again for a finished run does that last part again. With `steps` alone, a run
    that is killed and started again gives the losses of an unbroken one; with `max_minutes` the rates depend on the
    clock. Raises RecipeError for data or a run folder that do not fit the recipe, and past `schedule.max_skipped`.
    """
    return Trainer(recipe, run_folder, on_event).run(should_stop)


def build_network(recipe: Recipe, vocab_size: int) -> Decoder:
    """The recipe's network, float32, with its initial weights."""
    shape = recipe.network
    window = (shape.memory_segments + 1) * shape.block_size  # no key was ever further away in training
    config = DecoderConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.head_dim,
        norm_eps=shape.norm_eps,
        rope=RopeConfig(theta=shape.rope_theta, max_position=window),
        tie_embeddings=shape.tie_embeddings,
    )
    fam = FamConfig(shape.block_size, shape.memory_segments, shape.fam_length)
    network = Decoder(config, fam)
    network.reset_parameters(recipe.schedule.seed)
    return network


class Trainer:
    """One run: its network, its lanes, its counters; `run` does it all."""

    def __init__(self, recipe: Recipe, run_folder: Path, on_event: Callable[[TrainEvent], None]) -> None:
        self._recipe, self._folder, self._emit = recipe, run_folder, on_event
        if recipe.hardware.threads:
            torch.set_num_threads(recipe.hardware.threads)
        run_folder.mkdir(parents=True, exist_ok=True)
        self._log = run_folder / LOG_NAME
        self._cache = recipe.data.cache or run_folder.parent / "tokens"
        self.tokenizer: Tokenizer = open_tokenizer(recipe.tokenizer.path)
        self._token_bytes = token_num_bytes(self.tokenizer)
        self._corpora, self._validation = self._pack()
        self._device = select_device(recipe.hardware.device)
        self.network = build_network(recipe, self.tokenizer.vocab_size).to(self._device)
        dtype = getattr(torch, recipe.hardware.dtype)
        self._compute = self.network if dtype == torch.float32 else _copy_of(self.network, dtype)
        self._optimizers = Optimizers(self.network, recipe.schedule)
        schedule = recipe.schedule
        sampler = DocumentSampler(self._corpora, [corpus.weight for corpus in recipe.corpora], recipe.data.seed)
        self.lanes = Lanes(
            self._corpora,
            sampler,
            schedule.lanes,
            recipe.network.block_size,
            schedule.blocks_per_step,
            self.tokenizer.bos_id,
        )
        self.step, self.tokens, self.skipped, self._elapsed = 0, 0, 0, 0.0
        self._resume()

    # ------------------------------------------------------------------------------------------------ the run

    def run(self, should_stop: Callable[[], bool]) -> RunEnded:
        recipe = self._recipe
        sizes = {corpus.name: corpus.num_tokens for corpus in self._corpora}
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        schedule = recipe.schedule
        per_step = schedule.lanes * schedule.blocks_per_step * recipe.network.block_size
        self._tell(RunStarted(recipe.name, parameters, sizes, per_step, self.step, self._elapsed))
        began, saved = time.monotonic() - self._elapsed, time.monotonic()
        stopped = False
        while self._progress() < 1.0 and not stopped:
            self._one_step()
            self._elapsed = time.monotonic() - began
            if recipe.checks.every_steps and self.step % recipe.checks.every_steps == 0:
                self._check()
                self._elapsed = time.monotonic() - began
            stopped = should_stop()
            if time.monotonic() - saved >= 60 * recipe.checks.save_minutes:
                self._save()
                saved = time.monotonic()
        self._save()
        finished = self._progress() >= 1.0
        exported = self._finish() if finished else None
        ended = RunEnded(self.step, self.tokens, self._elapsed, finished, exported)
        self._tell(ended)
        return ended

    def _finish(self) -> Path:
        """Export the checkpoint; read the held-out corpus, if the recipe names one, and put its figures beside it."""
        recipe, folder = self._recipe, self._folder / EXPORT_NAME
        export_checkpoint(folder, self.network, self.tokenizer, recipe, recipe.checks.tokens)
        if recipe.checks.heldout is None:
            return folder
        shipped = _copy_of(self.network, torch.bfloat16)
        figures = heldout_figures(shipped, self.tokenizer, recipe.checks.heldout, self._cache, self._emit)
        figures |= {"steps": self.step, "training_tokens": self.tokens, "training_seconds": self._elapsed}
        export_checkpoint(folder, self.network, self.tokenizer, recipe, figures["longest_document_tokens"])
        (folder / FIGURES_NAME).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        return folder

    def _progress(self) -> float:
        """Share of the budget that is used: the larger of the shares of steps and of minutes."""
        schedule = self._recipe.schedule
        steps = self.step / schedule.steps if schedule.steps else 0.0
        minutes = self._elapsed / 60 / schedule.max_minutes if schedule.max_minutes else 0.0
        return min(1.0, max(steps, minutes))

    # ------------------------------------------------------------------------------------------------ one step

    def _one_step(self) -> None:
        began, schedule = time.monotonic(), self._recipe.schedule
        plan = self.lanes.plan()
        nats, states = self._gradients(plan)
        norm = self._gradient_norm()
        if not (math.isfinite(nats) and math.isfinite(norm)):
            self._skip()
            return
        if schedule.clip_norm and norm > schedule.clip_norm:
            scale = schedule.clip_norm / norm
            torch._foreach_mul_(self._master_gradients(), scale)
        progress = self._progress()
        rate = self._optimizers.step(rate_factor(self.step, progress, schedule))
        self._refresh_compute()
        self.lanes.advance(plan, states)
        self.step += 1
        self.tokens += plan.num_targets
        num_bytes = sum(
            self._token_bytes[group.targets[group.targets != IGNORE].numpy()].sum() for group in plan.groups
        )
        seconds = time.monotonic() - began
        self._tell(
            StepDone(
                step=self.step,
                loss=nats / max(plan.num_targets, 1),
                bits_per_byte=nats / math.log(2) / max(int(num_bytes), 1),
                tokens=self.tokens,
                tokens_per_second=plan.num_targets / seconds,
                lr=rate,
                grad_norm=norm,
                memory_rms=_memory_rms(states),
                seconds=self._elapsed + seconds,
                progress=progress,
                num_skipped=self.skipped,
            )
        )

    def _gradients(self, plan: StepPlan) -> tuple[float, dict[int, State]]:
        """Read every group with gradient; the loss's sum, and each lane's state after the step."""
        for parameter in self._compute.parameters():
            parameter.grad = None
        nats = 0.0
        states: dict[int, State] = {}
        for group in plan.groups:
            inputs, targets = group.inputs.to(self._device), group.targets.to(self._device)
            hidden, state = self._compute.read(inputs, start_state(self._compute, group))
            nats += language_model_gradient(self._compute, hidden, targets, 1.0 / max(plan.num_targets, 1))
            states.update(zip(group.lanes, state.detach().split(), strict=True))
        return nats, states

    def _gradient_norm(self) -> float:
        """The gradient's norm, after it was brought to the float32 weights. A parameter without gradient gets zeros."""
        for parameter, computed in zip(self.network.parameters(), self._compute.parameters(), strict=True):
            parameter.grad = torch.zeros_like(parameter) if computed.grad is None else computed.grad.float()
        return float(torch.nn.utils.get_total_norm(self._master_gradients()))

    def _master_gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]

    def _refresh_compute(self) -> None:
        if self._compute is not self.network:
            with torch.no_grad():
                for parameter, computed in zip(self.network.parameters(), self._compute.parameters(), strict=True):
                    computed.copy_(parameter)

    def _skip(self) -> None:
        self.skipped += 1
        self.lanes.abandon_documents()
        self._tell(StepSkipped(self.step, self.skipped))
        if self.skipped > self._recipe.schedule.max_skipped:
            raise RecipeError(
                f"{self._folder}: {self.skipped} steps were not finite; the last checkpoint is kept, lower the rates"
            )

    # ------------------------------------------------------------------------------------------------ checks, files

    def _check(self) -> None:
        checks, began = self._recipe.checks, time.monotonic()
        documents = choose_validation(self._validation, checks.documents, checks.tokens)
        if not documents:
            return
        starts = bucket_starts(self._recipe.network.block_size, checks.tokens)
        total, by_corpus, by_position = {}, {}, {}
        for mode in ("on", "frozen") if self._recipe.network.fam_length else ("on",):
            scores: dict[str, list[DocumentScore]] = {
                name: score_documents(
                    self._compute,
                    members,
                    self._token_bytes,
                    self.tokenizer.bos_id,
                    memory_mode=mode,
                    max_tokens=checks.tokens,
                )
                for name, members in documents.items()
            }
            everything = [score for members in scores.values() for score in members]
            total[mode] = bits_per_byte(everything)
            by_corpus[mode] = {name: bits_per_byte(members) for name, members in scores.items()}
            by_position[mode] = [bits_per_byte(everything, bucket) for bucket in range(len(starts))]
        self._tell(CheckDone(self.step, total, by_corpus, starts, by_position, time.monotonic() - began))

    def _pack(self) -> tuple[list[PackedCorpus], list[PackedCorpus]]:
        recipe = self._recipe
        training, validation = [], []
        for corpus in recipe.corpora:
            seed = recipe.data.seed
            training.append(pack(corpus, self.tokenizer, self._cache, seed, on_progress=self._emit))
            if corpus.validation_hash_below or corpus.validation_documents:
                validation.append(
                    pack(corpus, self.tokenizer, self._cache, seed, validation=True, on_progress=self._emit)
                )
        return training, validation

    def _save(self) -> None:
        lane_tensors, lane_values = self.lanes.to_tensors()
        sections: dict[str, dict[str, Tensor]] = {
            "network": dict(self.network.named_parameters()),
            "optimizer": self._optimizers.to_tensors(),
            "lanes": lane_tensors,
            "random": {"cpu": torch.get_rng_state()},
        }
        tensors = {f"{section}/{name}": value for section, part in sections.items() for name, value in part.items()}
        values: dict[str, Any] = {
            "recipe": self._recipe.learning_fingerprint(),
            "tokenizer": self.tokenizer.fingerprint,
            "step": self.step,
            "tokens": self.tokens,
            "skipped": self.skipped,
            "seconds": self._elapsed,
            "lanes": lane_values,
        }
        self._tell(RunSaved(self.step, save_run(self._folder, self.step, tensors, values)))

    def _resume(self) -> None:
        saved = load_run(self._folder)
        if saved is None:
            self._log.unlink(missing_ok=True)
            return
        values = saved.values
        if (values["recipe"], values["tokenizer"]) != (self._recipe.learning_fingerprint(), self.tokenizer.fingerprint):
            raise RecipeError(
                f"{saved.path}: belongs to another recipe or tokenizer; undo the change, or use another run folder"
            )
        with torch.no_grad():
            named = saved.section("network")
            for name, parameter in self.network.named_parameters():
                parameter.copy_(named[name])
        self._refresh_compute()
        self._optimizers.load_tensors(saved.section("optimizer"))
        self.lanes.load_tensors(saved.section("lanes"), values["lanes"], self._device)
        torch.set_rng_state(saved.tensors["random/cpu"])
        self.step, self.tokens, self.skipped = values["step"], values["tokens"], values["skipped"]
        self._elapsed = values["seconds"]
        cut_log(self._log, self.step)

    def _tell(self, event: TrainEvent) -> None:
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(to_json(event)) + "\n")
        self._emit(event)


def _copy_of(network: Decoder, dtype: torch.dtype) -> Decoder:
    """A second network with the same weights in `dtype`."""
    copy = Decoder(replace(network.config), network.fam).to(device=network.device, dtype=dtype)
    copy.load_state_dict(network.state_dict())
    return copy


def _memory_rms(states: dict[int, State]) -> tuple[float, ...]:
    """Root mean square of the carried memory over all lanes, by layer."""
    layers = zip(*(state.layers for state in states.values()), strict=True)
    return tuple(float(torch.stack([layer.memory.square().mean() for layer in row]).mean().sqrt()) for row in layers)
