"""A pretrained checkpoint is adapted: only what should change changes, and all that the trainer promises holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from famcli.checkpoint.open import open_model
from famcli.errors import CheckpointError, RecipeError
from famcli.nn import FamConfig
from famcli.training.adapt import adapt_table, adapted_network, teacher_of
from famcli.training.estimate import estimate
from famcli.training.loop.networks import start_network
from famcli.training.loop.processes import Processes
from famcli.training.loop.run_folder import RunStarted, StepDone, TrainEvent
from famcli.training.loop.train import Trainer, train
from famcli.training.recipe.recipe import Recipe, load_recipe
from tests.helpers import TINY_CONFIG, make_random_checkpoint
from tests.training.loop.test_processes import assert_same_run, torchrun

HEAD = """
name = "adapted"
[network]
block_size = 8
memory_segments = 1
fam_length = 2
memory_update = "gated"
[adapt]
model = "base"
rank = 3
alpha = 6
[data]
folder = "."
seed = 3
[[corpora]]
name = "tales"
path = "tales.jsonl"
weight = 3
validation_documents = 2
[schedule]
lanes = 3
blocks_per_step = 2
steps = 6
warmup_steps = 1
muon_lr = 0
adamw_lr = 0.01
[hardware]
dtype = "float32"
threads = 1
[checks]
every_steps = 0
documents = 2
tokens = 40
[[objectives]]
kind = "language_modelling"
weight = 1
[[objectives]]
kind = "passkey"
weight = 1
digits = 2
answer_weight = 3.0
"""
Make = Callable[..., Recipe]


@pytest.fixture
def adapting(toy: Path) -> Path:
    """The path of a recipe that adapts a random plain Llama, with its corpora beside it."""
    make_random_checkpoint(toy.parent / "base", fam=None, gain=3.0)
    path = toy.parent / "adapt.toml"
    path.write_text(HEAD)
    return path


@pytest.fixture
def adapt(adapting: Path) -> Make:
    return lambda *changes: load_recipe(adapting, changes)


def steps_of(run: Path) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    keys = ("step", "loss", "bits_per_byte", "tokens", "grad_norm", "memory_rms", "by_objective")
    return [tuple(str(line[key]) for key in keys) for line in lines if line["event"] == "StepDone"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("objective", ["task", "distill"])
def test_the_loss_falls_and_the_run_ends_in_an_adapter(adapt: Make, tmp_path: Path, dtype: str, objective: str) -> None:
    made = adapt(
        "schedule.steps=40", f"hardware.dtype={dtype}", f"adapt.objective={objective}", "checks.every_steps=40"
    )
    before = {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()}
    events: list[TrainEvent] = []
    ended = train(made, tmp_path / "run", events.append)
    steps = [event.loss for event in events if isinstance(event, StepDone)]
    assert sum(steps[-8:]) < 0.9 * sum(steps[:8])
    assert {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()} == before
    assert ended.exported is not None
    assert {path.name for path in ended.exported.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "fam.json",
        "fam.safetensors",
        "recipe.toml",
    }
    model = open_model(tmp_path / "base", adapter=ended.exported, dtype="float32")
    assert model.sidecar.memory_trained
    assert model.sidecar.fam == FamConfig(8, 1, 2, 0, "gated")
    started = next(event for event in events if isinstance(event, RunStarted))
    saved = load_file(ended.exported / "adapter_model.safetensors")
    assert started.num_trained == sum(value.numel() for value in saved.values()) + 2 * TINY_CONFIG.hidden_size
    assert all(bool(value.abs().sum() > 0) for value in saved.values())


@pytest.mark.parametrize("objective", ["task", "distill"])
def test_full_fine_tuning_ends_in_a_checkpoint_of_the_same_layout(adapt: Make, tmp_path: Path, objective: str) -> None:
    ended = train(adapt("adapt.method=full", f"adapt.objective={objective}"), tmp_path / "run")
    assert ended.exported is not None
    train(adapt("adapt.method=full", f"adapt.objective={objective}"), tmp_path / "run")  # a finished run, once more
    model, base = open_model(ended.exported), load_file(tmp_path / "base" / "model.safetensors")
    tuned = load_file(ended.exported / "model.safetensors")
    assert {name: value.shape for name, value in tuned.items()} == {name: value.shape for name, value in base.items()}
    assert not any(torch.equal(tuned[name], base[name]) for name in base)
    assert model.sidecar.memory_trained


@pytest.mark.parametrize("objective", ["task", "distill"])
def test_a_killed_run_goes_on_exactly(adapt: Make, adapting: Path, tmp_path: Path, objective: str) -> None:
    changes = ("schedule.steps=8", "schedule.random_state_passing=0.5", "schedule.average_decay=0.9",
               "schedule.segment_dropout=0.5", f"adapt.objective={objective}", "checks.save_minutes=0")  # fmt: skip
    train(adapt(*changes), tmp_path / "whole")
    script = f"""
import os, signal
from pathlib import Path
from famcli.training.loop.train import train
from famcli.training.recipe.recipe import load_recipe
def on_event(event):
    if type(event).__name__ == "StepDone" and event.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
train(load_recipe({str(adapting)!r}, {changes!r}), Path({str(tmp_path / "killed")!r}), on_event)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    train(adapt(*changes), tmp_path / "killed")
    assert steps_of(tmp_path / "killed") == steps_of(tmp_path / "whole")
    one, other = (load_file(tmp_path / run / "export" / "adapter_model.safetensors") for run in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("objective", ["task", "distill"])
def test_two_processes_give_the_losses_of_one(adapt: Make, adapting: Path, tmp_path: Path, objective: str) -> None:
    changes = ("schedule.steps=4", "schedule.lanes=5", f"adapt.objective={objective}")
    train(adapt(*changes), tmp_path / "one")
    torchrun(adapting, tmp_path / "two", *changes)
    assert_same_run(tmp_path / "one", tmp_path / "two", steps=4)


def test_a_training_checkpoint_holds_what_is_trained_and_knows_its_base(adapt: Make, tmp_path: Path) -> None:
    train(adapt("schedule.steps=2"), tmp_path / "run")
    saved = load_file(next((tmp_path / "run").glob("checkpoint-*")) / "tensors.safetensors")
    weights = {name for name in saved if name.startswith("network/")}
    assert weights
    assert all(name.endswith(("lora_a", "lora_b", "memory_prompt")) for name in weights)
    make_random_checkpoint(tmp_path / "base", fam=None, seed=9)
    with pytest.raises(RecipeError, match="has other weights now"):
        train(adapt("schedule.steps=3"), tmp_path / "run")


def test_the_teacher_is_the_plain_network_with_full_attention(adapt: Make, tmp_path: Path) -> None:
    recipe = adapt("adapt.objective=distill", "adapt.teacher_tokens=40")
    network = adapted_network(recipe, FamConfig(8, 1, 2, 0, "gated"))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("lora_b"):
                parameter.fill_(1.0)
    teacher = teacher_of(recipe, network)
    assert teacher is not None
    assert teacher.fam == FamConfig(8, 4, 0)
    (tmp_path / "base" / "fam.json").write_text('{"format": 1, "architecture": "fam", "block_size": 40, '
        '"memory_segments": 0, "fam_length": 0, "memory_trained": false}')  # fmt: skip
    plain = open_model(tmp_path / "base", dtype="float32").network
    tokens = torch.randint(0, TINY_CONFIG.vocab_size, (2, 40))
    with torch.no_grad():
        hidden, wanted = teacher.read(tokens, teacher.start(2))[0], plain.read(tokens, plain.start(2))[0]
    torch.testing.assert_close(hidden, wanted, atol=1e-4, rtol=1e-4)
    shared = dict(network.named_parameters())["model.layers.0.mlp.up_proj.weight"]
    assert teacher.layers[0].mlp.up_proj.weight.data_ptr() == shared.data_ptr()  # type: ignore[union-attr]


def test_a_network_that_sees_what_its_teacher_sees_has_nothing_to_learn(adapt: Make, tmp_path: Path) -> None:
    """The divergence of the unadapted network from itself is 0: block for block, over steps and document ends."""
    changes = ("adapt.objective=distill", "adapt.teacher_tokens=16", "network.fam_length=0", "schedule.steps=6")
    train(adapt(*changes, "schedule.adamw_lr=0"), tmp_path / "run")
    assert all(abs(float(step[1])) < 1e-6 for step in steps_of(tmp_path / "run"))
    assert all(float(step[2]) > 1 for step in steps_of(tmp_path / "run"))


def test_the_gradient_of_the_divergence(adapt: Make, tmp_path: Path) -> None:
    """Made slice by slice through the head, it is what torch finds for the whole."""
    from famcli.training.loop.step import language_model_gradient, teacher_log_probs

    recipe = adapt("adapt.objective=distill")
    trainer = Trainer(recipe, tmp_path / "run", Processes.join("cpu"), lambda event: None)
    network, teacher = trainer.network, teacher_of(recipe, trainer.network)
    assert teacher is not None
    tokens = torch.randint(0, TINY_CONFIG.vocab_size, (2, 16))
    weights = torch.rand(2, 16).round(decimals=1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape))
        taught, _ = teacher.read(tokens, teacher.start(2))
        taught_log_probs = torch.log_softmax(teacher.logits(taught), dim=-1)

    def gradients() -> list[torch.Tensor]:
        found = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        kept = [gradient.clone() for gradient in found]
        for gradient in found:
            gradient.zero_()
        return kept

    gradients()
    hidden, _ = network.read(tokens, network.start(2))
    loss = language_model_gradient(network, hidden, tokens, weights, 0.5, None, teacher_log_probs(teacher, taught))
    made = gradients()
    hidden, _ = network.read(tokens, network.start(2))
    shown = torch.log_softmax(network.logits(hidden), dim=-1)
    whole = ((taught_log_probs.exp() * (taught_log_probs - shown)).sum(-1) * weights).sum()
    (0.5 * whole).backward()
    assert loss[0] == pytest.approx(whole.item(), rel=1e-5)
    for one, other in zip(made, gradients(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_an_enabled_base_gives_its_memory_prompt(adapt: Make, tmp_path: Path) -> None:
    recipe = adapt()
    drawn = start_network(recipe, _tokenizer(recipe)).memory_prompt
    fam = FamConfig(block_size=16, memory_segments=1, fam_length=2)
    make_random_checkpoint(tmp_path / "base", fam=fam)
    own = load_file(tmp_path / "base" / "fam.safetensors")["memory_prompt"]
    assert torch.equal(start_network(adapt(), _tokenizer(recipe)).memory_prompt, own)
    assert not torch.equal(drawn, own)


def _tokenizer(recipe: Recipe) -> Any:
    from famcli.tokens import open_tokenizer

    assert recipe.tokenizer.path is not None
    return open_tokenizer(recipe.tokenizer.path)


def test_a_plan_keeps_how_the_checkpoint_reads(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Some text.\n")
    nothing: dict[str, Any] = {key: {} for key in ("adapter", "network", "schedule", "hardware")}
    planned = adapt_table("it", "fam-tiny", [tmp_path / "text.txt"], **nothing)["network"]
    fam = open_model("fam-tiny", device="cpu").network.fam
    assert planned == {name: getattr(fam, name) for name in planned}
    assert planned["gate_threshold"] == 0.65


def test_the_estimate_counts_what_is_trained(adapt: Make) -> None:
    lora = estimate(adapt(), TINY_CONFIG.vocab_size)
    full = estimate(adapt("adapt.method=full"), TINY_CONFIG.vocab_size)
    assert lora.trained < lora.parameters
    assert full.trained == full.parameters
    assert lora.checkpoint_bytes < full.checkpoint_bytes
    assert lora.fixed_bytes < full.fixed_bytes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("adapt.rank=0",), "adapt.rank must be at least 1"),
        (("adapt.method=prefix",), "adapt.method must be one of lora, full"),
        (('adapt.targets=["q"]',), "must be one of q_proj"),
        (("network.num_layers=5",), "network.num_layers is 5, in .*base it is 2; leave it out"),
        (("schedule.init=base",), "exclude each other"),
        (("export.storage=int8",), "export has no effect with"),
        (("adapt.rnak=3",), "unknown key adapt.rnak"),
    ],
)
def test_recipes_that_are_refused(adapt: Make, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        adapt(*changes)


def test_bases_that_are_refused(adapt: Make, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        adapt("adapt.model=nowhere")
    with pytest.raises(RecipeError, match="less than a block"):
        train(adapt("adapt.objective=distill", "adapt.teacher_tokens=4"), tmp_path / "run")
    (tmp_path / "base" / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="LoRA adapter"):
        adapt()


def test_a_memory_of_associations_is_trained_with_the_whole_decoder(adapt: Make) -> None:
    with pytest.raises(RecipeError, match="adapt knows no"):
        adapt("network.memory_update=delta")
